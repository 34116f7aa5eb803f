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
