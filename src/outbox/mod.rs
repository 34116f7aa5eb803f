//! What waits for export: bytes in, bytes out, acknowledged in order. In memory; nothing is dropped.
//!
//! The outbox sees encoded records only, never a span. One producer (the loop that owns the trace)
//! and one consumer (the sender) use it, each on a runtime of its own if it likes.

mod memory;

pub use memory::{Closed, Limits, Outbox};
