//! The pure middle: observations in, spans out. No IO, no clock, no async, no logging.
//!
//! | stage | is |
//! | --- | --- |
//! | [`model`] | plain data: time, object, observation, context, id, span |
//! | [`rules`] | the options, as the trace means them |
//! | [`readiness`] | a status becomes a verdict |
//! | [`progress`] | one change's way to its outcome: convergence, phases |
//! | [`object`] | one object over time: tracked object, difference, change |
//! | [`spans`] | a change as spans |
//! | [`state`] | tables that own their state and the indices into it |
//! | [`cause`] | which change caused it |
//! | [`tracer`] | the one door: everything comes in and goes out there |
//!
//! Each stage uses only those above it.

#![warn(clippy::indexing_slicing, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

pub mod cause;
pub mod model;
pub mod object;
pub mod progress;
pub mod readiness;
pub mod rules;
pub mod spans;
pub mod state;
pub mod tracer;
