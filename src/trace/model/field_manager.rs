//! Finds the field manager that made a change, by `metadata.managedFields`, which may be absent.
//!
//! The writer is the entry that owns a changed path, not the newest entry
//! ([server-side apply](https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management)).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::trace::model::{
    content::Content,
    object::Uid,
    path::{Segment, steps},
    time::Timestamp,
};

/// How the field managers of kubectl and of its plugins begin: persons, never controllers.
pub const KUBECTL: &str = "kubectl";

/// The times of entries are whole seconds, and an event takes a moment to arrive.
const WRITE_TOLERANCE: Duration = Duration::from_millis(1500);

/// The managedFields of one object, parsed for a change and dropped after it.
#[derive(Debug, Default)]
pub struct Managers {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    fields_v1: Value,
}

/// The field manager that made a change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Manager {
    pub name: Box<str>,
    pub operation: Box<str>,
    pub subresource: Box<str>,
    /// Whole seconds; entries of `/scale` have none.
    pub at: Option<Timestamp>,
}

impl From<&Entry> for Manager {
    fn from(entry: &Entry) -> Self {
        Self {
            name: entry.manager.as_str().into(),
            operation: entry.operation.as_str().into(),
            subresource: entry.subresource.as_str().into(),
            at: Timestamp::parse(&entry.time),
        }
    }
}

/// The field manager that writes the status of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusWriter {
    /// No status was written.
    Nobody,
    One(Box<str>),
    /// Several managers write it alike.
    Several,
}

impl Managers {
    /// Skips entries that cannot be read.
    pub fn parse(text: &str) -> Self {
        let entries = serde_json::from_str::<Vec<Value>>(text).unwrap_or_default();
        let entries =
            entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect();
        Self { entries }
    }

    /// The owner of the first of `paths` that has one. Entries of the status are left out.
    pub fn of_any(&self, paths: &[Box<str>], content: &Content) -> Option<Manager> {
        paths.iter().find_map(|path| {
            let steps = steps(path);
            // Several managers can own a path after server-side apply: the latest wrote it.
            self.entries
                .iter()
                .filter(|entry| entry.subresource != "status")
                .filter(|entry| owns(&entry.fields_v1, &steps, content))
                .max_by(|a, b| a.time.cmp(&b.time))
                .map(Manager::from)
        })
    }

    /// The last time that anything but the status was written, as far as the entries say.
    pub fn last_write(&self) -> Option<Timestamp> {
        let writes = self.entries.iter().filter(|entry| entry.subresource != "status");
        writes.filter_map(|entry| Timestamp::parse(&entry.time)).max()
    }

    /// The creator of the object: the earliest entry that owns a part of its content.
    pub fn of_creation(&self) -> Option<Manager> {
        self.entries
            .iter()
            .filter(|entry| entry.subresource.is_empty() && !entry.time.is_empty())
            .min_by(|a, b| a.time.cmp(&b.time))
            .map(Manager::from)
    }

    /// The writer of an annotation.
    pub fn of_annotation(&self, key: &str) -> Option<Manager> {
        self.owner_of_steps(&[
            "f:metadata".to_owned(),
            "f:annotations".to_owned(),
            format!("f:{key}"),
        ])
    }

    /// The writer of a label, an annotation, or a field that is not in a list.
    pub fn of_path(&self, path: &str) -> Option<Manager> {
        let names = steps(path).into_iter().map(|(segment, _)| format!("f:{}", segment.name()));
        self.owner_of_steps(&names.collect::<Vec<_>>())
    }

    /// The writer of the reference to this owner.
    pub fn of_owner_reference(&self, owner: &Uid) -> Option<Manager> {
        self.owner_of_steps(&[
            "f:metadata".to_owned(),
            "f:ownerReferences".to_owned(),
            format!("k:{{\"uid\":\"{owner}\"}}"),
        ])
    }

    /// The writer of the status.
    pub fn of_status(&self) -> Option<Manager> {
        self.entries
            .iter()
            .filter(|entry| entry.fields_v1.get("f:status").is_some())
            .max_by(|a, b| a.time.cmp(&b.time))
            .map(Manager::from)
    }

