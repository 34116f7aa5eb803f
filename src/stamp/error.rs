//! Why a text cannot be stamped without damage.

/// A text that cannot be stamped, and where. No part of it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {document}, line {line}: {problem}")]
pub struct StampError {
    /// Counted from 1.
    pub document: usize,
    /// Counted from 1, from the beginning of the text.
    pub line: usize,
    pub problem: Problem,
}

/// What prevents a stamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("this is neither YAML nor JSON: {reason}")]
    Syntax { reason: String },
    #[error("{field} is an alias of another value; write the value itself")]
    Alias { field: String },
    #[error(
        "{field} has an anchor that an alias refers to; a stamp would change the other value, too"
    )]
    Anchor { field: String },
    #[error(
        "{field} merges another mapping (<<), which may contain the key; write {missing} itself"
    )]
    Merge { field: String, missing: String },
    #[error("{field} is not a mapping")]
    NotAMapping { field: String },
    #[error("{field} occurs twice")]
    Duplicate { field: String },
    #[error("{field} is written in a form that cannot be changed in place; write it on one line")]
    Form { field: String },
    #[error("the stamp would change more than the annotation; please report the manifest")]
    Damage,
}
