//! One object over time: its tracked state, its differences, its changes.

pub mod cause_rule;
pub mod change;
pub mod context_history;
pub mod detect;
pub mod new_change;
pub mod redact;
pub mod references;
pub mod retention;
pub mod tracked;
