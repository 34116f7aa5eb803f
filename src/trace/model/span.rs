//! Finished spans, independent of any wire format.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::trace::model::{object::ObjectRef, time::Timestamp};

/// 16 bytes, never zero. Written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct TraceId(pub u128);

/// 8 bytes, never zero. Written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Events of one span; further ones are dropped.
pub const MAX_EVENTS: usize = 32;

/// The role of a span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A change: a head's root of 1 µs, or a caused change from its beginning to its outcome.
    Change,
    /// The way of a head from its change to the outcome.
    Reconcile,
    /// A known problem that has lasted for `stuck_after`.
    Stuck,
    /// A convergence after the outcome `failed` or `timed_out`.
    Late,
    /// A phase of a convergence.
    Phase,
    /// A span in the annotated trace with a link to the change.
    Projection,
}

/// A finished span. A span with the same id always has the same content.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<SpanId>,
    /// The parent is a span of another system.
    pub parent_is_remote: bool,
    /// The W3C `tracestate` of the annotated trace, if the span is in that trace.
    pub trace_state: Option<Box<str>>,
    pub role: Role,
    /// Verb and kind: `update Deployment`.
    pub name: Box<str>,
    /// `service.name`: the controller that does the work.
    pub service: Arc<str>,
    /// The object of the span, for printed trees; not exported as such.
    pub object: ObjectRef,
    pub start: Timestamp,
    pub end: Timestamp,
    pub attributes: Vec<Attribute>,
    pub links: Vec<Link>,
    /// The number of links beyond the limit.
    pub dropped_links: u32,
    pub events: Vec<SpanEvent>,
    pub status: SpanStatus,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Attribute {
    pub key: Cow<'static, str>,
    pub value: Value,
}

impl Attribute {
    pub fn text(key: impl Into<Cow<'static, str>>, value: &str) -> Self {
        Self { key: key.into(), value: Value::Text(value.into()) }
    }

    pub fn int(key: &'static str, value: i64) -> Self {
        Self { key: key.into(), value: Value::Int(value) }
    }

    /// A boolean attribute that is true; a false one is left out.
    pub fn flag(key: &'static str) -> Self {
        Self { key: key.into(), value: Value::Bool(true) }
    }

    /// The text of the attribute with this key.
    pub fn find_text<'a>(attributes: &'a [Self], key: &str) -> Option<&'a str> {
        match Self::find(attributes, key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The number of the attribute with this key.
    pub fn find_int(attributes: &[Self], key: &str) -> Option<i64> {
        match Self::find(attributes, key) {
            Some(Value::Int(int)) => Some(*int),
            _ => None,
        }
    }

    /// Whether the attribute with this key is true.
    pub fn is_set(attributes: &[Self], key: &str) -> bool {
        Self::find(attributes, key) == Some(&Value::Bool(true))
    }

    fn find<'a>(attributes: &'a [Self], key: &str) -> Option<&'a Value> {
        attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Value {
    Text(Arc<str>),
    Int(i64),
    Bool(bool),
    Texts(Vec<Box<str>>),
}

/// An OpenTelemetry span link.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub trace_state: Option<Box<str>>,
    /// W3C trace flags of the span linked to.
    pub flags: u8,
    /// The target is a span of another system (the `is_remote` bits of OTLP's flags).
    pub remote: bool,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct SpanEvent {
    pub at: Timestamp,
    pub name: Cow<'static, str>,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    #[default]
    Unset,
    /// With a message.
    Error(Box<str>),
}

impl Span {
    /// Whether it is the change span of a head, without a parent from spanlink.
    pub fn is_head(&self) -> bool {
        self.role == Role::Change && (self.parent.is_none() || self.parent_is_remote)
    }

    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|a| a.key == key).map(|a| &a.value)
    }
}
