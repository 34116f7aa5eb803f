//! Tells changes as spans: names, extents, attributes, links (contract: §2, §6).

use std::{sync::Arc, time::Duration};

use crate::trace::{
    model::{
        context::TraceContext,
        id::{ChangeKey, Ids},
        kind,
        object::GroupKind,
        span::{Attribute, Link, Role, Span, SpanEvent, SpanStatus, TraceId, Value},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, Decision, OwnerChain, PendingReport, Placement},
        tracked::TrackedObject,
    },
    progress::{
        convergence::{ActiveProblem, Ended, Outcome},
        phase::{Actor, Phase},
    },
    spans::links::{self, flag, int, text},
    tracer::slowest::Slowest,
};

/// A head's change span: there is nothing in it but that it happened.
const MOMENT: Duration = Duration::from_micros(1);
/// Every other span lasts this long at least: Jaeger warns on less.
const SHORTEST: Duration = Duration::from_micros(2);
const MAX_LINKS: usize = 16;

/// Everything a span is told from.
pub(crate) struct SpanBuilder<'a> {
    pub(crate) ids: &'a Ids,
    pub(crate) object: &'a TrackedObject,
    pub(crate) change: &'a Change,
    pub(crate) decided: &'a Decision,
    pub(crate) service: Arc<str>,
}

