//! The unit of writing.

use bytes::Bytes;

/// Records and checkpoint changes that are written together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Encoded spans to append to the outbox.
    pub records: Vec<Bytes>,
    /// Changes of the checkpoint. An outbox in memory drops them.
    pub entries: Vec<Entry>,
}

/// A change of one key of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    /// The new value; `None` removes the key.
    pub value: Option<Bytes>,
}
