//! Follows one change to its outcome: convergence, phases.

pub mod convergence;
pub mod phase;
pub mod phase_tables;
