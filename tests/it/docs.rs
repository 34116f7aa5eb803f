//! Checks that the documentation names every attribute, metric and option that exists, and no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use spanlink::trace::spans::output::Bound;

/// A README is for ten minutes.
const README_LINES_MAX: usize = 200;

/// Keys of attributes that other parts than the trace set: of the resource.
const RESOURCE_ATTRIBUTES: [&str; 3] = ["service.name", "k8s.cluster.name", "k8s.cluster.uid"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every page, by its path below the root of the repository.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().to_owned(), text)
    };
    paths.into_iter().map(page).collect()
}

/// The words in backticks on a page, outside of fenced blocks.
fn code_spans(text: &str) -> Vec<String> {
    let mut is_fenced = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The code spans in the first column of a page's tables whose header begins with `header`.
fn first_column(text: &str, header: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_in_table = false;
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", first, ..] if *first == header => is_in_table = true,
            ["", first, ..] if is_in_table => found.extend(code_spans(first).into_iter().take(1)),
            _ => is_in_table = false,
        }
    }
    found
}

/// String literals of a file, without those of its test modules.
fn literals(text: &str) -> Vec<String> {
    fn collect(tokens: TokenStream, found: &mut Vec<String>) {
        let mut is_test = false;
        for token in tokens {
            match token {
                TokenTree::Group(group) if is_test && group.delimiter() == Delimiter::Brace => {
                    is_test = false;
                }
                TokenTree::Group(group) => {
                    is_test |= group.to_string().replace(' ', "") == "[cfg(test)]";
                    collect(group.stream(), found);
                }
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                    found.extend(inside.map(str::to_owned));
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => is_test = false,
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(TokenStream::from_str(text).unwrap(), &mut found);
    found
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_word(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
    };
    text.split('.').all(is_part)
}

/// `spanlink.outcome`, `k8s.pod.name`, `error.type`; not `spanlink.redb`, `spanlink.sock` or
/// `spanlink.yaml`, which are files, nor `spanlink.io`, a domain.
fn is_attribute(text: &str) -> bool {
    let is_ours = |rest: &str| !["io", "sock", "yaml"].contains(&rest) && !rest.starts_with("redb");
    let is_key = text.strip_prefix("spanlink.").is_some_and(is_ours)
        || text.starts_with("k8s.")
        || text == "error.type"
        || text == "service.name";
    is_key && is_word(text)
}

fn attributes_of_the_source() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src/trace"), &mut files);
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    let keys = texts.flat_map(|text| literals(&text)).filter(|text| is_attribute(text));
    keys.chain(RESOURCE_ATTRIBUTES.map(str::to_owned)).collect()
}

fn metrics_of_the_source() -> BTreeSet<String> {
    let is_metric =
        |text: &String| text.starts_with("spanlink_") || text.starts_with("trace_context_");
    literals(&read("src/metrics.rs")).into_iter().filter(is_metric).collect()
}

/// The structs of the options as a file writes them: fields with their types.
fn structs(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut found = BTreeMap::new();
    let tokens: Vec<TokenTree> = TokenStream::from_str(text).unwrap().into_iter().collect();
    for window in tokens.windows(3) {
        let [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(body)] = window
        else {
            continue;
        };
        if keyword == "struct" && body.delimiter() == Delimiter::Brace {
            found.insert(name.to_string(), fields(body.stream()));
        }
    }
    found
}

fn fields(body: TokenStream) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut tokens = body.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(name) = token else { continue };
        let is_colon =
            |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
        if !tokens.peek().is_some_and(is_colon) {
            continue;
        }
        tokens.next();
        let mut depth = 0_i32;
        let mut kind = String::new();
        for token in tokens.by_ref() {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
                TokenTree::Punct(punct) if punct.as_char() == '>' => depth -= 1,
                TokenTree::Punct(punct) if punct.as_char() == ',' && depth == 0 => break,
                _ => {}
            }
            kind.push_str(&token.to_string());
        }
        fields.push((name.to_string(), kind));
    }
    fields
}

