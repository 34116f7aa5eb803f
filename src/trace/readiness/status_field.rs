//! Judges an object by the status field that the configuration names (option `converges`).

use crate::trace::{
    readiness::{
        conventions,
        status::{Evidence, Status},
    },
    rules::status_field::StatusFieldRule,
};

/// A final value counts only if the status was written for the change: an old value remains in it
/// until then.
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
