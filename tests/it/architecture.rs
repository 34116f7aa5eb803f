//! Checks the structure of the source: which folder and which stage of the trace may use which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    str::FromStr as _,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Every folder and file of `src`, and what of this crate it may use besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("field_path", &[]),
    ("health_rule", &[]),
    ("trace", &["field_path", "health_rule"]),
    ("config", &["field_path", "health_rule"]),
    ("error_chain", &[]),
    ("redacted_url", &[]),
    ("metrics", &[]),
    ("logging", &[]),
    ("lib", &[]),
    ("watch", &["trace", "config::settings", "health_rule", "metrics", "error_chain"]),
    ("export", &["trace", "config::settings", "metrics", "error_chain", "redacted_url"]),
    ("outbox", &["config::settings", "metrics", "error_chain"]),
    ("admin", &["metrics", "trace::model::time"]),
    ("control", &["error_chain"]),
    ("trace_metrics", &["trace", "metrics"]),
    ("jaeger_ui", &["config::settings", "trace::model"]),
    ("replay", &["trace", "config::settings", "watch"]),
    ("causal_tree", &["trace", "export::tree"]),
    ("backend", &["causal_tree", "trace::model"]),
    (
        "daemon",
        &[
            "admin",
            "backend",
            "causal_tree",
            "config",
            "control",
            "error_chain",
            "export",
            "logging",
            "metrics",
            "outbox",
            "replay",
            "trace",
            "trace_metrics",
            "watch",
        ],
    ),
    ("stamp", &["trace::model"]),
    (
        "command",
        &[
            "config",
            "daemon",
            "error_chain",
            "export",
            "logging",
            "metrics",
            "outbox",
            "stamp",
            "trace::model",
        ],
    ),
    ("cli", &["command", "daemon"]),
    ("main", &["cli", "command", "config", "control", "daemon", "error_chain", "jaeger_ui"]),
];

/// The stages of `src/trace`: each may use only those before it.
const STAGES: [&str; 9] =
    ["model", "rules", "readiness", "progress", "object", "spans", "state", "cause", "tracer"];

const LINES_MAX: usize = 500;

/// Crates and modules that the trace must not use.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "tokio",
    "tracing",
    "async",
    "await",
    "println",
];

/// Source text by path below the root of the repository, such as `src/watch/mod.rs`.
type Sources = BTreeMap<String, String>;

fn sources(folder: &str) -> Sources {
    fn walk(folder: &Path, root: &Path, found: &mut Sources) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Sources::new();
    walk(&root.join(folder), root, &mut found);
    found
}

/// `src/watch/mod.rs` is `["watch"]`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

/// The code of a file without its tests, and the modules of files that it declares for tests only.
struct Code {
    tokens: Vec<TokenTree>,
    test_modules: Vec<String>,
}

fn code(file: &str, text: &str) -> Code {
    let tokens = TokenStream::from_str(text).map_err(|error| format!("{file}: {error}")).unwrap();
    let mut test_modules = Vec::new();
    let tokens = without_tests(tokens, &mut test_modules);
    Code { tokens, test_modules }
}

fn is_punct(token: Option<&TokenTree>, expected: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == expected)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

/// Removes every item under `#[cfg(test)]`, and nothing after it.
fn without_tests(tokens: TokenStream, test_modules: &mut Vec<String>) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut kept = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let attribute = tokens.get(index + 1).map(ToString::to_string).unwrap_or_default();
        if is_punct(Some(token), '#') && attribute.replace(' ', "") == "[cfg(test)]" {
            index += 2;
            let mut item = Vec::new();
            while let Some(token) = tokens.get(index) {
                index += 1;
                item.push(token.clone());
                let is_body = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                // The braces of a `use` belong to the path before the semicolon.
                let is_use = item.iter().any(|token| token.to_string() == "use");
                if is_punct(Some(token), ';') || (is_body && !is_use) {
                    break;
                }
            }
            let declared = item.iter().position(|token| token.to_string() == "mod");
            let name = declared.and_then(|at| ident(item.get(at + 1)));
            test_modules.extend(name.filter(|_| is_punct(item.last(), ';')));
            continue;
        }
        index += 1;
        match token {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream(), test_modules);
                let inner = inner.into_iter().collect();
                kept.push(proc_macro2::Group::new(group.delimiter(), inner).into());
            }
            other => kept.push(other.clone()),
        }
    }
    kept
}

