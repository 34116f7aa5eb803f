//! Kubernetes in: lists and watches, read narrowly, as notices.
//!
//! - A watch that fails disturbs no other, and none is ever tried in a hot loop.
//! - A list ends with one `Reset`: what was not in it is gone.
//! - A strange object is counted and passed over, or read as far as it goes.
//! - Time comes from the clock handed in.

mod body;
pub mod decode;
#[cfg(test)]
mod decode_tests;
mod lenient;
mod status;

pub use decode::{Decoder, Event, Undecodable};
