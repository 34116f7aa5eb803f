//! Judges an object by the status field that the configuration names (option `converges`).

use crate::trace::{
    readiness::{
        conventions,
        status::{Evidence, Status},
    },
    rules::status_field::StatusFieldRule,
};

/// An end counts only if the status was written for the change: words linger as conditions do.
pub(crate) fn judge(rule: &StatusFieldRule, e: &Evidence<'_>) -> Status {
    let Some(word) = &e.status.word else { return Status::Unknown };
    let is_one_of = |words: &[Box<str>]| words.iter().any(|of| of.eq_ignore_ascii_case(word));
    let is_current = is_one_of(&rule.current);
    if !is_current && !is_one_of(&rule.failed) {
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
