//! Decides what a context annotation means for the change that carries it, and makes links.

use std::{borrow::Cow, time::Duration};

use super::{
    change::{Change, ContextValue, Judged, OwnerMention, Scope, Superseded},
    context::TraceContext,
    id::Verb,
    object::{GroupKind, ObjectRef},
    span::{Attribute, Link, SpanId, TraceId, Value},
    tracked::Tracked,
};

/// A context written this long before a change was still written for it.
const APPEARED_BEFORE: Duration = Duration::from_secs(5);

/// The first rule that fits (contract: causes §7). `None` on a `delete`: only a fresh one counts.
pub(super) fn judge(
    object: &Tracked,
    change: &Change,
    value: ContextValue,
    owner: Option<&Tracked>,
    siblings_used: bool,
) -> Option<Judged> {
    let is_delete = change.key.verb == Verb::Delete;
    if is_inherited(object, value, owner) {
        return (!is_delete).then_some(Judged::Inherited);
    }
    let used = object.contexts.is_used(value);
    if is_delete {
        return (!used).then_some(Judged::Fresh);
    }
    if object.contexts.last == Some(value) && change.key.verb == Verb::Update {
        return Some(Judged::Stale);
    }
    if used || siblings_used {
        return Some(Judged::Revived);
    }
    let appeared = object.contexts.since.unwrap_or(change.api_at);
    let recent = change.api_at.since(appeared) <= APPEARED_BEFORE;
    Some(if recent || change.scope == Scope::Metadata { Judged::Fresh } else { Judged::Stale })
}

/// A value a controller copied: from a workload to its ReplicaSets and ControllerRevisions, from
/// an owner or its templates to whatever it controls.
fn is_inherited(object: &Tracked, value: ContextValue, owner: Option<&Tracked>) -> bool {
    let Some(reference) = &object.owner else { return false };
    let kind = &object.object.kind;
    let is_revision = kind.is("apps", "ReplicaSet") || kind.is("apps", "ControllerRevision");
    let of_a_workload = &*reference.kind.group == "apps";
    (is_revision && of_a_workload) || owner.is_some_and(|owner| owner.contexts.was_seen(value))
}

pub(super) fn text(key: impl Into<Cow<'static, str>>, value: &str) -> Attribute {
    Attribute { key: key.into(), value: Value::Text(value.into()) }
}

pub(super) fn flag(key: &'static str) -> Attribute {
    Attribute { key: key.into(), value: Value::Bool(true) }
}

pub(super) fn int(key: &'static str, value: i64) -> Attribute {
    Attribute { key: key.into(), value: Value::Int(value) }
}

/// To an annotated span.
pub(super) fn context_link(context: &TraceContext, judged: Judged, joined: bool) -> Link {
    let role = if judged == Judged::Inherited { "inherited" } else { "context" };
    let mut attributes = vec![text("spanlink.link.role", role)];
    match judged {
        Judged::Stale => attributes.push(flag("spanlink.link.stale")),
        Judged::Revived => attributes.push(flag("spanlink.link.revived")),
        Judged::Fresh | Judged::Inherited => {}
    }
    if joined {
        attributes.push(flag("spanlink.link.joined"));
    }
    Link {
        trace_id: context.trace_id,
        span_id: context.span_id,
        trace_state: context.trace_state.clone(),
        flags: context.flags,
        remote: true,
        attributes,
    }
}

/// To a settled owner's change.
pub(super) fn owner_link(owner: &OwnerMention) -> Option<Link> {
    let ids = owner.ids?;
    let mut link = peer("owner", ids, &owner.kind, &owner.name);
    link.attributes.push(text("spanlink.link.uid", &owner.uid.to_string()));
    link.attributes.extend(owner.generation.map(|g| int("spanlink.link.generation", g)));
    Some(link)
}

/// To the change of the same object that was overtaken.
pub(super) fn supersedes_link(object: &ObjectRef, older: &Superseded) -> Link {
    let mut link = peer("supersedes", older.ids, &object.kind, &object.name);
    link.attributes.push(text("spanlink.link.uid", &object.uid.to_string()));
    link.attributes.extend(older.generation.map(|g| int("spanlink.link.generation", g)));
    link
}

fn peer(role: &str, (trace_id, span_id): (TraceId, SpanId), kind: &GroupKind, name: &str) -> Link {
    Link {
        trace_id,
        span_id,
        trace_state: None,
        flags: 1,
        remote: false,
        attributes: vec![
            text("spanlink.link.role", role),
            text("spanlink.link.kind", &kind.kind),
            text("spanlink.link.name", name),
        ],
    }
}
