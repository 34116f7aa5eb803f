//! The order in which the events of different watches arrive changes no span.

use std::{collections::BTreeMap, path::Path, time::Duration};

use spanlink::{
    trace::{
        model::{
            id::Layout,
            observation::{WatchEvent, WatchId, WatchScope},
            span::{Span, SpanId},
            time::Timestamp,
        },
        rules::Rules,
        spans::output::TraceMetric,
        tracer::Tracer,
    },
    watch::recording::Recording,
};

use crate::scenarios::{configured, scenarios};

/// A recorded history: its watches, and their events in order of receipt.
pub(crate) struct History {
    pub(crate) begin: Timestamp,
    pub(crate) watches: Vec<(WatchId, WatchScope, bool)>,
    pub(crate) events: Vec<(WatchId, WatchEvent)>,
}

pub(crate) fn read(scenario: &Path) -> History {
    read_with(scenario, "")
}

/// Reads the history under this configuration.
pub(crate) fn read_with(scenario: &Path, configuration: &str) -> History {
    let recording = Recording::open(&scenario.join("history.jsonl")).unwrap();
    let settings = configured(configuration);
    let mut events = Vec::new();
    recording
        .play(
            &settings,
            |id, event| events.push((id, event)),
            |line, error| unreachable!("{line}: {error}"),
        )
        .unwrap();
    let watches = recording.watches();
    let watches = watches.map(|(_, w)| (w.id, w.watched.clone(), w.starts_empty)).collect();
    History { begin: recording.start().unwrap(), watches, events }
}

/// A small seeded random number generator with the same sequence on every platform.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, max: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % max
    }
}

pub(crate) fn received_at(event: &mut WatchEvent) -> &mut Timestamp {
    match event {
        WatchEvent::Applied(now) | WatchEvent::Deleted(now) | WatchEvent::ListItem(now) => {
            &mut now.at
        }
        WatchEvent::KubernetesEvent(event) => &mut event.at,
        WatchEvent::ListStarted { at }
        | WatchEvent::LeftSelector { at, .. }
        | WatchEvent::ListCompleted { at, .. }
        | WatchEvent::Bookmark { at, .. }
        | WatchEvent::Interrupted { at }
        | WatchEvent::Resumed { at } => at,
    }
}

impl History {
    /// Delays each event by up to `late`, and keeps the order within each watch. The lists at the
    /// start complete before any other event, as they do in the daemon.
    fn disordered(&self, seed: u64, late: Duration) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let max = u64::try_from(late.as_micros()).unwrap() + 1;
        let mut last: BTreeMap<WatchId, Timestamp> = BTreeMap::new();
        let mut events: Vec<(WatchId, WatchEvent)> = self.events.clone();
        let mut listed: BTreeMap<WatchId, bool> = BTreeMap::new();
        for (id, event) in &mut events {
            let in_list = !listed.get(id).copied().unwrap_or(false);
            listed.insert(*id, !in_list || matches!(event, WatchEvent::ListCompleted { .. }));
            let delay = if in_list { 0 } else { dice.below(max) };
            let at = received_at(event);
            let not_before = last.get(id).copied().unwrap_or(*at);
            *at = at.plus(Duration::from_micros(delay)).max(not_before);
            last.insert(*id, *at);
        }
        events.sort_by_key(|(_, event)| event.at());
        Self { begin: self.begin, watches: self.watches.clone(), events }
    }

    pub(crate) fn replay(&self, rules: &Rules) -> (Vec<Span>, usize) {
        let mut tracer = Tracer::new(rules.clone(), "");
        for (id, watched, starts_empty) in &self.watches {
            if *starts_empty {
                tracer.open_empty(*id, watched.clone(), self.begin);
            } else {
                tracer.open(*id, watched.clone(), self.begin);
            }
        }
        let (mut spans, mut late) = (Vec::new(), 0);
        let mut take = |out: spanlink::trace::spans::output::Output| {
            late +=
                out.metrics.iter().filter(|note| **note == TraceMetric::OwnerWaitTimeout).count();
            spans.extend(out.spans);
        };
        for (id, event) in &self.events {
            while let Some(due) = tracer.next_deadline().filter(|due| *due < event.at()) {
                take(tracer.expire(due));
            }
            take(tracer.process(*id, event.clone()));
        }
        while !tracer.is_settled()
            && let Some(due) = tracer.next_deadline()
        {
            take(tracer.expire(due));
        }
        (spans, late)
    }
}

/// A span without its times, which the delay may shift.
fn timeless(span: &Span) -> Span {
    let zero = Timestamp::from_nanos(0);
    let mut span = Span { start: zero, end: zero, ..span.clone() };
    span.events.clear();
    // The slowest child is determined by times too.
    let is_of_time =
        |key: &str| key == "spanlink.time.source" || key.starts_with("spanlink.slowest.");
    span.attributes.retain(|attribute| !is_of_time(&attribute.key));
    span
}

