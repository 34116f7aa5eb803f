//! Phases: parts of a convergence, each reported as a span.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::{
        observation::{Body, SpecFacts, StatusFacts},
        span::{Attribute, SpanEvent},
        time::Timestamp,
    },
    readiness::problem::Problem,
};

/// A phase that has ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Phase {
    pub name: Cow<'static, str>,
    /// The init container that it belongs to; empty for the object as a whole.
    pub container: Box<str>,
    pub actor: Actor,
    pub begin: Timestamp,
    pub end: Timestamp,
    /// The last problem that delayed it, also where it was resolved.
    pub problem: Option<Problem>,
    pub events: Vec<SpanEvent>,
}

/// The component that does the work.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Actor {
    /// The scheduler that the Pod names.
    Scheduler,
    Kubelet,
    /// The controller named by `service.name` of the object's spans.
    Controller,
    /// A provisioner, or the owner of a finalizer.
    Named(Box<str>),
}

/// The facts of one observation that decide about phases.
#[derive(Clone, Copy, Debug)]
pub struct PhaseInput<'a> {
    pub status: &'a StatusFacts,
    pub spec: &'a SpecFacts,
    /// `None` where only the status changed.
    pub body: Option<&'a Body>,
    /// The generation of the change.
    pub generation: Option<i64>,
    /// A Pod that shall succeed rather than keep running.
    pub is_to_finish: bool,
    /// The problem that the status shows.
    pub problem: Option<&'a Problem>,
    pub seen: Timestamp,
}

/// Creates a span event of a phase.
pub(crate) fn event<const N: usize>(
    name: &'static str,
    at: Timestamp,
    attributes: [Attribute; N],
) -> SpanEvent {
    SpanEvent { at, name: Cow::Borrowed(name), attributes: attributes.into() }
}
