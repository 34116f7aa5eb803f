//! Checks the paths of fields that options contain, by the grammar of [`crate::field_path`].

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::field_path::{Segment, is_well_formed, segments};

/// The path of one field of the status: `status.health.status`, `status.conditions[Ready].status`.
#[derive(Clone, Debug)]
pub(super) struct StatusPath(pub(super) String);

impl<'de> Deserialize<'de> for StatusPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_spelling(&text).map_err(D::Error::custom)?;
        let segments = segments(&text);
        let is_below_status = segments.len() > 1 && segments.first() == Some(&STATUS);
        // A pattern would select several fields.
        if is_below_status && !segments.iter().any(|segment| segment.is_any()) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} is not the path of a status field; write status.health.status, or \
             status.conditions[Synced].status"
        )))
    }
}

/// The path of fields whose changes have spans: content, labels and annotations. `[*]` matches any
/// item.
#[derive(Clone, Debug)]
pub(super) struct ContentPath(pub(super) String);

impl<'de> Deserialize<'de> for ContentPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_spelling(&text).map_err(D::Error::custom)?;
        let segments = segments(&text);
        let mut names = segments.iter().map(|segment| segment.name());
        let has_changes = match names.next() {
            Some("metadata") => matches!(names.next(), Some("labels" | "annotations")),
            Some(name) => !is_outside_content(name),
            None => false,
        };
        if has_changes {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "changes of {text:?} are not traced; write a path of the content, of labels or of \
             annotations: spec.replicas, spec.template.spec.containers[*].image, \
             metadata.labels[example.com/team]"
        )))
    }
}

/// The path of a field that names another object: field names between dots, in the content. A list
/// may only be its last field, and then every item names an object.
#[derive(Clone, Debug)]
pub(super) struct ReferencePath(pub(super) String);

impl<'de> Deserialize<'de> for ReferencePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_spelling(&text).map_err(D::Error::custom)?;
        let segments = segments(&text);
        let are_fields = segments.iter().all(|segment| matches!(segment, Segment::Field(_)));
        let is_content = segments.first().is_some_and(|segment| {
            segment.name() != "metadata" && !is_outside_content(segment.name())
        });
        if are_fields && is_content {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} is not the path of a reference; write field names between dots, as in \
             spec.clusterRef; a list may only be the last field"
        )))
    }
}

/// The path of a label, an annotation or a field that names the owner of an object.
#[derive(Clone, Debug)]
pub(super) struct MarkPath(pub(super) String);

impl<'de> Deserialize<'de> for MarkPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_spelling(&text).map_err(D::Error::custom)?;
        let segments = segments(&text);
        let is_read = match &*segments {
            [Segment::Field("metadata"), Segment::Field("labels" | "annotations"), _] => true,
            [first, ..] => first.name() != "metadata" && !is_outside_content(first.name()),
            [] => false,
        };
        // A pattern would name several owners.
        if is_read && !segments.iter().any(|segment| segment.is_any()) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} cannot name an owner; write the path of one label, annotation or field: \
             metadata.labels[example.com/owner], spec.owner.name"
        )))
    }
}

/// The path of one field of the content or the status that carries a trace context.
#[derive(Clone, Debug)]
pub(super) struct CarrierPath(pub(super) String);

impl<'de> Deserialize<'de> for CarrierPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_spelling(&text).map_err(D::Error::custom)?;
        let segments = segments(&text);
        let is_read = segments.len() > 1
            && segments.first().is_some_and(|first| {
                *first == STATUS
                    || (first.name() != "metadata" && !is_outside_content(first.name()))
            });
        // A pattern would select several fields.
        if is_read && !segments.iter().any(|segment| segment.is_any()) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} cannot carry a trace context; write the path of one field of the content or the \
             status: status.spanContext, spec.traceId.traceparent"
        )))
    }
}

const STATUS: Segment<'static> = Segment::Field("status");

fn is_outside_content(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind" | "status")
}

/// Refuses other notations for paths, with the spelling that is right here.
fn check_spelling(text: &str) -> Result<(), String> {
    if let Some(path) = text.strip_prefix("$.").or_else(|| text.strip_prefix('.')) {
        return Err(format!("{text:?} is a JSONPath; write it without its beginning, as {path}"));
    }
    if let Some(pointer) = text.strip_prefix('/') {
        let path = pointer.replace('/', ".").replace("~1", "/").replace("~0", "~");
        return Err(format!("{text:?} is a JSON pointer; write names between dots, as {path}"));
    }
    if !is_well_formed(text) {
        return Err(format!(
            "{text:?} is not a path: expected names between dots, with the keys of list items in \
             closed brackets, as in spec.template.spec.containers[web].image"
        ));
    }
    if let Some((list, _)) = text.split_once("[0]") {
        return Err(format!(
            "{text:?} has an index; write the key of the item ({list}[web]), or {list}[*] for every \
             item"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    fn is_accepted<'de, T: Deserialize<'de>>(text: &'de str) -> bool {
        T::deserialize(StrDeserializer::<Error>::new(text)).is_ok()
    }

    #[test]
    fn content_paths_lead_to_content_labels_and_annotations() {
        for path in ["spec", "data[tls.key]", "metadata.labels", "metadata.annotations[a/b]"] {
            assert!(is_accepted::<ContentPath>(path), "{path}");
        }
        for path in [
            "status",
            "status.phase",
            "metadata",
            "metadata.name",
            "kind",
            "spec.",
            "spec.refs[0",
            "$.spec",
            ".spec",
            "/spec/replicas",
            "spec.containers[0].image",
        ] {
            assert!(!is_accepted::<ContentPath>(path), "{path}");
        }
    }

    #[test]
    fn reference_paths_are_field_names_of_the_content() {
        for path in ["spec.clusterRef", "roleRef", "spec.a.b"] {
            assert!(is_accepted::<ReferencePath>(path), "{path}");
        }
        for path in ["spec.refs[0", "spec.refs[*].name", "metadata.name", "status.nodeRef", ""] {
            assert!(!is_accepted::<ReferencePath>(path), "{path}");
        }
    }

    #[test]
    fn status_paths_lead_to_one_field_below_the_status() {
        for path in ["status.phase", "status.conditions[Ready].status"] {
            assert!(is_accepted::<StatusPath>(path), "{path}");
        }
        for path in ["status", "spec.phase", "status.conditions[*].status", "statuses.a"] {
            assert!(!is_accepted::<StatusPath>(path), "{path}");
        }
    }
}
