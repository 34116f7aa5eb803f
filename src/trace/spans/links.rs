//! Creates span links: their roles and attributes (`docs/model.md`, Links).

use crate::trace::{
    model::{
        context::TraceContext,
        object::{GroupKind, ObjectRef, Uid},
        span::{Attribute, Link},
    },
    object::change::{Change, ContextUse, OwnerInfo, ReplacedPod, SpanRef},
    spans::attributes,
};

pub(crate) const fn context_role(context_use: ContextUse) -> &'static str {
    match context_use {
        ContextUse::Inherited => "inherited",
        ContextUse::Fresh | ContextUse::Stale | ContextUse::Revived | ContextUse::ByController => {
            "context"
        }
    }
}

/// A link to an annotated span.
pub(crate) fn context_link(context: &TraceContext, context_use: ContextUse, joined: bool) -> Link {
    let mut attributes = vec![Attribute::text(attributes::LINK_ROLE, context_role(context_use))];
    match context_use {
        ContextUse::Stale => attributes.push(Attribute::flag(attributes::LINK_STALE)),
        ContextUse::Revived => attributes.push(Attribute::flag(attributes::LINK_REVIVED)),
        ContextUse::ByController => {
            attributes.push(Attribute::flag(attributes::LINK_BY_CONTROLLER));
        }
        ContextUse::Fresh | ContextUse::Inherited => {}
    }
    if joined {
        attributes.push(Attribute::flag(attributes::LINK_JOINED));
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

/// Whether the link is to a context that was written after the change.
pub(crate) fn is_joined(link: &Link) -> bool {
    link.attributes.contains(&Attribute::flag(attributes::LINK_JOINED))
}

/// The role of a link that became known after the change span was emitted.
pub(crate) fn late_role(link: &Link) -> &'static str {
    let is_reference =
        link.attributes.contains(&Attribute::text(attributes::LINK_ROLE, "reference"));
    if is_reference { "reference" } else { "context" }
}

/// A link to the annotated span at the beginning of the chain, from another trace of the chain.
pub(crate) fn origin_link(context: &TraceContext) -> Link {
    let mut link = context_link(context, ContextUse::Fresh, false);
    link.attributes = vec![Attribute::text(attributes::LINK_ROLE, "origin")];
    link
}

/// A link to an owner's change that is not the parent.
pub(crate) fn owner_link(owner: &OwnerInfo) -> Option<Link> {
    let peer = Peer { kind: &owner.kind, name: &owner.name, uid: &owner.uid };
    Some(peer.link("owner", owner.span?, owner.generation))
}

/// A link to another change.
pub(crate) fn change_link(role: &str, object: &ObjectRef, older: &Change) -> Option<Link> {
    let peer = Peer { kind: &object.kind, name: &object.name, uid: &object.uid };
    Some(peer.link(role, older.decision()?.span(), older.generation))
}

/// A link to the last change of the Pod that this one replaces.
pub(crate) fn replaced_link(replaced: &ReplacedPod) -> Option<Link> {
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
            Attribute::text(attributes::LINK_ROLE, role),
            Attribute::text(attributes::LINK_KIND, &self.kind.kind),
            Attribute::text(attributes::LINK_NAME, self.name),
            Attribute::text(attributes::LINK_UID, &self.uid.to_string()),
        ];
        attributes.extend(generation.map(|g| Attribute::int(attributes::LINK_GENERATION, g)));
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
