//! A span as a backend returned it, and what its attributes say about its role and its causes.

use std::sync::Arc;

use crate::trace::{
    model::{
        object::{GroupKind, ObjectRef, Uid},
        span::{Attribute, Link, Role, Span, SpanId, TraceId},
    },
    spans::attributes,
};

/// Who created a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emitter {
    /// spanlink: the span is about a change of an object.
    Spanlink,
    /// Anyone else: a person's tool, the API server, an instrumented controller.
    Other,
}

/// A span of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSpan {
    /// Its `role` and `object` have a meaning only if spanlink created it.
    pub span: Span,
    pub emitter: Emitter,
    /// `k8s.cluster.name` of its resource.
    pub cluster: Option<Arc<str>>,
}

/// A span across all traces.
pub(super) type SpanKey = (TraceId, SpanId);

impl StoredSpan {
    /// Completes a decoded span by what its attributes say: who created it, its role, its object, and
    /// the roles of its links.
    ///
    /// Jaeger's storage backends drop the attributes of links. spanlink repeats the first context and
    /// the owner as attributes of the span, so the roles of those links are known in any case.
    pub fn new(mut span: Span, cluster: Option<Arc<str>>) -> Self {
        let role = role(&span);
        let emitter = if role.is_some() { Emitter::Spanlink } else { Emitter::Other };
        span.role = role.unwrap_or(Role::Phase);
        span.object = object(&span);
        if emitter == Emitter::Spanlink {
            restore_link_roles(&mut span);
        }
        Self { span, emitter, cluster }
    }

    pub(super) fn key(&self) -> SpanKey {
        (self.span.trace_id, self.span.span_id)
    }

    /// Whether spanlink created it, with this role.
    pub(super) fn is(&self, role: Role) -> bool {
        self.emitter == Emitter::Spanlink && self.span.role == role
    }

    /// Whether it is the change span of an object.
    pub fn is_change(&self) -> bool {
        self.is(Role::Change)
    }

