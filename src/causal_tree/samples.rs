//! Spans of hand-written traces, for tests.

use std::time::Duration;

use super::StoredSpan;
use crate::trace::model::{
    object::{GroupKind, ObjectRef, Uid},
    span::{Attribute, Link, Role, Span, SpanId, SpanStatus, TraceId},
    time::Timestamp,
};

/// The traces of most tests: a person's, the API server's, and one of spanlink.
pub(super) const PERSON: u128 = 0xa;
pub(super) const SERVER: u128 = 0xb;
pub(super) const CHAIN: u128 = 0xc;

const START: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

/// A span of another emitter, by its trace and its id, its parent's, and its start and end in
/// milliseconds.
pub(super) fn other(
    trace: u128,
    id: u64,
    parent: u64,
    name: &str,
    service: &str,
    at: [u64; 2],
) -> Span {
    Span {
        trace_id: TraceId(trace),
        span_id: SpanId(id),
        parent: (parent > 0).then_some(SpanId(parent)),
        parent_is_remote: false,
        trace_state: None,
        role: Role::Phase,
        name: name.into(),
        service: service.into(),
        object: ObjectRef {
            kind: GroupKind::new("", ""),
            namespace: None,
            name: "".into(),
            uid: Uid::new(""),
        },
        start: START.plus(Duration::from_millis(at[0])),
        end: START.plus(Duration::from_millis(at[1])),
        attributes: Vec::new(),
        links: Vec::new(),
        dropped_links: 0,
        events: Vec::new(),
        status: SpanStatus::Unset,
    }
}

/// A span of spanlink: `update Deployment web`.
pub(super) fn change(trace: u128, id: u64, parent: u64, name: &str, at: [u64; 2]) -> Span {
    let words: Vec<&str> = name.split(' ').collect();
    let [verb, kind, object] = words[..] else { panic!("{name}") };
    let mut span = other(trace, id, parent, &format!("{verb} {kind}"), "deployment-controller", at);
    span.attributes = vec![
        Attribute::text("k8s.object.kind", kind),
        Attribute::text("k8s.object.name", object),
        Attribute::text("k8s.namespace.name", "shop"),
        Attribute::text("spanlink.verb", verb),
    ];
    if verb != "reconcile" {
        span.attributes.push(Attribute::text("k8s.object.uid", &format!("uid of {object}")));
    }
    span
}

pub(super) trait With: Sized {
    fn text(self, key: &'static str, value: &str) -> Self;
    fn link(self, trace: u128, id: u64) -> Self;
    fn fails(self, message: &str) -> Self;

    fn outcome(self, outcome: &str) -> Self {
        self.text("spanlink.outcome", outcome)
    }

    fn origin(self, trace: u128) -> Self {
        self.text("spanlink.origin.trace_id", &TraceId(trace).to_string())
    }

    /// As Jaeger returns a link to the annotated span: without attributes.
    fn context(self, trace: u128, id: u64) -> Self {
        self.link(trace, id)
            .text("spanlink.context.trace_id", &TraceId(trace).to_string())
            .text("spanlink.context.span_id", &SpanId(id).to_string())
    }

    fn owner(self, trace: u128, id: u64) -> Self {
        self.text("spanlink.owner.kind", "Deployment")
            .text("spanlink.owner.name", "web")
            .text("spanlink.owner.trace_id", &TraceId(trace).to_string())
            .text("spanlink.owner.span_id", &SpanId(id).to_string())
    }
}

impl With for Span {
    fn text(mut self, key: &'static str, value: &str) -> Self {
        self.attributes.push(Attribute::text(key, value));
        self
    }

    fn link(mut self, trace: u128, id: u64) -> Self {
        self.links.push(Link {
            trace_id: TraceId(trace),
            span_id: SpanId(id),
            trace_state: None,
            flags: 1,
            remote: true,
            attributes: Vec::new(),
        });
        self
    }

    fn fails(mut self, message: &str) -> Self {
        self.status = SpanStatus::Error(message.into());
        self
    }
}

pub(super) fn stored(spans: Vec<Span>) -> Vec<StoredSpan> {
    spans.into_iter().map(|span| StoredSpan::new(span, None)).collect()
}

/// A person applies, the API server begins a trace of its own and stamps it, a rollout follows.
pub(super) fn rollout() -> Vec<Span> {
    vec![
        other(PERSON, 1, 0, "deploy shop", "ci", [0, 900]),
        other(PERSON, 2, 1, "lint", "ci", [0, 90]),
        other(PERSON, 3, 1, "kubectl apply", "kubectl", [100, 400]),
        other(SERVER, 4, 0, "PATCH deployments", "apiserver", [150, 200]).link(PERSON, 3),
        other(SERVER, 5, 4, "etcd", "apiserver", [160, 180]),
        change(CHAIN, 6, 0, "update Deployment web", [200, 200]).context(SERVER, 4).origin(SERVER),
        change(CHAIN, 7, 6, "reconcile Deployment web", [200, 4200])
            .outcome("converged")
            .origin(SERVER)
            .text("spanlink.slowest.kind", "Pod")
            .text("spanlink.slowest.name", "web-1-a")
            .text("spanlink.slowest.phase", "start"),
        change(CHAIN, 8, 6, "create ReplicaSet web-1", [300, 4000])
            .owner(CHAIN, 6)
            .outcome("converged")
            .origin(SERVER),
        change(CHAIN, 9, 8, "create Pod web-1-a", [400, 3900]).outcome("converged").origin(SERVER),
        other(CHAIN, 10, 9, "start", "pod-lifecycle", [500, 3500])
            .text("spanlink.phase.actor", "kubelet")
            .text("k8s.pod.name", "web-1-a"),
    ]
}
