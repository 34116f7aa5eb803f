//! Replaces secrets in recordings by digests, so that a replay still detects that they changed.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{
    config::settings::WatchSettings,
    trace::model::{
        content::LAST_APPLIED,
        object::GroupKind,
        path::{Segment, segments},
    },
};

/// `serde_json` parses no deeper than this.
const MAX_DEPTH: usize = 128;

/// Redacts the objects of one recording.
#[derive(Debug)]
pub(super) struct Redactor {
    settings: Arc<WatchSettings>,
    /// The random key of the digests. Without it, short secrets could be found by trying all.
    key: RandomState,
}

impl Redactor {
    pub(super) fn new(settings: &Arc<WatchSettings>) -> Self {
        Self { settings: Arc::clone(settings), key: RandomState::new() }
    }

    /// Replaces the values of Secrets and environment variables, and everything below the paths
    /// that configuration redacts, including field names, in the object and its managedFields.
    /// Removes the annotation [`LAST_APPLIED`], which repeats the whole object.
    pub(super) fn redact(&self, object: &mut Value) {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = GroupKind::of(text("apiVersion"), text("kind"));
        for path in self.settings.redacted_of(&kind.group, &kind.kind) {
            let path = segments(path);
            self.redact_path(object, &path);
            let managed_fields =
                object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
            for entry in managed_fields.into_iter().flatten() {
                if let Some(fields) = entry.get_mut("fieldsV1") {
                    remove_below(fields, &path);
                }
            }
        }
        if &*kind.kind == "Secret" {
            for field in ["data", "stringData"] {
                if let Some(values) = object.get_mut(field).and_then(Value::as_object_mut) {
                    values.values_mut().for_each(|value| self.replace(value));
                }
            }
        }
        self.redact_environment(object, 0);
    }

    fn redact_environment(&self, value: &mut Value, depth: usize) {
        match value {
            _ if depth > MAX_DEPTH => {}
            Value::Object(fields) => {
                // Templates can carry the annotation too.
                fields.remove(LAST_APPLIED);
                if let Some(Value::Array(variables)) = fields.get_mut("env") {
                    let variables = variables.iter_mut().filter_map(Value::as_object_mut);
                    variables
                        .filter_map(|variable: &mut Map<_, _>| variable.get_mut("value"))
                        .for_each(|value| self.replace(value));
                }
                fields.values_mut().for_each(|field| self.redact_environment(field, depth + 1));
            }
            Value::Array(items) => {
                for item in items {
                    self.redact_environment(item, depth + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn redact_path(&self, value: &mut Value, path: &[Segment<'_>]) {
        let Some((first, rest)) = path.split_first() else { return self.replace(value) };
        match value {
            Value::Object(fields) if first.is_any() => {
                fields.values_mut().for_each(|field| self.redact_path(field, rest));
            }
            Value::Object(fields) => {
                if let Some(field) = fields.get_mut(first.name()) {
                    self.redact_path(field, rest);
                }
            }
            Value::Array(items) => {
                let named = items.iter_mut().filter(|item| first.is_any() || has_name(item, first));
                named.for_each(|item| self.redact_path(item, rest));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn replace(&self, value: &mut Value) {
        *value = Value::String(format!("hidden:{:016x}", self.key.hash_one(value.to_string())));
    }
}

/// Whether any field of a list item has the value that the segment names the item by. Which field
/// identifies the items depends on the list, so all fields count.
fn has_name(item: &Value, segment: &Segment<'_>) -> bool {
    let is_name = |value: &Value| match value {
        Value::String(text) => text == segment.name(),
        Value::Number(number) => number.to_string() == segment.name(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    item.as_object().is_some_and(|fields| fields.values().any(is_name))
}

/// Removes the fields below a path from a
/// [field set](https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management),
/// so that the set owns the path as a whole. A set may identify list items by other fields than the
/// path does; then no item can be matched, and all items are removed.
fn remove_below(fields: &mut Value, path: &[Segment<'_>]) {
    let (first, rest) = match path.split_first() {
        Some((first, rest)) if !(first.is_any() && rest.is_empty()) => (first, rest),
        // The end of the path, or all items of a list, which a set may identify by their values.
        _ => {
            *fields = Value::Object(Map::new());
            return;
        }
    };
    let Some(names) = fields.as_object_mut() else { return };
    let mut has_match = false;
    for (name, below) in names.iter_mut() {
        let matches = first.is_any()
            || name.strip_prefix("f:") == Some(first.name())
            || name.strip_prefix("k:").is_some_and(|key| {
                serde_json::from_str(key).is_ok_and(|key: Value| has_name(&key, first))
            });
        if matches && name != "." {
            has_match = true;
            remove_below(below, rest);
        }
    }
    if !has_match && names.keys().any(|name| name.starts_with("k:") || name.starts_with("v:")) {
        names.clear();
    }
}
