//! Finds the field manager that made a change, by `metadata.managedFields`, which may be absent.
//!
//! The writer is the entry that owns a changed path, not the newest entry
//! ([server-side apply](https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management)).
//! A removed path has no owner: its writer has the only entry that is newer than the state before.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::trace::model::{
    content::Content,
    object::Uid,
    observation::Carrier,
    path::{Segment, steps},
    time::Timestamp,
};

/// How the field managers of kubectl and of its plugins begin: persons, never controllers.
pub const KUBECTL: &str = "kubectl";

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

    /// The only manager that wrote more than the status after `before`, the [`last_write`] of the
    /// state before; `None` where there are several.
    ///
    /// An entry that the state before has in the same second does not count: a request that only
    /// removes fields and does not apply them leaves
    /// [no entry](https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/managedfieldsupdater.go).
    pub fn only_writer_since(&self, before: ContentWrite) -> Option<Manager> {
        let is_newer = |entry: &&Entry| {
            Timestamp::parse(&entry.time)
                .is_some_and(|time| time > before.at || before.is_unknown_at(time, &entry.manager))
        };
        let entries = self.entries.iter();
        let mut newer = entries
            .filter(|entry| !is_status_entry(&entry.subresource, entry.owns_status()))
            .filter(is_newer);
        newer.next().filter(|_| newer.next().is_none()).map(Manager::from)
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

    /// The writer of a trace context.
    pub fn of_carrier(&self, carrier: &Carrier) -> Option<Manager> {
        if carrier.is_field { self.of_path(&carrier.key) } else { self.of_annotation(&carrier.key) }
    }

    /// Whether the controller of the object wrote its trace context: the field manager that writes the
    /// status, or that set the controller reference. It asked for nothing with it.
    pub fn is_by_controller(&self, carrier: &Carrier, controller: Option<&Uid>) -> bool {
        if carrier.is_in_status() {
            return true;
        }
        let Some(writer) = self.of_carrier(carrier) else { return false };
        let set_reference = || {
            let setter = self.of_owner_reference(controller?);
            setter.filter(|setter| setter.name == writer.name)
        };
        !writer.name.starts_with(KUBECTL)
            && (self.status_writer() == StatusWriter::One(writer.name.clone())
                || set_reference().is_some())
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
            .filter(|entry| entry.owns_status())
            .max_by(|a, b| a.time.cmp(&b.time))
            .map(Manager::from)
    }

    /// The writer of the status by its fields: the owner of `status.observedGeneration`, else the one
    /// that owns most of it. A person who patches a status with kubectl is not its writer.
    pub fn status_writer(&self) -> StatusWriter {
        let mut shares: Vec<(&str, (bool, usize))> = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.manager.starts_with(KUBECTL)) {
            let Some(status) = entry.fields_v1.get(STATUS) else { continue };
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

    fn owner_of_steps(&self, steps: &[String]) -> Option<Manager> {
        let owns = |entry: &&Entry| {
            steps.iter().try_fold(&entry.fields_v1, |at, step| at.get(step)).is_some()
        };
        self.entries.iter().filter(owns).max_by(|a, b| a.time.cmp(&b.time)).map(Manager::from)
    }
}

impl Entry {
    fn owns_status(&self) -> bool {
        self.fields_v1.get(STATUS).is_some()
    }
}

/// The key of the status in a field set.
const STATUS: &str = "f:status";

/// Whether an entry may stand for a write of the status alone. Custom resources without a status
/// subresource have their status written like any other field.
fn is_status_entry(subresource: &str, owns_status: bool) -> bool {
    subresource == "status" || owns_status
}

/// The last write of an object that wrote more than its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ContentWrite {
    /// Whole seconds; 0 where no entry has a time.
    pub at: Timestamp,
    /// A bit for each field manager with an entry of that second; several may share a bit.
    managers: u64,
}

impl ContentWrite {
    fn is_unknown_at(&self, time: Timestamp, manager: &str) -> bool {
        time == self.at && self.managers & bit_of(manager) == 0
    }
}

