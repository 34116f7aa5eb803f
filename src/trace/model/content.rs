//! The content of an object apart from metadata and status, as digests: no body is kept.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::trace::model::path::is_within;

/// The content of an object, small enough to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Digest of everything except metadata and status, in canonical form: key order does not matter.
    pub digest: Digest,
    /// Digest of `spec.template` without the label `pod-template-hash`; `None` for Pods.
    pub template: Option<Digest>,
    /// At most [`MAX_LEAVES`].
    pub leaves: Vec<Leaf>,
    /// Values of the fields that the configuration allows to be exported; at most [`MAX_LEAVES`].
    pub values: Vec<FieldValue>,
}

/// A scalar as written in the object. Kept only for the change it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue {
    pub path: Box<str>,
    /// At most 256 characters.
    pub value: Box<str>,
}

/// Which parts of an object are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading<'a> {
    /// For Pods: only the fields that can change, since the rest of the spec is large and immutable.
    pub only_mutable: bool,
    /// Paths whose values may be exported.
    pub values: &'a [String],
}

pub type Digest = [u8; 16];

/// Leaves kept of one object; further ones count only in the digest.
pub const MAX_LEAVES: usize = 128;

/// The path of one value of an object, and a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// `spec.template.spec.containers[web].image`: list items by their map key where they have one.
    pub path: Box<str>,
    /// Digest of path and value.
    pub digest: u32,
    /// The keys of a map or list rather than a value: so the place of a removal has a name.
    pub is_keys: bool,
}

impl Content {
    /// Reads the content from the top level of an object; metadata and status are ignored.
    pub fn read(object: &serde_json::Map<String, Value>, reading: Reading<'_>) -> Self {
        let mut whole = Sha256::new();
        let mut found = Found { reading, leaves: Vec::new(), values: Vec::new() };
        let mut path = String::new();
        let mut top: Vec<_> = object.iter().collect();
        top.sort_unstable_by(|a, b| a.0.cmp(b.0));
        for (key, value) in top {
            if matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
                continue;
            }
            write_text(&mut whole, key);
            write_canonical(&mut whole, value, 0);
            with_segment(&mut path, key, |path| found.walk(path, value));
        }
        let template =
            object.get("spec").and_then(|spec| spec.get("template")).map(template_digest);
        let Found { leaves, values, .. } = found;
        Self { digest: truncated(whole), template, leaves, values }
    }

    /// Whether the value at `path` has these fields, as far as leaves are kept.
    pub fn has(&self, path: &str, fields: &serde_json::Map<String, Value>) -> bool {
        let mut path = path.to_owned();
        fields.iter().all(|(key, value)| {
            let digest = with_segment(&mut path, key, |path| leaf_digest(path, &value.to_string()));
            self.leaves.iter().any(|leaf| leaf.digest == digest)
        })
    }
}

/// Deeper than any schema; below it, a value counts only as present.
const MAX_DEPTH: usize = 64;

/// The canonical form: sorted keys, the type before each value, the length of each text.
fn write_canonical(hash: &mut Sha256, value: &Value, depth: usize) {
    match value {
        _ if depth > MAX_DEPTH => hash.update(b"?"),
        Value::Null => hash.update(b"0"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Number(number) => {
            hash.update(b"n");
            write_text(hash, &number.to_string());
        }
        Value::String(text) => {
            hash.update(b"s");
            write_text(hash, text);
        }
        Value::Array(items) => {
            hash.update(b"[");
            hash.update(items.len().to_le_bytes());
            for item in items {
                write_canonical(hash, item, depth + 1);
            }
        }
        Value::Object(fields) => {
            hash.update(b"{");
            hash.update(fields.len().to_le_bytes());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by(|a, b| a.0.cmp(b.0));
            for (key, value) in fields {
                write_text(hash, key);
                write_canonical(hash, value, depth + 1);
            }
        }
    }
}

fn write_text(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_le_bytes());
    hash.update(text.as_bytes());
}

fn truncated(hash: Sha256) -> Digest {
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    digest
}

/// The template of a ReplicaSet is that of its Deployment with one more label, which distinguishes
/// the ReplicaSets.
fn template_digest(template: &Value) -> Digest {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    let mut hash = Sha256::new();
    write_canonical(&mut hash, &template, 0);
    truncated(hash)
}

/// The fields of a Pod's spec that the API server allows to change after its creation.
const MUTABLE_POD_FIELDS: [&str; 6] = [
    "spec.activeDeadlineSeconds",
    "spec.ephemeralContainers",
    "spec.nodeName",
    "spec.schedulingGates",
    "spec.terminationGracePeriodSeconds",
    "spec.tolerations",
];

