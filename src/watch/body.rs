//! Reads the part of an object that seldom changes: owners, annotations, content.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    carrier,
    decode::{Names, Wire, group_of},
    lenient::{boxed, cut, int, is_true, pairs, text, time},
    reference,
};
use crate::{
    config::settings::WatchSettings,
    trace::model::{
        content::{Content, Digest, FieldValue, Leaf, Reading},
        object::{GroupKind, Uid},
        observation::{Body, Claim, OwnerReference, Revision, SpecFacts},
    },
};

/// Owner references read of one object.
const MAX_OWNERS: usize = 64;
/// Finalizers read of one object.
const MAX_FINALIZERS: usize = 16;
/// With `"true"`, on an object or on its Namespace: nobody wants to hear of its changes.
const OFF: &str = "spanlink.io/ignore";

pub(super) fn read(
    wire: &Wire<'_>,
    kind: &GroupKind,
    settings: &WatchSettings,
    names: &mut Names,
) -> Body {
    let meta = &wire.meta;
    let annotations = meta.annotations.map(pairs).unwrap_or_default();
    let labels = meta.labels.map(pairs).unwrap_or_default();
    let spec = wire.content("spec").map(pairs).unwrap_or_default();
    let allowed = settings.values_of(&kind.group, &kind.kind);
    let marks = Marks::read(kind, &labels, &annotations, settings);
    let mut content = content(wire, Reading { only_mutable: kind.is("", "Pod"), values: allowed });
    content.values.extend(marks.values(allowed));
    Body {
        api_version: Box::default(),
        created: meta.created.and_then(time),
        deletion: meta.deletion(),
        finalizers: finalizers(wire, kind, &spec),
        claim: kind.is("", "PersistentVolumeClaim").then(|| Claim {
            has_volume: find_text(&spec, "volumeName").is_some_and(|name| !name.is_empty()),
            provisioner: find(&annotations, "volume.kubernetes.io/storage-provisioner")
                .and_then(short),
        }),
        owners: meta.owners.map(|raw| owners(raw, names)).unwrap_or_default(),
        carrier: carrier::read(&annotations, settings),
        template_carriers: carrier::of_templates(&spec, settings),
        is_off: carrier::is_set(&annotations, OFF),
        marks: marks.leaves(),
        references: reference::read(wire, kind, settings),
        scales: reference::scale_target(wire, kind),
        annotations_fingerprint: annotations_fingerprint(&annotations),
        revision: Revision {
            controller_revision_hash: find(&labels, "controller-revision-hash").and_then(boxed),
            pod_template_generation: find(&labels, "pod-template-generation").and_then(boxed),
            daemonset_template_generation: find(
                &annotations,
                "deprecated.daemonset.template.generation",
            )
            .and_then(boxed),
        },
        content,
        spec: SpecFacts {
            desired_children: desired_children(kind, &spec, &annotations),
            ..spec_facts(&spec)
        },
        managed_fields: meta
            .managed_fields
            .map(RawValue::get)
            .filter(|text| text.starts_with('['))
            .unwrap_or_default()
            .into(),
    }
}

pub(super) type Pair<'de> = (Cow<'de, str>, &'de RawValue);

pub(super) fn find<'de>(fields: &[Pair<'de>], key: &str) -> Option<&'de RawValue> {
    fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
}

pub(super) fn find_text<'de>(fields: &[Pair<'de>], key: &str) -> Option<Cow<'de, str>> {
    find(fields, key).and_then(text)
}

/// The first items of an array; of anything else none.
pub(super) fn items(raw: &RawValue, max: usize) -> Vec<&RawValue> {
    struct Items<'de> {
        items: Vec<&'de RawValue>,
        max: usize,
    }
    impl<'de> serde::de::Visitor<'de> for Items<'de> {
        type Value = Vec<&'de RawValue>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            mut self,
            mut seq: A,
        ) -> Result<Self::Value, A::Error> {
            while self.items.len() < self.max {
                match seq.next_element()? {
                    Some(item) => self.items.push(item),
                    None => return Ok(self.items),
                }
            }
            while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok(self.items)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    serde::Deserializer::deserialize_seq(&mut reader, Items { items: Vec::new(), max })
        .unwrap_or_default()
}

/// Of Namespaces, those of the spec are what keeps them.
fn finalizers(wire: &Wire<'_>, kind: &GroupKind, spec: &[Pair<'_>]) -> Vec<Box<str>> {
    let of_spec = find(spec, "finalizers").filter(|_| kind.is("", "Namespace"));
    let lists = wire.meta.finalizers.into_iter().chain(of_spec);
    let names = lists.flat_map(|raw| items(raw, MAX_FINALIZERS)).filter_map(short);
    names.take(MAX_FINALIZERS).collect()
}