    /// The writer of the status by its fields: the owner of `status.observedGeneration`, else the one
    /// that owns most of it. A person who patches a status with kubectl is not its writer.
    pub fn status_writer(&self) -> StatusWriter {
        let mut shares: Vec<(&str, (bool, usize))> = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.manager.starts_with(KUBECTL)) {
            let Some(status) = entry.fields_v1.get("f:status") else { continue };
            let observes = status.get("f:observedGeneration").is_some();
            let fields = number_of_fields(status);
            match shares.iter_mut().find(|(name, _)| *name == entry.manager) {
                Some((_, share)) => *share = (share.0 || observes, share.1 + fields),
                None => shares.push((&entry.manager, (observes, fields))),
            }
        }
        let Some(largest) = shares.iter().map(|(_, share)| *share).max() else {
            return StatusWriter::Nobody;
        };
        let is_largest = |(_, (observes, fields)): &&(&str, (bool, usize))| {
            // An observed generation decides, however few the other fields are.
            *observes == largest.0 && (largest.0 || *fields == largest.1)
        };
        let mut writers = shares.iter().filter(is_largest);
        match (writers.next(), writers.next()) {
            (Some((name, _)), None) => StatusWriter::One((*name).into()),
            _ => StatusWriter::Several,
        }
    }

    /// Whether this manager was the last to write each of the paths.
    pub fn wrote_all(&self, name: &str, paths: &[Box<str>], content: &Content) -> bool {
        paths.iter().all(|path| {
            let writer = self.of_any(std::slice::from_ref(path), content);
            writer.is_some_and(|writer| *writer.name == *name)
        })
    }

    /// The writer of an update that only removed fields, which no manager owns then: the one with the
    /// newest entry, where there is only one. `last` made the last change of the object, which
    /// explains its entry of that second. An entry that is older than the update, which was received at `received`,
    /// proves nothing: a manager that owns nothing any more has no entry.
    pub fn of_removal(&self, last: Option<&Manager>, received: Timestamp) -> Option<Manager> {
        let of_content = || self.entries.iter().filter(|entry| entry.subresource != "status");
        let newest = of_content().map(|entry| &*entry.time).max()?;
        let written = Timestamp::parse(newest)?;
        if received.since(written) > WRITE_TOLERANCE {
            return None;
        }
        let is_explained = |entry: &Entry| {
            last.is_some_and(|last| {
                *last.name == *entry.manager && last.at == Timestamp::parse(&entry.time)
            })
        };
        let at_newest = of_content().filter(|entry| entry.time == newest);
        let mut writers: Vec<&Entry> = at_newest.filter(|entry| !is_explained(entry)).collect();
        writers.dedup_by(|a, b| a.manager == b.manager);
        match &*writers {
            [writer] => Some(Manager::from(*writer)),
            _ => None,
        }
    }

    fn owner_of_steps(&self, steps: &[String]) -> Option<Manager> {
        let owns = |entry: &&Entry| {
            steps.iter().try_fold(&entry.fields_v1, |at, step| at.get(step)).is_some()
        };
        self.entries.iter().filter(owns).max_by(|a, b| a.time.cmp(&b.time)).map(Manager::from)
    }
}

/// The leaves of a field set.
fn number_of_fields(fields: &Value) -> usize {
    match fields.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.values().map(number_of_fields).sum(),
        None => 1,
    }
}

