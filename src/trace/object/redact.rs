//! Decides what of a change's fields may be said: names, values where they are allowed, and of what
//! is redacted nothing but that it changed.

use crate::trace::{
    model::{id::Verb, observation::Body, path::covering},
    object::detect::ObjectDiff,
};

/// Values of one change.
const MAX_VALUES: usize = 32;

/// Paths as they may be told, and `path=value` of those whose new value may be: on an update those
/// that changed, on a create all there are. `redacted`: paths that stand for all below them.
pub(crate) fn disclosed<'r, R: Iterator<Item = &'r str>>(
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
        Verb::Delete => false,
    };
    let values = body.into_iter().flat_map(|body| &body.content.values);
    let values = values
        .filter(|value| changed(&value.path) && covering(&value.path, redacted()).is_none())
        .map(|value| format!("{}={}", value.path, value.value).into())
        .take(MAX_VALUES)
        .collect();
    (fields, values)
}
