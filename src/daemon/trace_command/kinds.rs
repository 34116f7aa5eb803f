//! Names of kinds as kubectl takes them: `deploy`, `deployments`, `Deployment.apps`.

use std::fmt;

use crate::trace::model::object::GroupKind;

/// A kind as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KindName {
    /// Lower case: a short name, a singular or a plural.
    name: String,
    /// Empty if it was left out.
    group: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Namespaced,
    Cluster,
}

/// The short names of kubectl (`kubectl api-resources`), the kind, and its scope.
const BUILT_IN: [(&[&str], &str, Scope); 28] = {
    use Scope::{Cluster, Namespaced};
    [
        (&["deploy"], "Deployment", Namespaced),
        (&["rs"], "ReplicaSet", Namespaced),
        (&["sts"], "StatefulSet", Namespaced),
        (&["ds"], "DaemonSet", Namespaced),
        (&["po"], "Pod", Namespaced),
        (&[], "Job", Namespaced),
        (&["cj"], "CronJob", Namespaced),
        (&["rc"], "ReplicationController", Namespaced),
        (&["svc"], "Service", Namespaced),
        (&["cm"], "ConfigMap", Namespaced),
        (&[], "Secret", Namespaced),
        (&["sa"], "ServiceAccount", Namespaced),
        (&["ing"], "Ingress", Namespaced),
        (&["netpol"], "NetworkPolicy", Namespaced),
        (&["hpa"], "HorizontalPodAutoscaler", Namespaced),
        (&["pdb"], "PodDisruptionBudget", Namespaced),
        (&["pvc"], "PersistentVolumeClaim", Namespaced),
        (&["quota"], "ResourceQuota", Namespaced),
        (&["limits"], "LimitRange", Namespaced),
        (&["ep"], "Endpoints", Namespaced),
        (&[], "Role", Namespaced),
        (&[], "RoleBinding", Namespaced),
        (&["pv"], "PersistentVolume", Cluster),
        (&["no"], "Node", Cluster),
        (&["ns"], "Namespace", Cluster),
        (&["sc"], "StorageClass", Cluster),
        (&["pc"], "PriorityClass", Cluster),
        (&["crd", "crds"], "CustomResourceDefinition", Cluster),
    ]
};

impl KindName {
    pub(super) fn new(text: &str) -> Self {
        let (name, group) = text.split_once('.').unwrap_or((text, ""));
        // kubectl takes the version as well: `deployments.v1.apps`.
        let group = match group.split_once('.') {
            Some((version, group)) if is_version(version) => group,
            _ => group,
        };
        Self { name: name.to_lowercase(), group: group.to_lowercase() }
    }

    /// The kind, if it is one that Kubernetes has built in.
    pub(super) fn built_in(&self) -> Option<(&'static str, Scope)> {
        let is_custom = self.group.contains('.') && !self.group.ends_with(".k8s.io");
        let names = BUILT_IN.iter().filter(|_| !is_custom);
        let mut found = names.filter(|(short, kind, _)| {
            short.contains(&&*self.name) || is_spelling_of(&self.name, kind)
        });
        found.next().map(|(_, kind, scope)| (*kind, *scope))
    }

    pub(super) fn matches(&self, kind: &GroupKind) -> bool {
        let is_group = self.group.is_empty() || *kind.group == *self.group;
        is_group
            && match self.built_in() {
                Some((built_in, _)) => *kind.kind == *built_in,
                None => is_spelling_of(&self.name, &kind.kind),
            }
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.built_in(), &*self.group) {
            (Some((kind, _)), _) => f.write_str(kind),
            (None, "") => f.write_str(&self.name),
            (None, group) => write!(f, "{}.{group}", self.name),
        }
    }
}

/// Whether the name is the singular or the plural of a kind.
fn is_spelling_of(name: &str, kind: &str) -> bool {
    let singular = kind.to_lowercase();
    let plural = match singular.chars().last() {
        Some('s' | 'x' | 'z') => format!("{singular}es"),
        Some('h') if singular.ends_with("ch") || singular.ends_with("sh") => {
            format!("{singular}es")
        }
        Some('y') => match singular.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
            _ => format!("{singular}s"),
        },
        _ => format!("{singular}s"),
    };
    name == singular || name == plural
}

/// `v1`, `v2beta1`
fn is_version(text: &str) -> bool {
    let rest = text.strip_prefix('v').unwrap_or_default();
    rest.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_found_by_its_short_name_its_singular_and_its_plural() {
        for (name, kind) in [
            ("deploy", "Deployment"),
            ("Deployment.apps", "Deployment"),
            ("deployments.v1.apps", "Deployment"),
            ("po", "Pod"),
            ("netpol", "NetworkPolicy"),
            ("networkpolicies.networking.k8s.io", "NetworkPolicy"),
            ("ingresses", "Ingress"),
            ("jobs", "Job"),
        ] {
            assert_eq!(KindName::new(name).built_in().map(|(kind, _)| kind), Some(kind), "{name}");
        }
        assert_eq!(KindName::new("jobs.example.com").built_in(), None);
        assert_eq!(KindName::new("widgets").built_in(), None);
    }

    #[test]
    fn custom_kind_matches_its_own_spellings_and_its_group() {
        let widget = GroupKind::new("example.com", "Widget");
        for name in ["widget", "widgets", "Widget", "widgets.example.com", "widgets.v1.example.com"]
        {
            assert!(KindName::new(name).matches(&widget), "{name}");
        }
        for name in ["gadget", "widgets.example.org", "deploy"] {
            assert!(!KindName::new(name).matches(&widget), "{name}");
        }
    }
}
