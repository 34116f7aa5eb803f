//! A queue of encoded spans between the trace and the exporter. Records are acknowledged in order,
//! and none is dropped.
//!
//! The outbox handles encoded records only, never spans. It has one producer (the loop that owns
//! the trace) and one consumer (the exporter), which may run on different runtimes. The records are
//! in memory, or in a file that survives `kill -9` and power loss. That file also holds the
//! *checkpoint*: keys and values that the producer changes in the same transaction as it adds
//! records.
//!
//! The guarantees on disk:
//!
//! - A commit is written completely or not at all, and the consumer gets its records only once
//!   they are durable.
//! - After a restart, every record without a durable acknowledgement is there again, in the same
//!   order and with the same bytes.
//! - A failed write loses no records: it is retried. A corrupt file is set aside, and its intact
//!   records are kept.
//!
//! The modules, each using only those before it: `error`, `record`, `commit`, `storage`, `backlog`,
//! `memory`, `tables`, `salvage`, `disk`, `shared`, `writer`, `handle`.

mod backlog;
mod commit;
mod disk;
mod error;
mod handle;
mod memory;
mod record;
mod salvage;
mod shared;
mod storage;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

pub use commit::{Commit, Entry};
pub use error::{Closed, DeleteError, DiskError, OpenError, ReadError, WriterPanicked};
pub use handle::Outbox;
pub use shared::Limits;
