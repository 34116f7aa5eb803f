//! The content of the last checkpoint, so that the next one writes only differences.

use std::collections::BTreeMap;

use crate::trace::model::observation::WatchId;

/// Tracks the content of the last checkpoint.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    pub(crate) reading: u64,
    pub(crate) has_header: bool,
    /// Fingerprints of the watches' entries, `None` for those of an earlier run.
    pub(crate) watches: BTreeMap<WatchId, Option<u64>>,
}
