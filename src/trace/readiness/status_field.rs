//! Judges by a field that configuration names, whatever conventions say.

use crate::trace::readiness::{
    conventions,
    status::{Evidence, Status},
};

/// What the words of a field mean, in upper or lower case; every other is in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFieldRule {
    pub current: Vec<Box<str>>,
    pub failed: Vec<Box<str>>,
}

impl StatusFieldRule {
    /// An end counts only if the status was written for the change: words linger as conditions do.
    pub(crate) fn judge(&self, e: &Evidence<'_>) -> Status {
        let Some(word) = &e.status.word else { return Status::Unknown };
        let is_one_of = |words: &[Box<str>]| words.iter().any(|of| of.eq_ignore_ascii_case(word));
        let is_current = is_one_of(&self.current);
        if !is_current && !is_one_of(&self.failed) {
            return Status::InProgress;
        }
        if !conventions::is_evidence(e) {
            return Status::Unknown;
        }
        if is_current {
            Status::Current { since: None }
        } else {
            Status::Failed { reason: word.clone(), message: "".into(), since: None }
        }
    }
}