/// Every path that begins with `crate`, `super`, `self` or, in `main.rs`, the crate's name.
fn used(module: &[String], file: &str, tokens: &[TokenTree], found: &mut BTreeSet<Vec<String>>) {
    let parent = |levels: usize| module[..module.len().saturating_sub(levels)].to_vec();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        if let TokenTree::Group(group) = token {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            used(module, file, &inner, found);
        }
        let is_first = !(index > 0 && is_punct(tokens.get(index - 1), ':'));
        let mut next = index + 1;
        let start = match ident(Some(token)).as_deref() {
            Some("crate") => Some(Vec::new()),
            Some("spanlink") if file == "src/main.rs" => Some(Vec::new()),
            Some("self") => Some(module.to_vec()),
            Some("super") => {
                let mut levels = 1;
                while is_punct(tokens.get(next), ':')
                    && ident(tokens.get(next + 2)).as_deref() == Some("super")
                {
                    levels += 1;
                    next += 3;
                }
                Some(parent(levels))
            }
            _ => None,
        };
        if let Some(start) = start.filter(|_| is_first && is_punct(tokens.get(next), ':')) {
            expand(start, &tokens[next + 2..], found);
        }
        index += 1;
    }
}

/// Takes the rest of a path apart, braces included.
fn expand(mut path: Vec<String>, rest: &[TokenTree], found: &mut BTreeSet<Vec<String>>) {
    match rest.first() {
        Some(TokenTree::Ident(name)) => {
            if name != "self" {
                path.push(name.to_string());
            }
            if is_punct(rest.get(1), ':') && is_punct(rest.get(2), ':') {
                expand(path, &rest[3..], found);
            } else {
                found.insert(path);
            }
        }
        Some(TokenTree::Group(group)) => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            for item in inner.split(|token| is_punct(Some(token), ',')) {
                if !item.is_empty() {
                    expand(path.clone(), item, found);
                }
            }
        }
        _ => drop(found.insert(path)),
    }
}

/// The paths that each file uses, without files that are compiled for tests only.
fn uses(sources: &Sources) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    let codes: BTreeMap<&String, Code> =
        sources.iter().map(|(file, text)| (file, code(file, text))).collect();
    let mut test_only = Vec::new();
    for (file, code) in &codes {
        let module = module_of(file);
        let module = if *file == "src/main.rs" { Vec::new() } else { module };
        test_only.extend(
            code.test_modules.iter().map(|name| [&*module, std::slice::from_ref(name)].concat()),
        );
    }
    let mut uses = BTreeMap::new();
    for (file, code) in &codes {
        let module = module_of(file);
        if test_only.iter().any(|test| module.starts_with(test)) {
            continue;
        }
        let mut found = BTreeSet::new();
        used(&module, file, &code.tokens, &mut found);
        uses.insert((*file).clone(), found);
    }
    uses
}

fn folder_of(file: &str) -> String {
    let name = file.trim_start_matches("src/").split('/').next().unwrap_or_default();
    name.trim_end_matches(".rs").to_owned()
}

fn wrong_folder_uses(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, paths) in uses(sources) {
        let folder = folder_of(&file);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == folder) else {
            wrong.push(format!("{file} is not in the table"));
            continue;
        };
        for path in paths.iter().filter(|path| !path.is_empty() && path[0] != folder) {
            let path = path.join("::");
            let fits =
                |allowed: &&str| path == **allowed || path.starts_with(&format!("{allowed}::"));
            if !allowed.iter().any(fits) {
                wrong.push(format!("{file} uses {path}"));
            }
        }
    }
    wrong
}

fn wrong_stage_uses(sources: &Sources) -> BTreeSet<(String, String)> {
    let order = |stage: &str| STAGES.iter().position(|name| *name == stage);
    let mut wrong = BTreeSet::new();
    for (file, paths) in uses(sources) {
        let Some(stage) = file.strip_prefix("src/trace/").and_then(|rest| rest.split('/').next())
        else {
            continue;
        };
        let Some(own) = order(stage) else { continue };
        for path in paths.iter().filter(|path| path.len() > 1 && path[0] == "trace") {
            if order(&path[1]).is_some_and(|used| used > own) {
                wrong.insert((file.clone(), path[1].clone()));
            }
        }
    }
    wrong
}

/// The file that a path leads into: that of its longest prefix that is a module.
fn target<'a>(files: &'a BTreeMap<Vec<String>, String>, path: &[String]) -> Option<&'a String> {
    (1..=path.len()).rev().find_map(|len| files.get(&path[..len]))
}

