//! The runtime of the main thread, and the bound between the watches and the event loop.

use anyhow::Context as _;
use tokio::runtime::Builder;

/// Batches of watch events between the watches and the event loop. A full channel blocks the
/// watches.
pub(super) const WATCH_BATCHES_MAX: usize = 16;

/// Runs a command on the runtime of the main thread.
pub(super) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime of the main thread")?;
    let result = runtime.block_on(command);
    // A thread that still opens the outbox must not delay the end of the process.
    runtime.shutdown_background();
    result
}
