//! Waits for a state, never for a while.

use std::time::Duration;

use anyhow::{Result, anyhow};

/// How often a state is looked at.
const INTERVAL: Duration = Duration::from_millis(50);
/// A look that hangs is given up, so that the next one can find a server that came back. Long enough
/// for a look that asks a busy machine many things.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);

/// Looks again and again until `probe` has an answer, at most for `time_max`.
///
/// `what` completes the sentence "waited for …"; the error of the last check is part of the failure.
pub(crate) async fn until<T>(
    what: &str,
    time_max: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut last = anyhow!("it was never looked at");
    let looking = async {
        loop {
            match tokio::time::timeout(PROBE_TIME_MAX, probe()).await {
                Ok(Ok(found)) => break found,
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = anyhow!("no answer within {PROBE_TIME_MAX:?}"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    let found = tokio::time::timeout(time_max, looking).await;
    found.map_err(|_elapsed| last.context(format!("waited {time_max:?} for {what}")))
}
