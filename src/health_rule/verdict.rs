//! The decision of a rule about an object.

/// What a rule decides about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Current,
    Paused,
    InProgress,
    Failed,
    /// The rule could not be evaluated.
    Unknown,
}

/// The decision of a rule, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    /// A word, such as `ReconcileError`; empty where the rule names none.
    pub reason: Box<str>,
    /// At most 256 characters.
    pub message: Box<str>,
    /// The rule reads the status: its kind has a controller.
    pub reads_status: bool,
}

impl Verdict {
    pub fn unknown() -> Self {
        Self {
            state: State::Unknown,
            reason: Box::default(),
            message: Box::default(),
            reads_status: true,
        }
    }
}
