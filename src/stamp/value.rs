//! The objects of a manifest as JSON values, as kubectl reads them.

use std::collections::HashMap;

use granit_parser::ScalarStyle;
use serde_json::{Map, Number, Value};

use super::{
    edit::MERGE_KEY,
    objects::Found,
    tree::{Content, Document, Node},
};

/// Aliases within aliases: more would be an attack.
const DEPTH_MAX: usize = 512;

/// The value of an object. An item of a typed list gets the type that it lacks.
pub(super) fn value(found: &Found<'_>) -> Value {
    let mut anchors = HashMap::new();
    collect_anchors(found.document, &mut anchors);
    let mut value = Values { anchors }.value(found.node, 0);
    if let Some(object) = value.as_object_mut() {
        let identity = &found.identity;
        for (field, text) in [("apiVersion", &identity.api_version), ("kind", &identity.kind)] {
            object.entry(field).or_insert_with(|| Value::from(text.as_str()));
        }
    }
    value
}

fn collect_anchors<'tree>(document: &'tree Document, anchors: &mut HashMap<usize, &'tree Node>) {
    let mut nodes = vec![&document.root];
    while let Some(node) = nodes.pop() {
        if node.anchor != 0 {
            anchors.insert(node.anchor, node);
        }
        match &node.content {
            Content::Sequence { items, .. } => nodes.extend(items),
            Content::Mapping { entries, .. } => {
                nodes.extend(entries.iter().flat_map(|(key, value)| [key, value]));
            }
            Content::Scalar { .. } | Content::Alias(_) => {}
        }
    }
}

struct Values<'tree> {
    anchors: HashMap<usize, &'tree Node>,
}

impl Values<'_> {
    fn value(&self, node: &Node, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        match &node.content {
            Content::Scalar { value, style } => {
                let is_text = *style != ScalarStyle::Plain || node.tag.is_some();
                if is_text { Value::from(value.as_str()) } else { plain(value) }
            }
            Content::Alias(anchor) => {
                let target = self.anchors.get(anchor);
                target.map_or(Value::Null, |target| self.value(target, depth + 1))
            }
            Content::Sequence { items, .. } => {
                items.iter().map(|item| self.value(item, depth + 1)).collect()
            }
            Content::Mapping { entries, .. } => {
                let mut merged = Map::new();
                let mut own = Map::new();
                for (key, entry) in entries {
                    let value = self.value(entry, depth + 1);
                    match key.text() {
                        Some(MERGE_KEY) => merge(value, &mut merged),
                        Some(key) => drop(own.insert(key.to_owned(), value)),
                        None => {}
                    }
                }
                merged.extend(own);
                Value::Object(merged)
            }
        }
    }
}

/// Adds the entries of merged mappings: the first of several wins.
fn merge(value: Value, merged: &mut Map<String, Value>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                merged.entry(key).or_insert(value);
            }
        }
        Value::Array(items) => items.into_iter().for_each(|item| merge(item, merged)),
        _ => {}
    }
}

/// Resolves a plain scalar by YAML 1.1, as kubectl's reader does:
/// <https://github.com/kubernetes-sigs/yaml/blob/v1.6.0/goyaml.v2/resolve.go>.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let number = text.replace('_', "");
    let number = is_number.then(|| integer(&number).or_else(|| float(&number))).flatten();
    number.map_or_else(|| Value::from(text), Value::Number)
}

/// As Go's `strconv.ParseInt` with base 0: `0644` is octal, as in modes of files.
fn integer(text: &str) -> Option<Number> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, radix)));
    let (digits, radix) = match (prefixed, digits.strip_prefix('0')) {
        (Some(prefixed), _) => prefixed,
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        (None, _) => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if is_negative {
        return i64::try_from(magnitude).ok().map(|magnitude| Number::from(-magnitude));
    }
    Some(Number::from(magnitude))
}

fn float(text: &str) -> Option<Number> {
    let has_digit = text.chars().any(|c| c.is_ascii_digit());
    let is_float = has_digit && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    Number::from_f64(text.parse::<f64>().ok().filter(|_| is_float)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::stamp::Manifest;

    #[test]
    fn values_are_those_that_kubectl_reads() {
        let text = "
base: &base {a: 1, b: 2}
apiVersion: v1
kind: Pod
metadata: {name: a}
merged: {<<: *base, b: 3}
mode: 0644
numbers: [1, -2, 0x1f, 1.5, 1e3, 1_000, 18446744073709551615]
texts: [1.2.3, 10m, '5', !!str 5, 2026-01-01, 08, '', .]
booleans: [on, No, y, \"true\"]
alias: *base
nothing: [~, null, ]
block: |
  text
";
        let manifest = Manifest::parse(text).unwrap();
        let [mut value] = manifest.values().try_into().unwrap();
        let object = value.as_object_mut().unwrap();
        object.remove("base");
        object.remove("metadata");
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "merged": {"a": 1, "b": 3},
            "mode": 0o644,
            "numbers": [1, -2, 31, 1.5, 1000.0, 1000, 18_446_744_073_709_551_615_u64],
            "texts": ["1.2.3", "10m", "5", "5", "2026-01-01", 8.0, "", "."],
            "booleans": [true, false, true, "true"],
            "alias": {"a": 1, "b": 2},
            "nothing": [null, null],
            "block": "text\n",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn item_of_a_typed_list_gets_its_type() {
        let text = "{kind: PodList, apiVersion: v1, items: [{metadata: {name: a}}]}";
        let values = Manifest::parse(text).unwrap().values();
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
        assert_eq!(values, [expected]);
    }
}
