//! Decides what may be exported of changed fields: names, configured values, and of redacted paths
//! only that something below them changed.

use crate::trace::{
    model::{id::Verb, observation::Body, path::covering},
    object::detect::ObjectDiff,
};

/// Values exported with one change; further ones are left out.
const MAX_VALUES: usize = 32;

/// Returns the changed paths, and `path=value` of those whose new value is configured to be exported:
/// the changed ones of an update, all of a creation. `redacted` yields the paths that stand for
/// everything below them.
pub(crate) fn redact<'r, R: Iterator<Item = &'r str>>(
    difference: &ObjectDiff,
    body: Option<&Body>,
    redacted: impl Fn() -> R,
) -> (Vec<Box<str>>, Vec<Box<str>>) {
    let mut fields: Vec<Box<str>> = Vec::with_capacity(difference.fields.len());
    for field in &difference.fields {
        let name: Box<str> = covering(field, redacted()).map_or_else(|| field.clone(), Into::into);
        if !fields.contains(&name) {
            fields.push(name);
        }
    }
    let changed = |path: &str| match difference.verb {
        Verb::Create => true,
        Verb::Update => difference.fields.iter().any(|field| **field == *path),
        Verb::Delete | Verb::Reconcile => false,
    };
    let values = body.into_iter().flat_map(|body| &body.content.values);
    let values = values
        .filter(|value| changed(&value.path) && covering(&value.path, redacted()).is_none())
        .map(|value| format!("{}={}", value.path, value.value).into())
        .take(MAX_VALUES)
        .collect();
    (fields, values)
}
