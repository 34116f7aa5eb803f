//! Takes in what Kubernetes' Events say of objects, as span events of the change that is open.
//!
//! They come by a watch of their own, for which nobody waits, and make no changes. What is said
//! again counts on: one Event, one span event.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        id::ChangeKey,
        object::{GroupKind, Uid},
        span::SpanEvent,
        time::Timestamp,
    },
    object::{
        change::{Change, Scope},
        tracked::TrackedObject,
    },
    progress::convergence::{MAX_EVENTS, refine},
    spans::links::{int, text},
    tracer::Tracer,
};

/// What one of Kubernetes' Events says of an object, as often as it has been said by then.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct KubernetesEvent {
    /// When it was received.
    pub at: Timestamp,
    /// The Event's own: the same however often it is counted up.
    pub uid: Uid,
    pub resource_version: u64,
    /// Whom it is about.
    pub kind: GroupKind,
    pub about: Uid,
    /// The container of a Pod, where it is about one.
    pub container: Box<str>,
    /// `Normal` or `Warning`.
    pub severity: Box<str>,
    pub reason: Box<str>,
    /// At most 256 characters.
    pub message: Box<str>,
    /// The controller that says so.
    pub component: Box<str>,
    /// How often it has been said; 1 at least.
    pub count: i64,
    /// When it was said first, and last; whole seconds, mostly.
    pub first: Timestamp,
    pub last: Timestamp,
}

/// What was said of one change.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RecordedEvents(Vec<RecordedEvent>);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct RecordedEvent {
    remark: KubernetesEvent,
    at: Timestamp,
    /// How often it had been said before the change.
    before: i64,
}

impl RecordedEvents {
    /// `begun`: the change's second, by the API's clock.
    fn note(&mut self, remark: KubernetesEvent, begun: Timestamp) {
        if let Some(known) = self.0.iter_mut().find(|known| known.remark.uid == remark.uid) {
            if known.remark.resource_version < remark.resource_version {
                known.remark = remark;
            }
        } else if self.0.len() < MAX_EVENTS {
            let is_new = remark.first.whole_second() >= begun;
            let said = if is_new { remark.first } else { remark.last };
            self.0.push(RecordedEvent {
                at: refine(Some(said), remark.at),
                before: if is_new { 0 } else { remark.count - 1 },
                remark,
            });
        }
    }

    /// Adds them to a span's events, as far as there is room, in the order of time.
    pub(crate) fn tell(self, events: &mut Vec<SpanEvent>) {
        let room = MAX_EVENTS.saturating_sub(events.len());
        events.extend(self.0.into_iter().map(RecordedEvent::tell).take(room));
        events.sort_by_key(|event| event.at);
    }
}

impl RecordedEvent {
    fn tell(self) -> SpanEvent {
        let KubernetesEvent { severity, reason, message, component, container, count, .. } =
            self.remark;
        let texts = [
            ("type", severity),
            ("reason", reason),
            ("message", message),
            ("component", component),
            ("container", container),
        ];
        let texts = texts.into_iter().filter(|(_, value)| !value.is_empty());
        let count = int("count", count.saturating_sub(self.before).max(1));
        let attributes = texts.map(|(key, value)| text(key, &value)).chain([count]).collect();
        SpanEvent { at: self.at, name: "event".into(), attributes }
    }
}

/// What was said of nothing that is open: the news of its change may come by another watch, later.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct UnclaimedEvents(VecDeque<KubernetesEvent>);

const MAX_UNCLAIMED: usize = 256;
/// No watch is as late, but for one that was cut off.
const KEPT_FOR: Duration = Duration::from_secs(5);

impl UnclaimedEvents {
    fn keep(&mut self, remark: KubernetesEvent) {
        let now = remark.at;
        let is_old = |kept: &KubernetesEvent| kept.at.plus(KEPT_FOR) < now;
        while self.0.len() >= MAX_UNCLAIMED || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back(remark);
    }

