//! Turns the JSON of watch events and list items into observations.
//!
//! ```text
//! json ← wire ← signals ← status, carrier, health, field ← references, owners, kubernetes_event
//!      ← body ← decoder
//! ```
//!
//! Each module uses only modules to its left. Objects come from controllers of any quality, so
//! every part is read leniently, and every list and text has a maximum length. Wire types stay in
//! this folder: the rest of the daemon sees [`Observation`](crate::trace::model::observation)s.

mod body;
mod carrier;
mod decoder;
mod field;
mod health;
mod json;
mod kubernetes_event;
mod owners;
mod quantity;
mod references;
mod signals;
mod status;
#[cfg(test)]
mod tests;
mod wire;

pub use decoder::{ApiError, DecodeError, Decoded, Decoder};