fn can_change(path: &str) -> bool {
    MUTABLE_POD_FIELDS.iter().any(|field| path.starts_with(field))
        || path.ends_with("].image")
        || path.contains("].resources.")
}

struct Found<'a> {
    reading: Reading<'a>,
    leaves: Vec<Leaf>,
    values: Vec<FieldValue>,
}

impl Found<'_> {
    fn is_full(&self) -> bool {
        let is_full_of_values = self.reading.values.is_empty() || self.values.len() >= MAX_LEAVES;
        self.leaves.len() >= MAX_LEAVES && is_full_of_values
    }

    fn walk(&mut self, path: &mut String, value: &Value) {
        if self.is_full() {
            return;
        }
        match value {
            Value::Object(fields) if !fields.is_empty() && depth(path) <= MAX_DEPTH => {
                // The set of keys is a leaf too: it names the place that a field was removed from.
                let mut keys: Vec<&str> = fields.keys().map(String::as_str).collect();
                keys.sort_unstable();
                self.push(path, &keys.join("\0"), true);
                for key in keys {
                    if let Some(value) = fields.get(key) {
                        with_segment(path, key, |path| self.walk(path, value));
                    }
                }
            }
            Value::Array(items) => match map_keys(items) {
                Some(keys) => {
                    self.push(path, &keys.join("\0"), true);
                    for (key, item) in keys.iter().zip(items) {
                        let end = path.len();
                        path.push('[');
                        path.push_str(key);
                        path.push(']');
                        self.walk(path, item);
                        path.truncate(end);
                    }
                }
                None => self.push(path, &value.to_string(), false),
            },
            Value::String(text) => {
                self.push(path, &value.to_string(), false);
                self.export(path, text);
            }
            Value::Bool(_) | Value::Number(_) => {
                let text = value.to_string();
                self.push(path, &text, false);
                self.export(path, &text);
            }
            Value::Object(_) | Value::Null => self.push(path, &value.to_string(), false),
        }
    }

    fn push(&mut self, path: &str, value: &str, is_keys: bool) {
        if self.leaves.len() >= MAX_LEAVES || (self.reading.only_mutable && !can_change(path)) {
            return;
        }
        self.leaves.push(Leaf { path: path.into(), digest: leaf_digest(path, value), is_keys });
    }

    fn export(&mut self, path: &str, value: &str) {
        if self.values.len() < MAX_LEAVES {
            self.values.extend(FieldValue::allowed(path, value, self.reading.values));
        }
    }
}

impl FieldValue {
    /// `None`: the value is not to be exported, or repeats the whole object.
    pub fn allowed(path: &str, value: &str, allowed: &[String]) -> Option<Self> {
        if !allowed.iter().any(|of| is_within(path, of)) || path.contains(LAST_APPLIED) {
            return None;
        }
        let end = value.char_indices().nth(MAX_VALUE).map_or(value.len(), |(end, _)| end);
        Some(Self { path: path.into(), value: value.get(..end)?.into() })
    }
}

/// The annotation in which `kubectl apply` stores a copy of the whole object.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Characters of an exported value.
const MAX_VALUE: usize = 256;

fn depth(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'.').count()
}

fn with_segment<T>(path: &mut String, key: &str, then: impl FnOnce(&mut String) -> T) -> T {
    let end = path.len();
    if key.contains(['.', '[']) {
        // Labels and the like: `nodeSelector[kubernetes.io/os]`.
        path.push('[');
        path.push_str(key);
        path.push(']');
    } else {
        if end > 0 {
            path.push('.');
        }
        path.push_str(key);
    }
    let done = then(path);
    path.truncate(end);
    done
}

fn leaf_digest(path: &str, value: &str) -> u32 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(path.as_bytes());
    hash.update(&[0]);
    hash.update(value.as_bytes());
    let [a, b, c, d, ..] = hash.digest().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Leaf {
    /// The leaf of a label or an annotation, which are outside the content. `None`: it is absent.
    pub fn of(path: &str, value: Option<&str>) -> Self {
        let digest = leaf_digest(path, value.unwrap_or("\0"));
        Self { path: path.into(), digest, is_keys: value.is_none() }
    }
}

/// The map keys of a list, where every item has one and all differ: `name` in most lists, the port in
/// those of Services and containers, `type` in those of conditions.
fn map_keys(items: &[Value]) -> Option<Vec<String>> {
    const KEYS: [&str; 6] = ["name", "containerPort", "port", "mountPath", "key", "type"];
    let key = KEYS.into_iter().find(|key| items.iter().all(|item| item.get(key).is_some()))?;
    let keys: Vec<String> = items
        .iter()
        .map(|item| match item.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        })
        .collect();
    let distinct: std::collections::HashSet<&String> = keys.iter().collect();
    (!items.is_empty() && distinct.len() == keys.len()).then_some(keys)
}
