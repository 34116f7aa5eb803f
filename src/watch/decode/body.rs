//! Reads the part of an object that seldom changes: owners, annotations, content.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    carrier,
    json::{
        RawField, boxed_text, fields_of, find, find_fields, find_text, group_of, integer, is_true,
        items_of, text, timestamp, truncate,
    },
    owners, quantity, references,
    wire::RawObject,
};
use crate::{
    config::settings::WatchSettings,
    trace::model::{
        content::{Content, Digest, FieldValue, Leaf, Reading},
        interner::Interner,
        kind::is_built_in,
        object::{GroupKind, Uid},
        observation::{Body, Claim, OwnerReference, Revision, SpecFacts},
    },
};

/// Owner references read of one object.
const MAX_OWNERS: usize = 64;
/// Finalizers read of one object.
const MAX_FINALIZERS: usize = 16;
/// Longer finalizers, provisioners and Service types are truncated to this many characters.
const MAX_NAME: usize = 64;
/// With the value `true`, on an object or its Namespace: changes of the object get no spans.
const IGNORE: &str = "spanlink.io/ignore";
/// The Deployment controller writes it to a ReplicaSet: the replicas of the whole Deployment, which
/// is more than `spec.replicas` during a rolling update.
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";

pub(super) fn read(
    object: &RawObject<'_>,
    kind: &GroupKind,
    api_version: &str,
    settings: &WatchSettings,
    names: &mut Interner,
) -> Body {
    let metadata = &object.metadata;
    let annotations = metadata.annotations.map(fields_of).unwrap_or_default();
    let labels = metadata.labels.map(fields_of).unwrap_or_default();
    let spec = object.content_field("spec").map(fields_of).unwrap_or_default();
    let allowed_values = settings.values_of(&kind.group, &kind.kind);
    let marks = Marks::read(kind, &labels, &annotations, settings);
    let reading = Reading { only_mutable: kind.is("", "Pod"), values: allowed_values };
    let mut owners =
        metadata.owner_references.map(|raw| read_owners(raw, names)).unwrap_or_default();
    owners::promote_reference(&mut owners, kind, settings);
    let has_controller = owners.iter().any(|owner| owner.controller);
    let marked = owners::Marked { object, kind, labels: &labels, annotations: &annotations };
    let carriers = carrier::Carriers { annotations: &annotations, object: Some(object), settings };
    let mut content = read_content(object, reading);
    content.values.extend(marks.values(allowed_values));
    Body {
        api_version: api_version.into(),
        created: metadata.creation_timestamp.and_then(timestamp),
        deletion: metadata.deletion(),
        finalizers: read_finalizers(object, kind, &spec),
        claim: read_claim(kind, &spec, &annotations),
        owners,
        owner_marks: if has_controller { Vec::new() } else { marked.owners(settings) },
        children: references::read_children(object, kind, settings),
        carrier: carriers.first(),
        attributes: carrier::read_attributes(kind, &labels, &annotations, settings),
        template_carriers: carrier::read_templates(&spec, settings),
        is_ignored: carrier::is_set(&annotations, IGNORE),
        marks: marks.leaves(),
        references: references::read(object, kind, settings),
        scales: references::read_scale_target(object, kind),
        annotations_fingerprint: annotations_fingerprint(&annotations),
        revision: read_revision(&labels, &annotations),
        content,
        spec: read_spec(kind, &spec, &annotations),
        managed_fields: metadata
            .managed_fields
            .map(RawValue::get)
            .filter(|text| text.starts_with('['))
            .unwrap_or_default()
            .into(),
    }
}

