//! Learns how large a request the receiver accepts, and any proxy in front of it.

use std::time::Duration;

use tokio::time::Instant;

/// The size up to which requests are filled.
///
/// It is halved whenever a request is refused as too large, and doubled now and then while requests of
/// that size are accepted: the refusal may have come from a quota or from a proxy that has been
/// replaced. The more such attempts fail, the rarer they become.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSize {
    /// The configured maximum.
    max: usize,
    learned: usize,
    /// When a larger request may be tried, and the pause after it if that is refused.
    next_growth: Option<Instant>,
    growth_pause: Duration,
    /// The size was doubled since the last refusal.
    has_grown: bool,
}

impl RequestSize {
    const FIRST_PAUSE: Duration = Duration::from_secs(30);
    const LONGEST_PAUSE: Duration = Duration::from_mins(10);

    /// `max` is in bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            learned: max,
            next_growth: None,
            growth_pause: Self::FIRST_PAUSE,
            has_grown: false,
        }
    }

    /// Bytes up to which the next request is filled. A single span may exceed it.
    pub(super) fn bytes(&self) -> usize {
        self.learned
    }

    /// A request of `len` bytes with several spans was refused as too large.
    pub(super) fn shrink(&mut self, len: usize) {
        if std::mem::take(&mut self.has_grown) {
            self.growth_pause = self.growth_pause.saturating_mul(2).min(Self::LONGEST_PAUSE);
        }
        self.learned = (len / 2).min(self.learned);
        self.next_growth = Instant::now().checked_add(self.growth_pause);
    }

    /// A request of `len` bytes was accepted. Only one that the learned size kept small shows anything.
    pub(super) fn record_acceptance(&mut self, len: usize) {
        let was_full = len >= self.learned / 2;
        let is_due = self.next_growth.is_some_and(|next_growth| Instant::now() >= next_growth);
        if self.learned < self.max && was_full && is_due {
            self.learned = self.learned.saturating_mul(2).clamp(1, self.max);
            self.has_grown = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MIB: usize = 1 << 20;

    /// Sends full requests for `duration` to a receiver with a limit. Returns how many it refused.
    async fn send_for(size: &mut RequestSize, limit: usize, duration: Duration) -> usize {
        let end = Instant::now() + duration;
        let mut refused = 0;
        while Instant::now() < end {
            if size.bytes() > limit {
                refused += 1;
                size.shrink(size.bytes());
            } else {
                size.record_acceptance(size.bytes());
                advance(Duration::from_millis(100)).await;
            }
        }
        refused
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_limit_refuses_ever_fewer_requests() {
        let mut size = RequestSize::new(4 * MIB);
        assert_eq!(send_for(&mut size, MIB, Duration::from_millis(50)).await, 2);
        assert_eq!(size.bytes(), MIB);
        assert!(send_for(&mut size, MIB, Duration::from_hours(1)).await <= 16);
        assert!(send_for(&mut size, MIB, Duration::from_hours(1)).await <= 6);
    }

    #[tokio::test(start_paused = true)]
    async fn limit_that_disappears_is_forgotten() {
        let mut size = RequestSize::new(4 * MIB);
        send_for(&mut size, 100, Duration::from_millis(50)).await;
        assert!(size.bytes() <= 100);
        assert_eq!(send_for(&mut size, usize::MAX, Duration::from_mins(1)).await, 0);
        assert_eq!(size.bytes(), 4 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn small_requests_do_not_show_that_larger_ones_are_accepted() {
        let mut size = RequestSize::new(4 * MIB);
        size.shrink(4 * MIB);
        advance(Duration::from_hours(1)).await;
        size.record_acceptance(1000);
        assert_eq!(size.bytes(), 2 * MIB);
        size.record_acceptance(2 * MIB);
        assert_eq!(size.bytes(), 4 * MIB);
    }
}