/// Sets of files that import each other in a circle. A `mod.rs` that only names its modules is none.
fn circles(sources: &Sources) -> BTreeSet<Vec<String>> {
    let files: BTreeMap<Vec<String>, String> =
        sources.keys().map(|file| (module_of(file), file.clone())).collect();
    let uses = uses(sources);
    let mut reached: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for (file, paths) in &uses {
        let targets = paths.iter().filter_map(|path| target(&files, path));
        reached.insert(file, targets.filter(|target| *target != file).collect());
    }
    // Transitive closure: there are some hundred files.
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        for file in uses.keys() {
            let next: BTreeSet<&String> = reached[file]
                .iter()
                .flat_map(|target| reached.get(target).into_iter().flatten().copied())
                .collect();
            reached.get_mut(file).unwrap().extend(next);
        }
        if reached.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    uses.keys()
        .filter(|file| reached[file].contains(file))
        .map(|file| {
            let together = uses
                .keys()
                .filter(|other| reached[file].contains(other) && reached[other].contains(file));
            together.cloned().collect()
        })
        .collect()
}

#[test]
fn edges_use_no_other_edge_and_the_trace_uses_none() {
    let wrong = wrong_folder_uses(&sources("src"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn stages_of_the_trace_use_only_earlier_ones() {
    let wrong = wrong_stage_uses(&sources("src"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_import_each_other_in_no_circle() {
    let circles = circles(&sources("src"));
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn files_have_at_most_500_lines() {
    let long: Vec<String> = sources("src")
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(file, _)| file)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Names and colons, without literals: a documentation comment is one.
fn names(tokens: &[TokenTree], found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                found.push(";".to_owned());
                names(&inner, found);
                found.push(";".to_owned());
            }
            TokenTree::Literal(_) => found.push(";".to_owned()),
            other => found.push(other.to_string()),
        }
    }
}

#[test]
fn trace_is_pure() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src/trace") {
        let mut words = Vec::new();
        names(&code(&file, &text).tokens, &mut words);
        let text = words.join(" ").replace(" : : ", "::");
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let words: Vec<&str> = text.split(|c: char| !is_part(c) && c != ':').collect();
        for word in IMPURE {
            let is_it = |path: &&str| {
                **path == **word
                    || path.starts_with(&format!("{word}::"))
                    || path.ends_with(&format!("::{word}"))
            };
            if words.iter().any(is_it) {
                wrong.push(format!("{file} has {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_starts_with_its_purpose() {
    let silent: Vec<String> = ["src", "tests"]
        .into_iter()
        .flat_map(sources)
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

fn one(file: &str, text: &str) -> Sources {
    Sources::from([(file.to_owned(), text.to_owned())])
}

#[test]
fn forbidden_import_is_found_for_every_folder() {
    for (user, allowed) in MAY_USE.iter().filter(|(user, _)| *user != "lib") {
        let file = format!("src/{user}.rs");
        let root = if *user == "main" { "spanlink" } else { "crate" };
        for (used, _) in MAY_USE.iter().filter(|(used, _)| used != user) {
            let is_allowed = allowed.contains(used);
            for text in [
                format!("use {root}::{used}::Thing;"),
                format!("#[cfg(test)] mod tests {{}} use {root}::{{{used}::{{self, Thing}}}};"),
                format!("fn f() {{ g({root}::{used}::h()); }}"),
            ] {
                assert_eq!(wrong_folder_uses(&one(&file, &text)).is_empty(), is_allowed, "{text}");
            }
            let tests = format!("#[cfg(test)] mod tests {{ use {root}::{used}::Thing; }}");
            assert!(wrong_folder_uses(&one(&file, &tests)).is_empty());
        }
    }
    assert!(!wrong_folder_uses(&one("src/unknown.rs", "")).is_empty());
}

#[test]
fn forbidden_import_is_found_for_every_stage() {
    for (own, stage) in STAGES.iter().enumerate() {
        let file = format!("src/trace/{stage}/part.rs");
        for (other, used) in STAGES.iter().enumerate() {
            for text in [
                format!("use crate::trace::{used}::Thing;"),
                format!("use super::super::{used}::{{Thing}};"),
                format!("#[cfg(test)] use std::fs; use crate::{{trace::{{{used}}}}};"),
            ] {
                let found = wrong_stage_uses(&one(&file, &text));
                assert_eq!(found.is_empty(), other <= own, "{file}: {text}");
            }
        }
    }
}

#[test]
fn circle_of_imports_is_found() {
    let mut sources = one("src/a.rs", "use crate::b::c::Thing;");
    sources.insert("src/b/mod.rs".to_owned(), "pub mod c;".to_owned());
    sources.insert("src/b/c.rs".to_owned(), "fn f() { crate::d::g() }".to_owned());
    assert!(circles(&sources).is_empty());
    sources.insert("src/d.rs".to_owned(), "use super::a::Other;".to_owned());
    let circle = ["src/a.rs", "src/b/c.rs", "src/d.rs"].map(str::to_owned).to_vec();
    assert_eq!(circles(&sources), BTreeSet::from([circle]));
}
