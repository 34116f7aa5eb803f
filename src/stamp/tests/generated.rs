//! Generated manifests, and the documents of the YAML test suite, differ after a stamp in the annotation
//! alone.

use fastrand::Rng;
use serde_json::Value;

use super::{VALUE, plain, stamp};
use crate::stamp::{Existing, Manifest, Problem, StampError, StampedKind, TRACEPARENT};

const MANIFESTS: u64 = 2_000;
const SUITE: &str = include_str!("../../../tests/yaml-test-suite/cases.jsonl");

/// Writes random manifests in random styles.
struct Writer {
    rng: Rng,
    indentation: usize,
}

impl Writer {
    fn manifest(seed: u64) -> String {
        let mut writer = Self { rng: Rng::with_seed(seed), indentation: 2 };
        writer.indentation = writer.rng.usize(1..=4);
        let documents = writer.rng.usize(1..4);
        let mut text = String::new();
        for index in 0..documents {
            if index > 0 || writer.rng.bool() {
                text +=
                    writer.pick(&["---\n", "--- # next\n", "---\n---\n", "...\n# between\n---\n"]);
            }
            text += &writer.document();
        }
        if writer.rng.u8(..) < 30 {
            text = text.replace('\n', "\r\n");
        }
        if writer.rng.u8(..) < 30 {
            text.insert(0, '\u{feff}');
        }
        if writer.rng.u8(..) < 30 {
            text.truncate(text.trim_end().len());
        }
        text
    }

    fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.rng.usize(..choices.len())]
    }

    fn document(&mut self) -> String {
        match self.rng.u8(..10) {
            0 => self.pick(&["# only a comment\n", "just text\n", "- a\n- b\n", "{}\n"]).to_owned(),
            1 => {
                let objects = [self.object(), self.object()];
                let items = objects.map(|object| {
                    let object: Vec<String> =
                        object.lines().map(|line| format!("  {line}\n")).collect();
                    let object = object.concat();
                    format!("- {}", object.trim_start())
                });
                let kind =
                    self.pick(&["v1\nkind: List", "config.kubernetes.io/v1\nkind: ResourceList"]);
                format!("apiVersion: {kind}\nitems:\n{}", items.concat())
            }
            _ => self.object(),
        }
    }

    fn object(&mut self) -> String {
        let kind = self.pick(&[
            "apiVersion: apps/v1\nkind: Deployment\n",
            "kind: \"Pod\"\napiVersion: 'v1'\n",
            "apiVersion: v1 # core\nkind: Service\n",
            "apiVersion: example.com/v1\nkind: Widget # ours\n",
        ]);
        let metadata = self.metadata();
        let spec = self.block("spec", 1);
        let parts =
            if self.rng.bool() { [kind, &metadata, &spec] } else { [&spec, kind, &metadata] };
        parts.concat()
    }

    fn metadata(&mut self) -> String {
        let indentation = " ".repeat(self.indentation);
        if self.rng.u8(..6) == 0 {
            return self
                .pick(&[
                    "metadata: {name: a, annotations: {b: c}}\n",
                    "metadata: { name: a } # x\n",
                    "metadata: {\"name\":\"a\",\"annotations\":{}}\n",
                    "metadata: {annotations: ~, name: a}\n",
                ])
                .to_owned();
        }
        let mut text = self
            .pick(&[
                "metadata:\n",
                "metadata: # here\n",
                "metadata:\n\n# below\n",
                "\"metadata\":\n",
            ])
            .to_owned();
        let name = format!("{indentation}name: a{}", self.pick(&["\n", " # the name\n"]));
        let annotations = self.annotations();
        let labels = self.block("labels", 2);
        let labels = indented(&labels, self.indentation);
        let mut parts = [name, annotations, labels];
        self.rng.shuffle(&mut parts);
        text.extend(parts);
        text
    }

    fn annotations(&mut self) -> String {
        let outer = " ".repeat(self.indentation);
        let inner = " ".repeat(self.indentation * 2);
        match self.rng.u8(..8) {
            0 => String::new(),
            1 => format!(
                "{outer}annotations:{}\n",
                self.pick(&["", " # none", " {}", " ~", " null", " { }"])
            ),
            2 => format!("{outer}annotations: {{{outer}\n{inner}a: b,\n{inner}c: d\n{outer} }}\n"),
            3 => format!("{outer}annotations: &notes\n{inner}a: b\n"),
            4 => format!("{outer}annotations:\n{inner}{TRACEPARENT}: {VALUE}\n{inner}b: c\n"),
            _ => {
                let value = self.scalar(self.indentation * 2);
                let comment = self.pick(&["", "# about it\n", "\n"]);
                let comment = if comment.starts_with('#') {
                    format!("{inner}{comment}")
                } else {
                    comment.to_owned()
                };
                format!("{outer}annotations:\n{comment}{inner}x.y/z: {value}{inner}last: \"1\"\n")
            }
        }
    }

    /// A scalar as the value of a key at `column`, with its line break.
    fn scalar(&mut self, column: usize) -> String {
        let deeper = " ".repeat(column + self.indentation);
        match self.rng.u8(..8) {
            0 => {
                format!("|\n{deeper}line one\n{deeper}  annotations: no\n\n{deeper}# no comment\n")
            }
            1 => format!(">-\n{deeper}folded\n{deeper}text\n"),
            2 => format!("|+\n{deeper}kept\n\n\n"),
            3 => format!("plain text\n{deeper}over lines\n"),
            4 => format!("\"quoted \\\n{deeper}text: é\"\n"),
            5 => "'it''s' # said\n".to_owned(),
            6 => "&anchor value\n".to_owned(),
            _ => "on\n".to_owned(),
        }
    }

    fn block(&mut self, key: &str, depth: usize) -> String {
        let indentation = " ".repeat(self.indentation);
        let mut text = format!("{key}:\n");
        for index in 0..self.rng.usize(1..4) {
            if self.rng.u8(..5) == 0 {
                text.extend([&indentation, "# a comment\n"]);
            }
            let key = format!("key{index}");
            let is_nested = depth < 4 && self.rng.u8(..3) == 0;
            let entry = if is_nested {
                self.block(&key, depth + 1)
            } else {
                let value = self.scalar(0);
                format!("{key}: {value}")
            };
            text.extend(entry.split_inclusive('\n').map(|line| {
                if line.trim().is_empty() {
                    line.to_owned()
                } else {
                    format!("{indentation}{line}")
                }
            }));
        }
        text
    }
}

