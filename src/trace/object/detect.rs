//! Detects what changed between two observations of one object (`docs/model.md`, Changes).

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

/// A difference that is a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectDiff {
    pub(crate) verb: Verb,
    pub(crate) scope: Scope,
    /// Paths that changed, at most [`MAX_FIELDS`].
    pub(crate) fields: Vec<Box<str>>,
    /// Generations that were overwritten before they were observed.
    pub(crate) missed: i64,
    /// The generation decreased: the store was restored to an earlier state.
    pub(crate) rewound: bool,
    /// The generation did not move: the resourceVersion identifies the change.
    pub(crate) by_version: bool,
}

impl ObjectDiff {
    pub(crate) fn new(verb: Verb) -> Self {
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
    /// Only status, labels or managedFields differ: the open convergence proceeds.
    Nothing,
    /// Other content in the same generation: a Pod's binding, new defaults of an upgraded API server.
    OtherContent,
    Changed(ObjectDiff),
}

/// Changed paths that are named; the rest of a larger change is not.
const MAX_FIELDS: usize = 32;

/// Compares a tracked object with a new observation of it.
pub(crate) fn detect(object: &TrackedObject, observation: &Observation) -> Detected {
    let body = observation.body.as_deref();
    if object.is_terminating {
        // Later generations belong to the deletion. Only a store that was restored to an earlier
        // state brings the object back.
        let is_back = body.is_some_and(|body| body.deletion.is_none());
        let rewound = ObjectDiff { rewound: true, ..ObjectDiff::new(Verb::Update) };
        return if is_back { Detected::Changed(rewound) } else { Detected::Nothing };
    }
    let increase = generation_increase(object, observation);
    if body.is_some_and(|body| body.deletion.is_some()) {
        if object.deletion().is_some() {
            // A late event: the deletion was observed before.
            return Detected::Nothing;
        }
        // The deletion itself adds one generation.
        let missed = increase.map_or(0, |increase| increase - 1).max(0);
        return Detected::Changed(ObjectDiff { missed, ..ObjectDiff::new(Verb::Delete) });
    }
    let content_differs = body.is_some_and(|body| body.content.digest != object.digest);
    let annotations_differ =
        body.is_some_and(|body| body.annotations_fingerprint != object.annotations_fingerprint);
    let marks_differ = body
        .is_some_and(|body| body.marks.iter().any(|mark| !object.leaves.contains(&mark.digest)));
    let fields = || body.map_or_else(Vec::new, |body| changed_fields(&object.leaves, body));
    let update = ObjectDiff::new(Verb::Update);
    match increase {
        None if content_differs => match fields() {
            fields if is_binding(observation, &fields) => Detected::OtherContent,
            fields => Detected::Changed(ObjectDiff { fields, ..update }),
        },
        Some(0) if content_differs => Detected::OtherContent,
        None | Some(0) if marks_differ => Detected::Changed(ObjectDiff {
            scope: Scope::Metadata,
            fields: fields(),
            by_version: true,
            ..update
        }),
        None | Some(0) => Detected::Nothing,
        Some(increase) if increase < 0 => {
            Detected::Changed(ObjectDiff { rewound: true, fields: fields(), ..update })
        }
        Some(increase) => {
            let missed = increase - 1;
            if content_differs {
                Detected::Changed(ObjectDiff { fields: fields(), missed, ..update })
            } else if annotations_differ {
                let fields = fields();
                Detected::Changed(ObjectDiff { scope: Scope::Metadata, fields, missed, ..update })
            } else if kind::is_built_in(&observation.object.kind)
                && !kind::generation_counts_labels(&observation.object.kind)
            {
                // Changed and changed back between two observations: the generation of a built-in
                // kind moves for no other reason.
                Detected::Changed(ObjectDiff { missed, ..update })
            } else {
                // A custom resource without a status subresource: its status moves the generation.
                Detected::Nothing
            }
        }
    }
}

/// A claim and its volume name each other once they are bound: a result, not a request. A Pod's
/// binding makes no generation either.
fn is_binding(observation: &Observation, fields: &[Box<str>]) -> bool {
    let bound_by = match &observation.object.kind {
        kind if kind.is("", "PersistentVolumeClaim") => "spec.volumeName",
        kind if kind.is("", "PersistentVolume") => "spec.claimRef",
        _ => return false,
    };
    !fields.is_empty() && fields.iter().all(|field| is_within(field, bound_by))
}

/// By how much the generation moved; `None` where the kind has none.
fn generation_increase(object: &TrackedObject, observation: &Observation) -> Option<i64> {
    match kind::change_detection(&observation.object.kind) {
        ChangeDetection::Generation => {
            Some(observation.generation?.saturating_sub(object.generation?))
        }
        ChangeDetection::Digest => None,
    }
}

/// The generation of a change; `None` where the kind has none.
pub(crate) fn generation_of(observation: &Observation) -> Option<i64> {
    match kind::change_detection(&observation.object.kind) {
        ChangeDetection::Generation => observation.generation,
        ChangeDetection::Digest => None,
    }
}

/// The keys of a list are a leaf too. It names the list that an item was removed from, and is left out
/// where a path below it is listed.
fn changed_fields(leaves: &[u32], body: &Body) -> Vec<Box<str>> {
    let new: Vec<&str> = body
        .content
        .leaves
        .iter()
        .chain(&body.marks)
        .filter(|leaf| !leaves.contains(&leaf.digest))
        .map(|leaf| &*leaf.path)
        .collect();
    new.iter()
        .filter(|path| !new.iter().any(|other| is_below(other, path)))
        .take(MAX_FIELDS)
        .map(|path| (*path).into())
        .collect()
}

/// Whether something changed, and only covered paths did.
pub(crate) fn changes_only(before: &[u32], body: &Body, is_covered: impl Fn(&str) -> bool) -> bool {
    let leaves = || body.content.leaves.iter().chain(&body.marks);
    let new: Vec<_> = leaves().filter(|leaf| !before.contains(&leaf.digest)).collect();
    let is_gone = |digest: &&u32| !leaves().any(|leaf| leaf.digest == **digest);
    // As many leaves were removed as added: changed keys of a list then mean removed items.
    let has_lost = before.iter().filter(is_gone).count() >= new.len();
    let is_added = |path: &str| !has_lost && new.iter().any(|leaf| is_below(&leaf.path, path));
    !new.is_empty()
        && new.iter().all(|leaf| is_covered(&leaf.path) || (leaf.is_keys && is_added(&leaf.path)))
}

fn is_below(field: &str, path: &str) -> bool {
    field.strip_prefix(path).is_some_and(|below| below.starts_with(['.', '[']))
}

/// Compares templates only where both sides have one.
pub(crate) fn same_template(a: Option<Digest>, b: Option<Digest>) -> bool {
    a.is_some() && a == b
}
