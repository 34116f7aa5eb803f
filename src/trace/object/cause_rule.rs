//! Which rule gave a change its cause.

use serde::{Deserialize, Serialize};

/// The rule that chose the cause (`docs/causes.md`, Which rule).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum CauseRule {
    Template,
    Context,
    Newest,
    MissedGeneration,
    OwnerDeleted,
    NamespaceDeleted,
    CleanUp,
    OwnerDeleting,
    OwnerFurtherUp,
    SameObject,
}

impl CauseRule {
    /// The value of the attribute `spanlink.cause.rule`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Context => "context",
            Self::Newest => "newest",
            Self::MissedGeneration => "missed_generation",
            Self::OwnerDeleted => "owner_deleted",
            Self::NamespaceDeleted => "namespace_deleted",
            Self::CleanUp => "clean_up",
            Self::OwnerDeleting => "owner_deleting",
            Self::OwnerFurtherUp => "owner_further_up",
            Self::SameObject => "same_object",
        }
    }
}

/// How the cause of a change was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CauseChoice {
    pub rule: CauseRule,
    /// Another change in flight fitted the rule as well; the newest was chosen.
    pub is_ambiguous: bool,
}

impl CauseChoice {
    /// The only change that the rule allows.
    pub const fn only(rule: CauseRule) -> Self {
        Self { rule, is_ambiguous: false }
    }
}
