//! A verdict, and how much it is worth for a change.

use serde::{Deserialize, Serialize};

use crate::trace::{model::time::Timestamp, readiness::status::Status};

/// The verdict about a status, with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub status: Status,
    /// Fingerprint of the evidence: equal for a status that rests on the same evidence. `None` where
    /// the status says itself which generation it is about, as those of the built-in kinds.
    pub evidence: Option<u64>,
    /// All that is good is that the controller has observed the object, or has begun.
    pub is_thin: bool,
    /// The status is of the generation of the change, or a newer one.
    pub is_observed: bool,
    /// Why it is not Current.
    pub why: Option<Why>,
}

/// Why an object is not Current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// A word, such as `ReconcileError`.
    pub reason: Box<str>,
    pub message: Box<str>,
    pub since: Option<Timestamp>,
    pub urgency: Urgency,
    /// It is of a condition, and not a word that may be old.
    pub is_condition: bool,
}

/// How soon a person should see that an object is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Urgency {
    /// A failure, or something is missing.
    Failure,
    /// It waits for something; that should pass, and is a problem when it does not.
    Waiting,
    /// The controller is at work.
    Working,
}

impl Judgement {
    /// A verdict about a status that says itself which generation it is about.
    pub(crate) fn certain(status: Status) -> Self {
        Self { status, evidence: None, is_thin: false, is_observed: true, why: None }
    }
}
