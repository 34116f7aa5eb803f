//! Kubernetes Events recorded for one change, which become span events of its span.

use serde::{Deserialize, Serialize};

use crate::trace::model::{
    kubernetes_event::KubernetesEvent,
    span::{Attribute, MAX_EVENTS, SpanEvent},
    time::{Timestamp, refine},
};

/// One entry per Kubernetes Event, however often it occurs; at most [`MAX_EVENTS`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RecordedEvents(Vec<RecordedEvent>);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct RecordedEvent {
    event: KubernetesEvent,
    /// When it occurred first since the change.
    at: Timestamp,
    /// Its count before the change: those occurrences belong to an earlier change.
    count_before: i64,
}

impl RecordedEvents {
    /// `changed_at` is the second of the change by the API server's clock.
    pub fn record(&mut self, event: KubernetesEvent, changed_at: Timestamp) {
        if let Some(recorded) = self.0.iter_mut().find(|recorded| recorded.event.uid == event.uid) {
            if recorded.event.resource_version < event.resource_version {
                recorded.event = event;
            }
        } else if self.0.len() < MAX_EVENTS {
            let is_new = event.first.whole_second() >= changed_at;
            let occurred = if is_new { event.first } else { event.last };
            self.0.push(RecordedEvent {
                at: refine(Some(occurred), event.at),
                count_before: if is_new { 0 } else { event.count - 1 },
                event,
            });
        }
    }

    /// Adds them to a span's events in the order of time, as far as there is room.
    pub fn append_to(self, events: &mut Vec<SpanEvent>) {
        let room = MAX_EVENTS.saturating_sub(events.len());
        events.extend(self.0.into_iter().map(RecordedEvent::into_span_event).take(room));
        events.sort_by_key(|event| event.at);
    }
}

impl RecordedEvent {
    fn into_span_event(self) -> SpanEvent {
        let KubernetesEvent { severity, reason, message, component, container, count, .. } =
            self.event;
        let texts = [
            ("type", severity),
            ("reason", reason),
            ("message", message),
            ("component", component),
            ("container", container),
        ];
        let texts = texts.into_iter().filter(|(_, value)| !value.is_empty());
        let count = Attribute::int("count", count.saturating_sub(self.count_before).max(1));
        let attributes =
            texts.map(|(key, value)| Attribute::text(key, &value)).chain([count]).collect();
        SpanEvent { at: self.at, name: "event".into(), attributes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::object::{GroupKind, Uid};

    #[test]
    fn repeated_or_reordered_occurrences_never_lower_the_count() {
        let at = Timestamp::from_nanos(10_000_000_000);
        let counted = |resource_version, count| KubernetesEvent {
            at,
            uid: Uid::new("event"),
            resource_version,
            kind: GroupKind::new("", "Pod"),
            about: Uid::new("pod"),
            container: "".into(),
            severity: "Normal".into(),
            reason: "Pulled".into(),
            message: "".into(),
            component: "kubelet".into(),
            count,
            first: at,
            last: at,
        };
        let mut recorded = RecordedEvents::default();
        for (version, count) in [(5, 3), (7, 6), (7, 6), (6, 5)] {
            recorded.record(counted(version, count), Timestamp::from_nanos(0));
        }
        let mut events = Vec::new();
        recorded.append_to(&mut events);
        assert_eq!(events.len(), 1);
        assert!(events[0].attributes.contains(&Attribute::int("count", 6)), "{events:?}");
    }
}
