//! What the functions of this folder work on.

use crate::trace::{
    model::{id::Ids, time::Timestamp},
    rules::Rules,
    spans::output::Output,
    state::State,
};

/// What is known of the watched objects, and what is to be reported of them.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) rules: Rules,
    pub(super) ids: Ids,
    pub(super) state: State,
    /// Since when the watches were opened, or an earlier run was active: older objects are not new.
    /// `None` before the first watch.
    pub(super) began: Option<Timestamp>,
    pub(super) out: Output,
}