    /// Whether the span or its resource has this attribute with this text.
    pub fn has_attribute(&self, key: &str, expected: &str) -> bool {
        match key {
            CLUSTER_NAME => self.cluster.as_deref() == Some(expected),
            _ => self.text(key) == Some(expected),
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        Attribute::find_text(&self.span.attributes, key)
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        Attribute::is_set(&self.span.attributes, key)
    }

    /// The annotated trace at the head of its chain.
    pub(super) fn origin(&self) -> Option<TraceId> {
        self.text(attributes::ORIGIN_TRACE_ID).and_then(parse_trace_id)
    }

    /// The change of its owner that caused it. `None` if the owner had nothing in flight.
    pub(super) fn causing_owner(&self) -> Option<SpanKey> {
        if self.flag(attributes::OWNER_SETTLED) {
            return None;
        }
        owner(&self.span)
    }
}

/// The resource attribute with the name of the cluster.
pub(super) const CLUSTER_NAME: &str = "k8s.cluster.name";

pub(super) fn parse_trace_id(digits: &str) -> Option<TraceId> {
    u128::from_str_radix(digits, 16).ok().filter(|id| *id != 0).map(TraceId)
}

fn parse_span_id(digits: &str) -> Option<SpanId> {
    u64::from_str_radix(digits, 16).ok().filter(|id| *id != 0).map(SpanId)
}

pub(super) fn link_role(link: &Link) -> Option<&str> {
    Attribute::find_text(&link.attributes, attributes::LINK_ROLE)
}

/// The role of a span of spanlink, `None` for a span of another emitter. The scope would say it, but
/// some storage backends drop it; the attributes remain.
fn role(span: &Span) -> Option<Role> {
    let has = |key: &str| Attribute::find_text(&span.attributes, key).is_some();
    let first_word = span.name.split(' ').next().unwrap_or_default();
    if has(attributes::PHASE_ACTOR) {
        return Some(Role::Phase);
    }
    if !has(attributes::K8S_OBJECT_KIND) {
        return None;
    }
    if !has(attributes::VERB) {
        let is_stuck = first_word == "stuck" && has(attributes::ERROR_TYPE);
        return is_stuck.then_some(Role::Stuck);
    }
    Some(match first_word {
        // Only change spans have the UID. That of an episode is named `reconcile` as well.
        _ if has(attributes::K8S_OBJECT_UID) => Role::Change,
        "reconcile" => Role::Reconcile,
        "late" => Role::Late,
        _ => Role::Projection,
    })
}

fn object(span: &Span) -> ObjectRef {
    let attribute = |key| Attribute::find_text(&span.attributes, key);
    let kind = attribute(attributes::K8S_OBJECT_KIND).unwrap_or_default();
    // A Namespace has its own name as its namespace.
    let namespace = attribute(attributes::K8S_NAMESPACE_NAME).filter(|_| kind != "Namespace");
    ObjectRef {
        kind: GroupKind::of(
            attribute(attributes::K8S_OBJECT_API_VERSION).unwrap_or_default(),
            kind,
        ),
        namespace: namespace.map(Into::into),
        name: attribute(attributes::K8S_OBJECT_NAME).unwrap_or_default().into(),
        uid: Uid::new(attribute(attributes::K8S_OBJECT_UID).unwrap_or_default()),
    }
}

fn key_of(span: &Span, trace: &str, id: &str) -> Option<SpanKey> {
    let trace_id = Attribute::find_text(&span.attributes, trace).and_then(parse_trace_id)?;
    Some((trace_id, Attribute::find_text(&span.attributes, id).and_then(parse_span_id)?))
}

fn owner(span: &Span) -> Option<SpanKey> {
    key_of(span, attributes::OWNER_TRACE_ID, attributes::OWNER_SPAN_ID)
}

/// Gives links without a role the one that the attributes of the span imply.
fn restore_link_roles(span: &mut Span) {
    let context = key_of(span, attributes::CONTEXT_TRACE_ID, attributes::CONTEXT_SPAN_ID);
    let owner = owner(span);
    let origin = Attribute::find_text(&span.attributes, attributes::ORIGIN_TRACE_ID)
        .and_then(parse_trace_id);
    let mut links = std::mem::take(&mut span.links);
    for link in links.iter_mut().filter(|link| link_role(link).is_none()) {
        let target = Some((link.trace_id, link.span_id));
        if target == context {
            link.attributes.push(Attribute::text(attributes::LINK_ROLE, "context"));
            for (of_span, of_link) in CONTEXT_FLAGS {
                if Attribute::is_set(&span.attributes, of_span) {
                    link.attributes.push(Attribute::flag(of_link));
                }
            }
        } else if target == owner {
            link.attributes.push(Attribute::text(attributes::LINK_ROLE, "owner"));
            for (of_span, of_link) in OWNER_FACTS {
                let fact = span.attributes.iter().find(|attribute| attribute.key == of_span);
                link.attributes.extend(
                    fact.map(|fact| Attribute { key: of_link.into(), value: fact.value.clone() }),
                );
            }
        } else if Some(link.trace_id) == origin {
            link.attributes.push(Attribute::text(attributes::LINK_ROLE, "origin"));
        }
    }
    span.links = links;
}

/// Attributes of a span, and those of the link that they repeat.
const CONTEXT_FLAGS: [(&str, &str); 3] = [
    (attributes::CONTEXT_STALE, attributes::LINK_STALE),
    (attributes::CONTEXT_REVIVED, attributes::LINK_REVIVED),
    (attributes::CONTEXT_JOINED, attributes::LINK_JOINED),
];
const OWNER_FACTS: [(&str, &str); 4] = [
    (attributes::OWNER_KIND, attributes::LINK_KIND),
    (attributes::OWNER_NAME, attributes::LINK_NAME),
    (attributes::OWNER_UID, attributes::LINK_UID),
    (attributes::OWNER_GENERATION, attributes::LINK_GENERATION),
];