impl SpanBuilder<'_> {
    /// The change span: of a head at once (`ended` where it is over when seen), of a caused change
    /// at its outcome.
    pub(crate) fn change(
        &self,
        details: &PendingReport,
        ended: Option<&Ended>,
        events: Vec<SpanEvent>,
    ) -> Span {
        let mut attributes = self.object_attributes();
        let object = &self.object.object;
        attributes.push(text("k8s.object.uid", &object.uid.to_string()));
        attributes.push(text("k8s.object.api_version", &self.object.api_version));
        attributes
            .push(text("k8s.object.resource_version", &self.change.resource_version.to_string()));
        attributes.extend(owner_names(&object.kind, self.decided.owner_chain.as_ref()));
        attributes.extend(self.step_attributes());
        attributes.extend(detail_attributes(self.change, details));
        if self.decided.place == Placement::Cut {
            attributes.push(text("spanlink.cascade", "cut"));
        }
        let is_head = self.decided.is_head();
        let mut links = details.links.clone();
        if !is_head {
            links.extend(details.late_links.iter().cloned());
        }
        let extent = match ended {
            Some(ended) if !is_head => self.until(ended.at),
            _ => MOMENT,
        };
        let mut span = self.span(Role::Change, self.change.key.verb.name(), extent, attributes);
        span.parent = self.decided.parent;
        span.parent_is_remote = is_head && span.parent.is_some();
        span.origin(details.joined_origin.or_else(|| self.origin()));
        span.link_all(links);
        if let Some(ended) = ended {
            span.end_as(ended, details.reason.as_deref());
            span.waited_for(details.slowest.as_deref());
        } else if let Some(reason) = &details.reason {
            span.attributes.push(text("spanlink.reason", reason));
        }
        span.baggage(details);
        span.events = within(events, span.start, span.end);
        span
    }

    /// A head's road to its outcome.
    pub(crate) fn reconcile(
        &self,
        details: &PendingReport,
        ended: &Ended,
        events: Vec<SpanEvent>,
    ) -> Span {
        let mut attributes = self.object_attributes();
        attributes.extend(self.step_attributes());
        let mut span = self.span(Role::Reconcile, "reconcile", self.until(ended.at), attributes);
        span.parent = Some(self.decided.span_id);
        span.origin(self.origin());
        span.link_all(details.late_links.clone());
        span.end_as(ended, None);
        span.waited_for(details.slowest.as_deref());
        span.events = within(events, span.start, span.end);
        span
    }

    /// A convergence after the verdict.
    pub(crate) fn late(&self, at: Timestamp) -> Span {
        let mut attributes = self.object_attributes();
        attributes.extend(self.step_attributes());
        let mut span = self.span(Role::Late, "late", SHORTEST, attributes);
        span.parent = Some(self.decided.span_id);
        span.start = at.max(self.change.at);
        span.end = span.start.plus(SHORTEST);
        span.origin(self.origin());
        span
    }

    /// A problem that has held: under its trace's head, one for all that the same change caused.
    pub(crate) fn stuck(&self, shared: &ChangeKey, trouble: &ActiveProblem, at: Timestamp) -> Span {
        let reason = &trouble.problem.reason;
        let mut attributes = self.object_attributes();
        attributes.push(text("error.type", reason));
        attributes.push(text("spanlink.reason", reason));
        if !trouble.problem.container.is_empty() {
            attributes.push(text("k8s.container.name", &trouble.problem.container));
        }
        let mut span = self.span(Role::Stuck, "stuck", SHORTEST, attributes);
        span.span_id = self.ids.span(shared, Role::Stuck, reason);
        span.parent = Some(self.decided.head);
        span.start = at.max(self.change.at);
        span.end = span.start.plus(SHORTEST);
        span.origin(self.origin());
        let message: &str =
            if trouble.problem.message.is_empty() { reason } else { &trouble.problem.message };
        span.status = SpanStatus::Error(message.into());
        span
    }

    /// A span of the annotated trace that links to the change.
    pub(crate) fn projection(&self, context: &TraceContext) -> Span {
        let mut attributes = self.object_attributes();
        attributes.extend(self.step_attributes());
        let mut span =
            self.span(Role::Projection, self.change.key.verb.name(), SHORTEST, attributes);
        span.trace_id = context.trace_id;
        span.parent = Some(context.span_id);
        span.parent_is_remote = true;
        span.service = "spanlink".into();
        span.links.extend(links::change_link("change", &self.object.object, self.change));
        span
    }

    /// A step on the way: below the span that has the whole extent.
    pub(crate) fn phase(&self, phase: &Phase) -> Span {
        let id = |name: &str| self.ids.span(&self.change.key, Role::Phase, name);
        let object = &self.object.object;
        let mut attributes = Vec::with_capacity(6);
        if let Some(namespace) = &object.namespace {
            attributes.push(text("k8s.namespace.name", namespace));
        }
        let name = kind::name_attribute(&object.kind).unwrap_or("k8s.object.name");
        attributes.push(text(name, &object.name));
        attributes.push(text("spanlink.phase.actor", self.actor(&phase.actor)));
        let mut span = self.span(Role::Phase, "", SHORTEST, attributes);
        span.name = (*phase.name).into();
        span.span_id = id(&phase.name);
        span.parent = Some(if self.decided.is_head() {
            self.ids.span(&self.change.key, Role::Reconcile, "")
        } else {
            self.decided.span_id
        });
        if !phase.container.is_empty() {
            span.attributes.push(text("k8s.container.name", &phase.container));
            span.span_id = id(&format!("{}/{}", phase.name, phase.container));
            span.parent = Some(id(&phase.name));
        }
        span.start = phase.begin.max(self.change.at);
        span.end = phase.end.max(span.start.plus(SHORTEST));
        span.origin(self.origin());
        if let Some(problem) = &phase.problem {
            span.attributes.push(text("error.type", &problem.reason));
            let message =
                if problem.message.is_empty() { &problem.reason } else { &problem.message };
            span.status = SpanStatus::Error(message.clone());
        }
        span.events = within(phase.events.clone(), span.start, span.end);
        span
    }

    fn actor<'a>(&'a self, actor: &'a Actor) -> &'a str {
        match actor {
            Actor::Scheduler => {
                self.object.spec.scheduler.as_deref().unwrap_or("default-scheduler")
            }
            Actor::Kubelet => "kubelet",
            Actor::Controller => &self.service,
            Actor::Named(name) => name,
        }
    }

    fn origin(&self) -> Option<TraceId> {
        self.decided.origin.as_ref().map(|origin| origin.trace_id)
    }

    fn span(&self, role: Role, verb: &str, extent: Duration, attributes: Vec<Attribute>) -> Span {
        let object = &self.object.object;
        Span {
            trace_id: self.decided.trace_id,
            span_id: self.ids.span(&self.change.key, role, ""),
            parent: None,
            parent_is_remote: false,
            role,
            name: format!("{verb} {}", object.kind.kind).into(),
            service: Arc::clone(&self.service),
            object: object.clone(),
            start: self.change.at,
            end: self.change.at.plus(extent),
            attributes,
            links: Vec::new(),
            dropped_links: 0,
            events: Vec::new(),
            status: SpanStatus::Unset,
        }
    }

    fn until(&self, end: Timestamp) -> Duration {
        end.since(self.change.at).max(SHORTEST)
    }

    fn object_attributes(&self) -> Vec<Attribute> {
        let object = &self.object.object;
        let mut attributes = Vec::with_capacity(24);
        if let Some(namespace) = &object.namespace {
            attributes.push(text("k8s.namespace.name", namespace));
        }
        if let Some(key) = kind::name_attribute(&object.kind) {
            attributes.push(text(key, &object.name));
        }
        attributes.push(text("k8s.object.kind", &object.kind.kind));
        attributes.push(text("k8s.object.name", &object.name));
        attributes
    }

    fn step_attributes(&self) -> impl Iterator<Item = Attribute> {
        let verb = text("spanlink.verb", self.change.key.verb.name());
        let generation = self.change.generation.map(|g| int("spanlink.generation", g));
        [verb].into_iter().chain(generation)
    }
}

