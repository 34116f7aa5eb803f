//! The house keeps its shape: who may use whom, and what the pure middle may not.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folder or file, and what of ours it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("trace", &["trace"]),
    ("config", &["config"]),
    ("watch", &["watch", "trace", "config::settings", "metrics"]),
    ("export", &["export", "trace", "config::settings", "metrics"]),
    ("outbox", &["outbox", "config::settings", "metrics"]),
    ("admin.rs", &["config::settings", "metrics", "trace::model::time"]),
    ("metrics.rs", &[]),
    ("logging.rs", &[]),
];

/// What the pure middle does without.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "tokio",
    "tracing::",
    "async fn",
    ".await",
    "println!",
    "thread::sleep",
];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root).unwrap().to_owned(), text)
        })
        .collect()
}

/// Code without comments and without its tests, on one line.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = before_tests.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.collect::<Vec<_>>().join("")
}

/// Every `crate::…` path, braces taken apart.
fn used(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        take_apart("", rest, &mut paths);
    }
    paths
}

fn take_apart(prefix: &str, text: &str, paths: &mut Vec<String>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => {
                    take_apart(prefix, &std::mem::take(&mut item), paths);
                    continue;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            item.push(c);
        }
        if !item.is_empty() {
            take_apart(prefix, &item, paths);
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match rest.strip_prefix("::") {
        Some(rest) => take_apart(&path, rest, paths),
        None => paths.push(path),
    }
}

#[test]
fn an_edge_never_uses_another_edge_and_the_middle_uses_nobody() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let inside = path.strip_prefix("src").unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == first) else { continue };
        for used in used(&code(&text)) {
            let fits =
                |allowed: &&str| used == **allowed || used.starts_with(&format!("{allowed}::"));
            if !allowed.iter().any(fits) {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `.await`, and not `.awaited`.
fn has_word(code: &str, word: &str) -> bool {
    code.split(word).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}

#[test]
fn the_middle_is_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src/trace") {
        let code = code(&text);
        wrong.extend(
            IMPURE
                .iter()
                .filter(|word| has_word(&code, word))
                .map(|word| format!("{} has {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<String> = ["src", "tests"]
        .into_iter()
        .flat_map(sources)
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn paths_in_braces_are_found() {
    let found = used("use crate::{config::settings::{A, B}, trace, watch::c};");
    assert_eq!(found, ["config::settings::A", "config::settings::B", "trace", "watch::c"]);
}
