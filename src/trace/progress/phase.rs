//! Phases: the parts of a convergence that have spans of their own.

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

/// A step that has ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Phase {
    pub name: Cow<'static, str>,
    /// Of one init container; empty for the object as a whole.
    pub container: Box<str>,
    pub actor: Actor,
    pub begin: Timestamp,
    pub end: Timestamp,
    /// What held it up last, also where it went on in the end.
    pub problem: Option<Problem>,
    pub events: Vec<SpanEvent>,
}

/// Who does the work.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Actor {
    /// The one that the Pod names.
    Scheduler,
    Kubelet,
    /// The one whose service the object's spans have.
    Controller,
    /// A provisioner, or whoever is to remove a finalizer.
    Named(Box<str>),
}

/// What one observation has to say to steps.
#[derive(Clone, Copy, Debug)]
pub struct PhaseInput<'a> {
    pub status: &'a StatusFacts,
    pub spec: &'a SpecFacts,
    /// Where it is news.
    pub body: Option<&'a Body>,
    /// The change's.
    pub generation: Option<i64>,
    /// What holds the object up, by its status.
    pub problem: Option<&'a Problem>,
    pub seen: Timestamp,
}

/// Something that happened within a step.
pub(crate) fn event<const N: usize>(
    name: &'static str,
    at: Timestamp,
    attributes: [Attribute; N],
) -> SpanEvent {
    SpanEvent { at, name: Cow::Borrowed(name), attributes: attributes.into() }
}
