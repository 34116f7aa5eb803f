//! Reads the part of an object that seldom changes.

use serde_json::{Map, Value, value::RawValue};
use xxhash_rust::xxh3::Xxh3;

use super::{
    lenient::{boxed, cut, each_field, each_item, int, is_true, text},
    status::time,
};
use crate::trace::{
    content::Content,
    object::{GroupKind, Uid},
    observation::{Body, Carrier, Deletion, OwnerReference, SpecFacts},
};

const MAX_OWNERS: usize = 64;
/// A trace context is 55 bytes; what is much longer is none and need not be kept to tell.
const MAX_CONTEXT: usize = 256;
/// By W3C, at most.
const MAX_TRACE_STATE: usize = 512;

pub(super) fn read_body(
    raw: &RawValue,
    kind: &GroupKind,
    api_version: &str,
    annotation_keys: &[String],
) -> Body {
    let mut body = Body { api_version: api_version.into(), ..Body::default() };
    let mut content = Map::new();
    each_field(raw.get(), |key, value| match key {
        "apiVersion" | "kind" | "status" => {}
        "metadata" => read_metadata(&mut body, value, annotation_keys),
        _ => {
            // Nested deeper than anything is read: it still counts, as text.
            let read = serde_json::from_str(value.get());
            content.insert(
                key.to_owned(),
                read.unwrap_or_else(|_too_deep| Value::String(value.get().to_owned())),
            );
        }
    });
    body.content = Content::read(&content, kind.is("", "Pod"));
    if let Some(spec) = content.get("spec") {
        body.spec = read_spec(spec);
        body.template_carriers = template_carriers(spec, annotation_keys);
    }
    body
}

fn read_metadata(body: &mut Body, raw: &RawValue, annotation_keys: &[String]) {
    let mut deleted = None;
    let mut grace_seconds = 0;
    each_field(raw.get(), |key, value| match key {
        "creationTimestamp" => body.created = time(value),
        "deletionTimestamp" => deleted = time(value),
        "deletionGracePeriodSeconds" => grace_seconds = int(value).unwrap_or(0),
        "finalizers" => each_item(value.get(), 1, |_| body.has_finalizers = true),
        "ownerReferences" => each_item(value.get(), MAX_OWNERS, |item| {
            body.owners.extend(read_owner(item));
        }),
        "annotations" => read_annotations(body, value, annotation_keys),
        "labels" => each_field(value.get(), |key, value| match key {
            "controller-revision-hash" => body.revision.controller_revision_hash = boxed(value),
            "pod-template-generation" => body.revision.pod_template_generation = boxed(value),
            _ => {}
        }),
        "managedFields" => body.managed_fields = value.get().into(),
        _ => {}
    });
    body.deletion = deleted.map(|timestamp| Deletion { timestamp, grace_seconds });
}

fn read_owner(raw: &RawValue) -> Option<OwnerReference> {
    let (mut api_version, mut kind, mut name, mut uid, mut controller) =
        (None, None, None, None, false);
    each_field(raw.get(), |key, value| match key {
        "apiVersion" => api_version = text(value),
        "kind" => kind = text(value),
        "name" => name = text(value),
        "uid" => uid = text(value),
        "controller" => controller = is_true(value),
        _ => {}
    });
    Some(OwnerReference {
        kind: GroupKind::of(&api_version?, &kind?),
        name: name?.as_ref().into(),
        uid: Uid::new(&uid?),
        controller,
    })
}

fn read_annotations(body: &mut Body, raw: &RawValue, keys: &[String]) {
    let mut fingerprint = 0_u64;
    let mut found: Option<(usize, Box<str>)> = None;
    let mut states: Vec<(usize, Box<str>)> = Vec::new();
    each_field(raw.get(), |key, value| {
        let mut hash = Xxh3::new();
        hash.update(key.as_bytes());
        hash.update(&[0]);
        hash.update(value.get().as_bytes());
        // Whatever the order of the keys.
        fingerprint = fingerprint.wrapping_add(hash.digest());
        if key == "deprecated.daemonset.template.generation" {
            body.revision.daemonset_template_generation = boxed(value);
        }
        for (rank, wanted) in keys.iter().enumerate() {
            if key == wanted && found.as_ref().is_none_or(|(best, _)| rank < *best) {
                found = cut(value, MAX_CONTEXT).map(|text| (rank, text));
            } else if Some(key) == trace_state_key(wanted).as_deref() {
                states.extend(cut(value, MAX_TRACE_STATE).map(|text| (rank, text)));
            }
        }
    });
    body.annotations_fingerprint = fingerprint;
    body.carrier = found.map(|(rank, traceparent)| Carrier {
        traceparent,
        tracestate: states.into_iter().find(|(of, _)| *of == rank).map(|(_, state)| state),
    });
}

/// KEP-5915's carrier: the same prefix with another of the propagator's keys.
fn trace_state_key(key: &str) -> Option<String> {
    key.strip_suffix("traceparent").map(|prefix| format!("{prefix}tracestate"))
}

/// What the object's children are made with, where it has templates.
fn template_carriers(spec: &Value, keys: &[String]) -> Vec<Box<str>> {
    const TEMPLATES: [&str; 3] = ["/template", "/jobTemplate", "/jobTemplate/spec/template"];
    let of_template = |path: &str| {
        let annotations = spec.pointer(path)?.pointer("/metadata/annotations")?;
        keys.iter().find_map(|key| annotations.get(key)?.as_str()).map(Box::from)
    };
    TEMPLATES.into_iter().filter_map(of_template).collect()
}

fn read_spec(spec: &Value) -> SpecFacts {
    let int = |path: &str| spec.pointer(path).and_then(Value::as_i64);
    let text = |path: &str| spec.pointer(path).and_then(Value::as_str).map(Box::from);
    let is_true = |path: &str| spec.pointer(path) == Some(&Value::Bool(true));
    SpecFacts {
        replicas: int("/replicas"),
        paused: is_true("/paused"),
        suspend: is_true("/suspend"),
        progress_deadline_seconds: int("/progressDeadlineSeconds"),
        parallelism: int("/parallelism"),
        completions: int("/completions"),
        restart_policy: text("/restartPolicy"),
        update_strategy: text("/updateStrategy/type"),
        partition: int("/updateStrategy/rollingUpdate/partition"),
        service_type: text("/type"),
        cluster_ip: text("/clusterIP"),
        scheduled: spec.pointer("/nodeName").is_some(),
    }
}
