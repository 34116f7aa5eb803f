//! Kubernetes Events without an open change: the change may arrive later, by another watch.

use std::{collections::VecDeque, time::Duration};

use crate::trace::{
    model::kubernetes_event::KubernetesEvent,
    object::change::{Change, Scope},
};

/// Unclaimed Events; the oldest are dropped first.
const MAX_UNCLAIMED: usize = 256;
/// A connected watch delivers a change within this time.
const UNCLAIMED_TTL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct UnclaimedEvents(VecDeque<KubernetesEvent>);

impl UnclaimedEvents {
    /// Returns whether an Event was dropped for it before its time.
    pub(crate) fn keep(&mut self, event: KubernetesEvent) -> bool {
        let now = event.at;
        let is_old = |kept: &KubernetesEvent| kept.at.plus(UNCLAIMED_TTL) < now;
        while self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        let is_full = self.0.len() >= MAX_UNCLAIMED;
        if is_full {
            self.0.pop_front();
        }
        self.0.push_back(event);
        is_full
    }

    /// Removes the Events about a change.
    pub(crate) fn claim(&mut self, change: &Change) -> Vec<KubernetesEvent> {
        let mut claimed = Vec::new();
        self.0.retain(|event| {
            let is_about = is_about(change, event);
            if is_about {
                claimed.push(event.clone());
            }
            !is_about
        });
        claimed
    }
}

/// Times are whole seconds, so resourceVersions decide as well, except those of a relist.
fn is_about(change: &Change, event: &KubernetesEvent) -> bool {
    event.about == change.key.uid
        && accepts(change, event)
        && (change.relisted || event.resource_version > change.resource_version)
}

/// Whether the change is open and not younger than the Event.
pub(crate) fn accepts(change: &Change, event: &KubernetesEvent) -> bool {
    change.scope == Scope::Spec
        && change.convergence.is_open()
        && event.last.whole_second() >= change.api_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::{
        object::{GroupKind, Uid},
        time::Timestamp,
    };

    fn event(number: u32, second: i64) -> KubernetesEvent {
        let at = Timestamp::from_nanos(second * 1_000_000_000);
        KubernetesEvent {
            at,
            uid: Uid::new(&number.to_string()),
            resource_version: u64::from(number),
            kind: GroupKind::new("", "Pod"),
            about: Uid::new("unknown"),
            container: "".into(),
            severity: "Normal".into(),
            reason: "Pulled".into(),
            message: "".into(),
            component: "kubelet".into(),
            count: 1,
            first: at,
            last: at,
        }
    }

    #[test]
    fn unclaimed_events_are_kept_for_seconds_and_are_bounded() {
        let mut unclaimed = UnclaimedEvents::default();
        let dropped = (0..1000).filter(|number| unclaimed.keep(event(*number, 10))).count();
        assert_eq!(dropped, 1000 - MAX_UNCLAIMED);
        assert_eq!(unclaimed.0.len(), MAX_UNCLAIMED);
        assert_eq!(unclaimed.0.back().map(|last| last.resource_version), Some(999));
        assert!(unclaimed.keep(event(1000, 15)));
        assert_eq!(unclaimed.0.len(), MAX_UNCLAIMED);
        assert!(!unclaimed.keep(event(1001, 16)), "the others were old");
        assert_eq!(unclaimed.0.len(), 2);
    }
}
