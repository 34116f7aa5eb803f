//! Wires the parts together: watch → trace → outbox → export.
//!
//! | file | is |
//! | --- | --- |
//! | `run` | `spanlink run`: the order of starting and of stopping |
//! | `core` | the event loop that owns the state of the trace |
//! | `tasks` | supervision: a task that ends early ends the daemon, with its reason |
//! | `shutdown` | SIGTERM and SIGINT |
//! | `restore`, `reading` | the checkpoint of an earlier run, and whether it can be used |
//! | `record`, `replay` | the commands of the same names |
//!
//! Two threads do the work. One runs the watches and the event loop: they wake up together, and
//! seldom. The main thread runs the sender, the admin server and the supervision. An outbox on disk
//! has a third one that writes, and signals are received on a fourth.

mod core;
mod destination;
mod queue;
mod reading;
mod record;
mod replay;
mod restore;
mod rules;
mod run;
mod shutdown;
mod tasks;

use anyhow::Context as _;
use tokio::runtime::Builder;

pub use self::{
    destination::Destination, record::record, replay::replay, rules::rules, run::run,
    tasks::TaskFailure,
};
use crate::trace::model::time::Timestamp;

/// Batches of watch events between the watches and the event loop. A full channel blocks the
/// watches.
const WATCH_BATCHES_MAX: usize = 16;

/// The current time. No other code reads the clock: everywhere else time is an argument.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since_epoch.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    Timestamp::from_nanos(nanos)
}

/// Runs a command on the runtime of the main thread.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime of the main thread")?;
    let result = runtime.block_on(command);
    // A thread that still opens the outbox must not delay the end of the process.
    runtime.shutdown_background();
    result
}
