//! Reads the clock: the only place that does.

use crate::trace::model::time::Timestamp;

/// The current time. No other code reads the clock: everywhere else time is an argument.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since_epoch.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    Timestamp::from_nanos(nanos)
}
