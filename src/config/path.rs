//! Reads paths of fields as they are written: `status.health.status`, `status.conditions[Ready].status`.

use serde::{Deserialize, Deserializer, de::Error as _};

/// A field of a status, and only one: `[*]` names several.
#[derive(Clone, Debug)]
pub(super) struct StatusPath(pub(super) String);

impl<'de> Deserialize<'de> for StatusPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if is_path(&text) && text.starts_with("status.") && !text.contains("[*]") {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} names no field of a status; write status.health.status, or \
             status.conditions[Synced].status"
        )))
    }
}

/// Fields whose changes are told: content, labels and annotations. `[*]` stands for any item.
#[derive(Clone, Debug)]
pub(super) struct ContentPath(pub(super) String);

impl<'de> Deserialize<'de> for ContentPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut names = text.split(['.', '[']);
        let is_told = match names.next() {
            Some("metadata") => matches!(names.next(), Some("labels" | "annotations")),
            Some("apiVersion" | "kind" | "status") => false,
            _ => true,
        };
        if is_told && is_path(&text) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} names no field whose changes are told; write spec.replicas, \
             spec.template.spec.containers[*].image or metadata.labels[example.com/team]"
        )))
    }
}

/// Names between dots, map keys in brackets after them.
pub(super) fn is_path(text: &str) -> bool {
    let mut rest = text;
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, mut after) = rest.split_at(end);
        if name.is_empty() || name.contains(']') {
            return false;
        }
        while let Some(item) = after.strip_prefix('[') {
            let Some((key, beyond)) = item.split_once(']') else { return false };
            if key.is_empty() {
                return false;
            }
            after = beyond;
        }
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_changes_is_content_labels_and_annotations() {
        let is_told = |text: &str| {
            let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
            ContentPath::deserialize(text).is_ok()
        };
        for path in ["spec", "data[tls.key]", "metadata.labels", "metadata.annotations[a/b]"] {
            assert!(is_told(path), "{path}");
        }
        for path in ["status", "status.phase", "metadata", "metadata.name", "kind", "spec."] {
            assert!(!is_told(path), "{path}");
        }
    }

    #[test]
    fn paths_are_names_between_dots_with_keys_in_brackets() {
        for path in ["spec", "status.a.b", "a[b].c", "a[b][c]", "metadata.labels[example.com/x].y"]
        {
            assert!(is_path(path), "{path}");
        }
        for path in ["", ".", "a.", ".a", "a..b", "a[", "a[]", "[a]", "a[b]c", "a]b", "a.[b]"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
