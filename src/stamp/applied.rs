//! Compares a manifest with the live object: would an apply change it?

use serde_json::{Map, Value};

use super::annotations::{Annotations, BAGGAGE, TRACEPARENT, TRACESTATE};

/// Where `kubectl apply` stores the manifest that it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Helm 4 sets it for the time of the post-renderer.
const HELM_FILE: &str = "postrenderer.helm.sh/postrender-filename";
/// What Helm adds to each manifest after the post-renderer: the field, and the key in it.
const HELM_ADDS: [(&str, &str); 3] = [
    ("annotations", "meta.helm.sh/release-name"),
    ("annotations", "meta.helm.sh/release-namespace"),
    ("labels", "app.kubernetes.io/managed-by"),
];
/// Fields of metadata that every write sets, or that kubectl adds to the manifest.
const WRITTEN: [&str; 3] = ["managedFields", "resourceVersion", "generation"];

/// Where a trace context may be in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextPlace {
    Metadata,
    PodTemplate,
}

impl ContextPlace {
    pub const ALL: [Self; 2] = [Self::Metadata, Self::PodTemplate];

    /// The field with the metadata; `None` where an object has no such part.
    fn parent(self, object: &Value) -> Option<&Value> {
        match self {
            Self::Metadata => Some(object),
            Self::PodTemplate => {
                let templates = ["/spec/template", "/spec/jobTemplate/spec/template"];
                templates.into_iter().find_map(|path| object.pointer(path))
            }
        }
    }

    fn parent_mut(self, object: &mut Value) -> Option<&mut Value> {
        match self {
            Self::Metadata => Some(object),
            Self::PodTemplate => {
                let templates = ["/spec/template", "/spec/jobTemplate/spec/template"];
                let path = templates.into_iter().find(|path| object.pointer(path).is_some())?;
                object.pointer_mut(path)
            }
        }
    }

    /// The context that an object has here.
    pub fn context(self, object: &Value) -> Option<Annotations> {
        let annotations = self.parent(object)?.pointer("/metadata/annotations")?;
        let text = |name: &str| annotations.get(name)?.as_str().map(str::to_owned);
        let traceparent = text(TRACEPARENT).filter(|text| !text.is_empty())?;
        Some(Annotations::new(traceparent, text(TRACESTATE), text(BAGGAGE)))
    }

    /// Whether this part of two objects is equal.
    pub fn is_equal(self, one: &Value, other: &Value) -> bool {
        self.parent(one) == self.parent(other)
    }
}

/// The manifest as it is applied if nothing changes: with the contexts that the live object has, where
/// it has none itself, since an apply that left them out would remove them; and with what Helm adds.
pub fn as_applied(manifest: &Value, live: &Value) -> Value {
    let mut result = manifest.clone();
    let metadata = result.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(HELM_FILE);
        }
        for (field, key) in HELM_ADDS {
            let added = live.get("metadata").and_then(|live| live.get(field)?.get(key));
            let Some(added) = added else { continue };
            if let Some(values) = object_in(metadata, field) {
                values.entry(key).or_insert_with(|| added.clone());
            }
        }
    }
    for place in ContextPlace::ALL {
        if place.context(&result).is_some() {
            continue;
        }
        let Some(context) = place.context(live) else { continue };
        let Some(parent) = place.parent_mut(&mut result).and_then(Value::as_object_mut) else {
            continue;
        };
        let metadata = object_in(parent, "metadata");
        let annotations = metadata.map(|metadata| object_in(metadata, "annotations"));
        if let Some(Some(annotations)) = annotations {
            for (name, value) in context.present() {
                annotations.insert(name.to_owned(), Value::from(value));
            }
        }
    }
    result
}

/// The manifest that `kubectl apply` applied last, without contexts and without what kubectl adds.
/// `None` where no such manifest is stored.
pub fn last_applied(live: &Value) -> Option<Value> {
    let annotations = live.pointer("/metadata/annotations")?;
    let text = annotations.get(LAST_APPLIED)?.as_str()?;
    serde_json::from_str(text).ok().map(|value| without_contexts(&value))
}

/// A manifest without contexts and without what kubectl adds, to compare it with [`last_applied`].
pub fn without_contexts(manifest: &Value) -> Value {
    let mut result = manifest.clone();
    for place in ContextPlace::ALL {
        let Some(parent) = place.parent_mut(&mut result).and_then(Value::as_object_mut) else {
            continue;
        };
        let Some(metadata) = parent.get_mut("metadata").and_then(Value::as_object_mut) else {
            continue;
        };
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| ![TRACEPARENT, TRACESTATE, BAGGAGE].contains(&&**name));
        }
        let annotations = metadata.get("annotations");
        if annotations.is_some_and(is_empty) {
            metadata.remove("annotations");
        }
        if metadata.is_empty() && place == ContextPlace::PodTemplate {
            parent.remove("metadata");
        } else if place == ContextPlace::Metadata {
            // kubectl adds the namespace of the command line.
            metadata.remove("namespace");
        }
    }
    result
}

/// An object of the API server without the fields that every write sets.
pub fn without_bookkeeping(object: &Value) -> Value {
    let mut result = object.clone();
    if let Some(metadata) = result.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !WRITTEN.contains(&&**field));
    }
    result
}

fn object_in<'object>(
    parent: &'object mut Map<String, Value>,
    field: &str,
) -> Option<&'object mut Map<String, Value>> {
    let child = parent.entry(field).or_insert(Value::Null);
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut()
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contexts_of_the_live_object_are_taken_over() {
        let live = json!({
            "metadata": {"annotations": {TRACEPARENT: "live", TRACESTATE: "a=b", "x": "y"}},
            "spec": {"template": {"metadata": {"annotations": {TRACEPARENT: "template"}}}},
        });
        let manifest = json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {}}}});
        let expected = json!({
            "metadata": {"name": "a", "annotations": {TRACEPARENT: "live", TRACESTATE: "a=b"}},
            "spec": {"template": {
                "spec": {}, "metadata": {"annotations": {TRACEPARENT: "template"}},
            }},
        });
        assert_eq!(as_applied(&manifest, &live), expected);
        assert_eq!(as_applied(&live, &manifest), live);
    }

    #[test]
    fn additions_of_helm_are_no_difference() {
        let live = json!({"metadata": {
            "annotations": {"meta.helm.sh/release-name": "shop"},
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
        }});
        let manifest = json!({"metadata": {"annotations": {HELM_FILE: "web.yaml"}}});
        assert_eq!(as_applied(&manifest, &live), live);
    }

    #[test]
    fn last_applied_manifest_is_compared_without_contexts_and_additions() {
        let applied = json!({
            "metadata": {"name": "a", "namespace": "shop", "annotations": {TRACEPARENT: "old"}},
            "spec": {"template": {"metadata": {"annotations": {TRACEPARENT: "old"}}}},
        });
        let live = json!({"metadata": {"annotations": {LAST_APPLIED: applied.to_string()}}});
        let manifest = json!({"metadata": {"name": "a"}, "spec": {"template": {}}});
        assert_eq!(last_applied(&live), Some(without_contexts(&manifest)));
        let other = json!({"metadata": {"name": "a"}, "spec": {"replicas": 2, "template": {}}});
        assert_ne!(last_applied(&live), Some(without_contexts(&other)));
        assert_eq!(last_applied(&manifest), None);
    }
}
