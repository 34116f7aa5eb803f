//! A restart resumes from the checkpoint: the spans are those of a run without a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use spanlink::trace::{
    model::{
        id::Layout,
        observation::{WatchEvent, WatchId},
        span::{Span, SpanId},
        time::Timestamp,
    },
    rules::Rules,
    spans::output::Output,
    tracer::{Tracer, checkpoint::CheckpointReader},
};

use crate::{
    disorder::{Dice, History, by_id, difference, interleavings, read, received_at},
    scenarios::scenarios,
};

/// A tracer, the checkpoint it writes and the spans it emits.
pub(crate) struct Run {
    pub(crate) rules: Rules,
    pub(crate) tracer: Tracer,
    pub(crate) disk: BTreeMap<Bytes, Bytes>,
    pub(crate) spans: Vec<Span>,
}

impl Run {
    pub(crate) fn begin(rules: &Rules, history: &History) -> Self {
        let mut tracer = Tracer::new(rules.clone(), "");
        tracer.start_checkpoints(0);
        for (id, watched, starts_empty) in &history.watches {
            if *starts_empty {
                tracer.open_empty(*id, watched.clone(), history.begin);
            } else {
                tracer.open(*id, watched.clone(), history.begin);
            }
        }
        Self { rules: rules.clone(), tracer, disk: BTreeMap::new(), spans: Vec::new() }
    }

    pub(crate) fn take(&mut self, output: Output) {
        self.spans.extend(output.spans);
    }

    pub(crate) fn process(&mut self, id: WatchId, event: WatchEvent) {
        while let Some(due) = self.tracer.next_deadline().filter(|due| *due < event.at()) {
            let output = self.tracer.expire(due);
            self.take(output);
        }
        let output = self.tracer.process(id, event);
        self.take(output);
    }

    pub(crate) fn commit(&mut self) {
        for entry in self.tracer.checkpoint() {
            match entry.value {
                Some(value) => drop(self.disk.insert(entry.key, value)),
                None => drop(self.disk.remove(&entry.key)),
            }
        }
    }

    /// Kills the tracer and starts another from the checkpoint alone.
    pub(crate) fn restart(&mut self, at: Timestamp) {
        let mut restoring = CheckpointReader::new(self.rules.clone(), "", 0);
        for (key, value) in &self.disk {
            restoring.entry(key, value);
        }
        self.tracer = restoring.finish(at).unwrap();
        self.tracer.start_checkpoints(0);
    }

    pub(crate) fn end(mut self) -> Vec<Span> {
        while !self.tracer.is_settled()
            && let Some(due) = self.tracer.next_deadline()
        {
            let output = self.tracer.expire(due);
            self.take(output);
        }
        self.spans
    }
}

/// Replays the history with some restarts, each with a downtime of `down`.
fn restarted(history: &History, rules: &Rules, seed: u64, down: Duration) -> Vec<Span> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut run = Run::begin(rules, history);
    let mut left: std::collections::VecDeque<(WatchId, WatchEvent)> = history.events.clone().into();
    // Objects that a list after the restart returns arrive as items, not as watch events.
    let is_end_of_list =
        |(_, event): &(WatchId, WatchEvent)| matches!(event, WatchEvent::ListCompleted { .. });
    let first = if down.is_zero() { 0 } else { left.iter().rposition(is_end_of_list).unwrap_or(0) };
    let count = u64::try_from(left.len() - first).unwrap();
    let first = u64::try_from(first).unwrap() + 1;
    let cuts: Vec<u64> = (0..=dice.below(4)).map(|_| first + dice.below(count)).collect();
    let mut processed = Vec::new();
    while let Some((id, event)) = left.pop_front() {
        let now = event.at().plus(down);
        processed.push((id, event.clone()));
        run.process(id, event);
        run.commit();
        if !cuts.contains(&u64::try_from(processed.len()).unwrap()) {
            continue;
        }
        run.restart(now);
        for (id, watched, starts_empty) in &history.watches {
            run.tracer.open(*id, watched.clone(), now);
            // A list that was incomplete is requested again from its beginning.
            let items = broken_off(&processed, *id);
            let is_listed =
                *starts_empty || processed.iter().any(|it| it.0 == *id && is_end_of_list(it));
            let resumes = items.is_empty() && is_listed;
            let begins = if resumes {
                WatchEvent::Resumed { at: now }
            } else {
                WatchEvent::ListStarted { at: now }
            };
            run.process(*id, begins);
            items.into_iter().rev().for_each(|item| left.push_front(item));
        }
        // The missed events arrive at once, without the bookmarks between them.
        left.retain(|(_, event)| !matches!(event, WatchEvent::Bookmark { at, .. } if *at < now));
        for (_, event) in &mut left {
            let at = received_at(event);
            *at = now.max(*at);
        }
        left.make_contiguous().sort_by_key(|(_, event)| event.at());
    }
    run.end()
}

/// The items of a list that the watch had started and not completed.
fn broken_off(processed: &[(WatchId, WatchEvent)], id: WatchId) -> Vec<(WatchId, WatchEvent)> {
    let newest_first = processed.iter().rev().filter(|(of, _)| *of == id);
    let items = newest_first.take_while(|(_, event)| matches!(event, WatchEvent::ListItem(_)));
    let mut items: Vec<_> = items.cloned().collect();
    items.reverse();
    items
}

/// Checks that every history, replayed with restarts, emits each span of the run without restarts
/// exactly once. Times may differ by less than `apart`.
fn restarts(down: Duration, apart: Duration) {
    let rules = [
        Rules::default(),
        Rules { cascade_max: 3, ..Rules::default() },
        Rules { layout: Layout::Linked, ..Rules::default() },
    ];
    for scenario in scenarios() {
        let history = read(&scenario);
        for (at, rules) in rules.iter().enumerate() {
            let expected = by_id(history.replay(rules).0, down);
            for seed in 0..interleavings() / 20 {
                let spans = restarted(&history, rules, seed, down);
                let ids: BTreeSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
                assert_eq!(ids.len(), spans.len(), "{}: emitted twice", scenario.display());
                let difference = difference(&expected, &by_id(spans, down), apart);
                let shown = scenario.display();
                assert_eq!(difference, None, "{shown}, rules {at}, seed {seed}");
            }
        }
    }
}

#[test]
fn restarts_at_any_event_change_no_span() {
    restarts(Duration::ZERO, Duration::ZERO);
}

#[test]
fn changes_during_a_short_downtime_have_the_same_spans() {
    let down = Duration::from_secs(2);
    restarts(down, down);
}

/// The API has no time for a completed deletion, so the span dates it after the last write.
#[test]
fn changes_during_a_long_downtime_have_the_same_causes() {
    restarts(Duration::from_secs(30), Duration::from_mins(5));
}
