//! What `spanlink trace` is asked for: a trace, or an object.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::kinds::{KindName, Scope};
use crate::{
    causal_tree::{Search, StoredSpan},
    trace::{
        model::{
            span::{TraceId, Value},
            time::Timestamp,
        },
        spans::attributes,
    },
};

/// The argument of `spanlink trace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTarget {
    Trace(TraceId),
    Object(ObjectTarget),
}

/// An object as kubectl takes it: `deploy/web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectTarget {
    kind: KindName,
    name: String,
}

/// A trace id has 32 digits; Tempo leaves out leading zeros.
const ID_DIGITS: std::ops::RangeInclusive<usize> = 16..=32;

impl FromStr for TraceTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((kind, name)) = text.split_once('/') {
            if kind.is_empty() || name.is_empty() || name.contains('/') {
                return Err("write an object as KIND/NAME, such as deploy/web".to_owned());
            }
            return Ok(Self::Object(ObjectTarget {
                kind: KindName::new(kind),
                name: name.to_owned(),
            }));
        }
        // A traceparent: version, trace id, span id, flags.
        let digits = match text.split('-').collect::<Vec<_>>()[..] {
            [_version, trace_id, _span_id, _flags, ..] => trace_id,
            _ => text,
        };
        let is_id = ID_DIGITS.contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(digits, 16).ok().filter(|id| is_id && *id != 0);
        id.map(|id| Self::Trace(TraceId(id))).ok_or_else(|| {
            "write a trace id (32 hexadecimal digits), a traceparent, or KIND/NAME, such as \
             deploy/web"
                .to_owned()
        })
    }
}

impl ObjectTarget {
    /// The search for changes of the object. Of a kind that is not built in, only the name is searched:
    /// how the kind is spelled, and whether it has namespaces, is known from what is found.
    pub(super) fn search(&self, namespace: &str, cluster: Option<&str>) -> Search {
        let mut conditions = BTreeMap::from([(attributes::K8S_OBJECT_NAME, self.name.clone())]);
        if let Some((kind, scope)) = self.kind.built_in() {
            conditions.insert(attributes::K8S_OBJECT_KIND, kind.to_owned());
            if scope == Scope::Namespaced {
                conditions.insert(attributes::K8S_NAMESPACE_NAME, namespace.to_owned());
            }
        }
        if let Some(cluster) = cluster {
            conditions.insert("k8s.cluster.name", cluster.to_owned());
        }
        Search::Attributes(conditions)
    }

    /// Whether the span is the change span of the object.
    pub(super) fn is_change_of(
        &self,
        stored: &StoredSpan,
        namespace: &str,
        cluster: Option<&str>,
    ) -> bool {
        let object = &stored.span.object;
        stored.is_change()
            && *object.name == *self.name
            && self.kind.matches(&object.kind)
            && object.namespace.as_deref().is_none_or(|own| own == namespace)
            && cluster.is_none_or(|cluster| stored.cluster.as_deref() == Some(cluster))
    }
}

impl fmt::Display for ObjectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A change of the object that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FoundObject {
    at: Timestamp,
    pub(super) trace_id: TraceId,
    verb: String,
    generation: Option<i64>,
}

impl FoundObject {
    pub(super) fn new(stored: &StoredSpan) -> Self {
        let verb = match stored.span.attribute(attributes::VERB) {
            Some(Value::Text(verb)) => verb.to_string(),
            _ => String::new(),
        };
        let generation = match stored.span.attribute(attributes::GENERATION) {
            Some(Value::Int(generation)) => Some(*generation),
            _ => None,
        };
        Self { at: stored.span.start, trace_id: stored.span.trace_id, verb, generation }
    }
}

/// `2026-11-28T11:06:10Z  update g3  trace 6ece…`
impl fmt::Display for FoundObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.whole_second().to_string();
        let at = at.split('.').next().unwrap_or_default();
        write!(f, "{at}Z  {}", self.verb)?;
        if let Some(generation) = self.generation {
            write!(f, " g{generation}")?;
        }
        write!(f, "  trace {}", self.trace_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_an_id_a_traceparent_or_an_object() {
        let id = TraceTarget::Trace(TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
        assert_eq!("4bf92f3577b34da6a3ce929d0e0e4736".parse(), Ok(id.clone()));
        assert_eq!("4BF92F3577B34DA6A3CE929D0E0E4736".parse(), Ok(id.clone()));
        assert_eq!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse(), Ok(id));
        let object: TraceTarget = "deploy/web".parse().unwrap();
        assert!(matches!(object, TraceTarget::Object(_)));
        for invalid in ["", "web", "deploy/", "/web", "a/b/c", "4bf9", &"0".repeat(32)] {
            invalid.parse::<TraceTarget>().unwrap_err();
        }
    }

    #[test]
    fn search_names_kind_and_namespace_of_built_in_kinds_only() {
        let search = |target: &str| {
            let TraceTarget::Object(object) = target.parse().unwrap() else { panic!("{target}") };
            let Search::Attributes(attributes) = object.search("shop", None) else {
                panic!("{target}")
            };
            attributes.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            search("deploy/web"),
            ["k8s.namespace.name=shop", "k8s.object.kind=Deployment", "k8s.object.name=web"]
        );
        assert_eq!(search("no/n1"), ["k8s.object.kind=Node", "k8s.object.name=n1"]);
        assert_eq!(search("widgets.example.com/w"), ["k8s.object.name=w"]);
    }
}