fn owners(raw: &RawValue, names: &mut Names) -> Vec<OwnerReference> {
    items(raw, MAX_OWNERS).into_iter().filter_map(|item| owner(&pairs(item), names)).collect()
}

fn owner(fields: &[Pair<'_>], names: &mut Names) -> Option<OwnerReference> {
    let api_version = find_text(fields, "apiVersion").unwrap_or_default();
    Some(OwnerReference {
        kind: GroupKind {
            group: names.shared(group_of(&api_version)),
            kind: names.shared(&find_text(fields, "kind")?),
        },
        name: Arc::from(&*find_text(fields, "name")?),
        uid: Uid::new(&find_text(fields, "uid")?),
        controller: find(fields, "controller").is_some_and(is_true),
    })
}

fn pairs_of<'de>(fields: &[Pair<'de>], key: &str) -> Vec<Pair<'de>> {
    find(fields, key).map(pairs).unwrap_or_default()
}

/// Labels and annotations that count as changes, by their paths, also where they are not there.
struct Marks<'de>(Vec<(String, Option<Cow<'de, str>>)>);

impl<'de> Marks<'de> {
    fn read(
        kind: &GroupKind,
        labels: &[Pair<'de>],
        annotations: &[Pair<'de>],
        settings: &WatchSettings,
    ) -> Self {
        let Some(entry) = settings.entry(&kind.group, &kind.kind) else { return Self(Vec::new()) };
        let of = |place: &str, fields: &[Pair<'de>], keys: &[String]| {
            let mark = |key: &String| (format!("metadata.{place}[{key}]"), find_text(fields, key));
            keys.iter().map(mark).collect::<Vec<_>>()
        };
        let mut marks = of("labels", labels, &entry.include_labels);
        marks.extend(of("annotations", annotations, &entry.include_annotations));
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

/// The same in whatever order they are written.
fn annotations_fingerprint(annotations: &[Pair<'_>]) -> u64 {
    annotations
        .iter()
        .map(|(key, value)| {
            let value = text(value).unwrap_or_else(|| value.get().into());
            xxh3_64_with_seed(value.as_bytes(), xxh3_64(key.as_bytes()))
        })
        .fold(0, u64::wrapping_add)
}

fn content(wire: &Wire<'_>, reading: Reading<'_>) -> Content {
    let parsed: serde_json::Result<Map<String, Value>> = wire
        .content
        .iter()
        .map(|(key, raw)| Ok((key.clone().into_string(), serde_json::from_str(raw.get())?)))
        .collect();
    match parsed {
        Ok(object) => Content::read(&object, reading),
        // Deeper than can be read safely: its text still tells whether it changed.
        Err(_) => Content { digest: text_digest(&wire.content), ..Content::default() },
    }
}

fn text_digest(content: &[(Box<str>, &RawValue)]) -> Digest {
    let mut hash = Sha256::new();
    for text in content.iter().flat_map(|(key, raw)| [&**key, raw.get()]) {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    digest
}

fn spec_facts(spec: &[Pair<'_>]) -> SpecFacts {
    let number = |key| find(spec, key).and_then(int);
    let strategy = pairs_of(spec, "updateStrategy");
    SpecFacts {
        replicas: number("replicas"),
        desired_children: None,
        paused: find(spec, "paused").is_some_and(is_true),
        progress_deadline_seconds: number("progressDeadlineSeconds"),
        restart_policy: find(spec, "restartPolicy").and_then(boxed),
        scheduler: find(spec, "schedulerName")
            .and_then(boxed)
            .filter(|name| &**name != "default-scheduler"),
        update_strategy: find(&strategy, "type").and_then(boxed),
        partition: find(&pairs_of(&strategy, "rollingUpdate"), "partition").and_then(int),
        service_type: find(spec, "type").and_then(short),
    }
}

fn desired_children(kind: &GroupKind, spec: &[Pair<'_>], annotations: &[Pair<'_>]) -> Option<u32> {
    const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
    let number = |key| find(spec, key).and_then(int);
    let wanted = match (&*kind.group, &*kind.kind) {
        ("apps", "ReplicaSet") => {
            let desired = find_text(annotations, DESIRED).and_then(|text| text.parse().ok());
            number("replicas").unwrap_or(1).max(desired.unwrap_or(0))
        }
        ("apps", "StatefulSet") => number("replicas").unwrap_or(1),
        ("batch", "Job") => number("parallelism").unwrap_or(1),
        _ => return None,
    };
    Some(u32::try_from(wanted.max(0)).unwrap_or(u32::MAX))
}

fn short(raw: &RawValue) -> Option<Box<str>> {
    text(raw).map(|text| cut(&text, 64))
}
