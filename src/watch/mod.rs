//! The edge in: what Kubernetes says becomes notices.
//!
//! Each watch is a task of its own, on a runtime that only watches live on: a failing kind harms no
//! other. What is read is dropped once it is an observation; a full queue makes the watches wait.

mod chance;
mod client;
mod counters;
pub mod decode;
mod left;
mod lines;
mod listing;
mod lists;
mod page;
pub mod recording;
mod request;
mod resolve;
mod state;
mod stream;
mod supervise;

pub use client::{ClientError, client, runtime};
pub use resolve::{Resolved, UnknownKind};
pub use supervise::{Resume, Synced, WatchError, WatchMessage, Watches};
