//! Builds the spans of a change: names, extents, attributes, links (`docs/model.md`).

use std::{sync::Arc, time::Duration};

use crate::trace::{
    model::{
        context::TraceContext,
        id::{ChangeKey, Ids},
        object::GroupKind,
        span::{Attribute, Link, Role, Span, SpanEvent, SpanStatus, TraceId, Value},
        time::Timestamp,
    },
    object::{
        change::{Change, ContextUse, Decision, OwnerChain, Placement, Report},
        tracked::TrackedObject,
    },
    progress::{
        outcome::{Ended, Outcome},
        phase::{Actor, Phase},
        slowest::Slowest,
        status_events::ActiveProblem,
    },
    rules::SpanNames,
    spans::{attributes, links},
};

/// Extent of a head's change span, which marks an instant.
const HEAD_SPAN_DURATION: Duration = Duration::from_micros(1);
/// Every other span lasts at least this long: Jaeger warns about shorter ones.
const MIN_SPAN_DURATION: Duration = Duration::from_micros(2);
/// Links of one span; the number of dropped ones is exported.
const MAX_LINKS: usize = 16;

/// Everything that the spans of one change are built from.
pub(crate) struct SpanBuilder<'a> {
    pub(crate) ids: &'a Ids,
    pub(crate) object: &'a TrackedObject,
    pub(crate) change: &'a Change,
    pub(crate) decision: &'a Decision,
    pub(crate) service: Arc<str>,
    pub(crate) names: SpanNames,
}

