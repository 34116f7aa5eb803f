//! Which kinds are stamped.

use std::str::FromStr;

use super::objects::ObjectIdentity;
use crate::trace::model::{kind::is_built_in, object::GroupKind};

/// Built-in kinds that controllers act on and whose work is Pods.
const WORKLOADS: &[(&str, &str)] = &[
    ("", "Pod"),
    ("", "ReplicationController"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("batch", "CronJob"),
    ("batch", "Job"),
];

/// Groups of objects that tools read and that no API server has.
const TOOL_GROUPS: &[&str] = &["config.kubernetes.io", "kustomize.config.k8s.io"];

/// A kind that is stamped: an item of the option `--kinds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StampedKind {
    /// `default`: workloads and custom resources.
    Default,
    /// `Service`, `Deployment.apps`, `*.example.com`, `*`.
    Kind {
        /// `None`: every kind.
        kind: Option<String>,
        /// `None`: of every group.
        group: Option<String>,
    },
}

impl StampedKind {
    /// Whether an object is of this kind.
    pub fn includes(&self, object: &ObjectIdentity) -> bool {
        let group = object.group();
        match self {
            Self::Default => is_default(group, &object.kind),
            Self::Kind { kind, group: selected } => {
                kind.as_ref().is_none_or(|kind| *kind == object.kind)
                    && selected.as_ref().is_none_or(|selected| selected == group)
            }
        }
    }
}

impl FromStr for StampedKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let (kind, group) = match text.split_once('.') {
            Some((kind, group)) => (kind, Some(group)),
            None => (text, None),
        };
        let is_kind = kind == "*"
            || (kind.starts_with(|c: char| c.is_ascii_uppercase())
                && kind.chars().all(|c| c.is_ascii_alphanumeric()));
        if !is_kind || group == Some("") {
            return Err(
                "write a kind as Service, Deployment.apps or *.example.com, or write default"
                    .to_owned(),
            );
        }
        Ok(Self::Kind {
            kind: (kind != "*").then(|| kind.to_owned()),
            group: group.map(str::to_owned),
        })
    }
}

/// Controllers of clouds act on every change of some built-in objects, so that a new annotation on a
/// Service of type `LoadBalancer` starts work at the provider. Such kinds are stamped only where the
/// caller names them.
fn is_default(group: &str, kind: &str) -> bool {
    if WORKLOADS.contains(&(group, kind)) {
        return true;
    }
    !is_built_in(&GroupKind::new(group, kind)) && !TOOL_GROUPS.contains(&group)
}
