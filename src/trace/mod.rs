//! The pure middle: observations in, spans out. No IO, no clock, no async, no logging.

#![warn(clippy::indexing_slicing, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

pub mod content;
pub mod object;
pub mod observation;
pub mod span;
pub mod time;
