//! Recordings of watch events: written while watching, with secrets redacted, and read back through
//! the same decoder.
//!
//! A recording is a file of JSON lines. Each line is a watch event with the keys `at` (the time of
//! receipt, RFC 3339), `watch` (the name of the watch), `type` and `object` (as the API server sent
//! it). A list is written as `LISTED` lines, followed by one `LIST_END` line with the
//! `resourceVersion` of the list. A `KIND` line tells whether a kind has a status subresource
//! (`hasStatus`); without one it counts as having it. A recording written by hand may be YAML
//! instead, with the same keys and one document per event.

mod entry;
mod reader;
mod redact;
mod writer;

pub use reader::{RecordedWatch, Recording, RecordingError};
pub use writer::{Recorded, RecordingWriter, Tap};
pub(super) use writer::{record_item, record_line};
