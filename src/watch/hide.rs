//! Keeps secrets out of recordings: digests stand for them, so that changes still show.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::decode::group_of;
use crate::{
    config::settings::WatchSettings,
    trace::model::path::{Segment, segments},
};

/// Repeats the whole object, secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// serde reads no deeper than this.
const MAX_DEPTH: usize = 128;

/// Hides what must not be written, in one recording.
#[derive(Debug)]
pub(super) struct Hider {
    settings: Arc<WatchSettings>,
    /// Of the digests. Without it short secrets could be found by trying.
    key: RandomState,
}

impl Hider {
    pub(super) fn new(settings: &Arc<WatchSettings>) -> Self {
        Self { settings: Arc::clone(settings), key: RandomState::new() }
    }

    /// Of Secrets and of environment variables the values; of redacted paths all there is, names
    /// included, also in managedFields; `kubectl.kubernetes.io/last-applied-configuration` goes.
    pub(super) fn hide(&self, object: &mut Value) {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let (group, kind) = (group_of(text("apiVersion")).to_owned(), text("kind").to_owned());
        for path in self.settings.redacted_of(&group, &kind) {
            let path = segments(path);
            self.hide_at(object, &path);
            let fields =
                object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
            for entry in fields.into_iter().flatten() {
                if let Some(fields) = entry.get_mut("fieldsV1") {
                    forget_below(fields, &path);
                }
            }
        }
        if kind == "Secret" {
            for field in ["data", "stringData"] {
                if let Some(values) = object.get_mut(field).and_then(Value::as_object_mut) {
                    values.values_mut().for_each(|value| self.digest(value));
                }
            }
        }
        self.hide_environment(object, 0);
    }

    fn hide_environment(&self, value: &mut Value, depth: usize) {
        match value {
            _ if depth > MAX_DEPTH => {}
            Value::Object(fields) => {
                // Templates carry it too.
                fields.remove(LAST_APPLIED);
                if let Some(Value::Array(variables)) = fields.get_mut("env") {
                    let values = variables.iter_mut().filter_map(Value::as_object_mut);
                    values
                        .filter_map(|variable: &mut Map<_, _>| variable.get_mut("value"))
                        .for_each(|value| self.digest(value));
                }
                fields.values_mut().for_each(|field| self.hide_environment(field, depth + 1));
            }
            Value::Array(items) => {
                for item in items {
                    self.hide_environment(item, depth + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn hide_at(&self, value: &mut Value, path: &[Segment<'_>]) {
        let Some((first, rest)) = path.split_first() else { return self.digest(value) };
        match value {
            Value::Object(fields) if first.is_any() => {
                fields.values_mut().for_each(|field| self.hide_at(field, rest));
            }
            Value::Object(fields) => {
                if let Some(field) = fields.get_mut(first.name()) {
                    self.hide_at(field, rest);
                }
            }
            Value::Array(items) => {
                for item in items.iter_mut().filter(|item| first.is_any() || has_key(item, first)) {
                    self.hide_at(item, rest);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn digest(&self, value: &mut Value) {
        *value = Value::String(format!("hidden:{:016x}", self.key.hash_one(value.to_string())));
    }
}

/// Whichever field the list tells its items apart by.
fn has_key(item: &Value, segment: &Segment<'_>) -> bool {
    let is_key = |value: &Value| match value {
        Value::String(text) => text == segment.name(),
        Value::Number(number) => number.to_string() == segment.name(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    item.as_object().is_some_and(|fields| fields.values().any(is_key))
}

/// Of a set of managed fields, what is below a path: it is owned as a whole then. Where a list's items
/// are told apart by other fields than the path names them by, none can be told from it, and all go.
fn forget_below(fields: &mut Value, path: &[Segment<'_>]) {
    let (first, rest) = match path.split_first() {
        Some((first, rest)) if !(first.is_any() && rest.is_empty()) => (first, rest),
        // Items are named by their values.
        _ => {
            *fields = Value::Object(Map::new());
            return;
        }
    };
    let Some(names) = fields.as_object_mut() else { return };
    let mut is_found = false;
    for (name, below) in names.iter_mut() {
        let is_first = first.is_any()
            || name.strip_prefix("f:") == Some(first.name())
            || name.strip_prefix("k:").is_some_and(|key| {
                serde_json::from_str(key).is_ok_and(|key: Value| has_key(&key, first))
            });
        if is_first && name != "." {
            is_found = true;
            forget_below(below, rest);
        }
    }
    if !is_found && names.keys().any(|name| name.starts_with("k:") || name.starts_with("v:")) {
        names.clear();
    }
}
