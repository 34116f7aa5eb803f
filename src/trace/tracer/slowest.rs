//! Finds the one thing a change waited for longest, through all it caused, and what it waits for now.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{id::ChangeKey, object::GroupKind, time::Timestamp},
    object::{change::Change, tracked::TrackedObject},
    progress::{
        convergence::Outcome,
        phase::{Open, Phase},
    },
    tracer::Tracer,
};

/// Causes above a change; a chain is no deeper.
const MAX_STEPS: usize = 16;

/// What an open convergence waits for: a problem's reason before the name of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait<'a> {
    is_problem: bool,
    since: Timestamp,
    what: &'a str,
}

impl Wait<'_> {
    /// A problem counts more than a step, and of the same the one that has lasted longer.
    fn counts_more_than(&self, other: &Self) -> bool {
        (self.is_problem, std::cmp::Reverse(self.since))
            > (other.is_problem, std::cmp::Reverse(other.since))
    }
}

impl Tracer {
    /// A step has ended: all that waited for it may have waited for nothing longer.
    pub(crate) fn note_step(&mut self, key: &ChangeKey, phase: &Phase) {
        let Some((known, change)) = self.change(key) else { return };
        let caused = change.details.as_ref().and_then(|details| details.first_caused);
        // From then on it waited for what it caused, unless it is known to have a problem itself.
        let own_end = caused.filter(|_| phase.problem.is_none()).unwrap_or(phase.end);
        let slowest = Slowest {
            took: phase.end.min(own_end).since(phase.begin),
            kind: Arc::clone(&known.object.kind.kind),
            name: Arc::clone(&known.object.name),
            phase: phase.name.clone(),
            reason: phase.problem.as_ref().map(|p| p.reason.clone()).unwrap_or_default(),
        };
        self.note_slowest(Some(key.clone()), &slowest);
    }

    /// What has no steps of its own was waited for as a whole.
    pub(crate) fn note_whole(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        let Some(ended) = change.convergence.ended() else { return };
        let has_told = change.details.as_ref().is_none_or(|details| details.slowest.is_some());
        if has_told || change.ignored || ended.outcome == Outcome::Superseded {
            return;
        }
        let slowest = Slowest {
            took: ended.at.since(change.at),
            kind: Arc::clone(&known.object.kind.kind),
            name: Arc::clone(&known.object.name),
            phase: "".into(),
            reason: ended.reason.clone(),
        };
        let cause = change.decided.as_ref().and_then(|decided| decided.cause.clone());
        self.note_slowest(cause, &slowest);
    }

    fn note_slowest(&mut self, from: Option<ChangeKey>, slowest: &Slowest) {
        let mut at = from;
        for _ in 0..=MAX_STEPS {
            let Some(key) = at else { return };
            let Some(known) = self.objects.get_mut(&key.uid) else { return };
            let Some(change) = known.change_mut(&key) else { return };
            if let Some(details) = change.details.as_deref_mut() {
                let before = details.slowest.as_ref();
                if before.is_none_or(|before| before.took < slowest.took) {
                    details.slowest = Some(Box::new(slowest.clone()));
                }
            }
            at = change.decided.as_ref().and_then(|decided| decided.cause.clone());
        }
    }

    /// A change has ended without what it waited for: what below it is still open counts too.
    pub(crate) fn note_still_open(&mut self, key: &ChangeKey, at: Timestamp) {
        let longest = self
            .open_changes()
            .filter_map(|(known, change)| Some((known, change, open_step(change)?)))
            .filter(|(_, change, _)| self.causes_of(change).any(|cause| cause == key))
            .map(|(known, change, wait)| Slowest {
                took: at.since(wait.begin),
                kind: Arc::clone(&known.object.kind.kind),
                name: Arc::clone(&known.object.name),
                phase: wait.name.into(),
                reason: problem_of(change).unwrap_or_default().into(),
            })
            // Of equals the same one, wherever it is looked at.
            .max_by(|a, b| a.took.cmp(&b.took).then_with(|| b.name.cmp(&a.name)));
        if let Some(longest) = longest
            && let Some(details) = self.details_mut(key)
            && details.slowest.as_ref().is_none_or(|before| before.took < longest.took)
        {
            details.slowest = Some(Box::new(longest));
        }
    }

    fn open_changes(&self) -> impl Iterator<Item = (&TrackedObject, &Change)> {
        self.objects
            .values()
            .flat_map(|known| known.changes.iter().map(move |change| (&**known, change)))
            .filter(|(_, change)| change.convergence.is_open())
    }

    /// From the nearest to the head.
    pub(crate) fn causes_of<'a>(
        &'a self,
        change: &'a Change,
    ) -> impl Iterator<Item = &'a ChangeKey> {
        let cause_of = |change: &'a Change| change.decided.as_ref()?.cause.as_ref();
        std::iter::successors(cause_of(change), move |key| cause_of(self.change(key)?.1))
            .take(MAX_STEPS)
    }

    /// Convergences that have not ended, by kind and what they wait for: a gauge for `/metrics`.
    /// That is the reason of a problem, the name of a step, the reason of a condition, or empty;
    /// its own, or of what it caused.
    pub fn open_convergences(&self) -> HashMap<(&GroupKind, &str), i64> {
        let mut waits: HashMap<&ChangeKey, (&GroupKind, Option<Wait<'_>>)> = self
            .open_changes()
            .map(|(known, change)| (&change.key, (&known.object.kind, own_wait(change))))
            .collect();
        for (_, change) in self.open_changes() {
            let Some(own) = own_wait(change) else { continue };
            for cause in self.causes_of(change) {
                if let Some((_, wait)) = waits.get_mut(cause)
                    && wait.is_none_or(|wait| own.counts_more_than(&wait))
                {
                    *wait = Some(own);
                }
            }
        }
        let mut open = HashMap::new();
        for (kind, wait) in waits.into_values() {
            *open.entry((kind, wait.map_or("", |wait| wait.what))).or_default() += 1;
        }
        open
    }
}

fn open_step(change: &Change) -> Option<Open<'_>> {
    change.details.as_deref()?.road.as_ref()?.open().filter(|_| change.convergence.is_open())
}

fn problem_of(change: &Change) -> Option<&str> {
    change.convergence.trouble().map(|trouble| &*trouble.problem.reason)
}

fn own_wait(change: &Change) -> Option<Wait<'_>> {
    if let Some(trouble) = change.convergence.trouble() {
        let what = &trouble.problem.reason;
        return Some(Wait { is_problem: true, since: trouble.since, what });
    }
    let step = open_step(change).map(|open| (open.begin, open.name));
    let (since, what) = step.or_else(|| change.convergence.open_condition())?;
    Some(Wait { is_problem: false, since, what })
}
