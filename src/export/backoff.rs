//! How long to wait between the attempts of one request.

use std::time::Duration;

/// The wait before the next attempt: it doubles with every consecutive failure, up to [`Self::MAX`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetryBackoff {
    failures: u32,
}

impl RetryBackoff {
    const FIRST: Duration = Duration::from_millis(200);
    pub(super) const MAX: Duration = Duration::from_secs(30);
    /// A receiver that requests a longer delay gets this one: a wrong `Retry-After` must not stop
    /// export for a day.
    pub(super) const REQUESTED_MAX: Duration = Duration::from_mins(10);

    /// Counts a failure and returns the wait after it. `jitter`, from 0 to 1, spreads the retries of
    /// many clients that failed at the same time.
    pub(super) fn next_wait(&mut self, requested: Option<Duration>, jitter: f64) -> Duration {
        let doubled = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::MAX);
        self.failures = self.failures.saturating_add(1);
        match requested {
            // Jitter only adds: OTLP forbids a retry before the requested time.
            Some(requested) if !requested.is_zero() => requested
                .min(Self::REQUESTED_MAX)
                .mul_f64(1.0 + jitter / 10.0)
                .min(Self::REQUESTED_MAX),
            Some(_) | None => doubled.mul_f64(0.5 + jitter / 2.0),
        }
    }

    /// A request succeeded, or was refused: the receiver responds.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut backoff = RetryBackoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next_wait(None, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.next_wait(None, 0.0), Duration::from_secs(15));
        backoff.reset();
        assert_eq!(backoff.next_wait(Some(Duration::ZERO), 1.0), Duration::from_millis(200));
    }

    #[test]
    fn requested_delay_is_respected_up_to_ten_minutes() {
        let mut backoff = RetryBackoff::default();
        let two_seconds = Duration::from_secs(2);
        assert_eq!(backoff.next_wait(Some(two_seconds), 0.0), two_seconds);
        let longest = backoff.next_wait(Some(Duration::MAX), 1.0);
        assert_eq!(longest, RetryBackoff::REQUESTED_MAX);
    }
}