fn indented(text: &str, columns: usize) -> String {
    let indentation = " ".repeat(columns);
    let lines = text.split_inclusive('\n').map(|line| format!("{indentation}{line}"));
    lines.collect::<Vec<String>>().concat()
}

/// Removes the annotation, and the containers that became empty.
fn without_annotation(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_annotation),
        Value::Object(object) => {
            object.values_mut().for_each(without_annotation);
            let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
                return;
            };
            if let Some(annotations) = metadata.get_mut("annotations") {
                if let Some(annotations) = annotations.as_object_mut() {
                    annotations.remove(TRACEPARENT);
                }
                if annotations.is_null()
                    || annotations.as_object().is_some_and(serde_json::Map::is_empty)
                {
                    metadata.remove("annotations");
                }
            }
        }
        _ => {}
    }
}

fn values(text: &str) -> Vec<Value> {
    let mut values: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    values.iter_mut().for_each(without_annotation);
    values
}

/// Stamps one object after the other, and checks that each stamp is one insertion. Returns the last text.
fn stamp_one_by_one(text: &str) -> Result<String, StampError> {
    let mut text = text.to_owned();
    for index in 0..Manifest::parse(&text)?.objects().len() {
        let manifest = Manifest::parse(&text)?;
        let object = &manifest.objects()[index];
        let mut stamps = vec![None; manifest.objects().len()];
        stamps[index] =
            StampedKind::Default.includes(&object.identity).then(|| plain(Existing::Keep));
        let after = manifest.stamp(&stamps)?;
        check_insertion(&text, &after);
        text = after;
    }
    Ok(text)
}

/// Checks that `after` is `before` with one insertion, which may replace `null`.
fn check_insertion(before: &str, after: &str) {
    let common = |mut pairs: Box<dyn Iterator<Item = (u8, u8)> + '_>| {
        let mut length = 0;
        while pairs.next().is_some_and(|(a, b)| a == b) {
            length += 1;
        }
        length
    };
    let start: usize = common(Box::new(before.bytes().zip(after.bytes())));
    let end: usize = common(Box::new(before.bytes().rev().zip(after.bytes().rev())));
    if start + end >= before.len() {
        let inserted = after.len() - before.len();
        assert!(inserted == 0 || after.contains(VALUE), "{after}");
        return;
    }
    let replaced = before.get(start..before.len() - end).unwrap();
    assert!(["~", "null"].contains(&replaced), "{replaced:?} was replaced:\n{before}\n{after}");
}

#[test]
fn generated_manifests_differ_in_the_annotation_alone() {
    let mut stamped = 0;
    for seed in 0..MANIFESTS {
        let before = Writer::manifest(seed);
        let with = plain(Existing::Keep);
        let after =
            stamp(&before, &with).unwrap_or_else(|error| panic!("{seed}: {error}\n{before}"));
        assert_eq!(values(&before), values(&after), "{seed}:\n{before}\n{after}");
        if seed % 4 == 0 {
            assert_eq!(stamp_one_by_one(&before).as_deref(), Ok(&*after), "{seed}");
        }
        assert_eq!(stamp(&after, &with).as_deref(), Ok(&*after), "{seed}: a second stamp");
        stamped += usize::from(before != after);
    }
    assert!(stamped > 1_500, "{stamped}");
}

/// Where a document of the suite stands in a manifest.
fn embedded(yaml: &str) -> [String; 3] {
    let head = "apiVersion: v1\nkind: Pod\n";
    [
        format!("{head}metadata:\n  name: a\n{yaml}"),
        format!("{head}metadata:\n{}\nspec: {{}}\n", indented(yaml, 2)),
        format!("{head}metadata:\n  annotations:\n{}\n", indented(yaml, 4)),
    ]
}

#[test]
fn documents_of_the_yaml_test_suite_differ_in_the_annotation_alone() {
    let (mut stamped, mut refused) = (0, Vec::new());
    for line in SUITE.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (id, yaml) = (case["id"].as_str().unwrap(), case["yaml"].as_str().unwrap());
        for before in embedded(yaml) {
            let after = match stamp(&before, &plain(Existing::Keep)) {
                Ok(after) => after,
                // The case fits in no mapping.
                Err(StampError {
                    problem: Problem::Syntax { .. } | Problem::NotAMapping { .. },
                    ..
                }) => continue,
                Err(error) => {
                    refused.push(format!("{id}: {}", error.problem));
                    continue;
                }
            };
            if before == after {
                continue;
            }
            stamped += 1;
            let again = stamp(&after, &plain(Existing::Keep));
            assert_eq!(again.as_deref(), Ok(&*after), "{id}: a second stamp");
            assert_eq!(stamp_one_by_one(&before).as_deref(), Ok(&*after), "{id}");
        }
        // The document by itself is passed on as it is, or refused.
        if let Ok(after) = stamp(yaml, &plain(Existing::Keep)) {
            assert_eq!(after, yaml, "{id}");
        }
    }
    assert!(stamped > 350, "{stamped}");
    assert_eq!(refused, [""; 0]);
}