impl SpanBuilder<'_> {
    /// The change span. That of a head is emitted at once (`ended` only where it had ended when it was
    /// observed), that of a caused change at its outcome.
    pub(crate) fn change(
        &self,
        report: &Report,
        ended: Option<&Ended>,
        events: Vec<SpanEvent>,
    ) -> Span {
        let mut attributes = self.object_attributes();
        let object = &self.object.reference;
        attributes.push(Attribute::text(attributes::K8S_OBJECT_UID, &object.uid.to_string()));
        attributes
            .push(Attribute::text(attributes::K8S_OBJECT_API_VERSION, &self.object.api_version));
        attributes.push(Attribute::text(
            attributes::K8S_OBJECT_RESOURCE_VERSION,
            &self.change.resource_version.to_string(),
        ));
        attributes.extend(owner_names(&object.kind, self.decision.owner_chain.as_ref()));
        attributes.extend(self.change_attributes());
        attributes.extend(report_attributes(self.change, report));
        if self.decision.placement == Placement::Cut {
            attributes.push(Attribute::text(attributes::CASCADE, "cut"));
        }
        let is_head = self.decision.is_head();
        let mut links = report.links.clone();
        if !is_head {
            links.extend(report.late_links.iter().cloned());
        }
        let extent = match ended {
            Some(ended) if !is_head => self.until(ended.at),
            _ => HEAD_SPAN_DURATION,
        };
        let mut span = self.span(Role::Change, self.change.key.verb.name(), extent, attributes);
        span.parent = self.decision.parent;
        span.parent_is_remote = is_head && span.parent.is_some();
        span.origin(report.joined_origin.or_else(|| self.origin()));
        span.link_all(links);
        if let Some(ended) = ended {
            span.end_as(ended, report.reason.as_deref());
            span.waited_for(report.slowest.as_deref());
        } else if let Some(reason) = &report.reason {
            span.attributes.push(Attribute::text(attributes::REASON, reason));
        }
        span.baggage(report);
        span.chosen(self.decision);
        span.events = within(events, span.start, span.end);
        span
    }

    /// The reconcile span: a head's way from its change to the outcome.
    pub(crate) fn reconcile(&self, report: &Report, ended: &Ended, events: Vec<SpanEvent>) -> Span {
        let mut attributes = self.object_attributes();
        attributes.extend(self.change_attributes());
        let mut span = self.span(Role::Reconcile, "reconcile", self.until(ended.at), attributes);
        span.parent = Some(self.decision.span_id);
        span.origin(self.origin());
        span.link_all(report.late_links.clone());
        let reason = report.reason.as_deref().filter(|_| self.change.is_episode());
        span.end_as(ended, reason);
        span.waited_for(report.slowest.as_deref());
        span.chosen(self.decision);
        span.events = within(events, span.start, span.end);
        span
    }

    /// The late span: a convergence after the outcome was reported.
    pub(crate) fn late(&self, at: Timestamp) -> Span {
        let mut attributes = self.object_attributes();
        attributes.extend(self.change_attributes());
        let mut span = self.span(Role::Late, "late", MIN_SPAN_DURATION, attributes);
        span.parent = Some(self.decision.span_id);
        span.start = at.max(self.change.at);
        span.end = span.start.plus(MIN_SPAN_DURATION);
        span.origin(self.origin());
        span
    }

    /// The stuck span of a lasting problem: below the head of its trace, one for everything that the
    /// same change (`shared`) caused.
    pub(crate) fn stuck(&self, shared: &ChangeKey, active: &ActiveProblem, at: Timestamp) -> Span {
        let reason = &active.problem.reason;
        let mut attributes = self.object_attributes();
        attributes.push(Attribute::text(attributes::ERROR_TYPE, reason));
        attributes.push(Attribute::text(attributes::REASON, reason));
        if !active.problem.container.is_empty() {
            attributes
                .push(Attribute::text(attributes::K8S_CONTAINER_NAME, &active.problem.container));
        }
        let mut span = self.span(Role::Stuck, "stuck", MIN_SPAN_DURATION, attributes);
        span.span_id = self.ids.span(shared, Role::Stuck, reason);
        span.parent = Some(self.decision.head);
        span.start = at.max(self.change.at);
        span.end = span.start.plus(MIN_SPAN_DURATION);
        span.origin(self.origin());
        let message: &str =
            if active.problem.message.is_empty() { reason } else { &active.problem.message };
        span.status = SpanStatus::Error(message.into());
        span.chosen(self.decision);
        span
    }

    /// A span in the annotated trace that links to the change.
    pub(crate) fn projection(&self, context: &TraceContext) -> Span {
        let mut attributes = self.object_attributes();
        attributes.extend(self.change_attributes());
        let mut span =
            self.span(Role::Projection, self.change.key.verb.name(), MIN_SPAN_DURATION, attributes);
        span.trace_id = context.trace_id;
        span.parent = Some(context.span_id);
        span.parent_is_remote = true;
        span.trace_state.clone_from(&context.trace_state);
        span.service = "spanlink".into();
        span.links.extend(links::change_link("change", &self.object.reference, self.change));
        span
    }

    /// A phase span, below the span that has the extent of the whole convergence.
    pub(crate) fn phase(&self, phase: &Phase) -> Span {
        let id = |name: &str| self.ids.span(&self.change.key, Role::Phase, name);
        let object = &self.object.reference;
        let mut attributes = Vec::with_capacity(6);
        if let Some(namespace) = &object.namespace {
            attributes.push(Attribute::text(attributes::K8S_NAMESPACE_NAME, namespace));
        }
        let name = attributes::name_attribute(&object.kind).unwrap_or(attributes::K8S_OBJECT_NAME);
        attributes.push(Attribute::text(name, &object.name));
        attributes.push(Attribute::text(attributes::PHASE_ACTOR, self.actor(&phase.actor)));
        let mut span = self.span(Role::Phase, "", MIN_SPAN_DURATION, attributes);
        span.name = (*phase.name).into();
        span.span_id = id(&phase.name);
        span.parent = Some(if self.decision.is_head() {
            self.ids.span(&self.change.key, Role::Reconcile, "")
        } else {
            self.decision.span_id
        });
        if !phase.container.is_empty() {
            span.attributes.push(Attribute::text(attributes::K8S_CONTAINER_NAME, &phase.container));
            span.span_id = id(&format!("{}/{}", phase.name, phase.container));
            span.parent = Some(id(&phase.name));
        }
        span.start = phase.begin.max(self.change.at);
        span.end = phase.end.max(span.start.plus(MIN_SPAN_DURATION));
        span.origin(self.origin());
        if let Some(problem) = &phase.problem {
            span.attributes.push(Attribute::text(attributes::ERROR_TYPE, &problem.reason));
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
        self.decision.origin.as_ref().map(|origin| origin.trace_id)
    }

    /// A span that continues the annotated trace inherits its `tracestate`, in which samplers keep their
    /// state: <https://opentelemetry.io/docs/specs/otel/trace/tracestate-handling/>. A trace of ours
    /// starts without one.
    fn trace_state(&self) -> Option<Box<str>> {
        let origin = self.decision.origin.as_ref()?;
        let is_in_its_trace = origin.trace_id == self.decision.trace_id;
        origin.trace_state.clone().filter(|_| is_in_its_trace)
    }

    fn span(&self, role: Role, verb: &str, extent: Duration, attributes: Vec<Attribute>) -> Span {
        let object = &self.object.reference;
        Span {
            trace_id: self.decision.trace_id,
            span_id: self.ids.span(&self.change.key, role, ""),
            parent: None,
            parent_is_remote: false,
            trace_state: self.trace_state(),
            role,
            name: self.name(verb),
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

    fn name(&self, verb: &str) -> Box<str> {
        let object = &self.object.reference;
        let kind = &object.kind;
        let is_named = self.names == SpanNames::Object
            && self.object.owner.is_none()
            && !kind.is("apps", "ReplicaSet")
            && !kind.is("", "Pod");
        match (&object.namespace, is_named) {
            (_, false) => format!("{verb} {}", kind.kind).into(),
            (Some(namespace), true) => {
                format!("{verb} {} {namespace}/{}", kind.kind, object.name).into()
            }
            (None, true) => format!("{verb} {} {}", kind.kind, object.name).into(),
        }
    }

    fn until(&self, end: Timestamp) -> Duration {
        end.since(self.change.at).max(MIN_SPAN_DURATION)
    }

    fn object_attributes(&self) -> Vec<Attribute> {
        let object = &self.object.reference;
        let mut attributes = Vec::with_capacity(24);
        if let Some(namespace) = &object.namespace {
            attributes.push(Attribute::text(attributes::K8S_NAMESPACE_NAME, namespace));
        }
        if let Some(key) = attributes::name_attribute(&object.kind) {
            attributes.push(Attribute::text(key, &object.name));
        }
        attributes.push(Attribute::text(attributes::K8S_OBJECT_KIND, &object.kind.kind));
        attributes.push(Attribute::text(attributes::K8S_OBJECT_NAME, &object.name));
        attributes
    }

    fn change_attributes(&self) -> impl Iterator<Item = Attribute> {
        let verb = Attribute::text(attributes::VERB, self.change.key.verb.name());
        let generation = self.change.generation.map(|g| Attribute::int(attributes::GENERATION, g));
        [verb].into_iter().chain(generation)
    }
}

impl Span {
    fn origin(&mut self, origin: Option<TraceId>) {
        self.attributes.extend(
            origin.map(|origin| Attribute::text(attributes::ORIGIN_TRACE_ID, &origin.to_string())),
        );
    }

    /// Under the keys of the entries, as OpenTelemetry's baggage processors do. Existing attributes
    /// keep their values.
    fn baggage(&mut self, report: &Report) {
        let fresh =
            report.context.as_ref().filter(|_| report.context_use == Some(ContextUse::Fresh));
        for (key, value) in fresh.into_iter().flat_map(|context| &context.baggage) {
            if self.attribute(key).is_none() {
                self.attributes.push(Attribute::text(key.clone().into_string(), value));
            }
        }
    }

    /// The attributes that the configuration takes from objects. Existing attributes keep their values.
    fn chosen(&mut self, decision: &Decision) {
        for (key, value) in decision.attributes.as_deref().unwrap_or_default() {
            if self.attribute(key).is_none() {
                self.attributes.push(Attribute::text(key.clone().into_string(), value));
            }
        }
    }

    fn link_all(&mut self, mut links: Vec<Link>) {
        let dropped = links.len().saturating_sub(MAX_LINKS);
        links.truncate(MAX_LINKS);
        self.dropped_links = u32::try_from(dropped).unwrap_or(u32::MAX);
        self.links = links;
    }

    /// Adds the longest wait.
    fn waited_for(&mut self, slowest: Option<&Slowest>) {
        let Some(slowest) = slowest else { return };
        let facts = [
            (attributes::SLOWEST_KIND, &*slowest.kind),
            (attributes::SLOWEST_NAME, &*slowest.name),
            (attributes::SLOWEST_PHASE, &*slowest.phase),
            (attributes::SLOWEST_REASON, &*slowest.reason),
        ];
        let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
        self.attributes.extend(known.map(|(key, value)| Attribute::text(key, value)));
    }

    fn end_as(&mut self, ended: &Ended, other_reason: Option<&str>) {
        self.attributes.push(Attribute::text(attributes::OUTCOME, ended.outcome.name()));
        if ended.is_thin {
            self.attributes.push(Attribute::text(attributes::EVIDENCE, "observed"));
        }
        let reason = if ended.reason.is_empty() { other_reason } else { Some(&*ended.reason) };
        self.attributes.extend(reason.map(|reason| Attribute::text(attributes::REASON, reason)));
        match ended.outcome {
            Outcome::Failed => {
                self.attributes.push(Attribute::text(attributes::ERROR_TYPE, &ended.reason));
                let message: &str =
                    if ended.message.is_empty() { &ended.reason } else { &ended.message };
                self.status = SpanStatus::Error(message.into());
            }
            Outcome::TimedOut => {
                self.attributes.push(Attribute::text(attributes::ERROR_TYPE, "timeout"));
                let message = match &*ended.message {
                    "" => "no verdict before the deadline",
                    message => message,
                };
                self.status = SpanStatus::Error(message.into());
            }
            Outcome::Converged
            | Outcome::Superseded
            | Outcome::Deleted
            | Outcome::Paused
            | Outcome::Unknown => {}
        }
    }
}

/// The names of the owners up to the head under their semantic conventions, so that
/// `k8s.deployment.name=web` finds its Pods too. Of several owners of a kind the nearest counts.
fn owner_names(own: &GroupKind, owner_chain: Option<&Arc<OwnerChain>>) -> Vec<Attribute> {
    let mut names: Vec<Attribute> = Vec::new();
    let own = attributes::name_attribute(own);
    let mut at = owner_chain;
    while let Some(owner) = at {
        if let Some(key) = attributes::name_attribute(&owner.kind)
            && !names.iter().any(|name| name.key == key)
            && key != attributes::K8S_NAMESPACE_NAME
            && Some(key) != own
        {
            names.push(Attribute::text(key, &owner.name));
        }
        at = owner.above.as_ref();
    }
    names
}

fn report_attributes(change: &Change, report: &Report) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    if !change.is_episode() {
        attributes.push(Attribute::text(attributes::CHANGE_SCOPE, change.scope.name()));
    }
    if !report.fields.is_empty() {
        let fields = Value::Texts(report.fields.clone());
        attributes.push(Attribute { key: attributes::CHANGE_FIELDS.into(), value: fields });
    }
    if !report.values.is_empty() {
        let values = Value::Texts(report.values.clone());
        attributes.push(Attribute { key: attributes::CHANGE_VALUES.into(), value: values });
    }
    if change.missed > 0 {
        attributes.push(Attribute::int(attributes::CHANGE_MISSED_GENERATIONS, change.missed));
    }
    if report.rewound {
        attributes.push(Attribute::flag(attributes::CHANGE_REWOUND));
    }
    if let Some(manager) = &report.manager {
        attributes.push(Attribute::text(attributes::CHANGE_MANAGER, &manager.name));
        attributes.push(Attribute::text(attributes::CHANGE_OPERATION, &manager.operation));
        if !manager.subresource.is_empty() {
            attributes.push(Attribute::text(attributes::CHANGE_SUBRESOURCE, &manager.subresource));
        }
    }
    if let Some(choice) = report.cause_choice {
        attributes.push(Attribute::text(attributes::CAUSE_RULE, choice.rule.name()));
        attributes
            .extend(choice.is_ambiguous.then(|| Attribute::flag(attributes::CAUSE_AMBIGUOUS)));
    }
    attributes.push(Attribute::text(attributes::TIME_SOURCE, change.source.name()));
    attributes.extend(context_attributes(report));
    attributes.extend(owner_attributes(report));
    if let Some(replaced) = &report.replaced {
        attributes.push(Attribute::text(attributes::REPLACED_NAME, &replaced.name));
        attributes.push(Attribute::text(attributes::REPLACED_UID, &replaced.uid.to_string()));
    }
    attributes
}

/// Most UIs do not show link attributes: the first context is repeated as attributes of the span.
fn context_attributes(report: &Report) -> Vec<Attribute> {
    let (Some(context), Some(context_use)) = (&report.context, report.context_use) else {
        return Vec::new();
    };
    let mut attributes = vec![
        Attribute::text(attributes::CONTEXT_TRACE_ID, &context.trace_id.to_string()),
        Attribute::text(attributes::CONTEXT_SPAN_ID, &context.span_id.to_string()),
    ];
    match context_use {
        ContextUse::Stale => attributes.push(Attribute::flag(attributes::CONTEXT_STALE)),
        ContextUse::Revived => attributes.push(Attribute::flag(attributes::CONTEXT_REVIVED)),
        ContextUse::Fresh => {
            if report.joined_origin.is_some() {
                attributes.push(Attribute::flag(attributes::CONTEXT_JOINED));
            }
        }
        ContextUse::ByController => {
            attributes.push(Attribute::flag(attributes::CONTEXT_BY_CONTROLLER));
        }
        ContextUse::Inherited => {}
    }
    attributes
}

fn owner_attributes(report: &Report) -> Vec<Attribute> {
    let Some(owner) = &report.owner else { return Vec::new() };
    let mut attributes = vec![
        Attribute::text(attributes::OWNER_KIND, &owner.kind.kind),
        Attribute::text(attributes::OWNER_NAME, &owner.name),
        Attribute::text(attributes::OWNER_UID, &owner.uid.to_string()),
    ];
    attributes.extend(owner.generation.map(|g| Attribute::int(attributes::OWNER_GENERATION, g)));
    if owner.settled {
        attributes.push(Attribute::flag(attributes::OWNER_SETTLED));
    }
    if let Some(span) = owner.span {
        attributes.push(Attribute::text(attributes::OWNER_TRACE_ID, &span.trace_id.to_string()));
        attributes.push(Attribute::text(attributes::OWNER_SPAN_ID, &span.span_id.to_string()));
    }
    attributes
}

/// Moves events that lie outside of their span to its nearer end.
fn within(events: Vec<SpanEvent>, start: Timestamp, end: Timestamp) -> Vec<SpanEvent> {
    let inside = |event: SpanEvent| SpanEvent { at: event.at.clamp(start, end), ..event };
    events.into_iter().map(inside).collect()
}
