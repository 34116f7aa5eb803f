//! What waits for export: bytes in, bytes out, acknowledged in order. Nothing is dropped.
//!
//! The outbox sees encoded records only, never a span. One producer (the loop that owns the trace)
//! and one consumer (the sender) use it, each on a runtime of its own if it likes. In memory, or in
//! a file that outlives kill -9 and power loss; the file also holds the *checkpoint*, bytes by
//! keys that the producer changes together with what it hands over.
//!
//! What holds on disk:
//!
//! - A commit is written whole or not at all, and can be taken only once it is durable.
//! - What is not durably acknowledged is there again after a restart: in order, the same bytes.
//! - A write that fails loses nothing. A damaged file is set aside, and its whole records are kept.

mod disk;
mod memory;
mod queue;
mod record;
mod salvage;
mod storage;
mod waiting;
mod writer;

#[cfg(test)]
mod tests;

pub use disk::DiskError;
pub use queue::{Closed, Commit, Entry, ForgetError, Limits, Outbox, ReadError, WriterPanicked};
pub use storage::OpenError;
