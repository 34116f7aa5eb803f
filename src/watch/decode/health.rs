//! Applies the rules of readiness that need the text of an object.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value, value::RawValue};
use tracing::{debug, warn};

use super::{json::fields_of, wire::RawObject};
use crate::{
    config::settings::{ConvergesSettings, WatchSettings},
    health_rule::{Fields, HealthRule, Verdict},
    trace::{
        model::object::{GroupKind, ObjectRef},
        readiness::shipped,
    },
};

/// A longer text of an object is not judged by a rule.
const MAX_TEXT: usize = 1024 * 1024;

/// The rules for the kinds of one watch, and what they decided last.
#[derive(Debug, Default)]
pub(super) struct HealthRules {
    by_kind: HashMap<(GroupKind, Box<str>), Option<Arc<KindRule>>>,
    /// By UID hash: the fingerprint of the text, and the verdict about it.
    verdicts: HashMap<u128, (u64, Box<Verdict>)>,
    /// Kinds whose rule has failed before.
    warned: Vec<GroupKind>,
    failures: u64,
}

#[derive(Debug)]
struct KindRule {
    rule: HealthRule,
    fields: Fields,
}

impl HealthRules {
    /// The verdict of the kind's rule about an object; `None`: the kind has no rule. `fingerprint` is
    /// that of the text: as long as it is the same, so is the verdict.
    pub(super) fn verdict(
        &mut self,
        settings: &WatchSettings,
        object: &RawObject<'_>,
        reference: &ObjectRef,
        (api_version, uid, fingerprint): (&str, u128, u64),
    ) -> Option<Box<Verdict>> {
        let key = (reference.kind.clone(), Box::from(api_version));
        let rule = self
            .by_kind
            .entry(key)
            .or_insert_with_key(|(kind, version)| {
                let rule = rule_for(settings, kind, version)?;
                let fields = rule.fields();
                Some(Arc::new(KindRule { rule, fields }))
            })
            .clone()?;
        if let Some((of, verdict)) = self.verdicts.get(&uid)
            && *of == fingerprint
        {
            return Some(verdict.clone());
        }
        let verdict = Box::new(self.evaluate(&rule, object, reference));
        self.verdicts.insert(uid, (fingerprint, verdict.clone()));
        Some(verdict)
    }

    /// Whether the rule of a kind says that its controller does not maintain observedGeneration.
    pub(super) fn ignores_observed_generation(&self, kind: &GroupKind, api_version: &str) -> bool {
        let key = (kind.clone(), Box::from(api_version));
        let rule = self.by_kind.get(&key).and_then(Option::as_ref);
        rule.is_some_and(|of| of.rule.ignores_observed_generation)
    }

    pub(super) fn forget(&mut self, uid: u128) {
        self.verdicts.remove(&uid);
    }

    /// Forgets all objects but those that `is_kept`.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&u128) -> bool) {
        self.verdicts.retain(|uid, _| is_kept(uid));
    }

    /// How many evaluations have failed since the last call.
    pub(super) fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn evaluate(
        &mut self,
        rule: &KindRule,
        object: &RawObject<'_>,
        reference: &ObjectRef,
    ) -> Verdict {
        let result = match read_fields(object, &rule.fields) {
            Some(fields) => rule.rule.evaluate(&fields),
            None => Err("the object is too large".to_owned()),
        };
        result.unwrap_or_else(|error| {
            self.failures = self.failures.saturating_add(1);
            if self.warned.contains(&reference.kind) {
                debug!(object = %reference, error, "Health rule failed.");
            } else {
                self.warned.push(reference.kind.clone());
                warn!(
                    object = %reference, error,
                    "Health rule failed; the object counts as unknown. Further failures of this \
                     kind are logged at debug level."
                );
            }
            Verdict::unknown()
        })
    }
}

/// The configured rule, else the shipped one.
fn rule_for(settings: &WatchSettings, kind: &GroupKind, api_version: &str) -> Option<HealthRule> {
    match settings.entry(&kind.group, &kind.kind).and_then(|entry| entry.converges.as_ref()) {
        Some(ConvergesSettings::Cel(rule)) => return Some(rule.clone()),
        Some(ConvergesSettings::Field(_)) => return None,
        None => {}
    }
    let is_for = |name: &Option<String>| name.as_deref().is_none_or(|name| name == &*kind.kind);
    let mut checks = settings.health_checks.iter();
    match checks.find(|check| check.api_version == api_version && is_for(&check.kind)) {
        Some(check) => Some(check.rule.clone()),
        None if settings.shipped_rules.apply_to(&kind.group) => shipped::rule(kind).cloned(),
        None => None,
    }
}

/// The fields that a rule reads, parsed.
fn read_fields(object: &RawObject<'_>, fields: &Fields) -> Option<Map<String, Value>> {
    let mut read = Map::new();
    for (name, parts) in fields {
        let raw = match &**name {
            "apiVersion" => object.api_version,
            "kind" => object.kind,
            "status" => object.status,
            "metadata" => {
                read.insert("metadata".to_owned(), object.metadata.as_json());
                continue;
            }
            name => object.content_field(name),
        };
        let Some(raw) = raw else { continue };
        read.insert((**name).to_owned(), read_value(raw, parts.as_deref())?);
    }
    Some(read)
}

/// The parts of a field, or all of it.
fn read_value(raw: &RawValue, parts: Option<&[Box<str>]>) -> Option<Value> {
    if raw.get().len() > MAX_TEXT {
        return None;
    }
    let parse = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(Value::Null);
    match parts {
        Some(parts) if raw.get().starts_with('{') => {
            let fields = fields_of(raw).into_iter();
            let wanted = fields.filter(|(key, _)| parts.iter().any(|part| **part == **key));
            Some(Value::Object(wanted.map(|(key, raw)| (key.into_owned(), parse(raw))).collect()))
        }
        Some(_) | None => Some(parse(raw)),
    }
}