/// A Namespace has the finalizers that delay its deletion in its spec as well.
fn read_finalizers(
    object: &RawObject<'_>,
    kind: &GroupKind,
    spec: &[RawField<'_>],
) -> Vec<Box<str>> {
    let in_spec = find(spec, "finalizers").filter(|_| kind.is("", "Namespace"));
    let lists = object.metadata.finalizers.into_iter().chain(in_spec);
    let names = lists.flat_map(|raw| items_of(raw, MAX_FINALIZERS)).filter_map(short_text);
    names.take(MAX_FINALIZERS).collect()
}

fn read_claim(
    kind: &GroupKind,
    spec: &[RawField<'_>],
    annotations: &[RawField<'_>],
) -> Option<Claim> {
    kind.is("", "PersistentVolumeClaim").then(|| Claim {
        has_volume: find_text(spec, "volumeName").is_some_and(|name| !name.is_empty()),
        provisioner: find(annotations, "volume.kubernetes.io/storage-provisioner")
            .and_then(short_text),
    })
}

fn read_owners(raw: &RawValue, names: &mut Interner) -> Vec<OwnerReference> {
    let items = items_of(raw, MAX_OWNERS).into_iter();
    items.filter_map(|item| read_owner(&fields_of(item), names)).collect()
}

fn read_owner(fields: &[RawField<'_>], names: &mut Interner) -> Option<OwnerReference> {
    let api_version = find_text(fields, "apiVersion").unwrap_or_default();
    Some(OwnerReference {
        kind: GroupKind {
            group: names.intern(group_of(&api_version)),
            kind: names.intern(&find_text(fields, "kind")?),
        },
        name: Arc::from(&*find_text(fields, "name")?),
        uid: Uid::new(&find_text(fields, "uid")?),
        controller: find(fields, "controller").is_some_and(is_true),
    })
}

fn read_revision(labels: &[RawField<'_>], annotations: &[RawField<'_>]) -> Revision {
    let template_generation = "deprecated.daemonset.template.generation";
    Revision {
        controller_revision_hash: find(labels, "controller-revision-hash").and_then(boxed_text),
        pod_template_generation: find(labels, "pod-template-generation").and_then(boxed_text),
        daemonset_template_generation: find(annotations, template_generation).and_then(boxed_text),
    }
}

/// The labels and annotations that configuration counts as changes: path and value, `None` for one
/// that the object does not have.
struct Marks<'de>(Vec<(String, Option<Cow<'de, str>>)>);

impl<'de> Marks<'de> {
    fn read(
        kind: &GroupKind,
        labels: &[RawField<'de>],
        annotations: &[RawField<'de>],
        settings: &WatchSettings,
    ) -> Self {
        let Some(entry) = settings.entry(&kind.group, &kind.kind) else { return Self(Vec::new()) };
        let marks_in = |field: &str, fields: &[RawField<'de>], keys: &[String]| {
            let mark = |key: &String| (format!("metadata.{field}[{key}]"), find_text(fields, key));
            keys.iter().map(mark).collect::<Vec<_>>()
        };
        let mut marks = marks_in("labels", labels, &entry.include_labels);
        marks.extend(marks_in("annotations", annotations, &entry.include_annotations));
        Self(marks)
    }

    fn leaves(&self) -> Vec<Leaf> {
        self.0.iter().map(|(path, value)| Leaf::of(path, value.as_deref())).collect()
    }

    fn values(&self, allowed: &[String]) -> impl Iterator<Item = FieldValue> {
        let value = |(path, value): &(String, Option<Cow<'_, str>>)| {
            FieldValue::allowed(path, value.as_deref()?, allowed)
        };
        self.0.iter().filter_map(value)
    }
}

/// Does not depend on the order of the annotations.
fn annotations_fingerprint(annotations: &[RawField<'_>]) -> u64 {
    annotations
        .iter()
        .map(|(key, value)| {
            let value = text(value).unwrap_or_else(|| value.get().into());
            xxh3_64_with_seed(value.as_bytes(), xxh3_64(key.as_bytes()))
        })
        .fold(0, u64::wrapping_add)
}

fn read_content(object: &RawObject<'_>, reading: Reading<'_>) -> Content {
    let parsed: serde_json::Result<Map<String, Value>> = object
        .content
        .iter()
        .map(|(key, raw)| Ok((key.clone().into_string(), serde_json::from_str(raw.get())?)))
        .collect();
    match parsed {
        Ok(fields) => Content::read(&fields, reading),
        // Nested deeper than serde_json's limit. A digest of the text still detects changes.
        Err(_) => Content { digest: text_digest(&object.content), ..Content::default() },
    }
}

fn text_digest(content: &[(Box<str>, &RawValue)]) -> Digest {
    let mut hasher = Sha256::new();
    for text in content.iter().flat_map(|(key, raw)| [&**key, raw.get()]) {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let mut digest = Digest::default();
    // The digest is shorter than a SHA-256 hash: its first bytes.
    for (target, byte) in digest.iter_mut().zip(hasher.finalize()) {
        *target = byte;
    }
    digest
}

fn read_spec(kind: &GroupKind, spec: &[RawField<'_>], annotations: &[RawField<'_>]) -> SpecFacts {
    let number = |key| find(spec, key).and_then(integer);
    let strategy = find_fields(spec, "updateStrategy");
    SpecFacts {
        replicas: number("replicas"),
        desired_children: desired_children(kind, spec, annotations),
        paused: asks_to_pause(kind, spec, annotations),
        suspended: kind.is("batch", "Job") && find(spec, "suspend").is_some_and(is_true),
        progress_deadline_seconds: number("progressDeadlineSeconds"),
        restart_policy: find(spec, "restartPolicy").and_then(boxed_text),
        scheduler: find(spec, "schedulerName")
            .and_then(boxed_text)
            .filter(|name| &**name != "default-scheduler"),
        update_strategy: find(&strategy, "type").and_then(boxed_text),
        partition: find(&find_fields(&strategy, "rollingUpdate"), "partition").and_then(integer),
        service_type: find(spec, "type").and_then(short_text),
        requested_storage: requested_storage(kind, spec),
    }
}

/// Annotations with which a person asks a controller to leave an object alone: Crossplane, `KServe`,
/// Cluster API, Flux (`disabled`).
const PAUSE_ANNOTATIONS: [(&str, &str); 4] = [
    ("crossplane.io/paused", "true"),
    ("serving.kserve.io/stop", "true"),
    ("cluster.x-k8s.io/paused", ""),
    ("kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
];

/// Whether the object asks its controller to do nothing.
fn asks_to_pause(kind: &GroupKind, spec: &[RawField<'_>], annotations: &[RawField<'_>]) -> bool {
    let is_set = |key| find(spec, key).is_some_and(is_true);
    if is_set("paused") || is_built_in(kind) {
        return is_set("paused");
    }
    let has_annotation = |(key, value): &(&str, &str)| {
        find_text(annotations, key).is_some_and(|text| value.is_empty() || text == *value)
    };
    is_set("suspend")
        || is_set("suspended")
        || is_set("stop")
        || is_set("stopped")
        || find(spec, "running").is_some_and(|raw| raw.get() == "false")
        || find_text(spec, "runStrategy").is_some_and(|strategy| strategy == "Halted")
        || PAUSE_ANNOTATIONS.iter().any(has_annotation)
}

/// `None` for kinds other than claims.
fn requested_storage(kind: &GroupKind, spec: &[RawField<'_>]) -> Option<u64> {
    if !kind.is("", "PersistentVolumeClaim") {
        return None;
    }
    let requests = find_fields(&find_fields(spec, "resources"), "requests");
    find(&requests, "storage").and_then(quantity::bytes)
}

/// The number of children that a workload creates; `None` for other kinds.
fn desired_children(
    kind: &GroupKind,
    spec: &[RawField<'_>],
    annotations: &[RawField<'_>],
) -> Option<u32> {
    let number = |key| find(spec, key).and_then(integer);
    let children = match (&*kind.group, &*kind.kind) {
        ("apps", "ReplicaSet") => {
            let desired =
                find_text(annotations, DESIRED_REPLICAS).and_then(|text| text.parse().ok());
            number("replicas").unwrap_or(1).max(desired.unwrap_or(0))
        }
        ("apps", "StatefulSet") => number("replicas").unwrap_or(1),
        ("batch", "Job") => number("parallelism").unwrap_or(1),
        _ => return None,
    };
    Some(u32::try_from(children.max(0)).unwrap_or(u32::MAX))
}

fn short_text(raw: &RawValue) -> Option<Box<str>> {
    text(raw).map(|text| truncate(&text, MAX_NAME))
}
