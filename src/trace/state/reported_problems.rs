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

/// By the id of their span.
#[derive(Debug, Default)]
pub(crate) struct ReportedProblems {
    pub(crate) table: DirtyMap<SpanId, Timestamp>,
    by_age: BTreeSet<(Timestamp, SpanId)>,
}

impl ReportedProblems {
    /// `false` where the problem is reported already.
    pub(crate) fn insert(&mut self, id: SpanId, now: Timestamp) -> bool {
        if self.table.contains_key(&id) {
            return false;
        }
        while let Some((at, oldest)) = self.by_age.first().copied()
            && (at.plus(MEMORY) <= now || self.table.len() >= MAX_PROBLEMS)
        {
            self.by_age.remove(&(at, oldest));
            self.table.remove(&oldest);
        }
        self.restore(id, now);
        true
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
            assert!(reported.insert(SpanId(number), at));
            assert!(!reported.insert(SpanId(number), at));
        }
        assert_eq!(reported.table.len(), MAX_PROBLEMS);
        assert_eq!(reported.by_age.len(), MAX_PROBLEMS);
    }
}