/// Whether a field set contains the path, or a value above it that is owned as a whole.
fn owns(fields: &Value, path: &[(Segment<'_>, &str)], content: &Content) -> bool {
    let Some(((first, place), rest)) = path.split_first() else { return true };
    let Some(fields) = fields.as_object() else { return false };
    let below = match first {
        Segment::Field(name) => fields.get(&format!("f:{name}")),
        // The server may identify the items of a list by other keys than the path: ports by their
        // numbers instead of their names.
        Segment::Item(key) => fields
            .get(&format!("f:{key}"))
            .or_else(|| item(fields, |keys| content.has(place, keys)))
            .or_else(|| item(fields, |keys| keys.values().any(|value| is_key(value, key)))),
    };
    match below {
        // An empty set owns the value as a whole.
        Some(below) => below.as_object().is_some_and(Map::is_empty) || owns(below, rest, content),
        None => false,
    }
}

/// The item of a list with these keys.
fn item(
    fields: &Map<String, Value>,
    are_its: impl Fn(&Map<String, Value>) -> bool,
) -> Option<&Value> {
    let has_keys = |name: &str| {
        let keys = name.strip_prefix("k:").and_then(|keys| serde_json::from_str(keys).ok());
        keys.is_some_and(|keys: Map<_, _>| !keys.is_empty() && are_its(&keys))
    };
    fields.iter().find(|(name, _)| has_keys(name)).map(|(_, below)| below)
}

fn is_key(value: &Value, key: &str) -> bool {
    match value {
        Value::String(text) => text == key,
        Value::Number(number) => number.to_string() == key,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::content::Reading;

    const FIELDS: &str = r#"[
      {"manager":"kubectl-create","operation":"Update","time":"2026-11-24T10:00:00Z","fieldsV1":
        {"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:name":{}}}}}}}},
      {"manager":"kubectl-set","operation":"Update","time":"2026-11-24T10:00:05Z","fieldsV1":
        {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{"f:image":{}}}}}}}},
      {"manager":"kube-controller-manager","operation":"Update","subresource":"status","time":"2026-11-24T10:00:09Z",
        "fieldsV1":{"f:status":{"f:replicas":{}}}},
      "nonsense", {"manager": 5}
    ]"#;

    #[test]
    fn the_entry_that_owns_the_changed_path_is_the_writer() {
        let managers = Managers::parse(FIELDS);
        let writer = |path: &str| {
            managers.of_any(&[path.into()], &Content::default()).map(|m| m.name.to_string())
        };
        assert_eq!(
            writer("spec.template.spec.containers[web].image").as_deref(),
            Some("kubectl-set")
        );
        assert_eq!(writer("spec.replicas").as_deref(), Some("kubectl-create"));
        assert_eq!(writer("spec.paused"), None);
        assert_eq!(managers.of_status().unwrap().name.as_ref(), "kube-controller-manager");
        assert_eq!(managers.of_creation().unwrap().name.as_ref(), "kubectl-create");
    }

    #[test]
    fn items_are_told_apart_as_the_server_does_whatever_the_path_calls_them() {
        let object = serde_json::json!({"spec": {"ports": [
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 1},
            {"name": "dns-udp", "port": 53, "protocol": "UDP", "targetPort": 2},
        ]}});
        let content = Content::read(object.as_object().unwrap(), Reading::default());
        // All within one second, so that their times do not decide.
        let entries: Vec<Value> = [("tcp", 53, "TCP"), ("udp", 53, "UDP"), ("other", 80, "TCP")]
            .iter()
            .map(|(manager, port, protocol)| {
                let item = format!("k:{{\"port\":{port},\"protocol\":\"{protocol}\"}}");
                serde_json::json!({"manager": manager, "time": "2026-11-24T10:00:00Z",
                    "fieldsV1": {"f:spec": {"f:ports": {item: {"f:targetPort": {}}}}}})
            })
            .collect();
        let managers = Managers::parse(&Value::from(entries).to_string());
        let writer =
            |path: &str| managers.of_any(&[path.into()], &content).map(|m| m.name.to_string());
        assert_eq!(writer("spec.ports[dns-tcp].targetPort").as_deref(), Some("tcp"));
        assert_eq!(writer("spec.ports[dns-udp].targetPort").as_deref(), Some("udp"));
        assert_eq!(writer("spec.ports[dns-udp].nodePort"), None);
        assert_eq!(writer("spec.ports[gone].targetPort"), None);
    }

    #[test]
    fn invalid_managed_fields_name_no_manager() {
        for text in ["", "{}", "[[]]", "[null]", "[{\"fieldsV1\": 7}]"] {
            let of_any =
                Managers::parse(text).of_any(&["spec.replicas".into()], &Content::default());
            assert_eq!(of_any, None, "{text}");
        }
    }
}
