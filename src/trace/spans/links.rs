//! Decides what a context annotation means for the change that carries it, and makes links.

use std::{borrow::Cow, time::Duration};

use crate::trace::{
    model::{
        context::TraceContext,
        id::Verb,
        object::{GroupKind, ObjectRef, Uid},
        span::{Attribute, Link, Value},
    },
    object::{
        change::{Change, ContextUse, ContextValue, OwnerInfo, Replaced, SpanRef},
        tracked::TrackedObject,
    },
};

/// A context written this long before a change was still written for it.
const APPEARED_BEFORE: Duration = Duration::from_secs(5);

const JOINED: &str = "spanlink.link.joined";

/// The first rule that fits (contract: causes §7). `None` on a `delete`: only a fresh one counts.
pub(crate) fn judge(
    object: &TrackedObject,
    change: &Change,
    value: ContextValue,
    owner: Option<&TrackedObject>,
    siblings_used: bool,
) -> Option<ContextUse> {
    let is_delete = change.key.verb == Verb::Delete;
    if is_inherited(object, change, value, owner) {
        return (!is_delete).then_some(ContextUse::Inherited);
    }
    let used = object.contexts.is_used(value);
    if is_delete {
        return (!used).then_some(ContextUse::Fresh);
    }
    if object.contexts.last == Some(value) && change.key.verb == Verb::Update {
        return Some(ContextUse::Stale);
    }
    if used || siblings_used {
        return Some(ContextUse::Revived);
    }
    let since = change.details.as_ref().and_then(|details| details.context_since);
    let appeared = since.unwrap_or(change.api_at);
    let recent = change.api_at.since(appeared) <= APPEARED_BEFORE;
    Some(if recent { ContextUse::Fresh } else { ContextUse::Stale })
}

/// A value a controller copied: from a workload to its ReplicaSets and ControllerRevisions, from
/// an owner or its templates to whatever it controls.
fn is_inherited(
    object: &TrackedObject,
    change: &Change,
    value: ContextValue,
    owner: Option<&TrackedObject>,
) -> bool {
    let Some(reference) = change.controller() else { return false };
    let kind = &object.object.kind;
    let is_revision = kind.is("apps", "ReplicaSet") || kind.is("apps", "ControllerRevision");
    let of_a_workload = &*reference.kind.group == "apps";
    (is_revision && of_a_workload) || owner.is_some_and(|owner| owner.contexts.was_seen(value))
}

pub(crate) fn text(key: impl Into<Cow<'static, str>>, value: &str) -> Attribute {
    Attribute { key: key.into(), value: Value::Text(value.into()) }
}

pub(crate) fn flag(key: &'static str) -> Attribute {
    Attribute { key: key.into(), value: Value::Bool(true) }
}

pub(crate) fn int(key: &'static str, value: i64) -> Attribute {
    Attribute { key: key.into(), value: Value::Int(value) }
}

pub(crate) const fn context_role(judged: ContextUse) -> &'static str {
    match judged {
        ContextUse::Inherited => "inherited",
        ContextUse::Fresh | ContextUse::Stale | ContextUse::Revived => "context",
    }
}

/// To an annotated span.
pub(crate) fn context_link(context: &TraceContext, judged: ContextUse, joined: bool) -> Link {
    let mut attributes = vec![text("spanlink.link.role", context_role(judged))];
    match judged {
        ContextUse::Stale => attributes.push(flag("spanlink.link.stale")),
        ContextUse::Revived => attributes.push(flag("spanlink.link.revived")),
        ContextUse::Fresh | ContextUse::Inherited => {}
    }
    if joined {
        attributes.push(flag(JOINED));
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

/// To a context that came after the change.
pub(crate) fn is_joined(link: &Link) -> bool {
    link.attributes.contains(&flag(JOINED))
}

/// Of one that was known only after the change span had left: another change's context, or what an
/// autoscaler became.
pub(crate) fn late_role(link: &Link) -> &'static str {
    let is_reference = link.attributes.contains(&text("spanlink.link.role", "reference"));
    if is_reference { "reference" } else { "context" }
}

/// To the annotated span at the beginning of the chain, from a change in another trace of it.
pub(crate) fn origin_link(context: &TraceContext) -> Link {
    let mut link = context_link(context, ContextUse::Fresh, false);
    link.attributes = vec![text("spanlink.link.role", "origin")];
    link
}

/// To an owner's change that is not the parent.
pub(crate) fn owner_link(owner: &OwnerInfo) -> Option<Link> {
    let peer = Peer { kind: &owner.kind, name: &owner.name, uid: &owner.uid };
    Some(peer.link("owner", owner.span?, owner.generation))
}

/// To another change of the same object.
pub(crate) fn change_link(role: &str, object: &ObjectRef, older: &Change) -> Option<Link> {
    let peer = Peer { kind: &object.kind, name: &object.name, uid: &object.uid };
    Some(peer.link(role, older.decided.as_ref()?.span(), older.generation))
}

/// To what became of the Pod that this one was made in place of.
pub(crate) fn replaced_link(replaced: &Replaced) -> Option<Link> {
    let peer = Peer { kind: &replaced.kind, name: &replaced.name, uid: &replaced.uid };
    Some(peer.link("replaced", replaced.span?, None))
}

struct Peer<'a> {
    kind: &'a GroupKind,
    name: &'a str,
    uid: &'a Uid,
}

impl Peer<'_> {
    fn link(&self, role: &str, span: SpanRef, generation: Option<i64>) -> Link {
        let mut attributes = vec![
            text("spanlink.link.role", role),
            text("spanlink.link.kind", &self.kind.kind),
            text("spanlink.link.name", self.name),
            text("spanlink.link.uid", &self.uid.to_string()),
        ];
        attributes.extend(generation.map(|g| int("spanlink.link.generation", g)));
        Link {
            trace_id: span.trace_id,
            span_id: span.span_id,
            trace_state: None,
            flags: u8::from(span.sampled),
            remote: false,
            attributes,
        }
    }
}
