//! Writes down what was decided of a change, makes its links, and tells what can be told by now.

use crate::trace::{
    cause::find::Cause,
    model::{
        id::{ChangeKey, Verb},
        observation::OwnerReference,
        span::Link,
    },
    object::{
        change::{Change, ContextUse, Decision, PendingReport, Placement, Scope},
        tracked::TrackedObject,
    },
    spans::{links, output::TraceMetric},
    tracer::Tracer,
};

impl Tracer {
    pub(crate) fn adopt(
        &mut self,
        key: &ChangeKey,
        decided: Decision,
        cause: Cause,
        judged: Option<ContextUse>,
    ) {
        let parent = decided.cause.clone();
        let floor = parent.as_ref().and_then(|parent| Some(self.change(parent)?.1.at));
        let is_lost = decided.place == Placement::Head && key.verb == Verb::Delete;
        let replaced = if key.verb == Verb::Create { self.take_loss(key, &cause) } else { None };
        let is_of_ignored = parent
            .as_ref()
            .and_then(|parent| self.change(parent))
            .is_some_and(|(_, parent)| parent.ignored);
        let Some(known) = self.objects.get_mut(&key.uid) else { return };
        let Some(at) = known.changes.iter().position(|change| change.key == *key) else { return };
        let resumed = take_paused(known, at);
        let kind = known.object.kind.clone();
        let Some(change) = known.changes.get_mut(at) else { return };
        change.at = floor.map_or(change.at, |floor| change.at.max(floor));
        change.ignored |= is_of_ignored;
        // Counted here and not before: only now it is known whether anybody hears of it.
        if change.ignored {
            self.out.notes.push(TraceMetric::Ignored { kind });
        } else {
            self.out
                .notes
                .extend([TraceMetric::Change { kind, verb: key.verb }, TraceMetric::Opened]);
        }
        let is_fresh = judged == Some(ContextUse::Fresh);
        let mut owners = Box::default();
        if let Some(details) = change.details.as_deref_mut() {
            owners = std::mem::take(&mut details.owners);
            details.road.iter_mut().for_each(|road| road.not_before(change.at));
            details.judged = judged;
            details.owner = cause.owner;
            details.reason = cause.reason;
            details.replaced = replaced;
            // A resumed rollout does what the paused changes asked for.
            let own = details.context.as_ref().filter(|_| is_fresh).map(|own| own.span_id);
            let of_others = resumed.iter().filter(|context| Some(context.span_id) != own);
            let links =
                of_others.map(|context| links::context_link(context, ContextUse::Fresh, false));
            details.late_links.extend(links);
        }
        let carries = change.value.filter(|_| is_fresh);
        let last = change.value;
        let counts = change.scope == Scope::Spec && !change.ignored;
        let generation = change.generation;
        let context = change.details.as_ref().and_then(|details| details.context.clone());
        change.decided = Some(decided);
        if counts {
            if let Some(value) = carries {
                known.contexts.note_used(value);
                if let Some((generation, context)) = generation.zip(context) {
                    known.contexts.note_unobserved(generation, context);
                }
            }
            if known.contexts.last != last {
                known.contexts.last = last;
            }
        }
        self.link(key, owners.first());
        self.look_for_autoscaler(key);
        if let Some(parent) = parent {
            self.progressed(key, parent);
        }
        let controller = owners.first().filter(|owner| owner.controller).map(|owner| &owner.uid);
        if is_lost {
            self.lose(key, controller);
        } else if key.verb == Verb::Delete {
            self.not_lost(&key.uid, controller);
        }
        self.note_done(key);
        self.tell_head(key);
        self.project(key);
        self.tell_phases(key);
        if self.change(key).is_some_and(|(_, change)| change.convergence.ended().is_some()) {
            self.ended(key);
        }
        self.wind(&key.uid.clone());
    }

    /// Makes the links of the change span.
    fn link(&mut self, key: &ChangeKey, owner: Option<&OwnerReference>) {
        let Some((known, change)) = self.change(key) else { return };
        let (Some(decided), Some(details)) = (&change.decided, change.details.as_deref()) else {
            return;
        };
        let links = self.links(known, change, decided, details);
        let is_unknown = owner.is_some_and(|owner| !self.objects.contains_key(&owner.uid));
        let unknown =
            is_unknown.then(|| TraceMetric::OwnerUnknown { kind: known.object.kind.clone() });
        let is_told = decided.sampled && !change.ignored;
        let told = links.iter().filter(|_| is_told).map(|(role, _)| TraceMetric::Link { role });
        self.out.notes.extend(unknown.into_iter().chain(told));
        if let Some(details) = self.details_mut(key) {
            details.links = links.into_iter().map(|(_, link)| link).collect();
        }
    }

