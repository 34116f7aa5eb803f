//! Follows one change to its outcome: convergence, phases.

pub mod convergence;
pub mod evidence;
pub mod outcome;
pub mod phase;
pub mod phase_tables;
pub mod phase_tracker;
pub mod recorded_events;
pub mod slowest;
pub mod status_events;
