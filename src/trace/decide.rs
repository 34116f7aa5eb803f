//! Decides each change's cause, in resourceVersion order, once its owner's news can be known.

use std::{sync::Arc, time::Duration};

use super::{
    cause::{Cause, View},
    change::{Change, Decided, Details, Judged, Lineage, Scope},
    detect,
    id::{ChangeKey, Verb},
    link,
    object::GroupKind,
    observation::WatchId,
    output::Note,
    span::{Link, Role, TraceId, Value},
    tell::change_links,
    time::Timestamp,
    tracer::{Connection, Tracer, Watch},
    tracked::Tracked,
};

/// An owner's watch that stays away longer is waited for no more.
const WATCH_AWAY: Duration = Duration::from_secs(30);

/// A metadata change this close to an open change joins it.
const JOINS_WITHIN: Duration = Duration::from_secs(5);

impl Tracer {
    /// Decides what can be decided, each watch in resourceVersion order.
    pub(super) fn decide(&mut self, now: Timestamp) {
        for watch in self.watches.values_mut() {
            if let Connection::CatchingUp { heard } = watch.state
                && heard.plus(self.rules.owner_wait) <= now
            {
                watch.state = Connection::Live { since: heard };
            }
        }
        let ids: Vec<WatchId> = self
            .watches
            .iter()
            .filter(|(_, watch)| !watch.undecided.is_empty())
            .map(|(id, _)| *id)
            .collect();
        let mut went_on = !ids.is_empty();
        while went_on {
            went_on = false;
            for id in &ids {
                while let Some((order, key)) = self.first_undecided(*id)
                    && let Some(late) = self.can_decide(&key, now)
                {
                    if let Some(watch) = self.watches.get_mut(id) {
                        watch.undecided.remove(&order);
                    }
                    if late {
                        self.out.notes.push(Note::OwnerLate);
                    }
                    self.decide_one(&key);
                    went_on = true;
                }
            }
        }
    }

    pub(super) fn first_undecided(&self, id: WatchId) -> Option<((u64, u64), ChangeKey)> {
        let (order, key) = self.watches.get(&id)?.undecided.first_key_value()?;
        Some((*order, key.clone()))
    }

    /// `None`: not yet. `Some(true)`: the wait ran out.
    pub(super) fn can_decide(&self, key: &ChangeKey, now: Timestamp) -> Option<bool> {
        let Some((known, change)) = self.change(key) else { return Some(false) };
        if self.owner_has_undecided(known, change) {
            return None;
        }
        let mut late = false;
        for watch in self.awaited(known, change) {
            if watch.delivered > change.resource_version {
                continue;
            }
            if self.wait_for(watch, known, change) > now {
                return None;
            }
            late = true;
        }
        Some(late)
    }

    /// When the wait for a change runs out; `None` where it waits for another change.
    pub(super) fn waits_until(&self, key: &ChangeKey) -> Option<Timestamp> {
        let (known, change) = self.change(key)?;
        if self.owner_has_undecided(known, change) {
            return None;
        }
        self.awaited(known, change)
            .filter(|watch| watch.delivered <= change.resource_version)
            .map(|watch| self.wait_for(watch, known, change))
            .max()
    }

    pub(super) fn change(&self, key: &ChangeKey) -> Option<(&Tracked, &Change)> {
        let known = self.objects.get(&key.uid)?;
        Some((known, known.change(key)?))
    }

    /// Every change of the owner with a lower resourceVersion is decided first.
    pub(super) fn owner_has_undecided(&self, known: &Tracked, change: &Change) -> bool {
        let of_owner = known.owner.as_ref().map(|owner| &owner.uid);
        let of_namespace = known
            .object
            .namespace
            .as_ref()
            .filter(|_| change.key.verb == Verb::Delete)
            .and_then(|name| self.namespaces.get(name));
        of_owner.into_iter().chain(of_namespace).filter(|uid| **uid != known.object.uid).any(
            |uid| {
                self.objects.get(uid).is_some_and(|owner| {
                    owner.changes.iter().any(|older| {
                        older.decided.is_none() && older.resource_version < change.resource_version
                    })
                })
            },
        )
    }