impl Span {
    fn origin(&mut self, origin: Option<TraceId>) {
        self.attributes
            .extend(origin.map(|origin| text("spanlink.origin.trace_id", &origin.to_string())));
    }

    /// Under the entries' own keys, as OpenTelemetry's baggage processors do; ours come first.
    fn baggage(&mut self, details: &PendingReport) {
        let fresh = details.context.as_ref().filter(|_| details.judged == Some(ContextUse::Fresh));
        for (key, value) in fresh.into_iter().flat_map(|context| &context.baggage) {
            if self.attribute(key).is_none() {
                self.attributes.push(text(key.clone().into_string(), value));
            }
        }
    }

    fn link_all(&mut self, mut links: Vec<Link>) {
        let dropped = links.len().saturating_sub(MAX_LINKS);
        links.truncate(MAX_LINKS);
        self.dropped_links = u32::try_from(dropped).unwrap_or(u32::MAX);
        self.links = links;
    }

    /// The one thing it waited for longest.
    fn waited_for(&mut self, slowest: Option<&Slowest>) {
        let Some(slowest) = slowest else { return };
        let facts = [
            ("spanlink.slowest.kind", &*slowest.kind),
            ("spanlink.slowest.name", &*slowest.name),
            ("spanlink.slowest.phase", &*slowest.phase),
            ("spanlink.slowest.reason", &*slowest.reason),
        ];
        let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
        self.attributes.extend(known.map(|(key, value)| text(key, value)));
    }

    fn end_as(&mut self, ended: &Ended, other_reason: Option<&str>) {
        self.attributes.push(text("spanlink.outcome", ended.outcome.name()));
        let reason = if ended.reason.is_empty() { other_reason } else { Some(&*ended.reason) };
        self.attributes.extend(reason.map(|reason| text("spanlink.reason", reason)));
        match ended.outcome {
            Outcome::Failed => {
                self.attributes.push(text("error.type", &ended.reason));
                let message: &str =
                    if ended.message.is_empty() { &ended.reason } else { &ended.message };
                self.status = SpanStatus::Error(message.into());
            }
            Outcome::TimedOut => {
                self.attributes.push(text("error.type", "timeout"));
                self.status = SpanStatus::Error("no verdict before the deadline".into());
            }
            Outcome::Converged
            | Outcome::Superseded
            | Outcome::Deleted
            | Outcome::Paused
            | Outcome::Unknown => {}
        }
    }
}