/// `otlp.tls.ca_file`, `watch[].kind`: every option, items of lists as `[]`.
fn options_of_the_source() -> BTreeSet<String> {
    fn collect(
        structs: &BTreeMap<String, Vec<(String, String)>>,
        name: &str,
        prefix: &str,
        found: &mut BTreeSet<String>,
    ) {
        for (field, kind) in &structs[name] {
            let inner = kind.trim_start_matches("Option<").trim_end_matches('>');
            let (inner, items) = match inner.strip_prefix("Vec<") {
                Some(item) => (item, "[]"),
                None => (inner, ""),
            };
            if structs.contains_key(inner) {
                collect(structs, inner, &format!("{prefix}{field}{items}."), found);
            } else {
                found.insert(format!("{prefix}{field}"));
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&structs(&read("src/config/file.rs")), "File", "", &mut found);
    found
}

#[test]
fn every_attribute_is_documented_with_type_and_spans() {
    let existing = attributes_of_the_source();
    let documented = first_column(&read("docs/model.md"), "attribute");
    assert_eq!(existing, documented);
}

#[test]
fn pages_name_no_attribute_that_does_not_exist() {
    let existing = attributes_of_the_source();
    for (path, text) in pages() {
        let unknown: Vec<String> = code_spans(&text)
            .into_iter()
            .map(|code| code.split(['=', ' ']).next().unwrap_or_default().to_owned())
            .filter(|name| is_attribute(name) && !existing.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn every_metric_is_documented() {
    let documented = first_column(&read("docs/metrics.md"), "metric");
    assert_eq!(metrics_of_the_source(), documented);
}

#[test]
fn every_counted_bound_is_documented() {
    for page in ["docs/metrics.md", "docs/architecture.md"] {
        let text = read(page);
        for bound in Bound::ALL {
            assert!(text.contains(&format!("`{}`", bound.name())), "{page}: {bound:?}");
        }
    }
}

#[test]
fn pages_name_no_metric_that_does_not_exist() {
    let existing = metrics_of_the_source();
    for (path, text) in pages() {
        // It names the old ones as well.
        if path == Path::new("CHANGELOG.md") {
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let unknown: Vec<&str> = text
            .split(|c| !is_name(c))
            .filter(|word| word.starts_with("spanlink_") || word.starts_with("trace_context_"))
            .filter(|word| !existing.contains(*word))
            .collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn every_option_is_documented_and_in_the_example() {
    let existing = options_of_the_source();
    let documented = first_column(&read("docs/configuration.md"), "option");
    // The list itself, before its entries.
    let documented: BTreeSet<String> =
        documented.into_iter().filter(|option| !option.ends_with("[]")).collect();
    assert_eq!(existing, documented);

    let example = read("config/example.yaml");
    let missing: Vec<&String> = existing
        .iter()
        .filter(|option| {
            let name = option.rsplit('.').next().unwrap_or(option);
            let mut words = example.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            !words.any(|word| word == name)
        })
        .collect();
    assert!(missing.is_empty(), "config/example.yaml lacks {missing:?}");
}

#[test]
fn readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines");
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn link_targets(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://"))
}

#[test]
fn links_between_pages_lead_to_files_and_headings() {
    let pages = pages();
    let mut broken = Vec::new();
    for (path, text) in &pages {
        for target in link_targets(text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = root().join(path.parent().unwrap());
            let file = if file.is_empty() { root().join(path) } else { folder.join(file) };
            let has_heading = |file: &Path| {
                heading.is_empty() || anchors(&fs::read_to_string(file).unwrap()).contains(heading)
            };
            if !file.exists() || !has_heading(&file) {
                broken.push(format!("{} -> {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The citations of comments in the form "(`docs/causes.md`, The cut)": the page and, in it, the heading.
fn citations(source: &str) -> Vec<(String, String)> {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let comments = source.lines().filter(is_comment);
    let text: Vec<&str> =
        comments.map(|line| line.trim_start().trim_start_matches(['/', '!']).trim()).collect();
    let text = text.join(" ");
    let cited = text.split("`docs/").skip(1).filter_map(|rest| rest.split_once('`'));
    let is_page = |page: &str| Path::new(page).extension().is_some_and(|it| it == "md");
    let cited = cited.filter(|(page, _)| is_page(page));
    let with_heading = cited.map(|(page, rest)| {
        let heading = rest.strip_prefix(", ").and_then(|rest| rest.split_once(')'));
        let heading = heading.map_or("", |(heading, _)| heading);
        (page.to_owned(), heading.to_owned())
    });
    with_heading.collect()
}

#[test]
fn citations_are_found_across_lines() {
    let source =
        "//! Decides (`docs/causes.md`, Waiting\n//! and order).\n/// See `docs/model.md`.";
    let expected = [("causes.md", "Waiting and order"), ("model.md", "")];
    let expected = expected.map(|(page, heading)| (page.to_owned(), heading.to_owned()));
    assert_eq!(citations(source), expected);
}

#[test]
fn comments_cite_pages_and_headings_that_exist() {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let mut broken = Vec::new();
    for path in files {
        for (page, heading) in citations(&fs::read_to_string(&path).unwrap()) {
            let file = root().join("docs").join(&page);
            let exists = file.exists()
                && (heading.is_empty()
                    || anchors(&fs::read_to_string(&file).unwrap()).contains(&anchor(&heading)));
            if !exists {
                broken.push(format!("{} cites docs/{page}, {heading}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn tests_of_a_file_are_not_read_for_attributes() {
    let source = r#"
        const A: &str = "spanlink.a";
        #[cfg(test)]
        mod tests { const B: &str = "spanlink.b"; }
        const C: &str = "spanlink.c";
    "#;
    assert_eq!(literals(source), ["spanlink.a", "spanlink.c"]);
}

#[test]
fn options_in_structs_and_lists_have_their_whole_path() {
    let source = "struct File { a: Option<u32>, #[serde(default)] pub(super) b: Vec<Item> } \
                  struct Item { c: Vec<String>, d: BTreeMap<String, String> }";
    let structs = structs(source);
    let expected = [("c", "Vec<String>"), ("d", "BTreeMap<String,String>")];
    let expected: Vec<_> =
        expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(structs["Item"], expected);
    assert_eq!(structs["File"].len(), 2);
}
