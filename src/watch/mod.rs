//! The edge towards Kubernetes: lists and watches become [`WatchEvent`]s.
//!
//! Each watch is a task on a runtime that only the watches share, so a failing kind does not affect
//! the others. The text of an object is dropped once it is decoded; a full queue blocks the watches.
//!
//! [`WatchEvent`]: crate::trace::model::observation::WatchEvent

mod client;
mod counters;
pub mod decode;
mod discovery;
mod lines;
mod list;
mod list_span;
mod lookup;
mod machine;
#[cfg(test)]
mod machine_tests;
mod message;
mod page;
mod probe;
mod reader;
pub mod recording;
mod request;
mod resolve;
mod run;
mod scope;
mod selector_exit;
mod stream;
mod supervise;
mod sync;

pub use client::{ClientError, client, runtime};
pub use discovery::DiscoveryError;
pub use lookup::{FoundObject, LookupError, ObjectName, read_object};
pub use message::{Resume, WatchMessage};
pub use resolve::{Resolved, UnknownKind};
pub use supervise::{WatchError, Watches};
pub use sync::Synced;
