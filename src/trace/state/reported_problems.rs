//! Problems that have a `stuck` span: each is reported once for a cause and a reason.

use std::{collections::BTreeSet, time::Duration};

use crate::trace::{
    model::{span::SpanId, time::Timestamp},
    state::dirty_map::DirtyMap,
};

/// A problem is remembered this long after its report.
const MEMORY: Duration = Duration::from_hours(24);
/// Problems remembered; the oldest are forgotten first, and may be reported again.
const MAX_PROBLEMS: usize = 4096;

/// Keyed by the id of their span.
#[derive(Debug, Default)]
pub(crate) struct ReportedProblems {
    pub(crate) table: DirtyMap<SpanId, Timestamp>,
    by_age: BTreeSet<(Timestamp, SpanId)>,
}

/// The result of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    /// New, and the oldest problem was forgotten for it before its time.
    InsteadOfOldest,
    /// It is reported already.
    Known,
}

impl ReportedProblems {
    pub(crate) fn insert(&mut self, id: SpanId, now: Timestamp) -> Inserted {
        if self.table.contains_key(&id) {
            return Inserted::Known;
        }
        let mut inserted = Inserted::New;
        while let Some((at, oldest)) = self.by_age.first().copied() {
            let is_expired = at.plus(MEMORY) <= now;
            if !is_expired && self.table.len() < MAX_PROBLEMS {
                break;
            }
            if !is_expired {
                inserted = Inserted::InsteadOfOldest;
            }
            self.by_age.remove(&(at, oldest));
            self.table.remove(&oldest);
        }
        self.restore(id, now);
        inserted
    }

    pub(crate) fn restore(&mut self, id: SpanId, at: Timestamp) {
        self.by_age.insert((at, id));
        self.table.insert(id, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_problems_are_bounded_within_a_day() {
        let mut reported = ReportedProblems::default();
        for number in 0..10_000 {
            let at = Timestamp::from_nanos(i64::try_from(number).unwrap());
            let is_full = usize::try_from(number).unwrap() >= MAX_PROBLEMS;
            let expected = if is_full { Inserted::InsteadOfOldest } else { Inserted::New };
            assert_eq!(reported.insert(SpanId(number), at), expected);
            assert_eq!(reported.insert(SpanId(number), at), Inserted::Known);
        }
        assert_eq!(reported.table.len(), MAX_PROBLEMS);
        assert_eq!(reported.by_age.len(), MAX_PROBLEMS);
    }
}
