//! The messages of the watches to the trace, and the points from which they resume.

use crate::trace::model::{
    object::ObjectRef,
    observation::{WatchEvent, WatchId, WatchScope},
};

/// A message of the watches to the trace.
#[derive(Debug)]
pub enum WatchMessage {
    Opened(WatchId, WatchScope),
    Events(WatchId, Vec<WatchEvent>),
    /// The kind is no longer served, or an earlier run watched it and this one does not.
    Closed(WatchId),
}

/// Where the watch of an earlier run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Taken over by the watch with the same scope; new watches get higher ones.
    pub id: WatchId,
    pub watched: WatchScope,
    /// All events up to here were delivered; 0 where none was.
    pub resource_version: u64,
    /// The objects that matched the selectors of the watch; none for a watch without selectors.
    pub selected: Vec<ObjectRef>,
}
