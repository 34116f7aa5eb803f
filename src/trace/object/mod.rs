//! One object over time: what is remembered of it, its differences, its changes.

pub mod change;
pub mod detect;
pub mod redact;
pub mod tracked;