    /// The watches of the owner's kind, and for a delete of Namespaces.
    pub(super) fn awaited<'a>(
        &'a self,
        known: &'a Tracked,
        change: &'a Change,
    ) -> impl Iterator<Item = &'a Watch> {
        let namespace = known.object.namespace.as_deref();
        let owner = known
            .owner
            .as_ref()
            .filter(|owner| owner.uid != known.object.uid)
            .map(|owner| &owner.kind);
        let deletes = change.key.verb == Verb::Delete && namespace.is_some();
        self.watches.values().filter(move |watch| {
            let of_owner = owner == Some(&watch.watched.kind)
                && (watch.watched.namespace.is_none()
                    || watch.watched.namespace.as_deref() == namespace);
            of_owner || (deletes && watch.watched.kind.is("", "Namespace"))
        })
    }

    /// While the awaited watch reconnects or reads a backlog, time starts when it has caught up. One
    /// that has been away for long is waited for no more than any other.
    pub(super) fn wait_for(&self, watch: &Watch, known: &Tracked, change: &Change) -> Timestamp {
        let wait = self.rules.owner_wait(&known.object.kind);
        match watch.state {
            Connection::Live { since: from } | Connection::CatchingUp { heard: from } => {
                from.max(change.received).plus(wait)
            }
            Connection::Away { since } => since.plus(WATCH_AWAY).max(change.received.plus(wait)),
        }
    }

    pub(super) fn decide_one(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        if change.scope == Scope::Metadata && change.convergence.is_open() {
            self.decide_joining(key);
            return;
        }
        let deadline = |kind: &GroupKind| self.rules.limits(kind, None).deadline;
        let view =
            View { objects: &self.objects, namespaces: &self.namespaces, deadline: &deadline };
        let cause = view.cause(known, change);
        let judged = self.judge(known, change, &cause);
        let decided = self.decided_by(known, change, &cause, judged);
        let floor = cause.parent.as_ref().and_then(|parent| Some(self.change(parent)?.1.at));
        let mut decided = decided;
        if decided.origin.is_none() && cause.parent.is_none() {
            decided.origin = Self::carried_on(known, change);
        }
        self.adopt(key, decided, cause, judged, floor);
    }

    pub(super) fn judge(&self, known: &Tracked, change: &Change, cause: &Cause) -> Option<Judged> {
        change.details.as_ref()?.context.as_ref()?;
        let value = change.value?;
        let owner =
            known.owner.as_ref().and_then(|owner| self.objects.get(&owner.uid)).map(Box::as_ref);
        // `rollout undo` brings an old ReplicaSet's annotations back, in the change itself.
        let came_with_it = known.contexts.since_version == change.resource_version;
        let on_older_sets = known.object.kind.is("apps", "Deployment")
            && came_with_it
            && self.objects.values().any(|set| {
                set.owner.as_ref().is_some_and(|owner| owner.uid == known.object.uid)
                    && set.object.kind.is("apps", "ReplicaSet")
                    && set.contexts.was_seen(value)
                    && set.created.is_some_and(|created| created < change.api_at)
                    && set.contexts.current.as_ref().is_none_or(|(current, _)| {
                        *current != value || set.template != change.template || is_empty(set)
                    })
            });
        let judged = link::judge(known, change, value, owner, on_older_sets)?;
        let settled_create = change.key.verb == Verb::Create
            && cause.parent.is_none()
            && cause.owner.as_ref().is_some_and(|owner| owner.settled);
        match judged {
            // An inherited value says why only where the owner is settled.
            Judged::Inherited => settled_create.then_some(judged),
            Judged::Stale if self.rules.drop_stale => None,
            Judged::Fresh | Judged::Stale | Judged::Revived => Some(judged),
        }
    }

    pub(super) fn decided_by(
        &self,
        known: &Tracked,
        change: &Change,
        cause: &Cause,
        judged: Option<Judged>,
    ) -> Decided {
        let span_id = self.ids.span(&change.key, Role::Change, "");
        let parent = cause.parent.as_ref().and_then(|key| {
            let (object, parent) = self.change(key)?;
            Some((object, parent.decided.as_ref()?))
        });
        match parent {
            Some((object, parent)) => Decided {
                trace_id: parent.trace_id,
                span_id,
                parent: Some(parent.span_id),
                cause: cause.parent.clone(),
                head: parent.head,
                origin: parent.origin,
                depth: parent.depth + 1,
                lineage: Some(Arc::new(Lineage {
                    kind: object.object.kind.clone(),
                    name: Arc::clone(&object.object.name),
                    above: parent.lineage.clone(),
                })),
            },
            None => Decided {
                trace_id: self.ids.trace(&change.key),
                span_id,
                parent: None,
                cause: None,
                head: span_id,
                origin: change
                    .details
                    .as_ref()
                    .and_then(|details| details.context.as_ref())
                    .filter(|_| judged == Some(Judged::Fresh))
                    .map(|context| context.trace_id),
                depth: 0,
                lineage: cause.owner.as_ref().map(|owner| {
                    let above = known
                        .owner
                        .as_ref()
                        .and_then(|reference| self.objects.get(&reference.uid))
                        .and_then(|object| {
                            object.changes.last()?.decided.as_ref()?.lineage.clone()
                        });
                    Arc::new(Lineage {
                        kind: owner.kind.clone(),
                        name: Arc::clone(&owner.name),
                        above,
                    })
                }),
            },
        }
    }

    /// A change that overtakes one with the same pod template, without a fresh context of its own,
    /// carries that one's origin on: an HPA scaling during a rollout.
    pub(super) fn carried_on(known: &Tracked, change: &Change) -> Option<TraceId> {
        let older = known.change(change.details.as_ref()?.superseded_key.as_ref()?)?;
        detect::same_template(older.template, change.template)
            .then(|| older.decided.as_ref()?.origin)
            .flatten()
    }

    /// A metadata change while a convergence of its object is open is a span under that change.
    pub(super) fn decide_joining(&mut self, key: &ChangeKey) {
        let Some((known, change)) = self.change(key) else { return };
        let open = known.changes.iter().rev().find(|open| {
            open.scope == Scope::Spec
                && open.resource_version < change.resource_version
                && open.decided.is_some()
        });
        let Some(open) = open else { return };
        let cause = Cause { parent: Some(open.key.clone()), owner: None, reason: None };
        let judged = self.judge(known, change, &cause);
        let decided = self.decided_by(known, change, &cause, judged);
        let has_context = open.details.as_ref().is_none_or(|details| {
            details.judged == Some(Judged::Fresh) || !details.late_links.is_empty()
        });
        let joins = judged == Some(Judged::Fresh)
            && !has_context
            && change.api_at.since(open.api_at) <= JOINS_WITHIN;
        let (open_key, floor) = (open.key.clone(), open.at);
        let context = change.details.as_ref().and_then(|details| details.context.clone());
        if joins && let Some(context) = context {
            if let Some(details) = self.details_mut(key) {
                details.joined_origin = Some(context.trace_id);
            }
            if let Some(details) = self.details_mut(&open_key) {
                details.late_links.push(link::context_link(&context, Judged::Fresh, true));
            }
        }
        let decided = Decided { lineage: self.lineage_of(&open_key), ..decided };
        self.adopt(key, decided, cause, judged, Some(floor));
    }

    pub(super) fn lineage_of(&self, key: &ChangeKey) -> Option<Arc<Lineage>> {
        self.change(key)?.1.decided.as_ref()?.lineage.clone()
    }

    pub(super) fn details_mut(&mut self, key: &ChangeKey) -> Option<&mut Details> {
        self.objects.get_mut(&key.uid)?.change_mut(key)?.details.as_deref_mut()
    }

    /// Writes down what was decided, and tells what can be told by now.
    pub(super) fn adopt(
        &mut self,
        key: &ChangeKey,
        decided: Decided,
        cause: Cause,
        judged: Option<Judged>,
        floor: Option<Timestamp>,
    ) {
        let superseded = self
            .change(key)
            .and_then(|(known, change)| {
                known.change(change.details.as_ref()?.superseded_key.as_ref()?)
            })
            .and_then(|older| older.decided.as_ref().map(|d| (d.trace_id, d.span_id)));
        let is_head = decided.parent.is_none();
        let parent = decided.cause.clone();
        let Some(known) = self.objects.get_mut(&key.uid) else { return };
        let Some(at) = known.changes.iter().position(|change| change.key == *key) else { return };
        let goes_on = !known.spec.paused && known.changes.get(at).is_some_and(is_update_of_spec);
        let goes_on = goes_on && !known.contexts.paused.is_empty();
        let resumed = if goes_on { std::mem::take(&mut known.contexts.paused) } else { Vec::new() };
        if let Some(change) = known.changes.get_mut(at) {
            change.at = floor.map_or(change.at, |floor| change.at.max(floor));
            if let Some(details) = change.details.as_deref_mut() {
                details.judged = judged;
                details.owner = cause.owner;
                details.reason = cause.reason;
                // A resumed rollout does what the paused changes asked for.
                let own = details.context.as_ref().map(|context| context.span_id);
                details.late_links.extend(
                    resumed
                        .iter()
                        .filter(|context| {
                            judged != Some(Judged::Fresh) || Some(context.span_id) != own
                        })
                        .map(|context| link::context_link(context, Judged::Fresh, false)),
                );
                match (details.supersedes.as_mut(), superseded) {
                    (Some(older), Some(ids)) => older.ids = ids,
                    (_, None) => details.supersedes = None,
                    (None, Some(_)) => {}
                }
            }
            change.decided = Some(decided);
            let is_fresh = judged == Some(Judged::Fresh);
            if change.scope == Scope::Spec {
                if let Some(value) = change.value.filter(|_| is_fresh) {
                    known.contexts.note_used(value);
                }
                if known.contexts.last != change.value {
                    known.contexts.last = change.value;
                }
            }
        }
        if let Some(details) = known.changes.get(at).and_then(|change| change.details.as_ref()) {
            let links = change_links(known, details, is_head);
            for link in &links {
                self.out.notes.push(Note::Link { role: role_of(link) });
            }
            if let Some(details) = self.details_mut(key) {
                details.links = links;
            }
        }
        if let Some(parent) = parent {
            self.progressed(key, parent);
        }
        self.tell_head(key);
        if self.change(key).is_some_and(|(_, change)| change.convergence.ended().is_some()) {
            self.ended(key);
        }
        self.wind(&key.uid.clone());
    }

    /// What a change caused has begun: its whole chain goes on.
    pub(super) fn progressed(&mut self, key: &ChangeKey, mut parent: ChangeKey) {
        let Some((_, child)) = self.change(key) else { return };
        let (received, api_at) = (child.received, child.api_at);
        for _ in 0..=16 {
            let Some(known) = self.objects.get_mut(&parent.uid) else { return };
            let Some(change) = known.change_mut(&parent) else { return };
            change.convergence.note_progress(received);
            change.last_caused = change.last_caused.max(api_at);
            let above = change.decided.as_ref().and_then(|decided| decided.cause.clone());
            self.wind(&parent.uid.clone());
            let Some(above) = above else { return };
            parent = above;
        }
    }
}

fn is_update_of_spec(change: &Change) -> bool {
    change.key.verb == Verb::Update && change.scope == Scope::Spec
}

fn is_empty(set: &Tracked) -> bool {
    set.spec.replicas == Some(0)
}

fn role_of(link: &Link) -> &'static str {
    const ROLES: [&str; 4] = ["context", "inherited", "owner", "supersedes"];
    let role = link.attributes.iter().find(|a| a.key == "spanlink.link.role").map(|a| &a.value);
    ROLES
        .into_iter()
        .find(|name| matches!(role, Some(Value::Text(text)) if **text == **name))
        .unwrap_or("context")
}
