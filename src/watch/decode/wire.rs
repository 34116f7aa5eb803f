//! Splits the text of a watch event or an object into its parts, without parsing the parts.

use serde::de::MapAccess;
use serde_json::{Value, value::RawValue};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::json::{ObjectSeed, ReadField, integer, non_empty_text, skip_value, text, timestamp};
use crate::trace::model::{observation::Deletion, time::Timestamp};

/// A watch event: its type, such as `ADDED`, and its object.
#[derive(Default)]
pub(super) struct RawEvent<'de> {
    pub(super) kind: Option<&'de RawValue>,
    pub(super) object: RawObject<'de>,
}

impl<'de> ReadField<'de> for RawEvent<'de> {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = Some(map.next_value()?),
            "object" => {
                self.object = RawObject::default();
                map.next_value_seed(ObjectSeed(&mut self.object))?;
            }
            _ => return skip_value(map),
        }
        Ok(())
    }
}

/// A Kubernetes object with every part as unparsed text.
#[derive(Default)]
pub(super) struct RawObject<'de> {
    pub(super) api_version: Option<&'de RawValue>,
    pub(super) kind: Option<&'de RawValue>,
    pub(super) metadata: RawMetadata<'de>,
    pub(super) status: Option<&'de RawValue>,
    /// Every other top-level field, such as `spec` and `data`, in the order written.
    pub(super) content: Vec<(Box<str>, &'de RawValue)>,
}

impl<'de> RawObject<'de> {
    /// The top-level field `key`, unless it is apiVersion, kind, metadata or status.
    pub(super) fn content_field(&self, key: &str) -> Option<&'de RawValue> {
        self.content.iter().rev().find(|(name, _)| &**name == key).map(|(_, value)| *value)
    }
}

impl<'de> ReadField<'de> for RawObject<'de> {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "metadata" => return map.next_value_seed(ObjectSeed(&mut self.metadata)),
            "status" => self.status = Some(map.next_value()?),
            "kind" => self.kind = Some(map.next_value()?),
            _ => {
                let value: &RawValue = map.next_value()?;
                self.metadata.add_to_fingerprint(key, value);
                if key == "apiVersion" {
                    self.api_version = Some(value);
                } else {
                    self.content.push((key.into(), value));
                }
            }
        }
        Ok(())
    }
}

/// The fields of `metadata` that are read, as unparsed text.
#[derive(Default)]
pub(super) struct RawMetadata<'de> {
    pub(super) uid: Option<&'de RawValue>,
    pub(super) name: Option<&'de RawValue>,
    pub(super) namespace: Option<&'de RawValue>,
    resource_version: Option<&'de RawValue>,
    pub(super) generation: Option<&'de RawValue>,
    pub(super) creation_timestamp: Option<&'de RawValue>,
    deletion_timestamp: Option<&'de RawValue>,
    deletion_grace_period_seconds: Option<&'de RawValue>,
    pub(super) finalizers: Option<&'de RawValue>,
    pub(super) owner_references: Option<&'de RawValue>,
    pub(super) annotations: Option<&'de RawValue>,
    pub(super) labels: Option<&'de RawValue>,
    pub(super) managed_fields: Option<&'de RawValue>,
    /// Covers the text of everything that [`Body`](crate::trace::model::observation::Body) is made
    /// from, except managedFields: a status update changes those too.
    pub(super) fingerprint: u64,
}

impl RawMetadata<'_> {
    /// The resourceVersion as a number; 0 when it is absent or not a decimal number.
    pub(super) fn resource_version(&self) -> u64 {
        self.resource_version.and_then(text).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Whether there is a resourceVersion that is not a decimal number.
    pub(super) fn has_opaque_resource_version(&self) -> bool {
        let version = self.resource_version.and_then(non_empty_text);
        version.is_some_and(|text| text.parse::<u64>().is_err())
    }

    pub(super) fn deletion(&self) -> Option<Deletion> {
        let timestamp = self.deletion_timestamp.and_then(timestamp)?;
        let grace_seconds = self.deletion_grace_period_seconds.and_then(integer).unwrap_or(0);
        Some(Deletion { timestamp, grace_seconds })
    }

    /// As a value of which rules can read the fields that are kept here.
    pub(super) fn as_json(&self) -> Value {
        let fields = [
            ("name", self.name),
            ("namespace", self.namespace),
            ("uid", self.uid),
            ("generation", self.generation),
            ("creationTimestamp", self.creation_timestamp),
            ("deletionTimestamp", self.deletion_timestamp),
            ("labels", self.labels),
            ("annotations", self.annotations),
            ("finalizers", self.finalizers),
            ("ownerReferences", self.owner_references),
        ];
        let present = fields.into_iter().filter_map(|(key, raw)| {
            Some((key.to_owned(), serde_json::from_str(raw?.get()).ok()?))
        });
        Value::Object(present.collect())
    }

    /// The time of the object's last write, a whole second.
    ///
    /// This is the latest of the managedFields times, the creation time and the time of the
    /// deletion request, because a deletion request leaves no managedFields entry.
    pub(super) fn written_at(&self) -> Option<Timestamp> {
        let last_managed = self.managed_fields.and_then(|fields| latest_time(fields.get()));
        let created = self.creation_timestamp.and_then(timestamp);
        let deletion_requested = self.deletion().map(Deletion::asked);
        last_managed.max(created).max(deletion_requested)
    }

    /// Each value seeds the hash of the next one, which is cheap and depends on the order. An API
    /// server writes the fields of an object in the same order every time.
    fn add_to_fingerprint(&mut self, key: &str, value: &RawValue) {
        let key_hash = xxh3_64_with_seed(key.as_bytes(), self.fingerprint);
        self.fingerprint = xxh3_64_with_seed(value.get().as_bytes(), key_hash);
    }
}

impl<'de> ReadField<'de> for RawMetadata<'de> {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let value: &'de RawValue = map.next_value()?;
        let field = match key {
            "resourceVersion" => &mut self.resource_version,
            "generation" => &mut self.generation,
            "managedFields" => &mut self.managed_fields,
            _ => {
                self.add_to_fingerprint(key, value);
                match key {
                    "uid" => &mut self.uid,
                    "name" => &mut self.name,
                    "namespace" => &mut self.namespace,
                    "creationTimestamp" => &mut self.creation_timestamp,
                    "deletionTimestamp" => &mut self.deletion_timestamp,
                    "deletionGracePeriodSeconds" => &mut self.deletion_grace_period_seconds,
                    "finalizers" => &mut self.finalizers,
                    "ownerReferences" => &mut self.owner_references,
                    "annotations" => &mut self.annotations,
                    "labels" => &mut self.labels,
                    _ => return Ok(()),
                }
            }
        };
        *field = Some(value);
        Ok(())
    }
}

/// The latest `time` in the text of managedFields.
///
/// Searching the text avoids parsing the field sets, which are most of it. They cannot contain this
/// key: every key in them starts with `f:`, `k:`, `v:`, `i:` or is `.`.
fn latest_time(managed_fields: &str) -> Option<Timestamp> {
    let candidates = managed_fields.split("\"time\":\"").skip(1);
    let times = candidates.filter_map(|candidate| Some(candidate.split_once('"')?.0));
    times.max().and_then(Timestamp::parse)
}