/// The names of the owners up to the head, by their semantic convention: `k8s.deployment.name=web`
/// finds its Pods too. The nearest of a kind counts, the object itself before all.
fn owner_names(own: &GroupKind, owner_chain: Option<&Arc<OwnerChain>>) -> Vec<Attribute> {
    let mut names: Vec<Attribute> = Vec::new();
    let own = kind::name_attribute(own);
    let mut at = owner_chain;
    while let Some(owner) = at {
        if let Some(key) = kind::name_attribute(&owner.kind)
            && !names.iter().any(|name| name.key == key)
            && key != "k8s.namespace.name"
            && Some(key) != own
        {
            names.push(text(key, &owner.name));
        }
        at = owner.above.as_ref();
    }
    names
}

fn detail_attributes(change: &Change, details: &PendingReport) -> Vec<Attribute> {
    let mut attributes = vec![text("spanlink.change.scope", change.scope.name())];
    if !details.fields.is_empty() {
        let fields = Value::Texts(details.fields.clone());
        attributes.push(Attribute { key: "spanlink.change.fields".into(), value: fields });
    }
    if !details.values.is_empty() {
        let values = Value::Texts(details.values.clone());
        attributes.push(Attribute { key: "spanlink.change.values".into(), value: values });
    }
    if details.missed > 0 {
        attributes.push(int("spanlink.change.missed_generations", details.missed));
    }
    if details.rewound {
        attributes.push(flag("spanlink.change.rewound"));
    }
    if let Some(manager) = &details.manager {
        attributes.push(text("spanlink.change.manager", &manager.name));
        attributes.push(text("spanlink.change.operation", &manager.operation));
        if !manager.subresource.is_empty() {
            attributes.push(text("spanlink.change.subresource", &manager.subresource));
        }
    }
    attributes.push(text("spanlink.time.source", change.source.name()));
    attributes.extend(context_attributes(details));
    attributes.extend(owner_attributes(details));
    if let Some(replaced) = &details.replaced {
        attributes.push(text("spanlink.replaced.name", &replaced.name));
        attributes.push(text("spanlink.replaced.uid", &replaced.uid.to_string()));
    }
    attributes
}

/// Link attributes are invisible in most UIs: the first context is mirrored.
fn context_attributes(details: &PendingReport) -> Vec<Attribute> {
    let (Some(context), Some(judged)) = (&details.context, details.judged) else {
        return Vec::new();
    };
    let mut attributes = vec![
        text("spanlink.context.trace_id", &context.trace_id.to_string()),
        text("spanlink.context.span_id", &context.span_id.to_string()),
    ];
    match judged {
        ContextUse::Stale => attributes.push(flag("spanlink.context.stale")),
        ContextUse::Revived => attributes.push(flag("spanlink.context.revived")),
        ContextUse::Fresh => {
            if details.joined_origin.is_some() {
                attributes.push(flag("spanlink.context.joined"));
            }
        }
        ContextUse::Inherited => {}
    }
    attributes
}

fn owner_attributes(details: &PendingReport) -> Vec<Attribute> {
    let Some(owner) = &details.owner else { return Vec::new() };
    let mut attributes = vec![
        text("spanlink.owner.kind", &owner.kind.kind),
        text("spanlink.owner.name", &owner.name),
        text("spanlink.owner.uid", &owner.uid.to_string()),
    ];
    attributes.extend(owner.generation.map(|g| int("spanlink.owner.generation", g)));
    if owner.settled {
        attributes.push(flag("spanlink.owner.settled"));
    }
    if let Some(span) = owner.span {
        attributes.push(text("spanlink.owner.trace_id", &span.trace_id.to_string()));
        attributes.push(text("spanlink.owner.span_id", &span.span_id.to_string()));
    }
    attributes
}

/// Events lie inside their span.
fn within(events: Vec<SpanEvent>, start: Timestamp, end: Timestamp) -> Vec<SpanEvent> {
    let inside = |event: SpanEvent| SpanEvent { at: event.at.clamp(start, end), ..event };
    events.into_iter().map(inside).collect()
}
