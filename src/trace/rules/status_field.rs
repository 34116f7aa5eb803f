//! A rule of the configuration: the values of one status field that mean converged or failed.

/// Values are compared without regard to case; every other value means in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFieldRule {
    /// The condition that the field belongs to, if it belongs to one.
    pub condition: Option<Box<str>>,
    pub current: Vec<Box<str>>,
    pub failed: Vec<Box<str>>,
}