fn bit_of(manager: &str) -> u64 {
    1 << (xxh3_64(manager.as_bytes()) % u64::from(u64::BITS))
}

/// The last write of more than the status, by the JSON text of managedFields. Field sets are skipped,
/// not parsed.
pub fn last_write(managed_fields: &str) -> Option<ContentWrite> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Write {
        manager: Box<str>,
        subresource: Box<str>,
        time: Box<str>,
        fields_v1: FieldSet,
    }

    let writes: Vec<Write> = serde_json::from_str(managed_fields).ok()?;
    let of_content = writes
        .iter()
        .filter(|write| !is_status_entry(&write.subresource, write.fields_v1.has_status));
    let timed =
        of_content.filter_map(|write| Some((Timestamp::parse(&write.time)?, &write.manager)));
    timed.fold(None, |last: Option<ContentWrite>, (at, manager)| {
        let managers = bit_of(manager);
        match last {
            Some(last) if at < last.at => Some(last),
            Some(last) if at == last.at => {
                Some(ContentWrite { at, managers: last.managers | managers })
            }
            _ => Some(ContentWrite { at, managers }),
        }
    })
}

/// The part of a field set that [`last_write`] reads.
#[derive(Default)]
struct FieldSet {
    has_status: bool,
}

impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = FieldSet;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a field set")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldSet, A::Error> {
                let mut set = FieldSet::default();
                while let Some((key, IgnoredAny)) = map.next_entry::<Box<str>, _>()? {
                    set.has_status |= *key == *STATUS;
                }
                Ok(set)
            }
        }

        deserializer.deserialize_map(Keys)
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
    fn only_entry_that_is_newer_than_the_last_write_is_the_writer() {
        let second = |second: u8| {
            Timestamp::parse(&format!("2026-11-24T10:00:{second:02}Z")).unwrap_or_default()
        };
        let managers = Managers::parse(FIELDS);
        let writer = |at: u8, by: &str| {
            let before = ContentWrite { at: second(at), managers: bit_of(by) };
            managers.only_writer_since(before).map(|m| m.name.to_string())
        };
        assert_eq!(writer(0, "kubectl-create").as_deref(), Some("kubectl-set"));
        assert_eq!(writer(4, "kubectl-create").as_deref(), Some("kubectl-set"));
        // The status is no candidate, nor is the entry that wrote the state before.
        assert_eq!(writer(5, "kubectl-set"), None);
        // Two managers can write within one second.
        assert_eq!(writer(5, "operator").as_deref(), Some("kubectl-set"));
        assert_eq!(managers.only_writer_since(ContentWrite::default()), None, "two are newer");
    }

    #[test]
    fn last_write_leaves_out_the_status() {
        let entry = |second: u8, subresource: &str, fields: &Value| {
            serde_json::json!({"manager": "m", "subresource": subresource,
                "time": format!("2026-11-24T10:00:{second:02}Z"), "fieldsV1": fields})
        };
        let spec = serde_json::json!({"f:spec": {"f:replicas": {}}});
        let status = serde_json::json!({"f:metadata": {}, "f:status": {"f:replicas": {}}});
        let entries = [
            entry(1, "", &spec),
            entry(3, "", &spec),
            entry(5, "status", &spec),
            // An entry of a custom resource without a status subresource.
            entry(7, "", &status),
            serde_json::json!({"manager": "m", "subresource": "scale", "fieldsV1": spec}),
        ];
        let text = Value::from(entries.to_vec()).to_string();
        let last = last_write(&text).unwrap();
        assert_eq!(Some(last.at), Timestamp::parse("2026-11-24T10:00:03Z"));
        assert!(!last.is_unknown_at(last.at, "m") && last.is_unknown_at(last.at, "other"));
        assert_eq!(last_write(""), None);
    }

    #[test]
    fn list_items_are_matched_by_the_keys_of_the_server() {
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
