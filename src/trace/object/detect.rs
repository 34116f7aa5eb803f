//! Tells what changed between two observations of one object (contract: from watch event to change).

use crate::trace::{
    model::{
        content::Digest,
        id::Verb,
        kind::{self, ChangeDetection},
        observation::{Body, Observation},
        path::is_within,
    },
    object::{change::Scope, tracked::TrackedObject},
};

/// A difference that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectDiff {
    pub(crate) verb: Verb,
    pub(crate) scope: Scope,
    /// Paths that changed, at most [`MAX_FIELDS`].
    pub(crate) fields: Vec<Box<str>>,
    /// Generations overwritten before they could be seen.
    pub(crate) missed: i64,
    pub(crate) rewound: bool,
    /// No step of the generation tells it from others, the resourceVersion does.
    pub(crate) by_version: bool,
}

impl ObjectDiff {
    pub(crate) fn of(verb: Verb) -> Self {
        Self {
            verb,
            scope: Scope::Spec,
            fields: Vec::new(),
            missed: 0,
            rewound: false,
            by_version: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    /// Status, labels, managedFields: it feeds the open convergence.
    Nothing,
    /// Other content without a step: a Pod's binding, an upgraded API server's new defaults.
    Baseline,
    Changed(ObjectDiff),
}

const MAX_FIELDS: usize = 32;

/// Compares a known object with what was observed of it now.
pub(crate) fn detect(known: &TrackedObject, now: &Observation) -> Detected {
    let body = now.body.as_deref();
    if known.is_terminating {
        // Later steps belong to the deletion; nothing updates what is going. Nor does anything
        // bring it back, but a store that has gone back itself.
        let is_back = body.is_some_and(|body| body.deletion.is_none());
        let rewound = ObjectDiff { rewound: true, ..ObjectDiff::of(Verb::Update) };
        return if is_back { Detected::Changed(rewound) } else { Detected::Nothing };
    }
    let step = generation_step(known, now);
    if body.is_some_and(|body| body.deletion.is_some()) {
        if known.deletion().is_some() {
            // It was gone already: an event that comes after.
            return Detected::Nothing;
        }
        // The deletion is itself one step.
        let missed = step.map_or(0, |step| step - 1).max(0);
        return Detected::Changed(ObjectDiff { missed, ..ObjectDiff::of(Verb::Delete) });
    }
    let content_differs = body.is_some_and(|body| body.content.digest != known.digest);
    let annotations_differ =
        body.is_some_and(|body| body.annotations_fingerprint != known.annotations_fingerprint);
    let marks_differ =
        body.is_some_and(|body| body.marks.iter().any(|mark| !known.leaves.contains(&mark.digest)));
    let fields = || body.map_or_else(Vec::new, |body| changed_fields(&known.leaves, body));
    let update = ObjectDiff::of(Verb::Update);
    match step {
        None if content_differs => match fields() {
            fields if is_binding(now, &fields) => Detected::Baseline,
            fields => Detected::Changed(ObjectDiff { fields, ..update }),
        },
        Some(0) if content_differs => Detected::Baseline,
        None | Some(0) if marks_differ => Detected::Changed(ObjectDiff {
            scope: Scope::Metadata,
            fields: fields(),
            by_version: true,
            ..update
        }),
        None | Some(0) => Detected::Nothing,
        Some(step) if step < 0 => {
            Detected::Changed(ObjectDiff { rewound: true, fields: fields(), ..update })
        }
        Some(step) => {
            let missed = step - 1;
            if content_differs {
                Detected::Changed(ObjectDiff { fields: fields(), missed, ..update })
            } else if annotations_differ {
                let fields = fields();
                Detected::Changed(ObjectDiff { scope: Scope::Metadata, fields, missed, ..update })
            } else if kind::is_built_in(&now.object.kind)
                && !kind::generation_counts_labels(&now.object.kind)
            {
                // There and back again, unseen: built-in kinds step for nothing else.
                Detected::Changed(ObjectDiff { missed, ..update })
            } else {
                // A custom resource without a status subresource: its status moves the generation.
                Detected::Nothing
            }
        }
    }
}

/// A claim and its volume name each other once they are bound: that is how it went, and nothing
/// anybody asked for. A Pod's binding makes no generation either.
fn is_binding(now: &Observation, fields: &[Box<str>]) -> bool {
    let bound_by = match &now.object.kind {
        kind if kind.is("", "PersistentVolumeClaim") => "spec.volumeName",
        kind if kind.is("", "PersistentVolume") => "spec.claimRef",
        _ => return false,
    };
    !fields.is_empty() && fields.iter().all(|field| is_within(field, bound_by))
}

/// By how much the generation moved; `None` where the kind, or its server, has none.
fn generation_step(known: &TrackedObject, now: &Observation) -> Option<i64> {
    match kind::change_detection(&now.object.kind) {
        ChangeDetection::Generation => Some(now.generation?.saturating_sub(known.generation?)),
        ChangeDetection::Digest => None,
    }
}

/// The step of a change: its generation, or the resourceVersion where the kind has none.
pub(crate) fn generation_of(now: &Observation) -> Option<i64> {
    match kind::change_detection(&now.object.kind) {
        ChangeDetection::Generation => now.generation,
        ChangeDetection::Digest => None,
    }
}

/// A list's keys are a leaf of their own: they name what something was removed from, and say
/// nothing where what is below them is named already.
fn changed_fields(known: &[u32], body: &Body) -> Vec<Box<str>> {
    let new: Vec<&str> = body
        .content
        .leaves
        .iter()
        .chain(&body.marks)
        .filter(|leaf| !known.contains(&leaf.digest))
        .map(|leaf| &*leaf.path)
        .collect();
    new.iter()
        .filter(|path| !new.iter().any(|other| is_below(other, path)))
        .take(MAX_FIELDS)
        .map(|path| (*path).into())
        .collect()
}

/// Whether something changed, and nothing that is not covered.
pub(crate) fn changes_only(known: &[u32], body: &Body, is_covered: impl Fn(&str) -> bool) -> bool {
    let leaves = || body.content.leaves.iter().chain(&body.marks);
    let new: Vec<_> = leaves().filter(|leaf| !known.contains(&leaf.digest)).collect();
    let is_gone = |digest: &&u32| !leaves().any(|leaf| leaf.digest == **digest);
    // As many as came: what has other keys has lost some.
    let has_lost = known.iter().filter(is_gone).count() >= new.len();
    let is_added = |path: &str| !has_lost && new.iter().any(|leaf| is_below(&leaf.path, path));
    !new.is_empty()
        && new.iter().all(|leaf| is_covered(&leaf.path) || (leaf.is_keys && is_added(&leaf.path)))
}

fn is_below(field: &str, path: &str) -> bool {
    field.strip_prefix(path).is_some_and(|below| below.starts_with(['.', '[']))
}

/// The digests of a body's leaves, all that is kept of them.
pub(crate) fn leaves_of(body: &Body) -> Box<[u32]> {
    body.content.leaves.iter().chain(&body.marks).map(|leaf| leaf.digest).collect()
}

/// Compares templates only where both sides have one.
pub(crate) fn same_template(a: Option<Digest>, b: Option<Digest>) -> bool {
    a.is_some() && a == b
}