    /// In the contract's order, each with its role.
    fn links(
        &self,
        known: &TrackedObject,
        change: &Change,
        decided: &Decision,
        details: &PendingReport,
    ) -> Vec<(&'static str, Link)> {
        let is_apart = matches!(decided.place, Placement::Linked | Placement::Cut);
        let joined = details.joined_origin.is_some();
        let context = details.context.as_ref().zip(details.judged).map(|(context, judged)| {
            (links::context_role(judged), links::context_link(context, judged, joined))
        });
        let origin = decided.origin.as_ref().filter(|_| is_apart);
        let owner = details.owner.as_ref().filter(|_| decided.is_head());
        // What is ignored has no span to lead to.
        let is_told = |older: &&Change| older.decided.is_some() && !older.ignored;
        let of_same = |key: &ChangeKey| known.change(key).filter(is_told);
        let supersedes = details.supersedes.as_ref().and_then(of_same);
        let previous = || {
            let before = known.changes.iter().rev().skip_while(|other| other.key != change.key);
            before.skip(1).find(is_told)
        };
        let previous = if self.rules.links.previous { previous() } else { None };
        context
            .into_iter()
            .chain(origin.map(|context| ("origin", links::origin_link(context))))
            .chain(owner.and_then(links::owner_link).map(|link| ("owner", link)))
            .chain(supersedes.and_then(|older| {
                Some(("supersedes", links::change_link("supersedes", &known.object, older)?))
            }))
            .chain(
                details.replaced.as_ref().and_then(links::replaced_link).map(|l| ("replaced", l)),
            )
            .chain(previous.and_then(|older| {
                Some(("previous", links::change_link("previous", &known.object, older)?))
            }))
            .chain(self.reference_links(known, change).into_iter().map(|link| ("reference", link)))
            .collect()
    }

    /// One click forward from the annotated span, where that is asked for.
    fn project(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        let (Some(decided), Some(details)) = (&change.decided, &change.details) else { return };
        let Some(context) = details.context.as_ref().filter(|context| context.is_sampled()) else {
            return;
        };
        let is_there = decided.trace_id == context.trace_id;
        if !self.rules.project || is_there || details.judged != Some(ContextUse::Fresh) {
            return;
        }
        let span = self.teller(known, change).map(|teller| teller.projection(context));
        self.tell(key, span);
    }

    /// What a change caused has begun: its whole chain goes on.
    pub(crate) fn progressed(&mut self, key: &ChangeKey, mut parent: ChangeKey) {
        let Some((_, child)) = self.change(key) else { return };
        let (at, received, api_at) = (child.at, child.received, child.api_at);
        for step in 0..=16 {
            let Some(known) = self.objects.get_mut(&parent.uid) else { return };
            let Some(change) = known.change_mut(&parent) else { return };
            if step == 0 {
                change.caused += 1;
                if let Some(details) = change.details.as_deref_mut() {
                    details.first_caused = Some(details.first_caused.map_or(at, |it| it.min(at)));
                }
            }
            change.convergence.note_progress(received);
            change.last_caused = change.last_caused.max(api_at);
            let above = change.decided.as_ref().and_then(|decided| decided.cause.clone());
            self.wind(&parent.uid.clone());
            let Some(above) = above else { return };
            parent = above;
        }
    }
}

/// What paused changes asked for, when the change at `at` goes on with it.
fn take_paused(
    known: &mut TrackedObject,
    at: usize,
) -> Vec<crate::trace::model::context::TraceContext> {
    let is_update_of_spec =
        |change: &Change| change.key.verb == Verb::Update && change.scope == Scope::Spec;
    let goes_on = !known.spec.paused
        && known.changes.get(at).is_some_and(is_update_of_spec)
        && !known.contexts.paused.is_empty();
    if goes_on { std::mem::take(&mut known.contexts.paused) } else { Vec::new() }
}
