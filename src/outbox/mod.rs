//! A queue of encoded spans between the trace and the exporter. Records are acknowledged in order,
//! and none is lost.
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
//! - A record that the receiver refused for good is in *quarantine* from the moment it is no longer
//!   in the queue, with the reason: acknowledged and moved in one transaction. From there it can be
//!   sent again. The quarantine has a bound in bytes; the oldest entries make room for new ones.
//!
//! The modules, each using only those before it: `error`, `record`, `commit`, `storage`, `backlog`,
//! `memory`, `quarantine`, `database`, `quarantine_tables`, `tables`, `window`, `salvage`, `disk`,
//! `shared`, `writer`, `handle`.

mod backlog;
mod commit;
mod database;
mod disk;
mod error;
mod handle;
mod memory;
mod quarantine;
mod quarantine_tables;
mod record;
mod salvage;
mod shared;
mod storage;
mod tables;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use commit::{Commit, Entry};
pub use error::{
    Closed, DeleteError, DiskError, ListError, OpenError, ReadError, RemoveError, WriterPanicked,
};
pub use handle::Outbox;
pub use quarantine::{QuarantineEntry, Refusal, Refused, Removal, Removed, Selection};
pub use shared::Limits;
