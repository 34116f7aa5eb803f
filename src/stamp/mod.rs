//! Writes a trace context into manifests, and changes nothing else of their text.
//!
//! | file | is |
//! | --- | --- |
//! | `manifest` | the entry: a text, its objects, the stamped text |
//! | `annotations`, `kinds` | what is written, and into which kinds |
//! | `tree` | a text as trees whose nodes have their place in it |
//! | `objects` | the objects of a document, also within lists |
//! | `edit` | the insertions into the text |
//! | `value`, `applied` | objects as values, and whether an apply would change a live object |
//! | `verify` | the comparison of the trees before and after |
//! | `error` | what cannot be stamped without damage |
//!
//! A YAML writer would lose comments, anchors, styles and the order of keys. So text is inserted at the
//! places that the parser reports, then the result is parsed again and compared.

mod annotations;
pub mod applied;
mod edit;
mod error;
mod kinds;
mod manifest;
mod objects;
mod tree;
mod value;
mod verify;

#[cfg(test)]
mod tests;

pub use self::{
    annotations::{Annotations, BAGGAGE, TRACEPARENT, TRACESTATE},
    applied::ContextPlace,
    edit::Existing,
    error::{Problem, StampError},
    kinds::StampedKind,
    manifest::{Manifest, ManifestObject, ObjectStamp},
    objects::ObjectIdentity,
};