    fn claim(&mut self, change: &Change) -> Vec<KubernetesEvent> {
        let mut claimed = Vec::new();
        self.0.retain(|remark| {
            let is_its = is_of(change, remark);
            if is_its {
                claimed.push(remark.clone());
            }
            !is_its
        });
        claimed
    }
}

/// Said after it, as far as can be known: times are whole seconds, and the resourceVersions of what
/// a relist shows, or of Events that are stored elsewhere, tell nothing.
fn is_of(change: &Change, remark: &KubernetesEvent) -> bool {
    remark.about == change.key.uid
        && takes(change, remark)
        && (change.relisted || remark.resource_version > change.resource_version)
}

fn takes(change: &Change, remark: &KubernetesEvent) -> bool {
    change.scope == Scope::Spec
        && change.convergence.is_open()
        && remark.last.whole_second() >= change.api_at
}

impl Tracer {
    /// Of the newest change that is open, or perhaps of one that is not seen yet.
    pub(crate) fn remarked(&mut self, remark: KubernetesEvent) {
        let known = self.objects.get_mut(&remark.about);
        match known.and_then(|known| open_change(known, &remark)) {
            Some(change) => heed(change, remark),
            None => self.unclaimed.keep(remark),
        }
    }

    /// What was said of a change before it was seen.
    pub(crate) fn claim_remarks(&mut self, key: &ChangeKey) {
        let known = self.objects.get_mut(&key.uid);
        let Some(change) = known.and_then(|known| known.change_mut(key)) else { return };
        for remark in self.unclaimed.claim(change) {
            heed(change, remark);
        }
    }
}

fn open_change<'a>(
    known: &'a mut TrackedObject,
    remark: &KubernetesEvent,
) -> Option<&'a mut Change> {
    known.changes.iter_mut().rev().find(|change| takes(change, remark))
}

fn heed(change: &mut Change, remark: KubernetesEvent) {
    let begun = change.api_at;
    if let Some(details) = change.details.as_deref_mut() {
        details.road.iter_mut().for_each(|road| road.hear(&remark));
        details.remarks.note(remark, begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(number: u32, second: i64) -> KubernetesEvent {
        let at = Timestamp::from_nanos(second * 1_000_000_000);
        KubernetesEvent {
            at,
            uid: Uid::new(&number.to_string()),
            resource_version: u64::from(number),
            kind: GroupKind::new("", "Pod"),
            about: Uid::new("nobody"),
            container: "".into(),
            severity: "Normal".into(),
            reason: "RecordedEvent".into(),
            message: "".into(),
            component: "somebody".into(),
            count: 1,
            first: at,
            last: at,
        }
    }

    #[test]
    fn what_is_said_of_nobody_is_kept_for_seconds_and_never_without_end() {
        let mut unclaimed = UnclaimedEvents::default();
        (0..1000).for_each(|number| unclaimed.keep(remark(number, 10)));
        assert_eq!(unclaimed.0.len(), MAX_UNCLAIMED);
        assert_eq!(unclaimed.0.back().map(|last| last.resource_version), Some(999));
        unclaimed.keep(remark(1000, 15));
        assert_eq!(unclaimed.0.len(), MAX_UNCLAIMED);
        unclaimed.keep(remark(1001, 16));
        assert_eq!(unclaimed.0.len(), 2);
    }

    #[test]
    fn what_comes_twice_or_in_the_wrong_order_is_not_counted_down() {
        let mut remarks = RecordedEvents::default();
        let counted =
            |version, count| KubernetesEvent { resource_version: version, count, ..remark(1, 10) };
        for (version, count) in [(5, 3), (7, 6), (7, 6), (6, 5)] {
            remarks.note(counted(version, count), Timestamp::from_nanos(0));
        }
        let mut events = Vec::new();
        remarks.tell(&mut events);
        assert_eq!(events.len(), 1);
        let counts = events.iter().flat_map(|event| &event.attributes);
        assert!(counts.into_iter().any(|attribute| *attribute == int("count", 6)), "{events:?}");
    }
}
