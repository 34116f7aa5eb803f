//! Stamps of every form of YAML and JSON that a manifest may have.

mod forms;
mod generated;
mod refused;

use super::{Annotations, Existing, Manifest, ObjectStamp, StampError, StampedKind};

pub(super) const VALUE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A stamp with a `traceparent` only.
pub(super) fn plain(existing: Existing) -> ObjectStamp {
    let annotations = Annotations::new(VALUE.to_owned(), None, None);
    ObjectStamp { metadata: Some(annotations), pod_template: None, existing }
}

/// Stamps the default kinds of a text.
pub(super) fn stamp(text: &str, stamp: &ObjectStamp) -> Result<String, StampError> {
    let manifest = Manifest::parse(text)?;
    let stamps: Vec<Option<ObjectStamp>> = manifest
        .objects()
        .iter()
        .map(|object| StampedKind::Default.includes(&object.identity).then(|| stamp.clone()))
        .collect();
    manifest.stamp(&stamps)
}

/// Checks that a text becomes another one, and that a second stamp changes nothing. `T` in the expected
/// text is the value.
pub(super) fn check_with(with: &ObjectStamp, before: &str, after: &str) {
    let expected = after.replace("\"T\"", &format!("\"{VALUE}\""));
    assert_eq!(stamp(before, with).as_deref(), Ok(&*expected));
    assert_eq!(stamp(&expected, with).as_deref(), Ok(&*expected), "a second stamp");
}

pub(super) fn check(before: &str, after: &str) {
    check_with(&plain(Existing::Keep), before, after);
}