pub(crate) fn by_id(spans: Vec<Span>, late: Duration) -> BTreeMap<SpanId, Span> {
    let kept = spans.into_iter().filter(|span| !is_about_a_second_of_observing(span, late));
    kept.map(|span| (span.span_id, span)).collect()
}

/// An observe phase over one second is a span, a shorter one an event. The delay may turn one into
/// the other.
fn is_about_a_second_of_observing(span: &Span, late: Duration) -> bool {
    let second = Duration::from_secs(1);
    let about = second.saturating_sub(late)..second + 2 * late;
    let is_observing =
        span.role == spanlink::trace::model::span::Role::Phase && &*span.name == "observe";
    is_observing && about.contains(&span.end.since(span.start))
}

/// The first difference between the spans and the expected ones.
pub(crate) fn difference(
    expected: &BTreeMap<SpanId, Span>,
    spans: &BTreeMap<SpanId, Span>,
    late: Duration,
) -> Option<String> {
    for (id, span) in expected {
        let Some(other) = spans.get(id) else { return Some(format!("missing {}", lines(span))) };
        if timeless(span) != timeless(other) {
            return Some(format!("expected {}emitted {}", lines(span), lines(other)));
        }
        // The time of receipt refines the whole seconds of the API.
        let apart = |a: Timestamp, b: Timestamp| a.since(b).max(b.since(a));
        let delay = Duration::from_secs(1) + late;
        if apart(span.start, other.start) > delay || apart(span.end, other.end) > delay {
            return Some(format!("expected {}at other times {}", lines(span), lines(other)));
        }
    }
    let more = spans.iter().find(|(id, _)| !expected.contains_key(id));
    more.map(|(_, span)| format!("unexpected {}", lines(span)))
}

/// A span as text, for comparing by eye.
fn lines(span: &Span) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{} {} under {:?}\n", span.name, span.object, span.parent);
    writeln!(text, "  {:?} to {:?}, {:?}", span.start, span.end, span.status).unwrap();
    for attribute in &span.attributes {
        writeln!(text, "  {} = {:?}", attribute.key, attribute.value).unwrap();
    }
    for link in &span.links {
        writeln!(text, "  link {} {} {:?}", link.trace_id, link.span_id, link.attributes).unwrap();
    }
    text
}

pub(crate) fn interleavings() -> u64 {
    let spans = std::env::var("TEST_INTERLEAVINGS").ok();
    spans.and_then(|spans| spans.parse().ok()).unwrap_or(1_000)
}

#[test]
fn delays_between_watches_change_no_span() {
    let rules = [
        Rules::default(),
        Rules { cascade_max: 3, ..Rules::default() },
        Rules { layout: Layout::Linked, ..Rules::default() },
    ];
    let late = Duration::from_millis(400);
    for scenario in scenarios() {
        let history = read(&scenario);
        for (at, rules) in rules.iter().enumerate() {
            let expected = by_id(history.replay(rules).0, late);
            let count = if at == 0 { interleavings() } else { interleavings() / 10 };
            for seed in 0..count {
                let disordered = history.disordered(seed, late);
                let (spans, _) = disordered.replay(rules);
                if let Some(difference) = difference(&expected, &by_id(spans, late), late) {
                    panic!("{}, rules {at}, seed {seed}: {difference}", scenario.display());
                }
            }
        }
    }
}

#[test]
fn owners_after_the_owner_wait_are_counted_and_every_change_keeps_its_span() {
    let delay = Duration::from_secs(2);
    let mut counted = 0;
    for scenario in scenarios() {
        let history = read(&scenario);
        let expected = by_id(history.replay(&Rules::default()).0, delay);
        for seed in 0..interleavings() / 20 {
            let (spans, late) = history.disordered(seed, delay).replay(&Rules::default());
            let spans = by_id(spans, delay);
            let same = expected.iter().all(|(id, span)| {
                spans.get(id).is_some_and(|other| timeless(other) == timeless(span))
            });
            assert!(same || late > 0, "{}, seed {seed}", scenario.display());
            // Every change has one span, whatever its cause.
            let changes = |spans: &BTreeMap<SpanId, Span>| {
                let mut names: Vec<String> = spans
                    .values()
                    .filter(|span| span.role == spanlink::trace::model::span::Role::Change)
                    .map(|span| format!("{} {}", span.name, span.object))
                    .collect();
                names.sort();
                names
            };
            assert_eq!(changes(&spans), changes(&expected), "{}, seed {seed}", scenario.display());
            counted += late;
        }
    }
    assert!(counted > 0);
}
