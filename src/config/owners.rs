//! The option `causes.owners`: how operators mark what they made, other than by a controller
//! reference, and the marks of well-known operators (`docs/causes.md`, Marks).

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    file::OwnerEntry,
    settings::{KindSelector, OwnerMarkSettings, OwnerSettings},
};

impl<'de> Deserialize<'de> for OwnerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The derived function of `remote = "Self"`.
        let owner = Self::deserialize(deserializer)?;
        owner.check().map(|()| owner).map_err(D::Error::custom)
    }
}

impl OwnerEntry {
    /// Returns what to do about an incomplete or contradictory entry.
    fn check(&self) -> Result<(), String> {
        let is_one_kind = self.owner.as_ref().is_some_and(|owner| owner.0.kind.is_some());
        if !is_one_kind && (self.kind.is_none() || self.field.is_some()) {
            return Err(match &self.owner {
                None => "an entry needs the kind that has the children, as in owner: \
                         Kafka.kafka.strimzi.io"
                    .to_owned(),
                Some(owner) => format!(
                    "{} is not one kind; write the kind, or in kind the path of the label with it",
                    owner.0
                ),
            });
        }
        if self.name.is_none() && (self.namespace.is_some() || self.kind.is_some()) {
            return Err("namespace and kind need name, the path of the owner's name".to_owned());
        }
        if self.name.is_some() && self.field.is_some() {
            return Err("name and field exclude each other: the child names its owner, or the \
                        owner its child"
                .to_owned());
        }
        if self.field.is_none() && !self.managers.is_empty() {
            return Err(
                "managers need field: a label or an annotation has a field manager of its \
                        own"
                .to_owned(),
            );
        }
        Ok(())
    }

    pub(super) fn settings(self) -> OwnerSettings {
        let mark = match (self.name, self.field) {
            (Some(name), _) => OwnerMarkSettings::Name {
                name: name.0,
                namespace: self.namespace,
                kind: self.kind.map(|kind| kind.0),
            },
            (None, Some(field)) => {
                OwnerMarkSettings::Field { field: field.0, managers: self.managers }
            }
            (None, None) => OwnerMarkSettings::Reference,
        };
        OwnerSettings {
            owner: self.owner.map(|owner| owner.0),
            child: self.child.map(|child| child.0),
            mark,
        }
    }
}

/// A mark that a child has: the paths of its owner's name, namespace and kind.
struct Named {
    /// Empty: the kind is in the mark, of the child's group.
    owner: &'static str,
    /// Empty: any kind.
    child: &'static str,
    name: &'static str,
    namespace: &'static str,
    kind: &'static str,
}

const fn named(owner: &'static str, child: &'static str, name: &'static str) -> Named {
    Named { owner, child, name, namespace: "", kind: "" }
}

/// Owners whose references are not controller references.
const BY_REFERENCE: [&str; 13] = [
    // https://github.com/strimzi/strimzi-kafka-operator: all but Pods
    "Kafka.kafka.strimzi.io",
    "KafkaConnect.kafka.strimzi.io",
    "KafkaBridge.kafka.strimzi.io",
    "KafkaMirrorMaker2.kafka.strimzi.io",
    "KafkaNodePool.kafka.strimzi.io",
    "KafkaUser.kafka.strimzi.io",
    // https://github.com/operator-framework/operator-lifecycle-manager/blob/master/pkg/lib/ownerutil/util.go
    "ClusterServiceVersion.operators.coreos.com",
    "Subscription.operators.coreos.com",
    // https://longhorn.io/docs/latest/concepts/
    "Volume.longhorn.io",
    // https://cluster-api.sigs.k8s.io/reference/api/owner-references
    "Cluster.cluster.x-k8s.io",
    "Machine.cluster.x-k8s.io",
    "MachinePool.cluster.x-k8s.io",
    "ClusterClass.cluster.x-k8s.io",
];

const BY_NAME: [Named; 15] = [
    // https://strimzi.io/docs/operators/latest/deploying
    Named {
        kind: "metadata.labels[strimzi.io/kind]",
        ..named("*.kafka.strimzi.io", "", "metadata.labels[strimzi.io/cluster]")
    },
    // Objects of another scope have no reference.
    Named {
        namespace: "metadata.labels[olm.owner.namespace]",
        kind: "metadata.labels[olm.owner.kind]",
        ..named("*.operators.coreos.com", "", "metadata.labels[olm.owner]")
    },
    // A claim and its composite resource are of one group:
    // https://docs.crossplane.io/v1.20/concepts/claims/
    Named {
        namespace: "metadata.labels[crossplane.io/claim-namespace]",
        kind: "spec.claimRef.kind",
        ..named("", "", "metadata.labels[crossplane.io/claim-name]")
    },
    // https://argo-workflows.readthedocs.io/en/latest/workflow-rbac/
    named("Workflow.argoproj.io", "", "metadata.labels[workflows.argoproj.io/workflow]"),
    // https://argoproj.github.io/argo-events/
    named("Sensor.argoproj.io", "", "metadata.labels[events.argoproj.io/sensor]"),
    // https://tekton.dev/docs/pipelines/labels/
    named(
        "PipelineRun.tekton.dev",
        "TaskRun.tekton.dev",
        "metadata.labels[tekton.dev/pipelineRun]",
    ),
    named(
        "PipelineRun.tekton.dev",
        "CustomRun.tekton.dev",
        "metadata.labels[tekton.dev/pipelineRun]",
    ),
    // https://cert-manager.io/docs/reference/annotations/
    named(
        "Certificate.cert-manager.io",
        "Secret",
        "metadata.annotations[cert-manager.io/certificate-name]",
    ),
    // https://argo-rollouts.readthedocs.io/en/stable/best-practices/
    named(
        "Rollout.argoproj.io",
        "",
        "metadata.annotations[argo-rollouts.argoproj.io/managed-by-rollouts]",
    ),
    // https://fluxcd.io/flux/components/kustomize/kustomizations/
    Named {
        namespace: "metadata.labels[kustomize.toolkit.fluxcd.io/namespace]",
        ..named(
            "Kustomization.kustomize.toolkit.fluxcd.io",
            "",
            "metadata.labels[kustomize.toolkit.fluxcd.io/name]",
        )
    },
    // https://fluxcd.io/flux/components/helm/helmreleases/
    Named {
        namespace: "metadata.labels[helm.toolkit.fluxcd.io/namespace]",
        ..named(
            "HelmRelease.helm.toolkit.fluxcd.io",
            "",
            "metadata.labels[helm.toolkit.fluxcd.io/name]",
        )
    },
    // https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/
    Named {
        namespace: "argocd",
        ..named(
            "Application.argoproj.io",
            "",
            "metadata.annotations[argocd.argoproj.io/tracking-id]",
        )
    },
    // https://velero.io/docs/main/api-types/schedule/
    named("Schedule.velero.io", "Backup.velero.io", "metadata.labels[velero.io/schedule-name]"),
    // https://karmada.io/docs/core-concepts/concepts
    Named {
        namespace: "metadata.annotations[resourcebinding.karmada.io/namespace]",
        ..named(
            "ResourceBinding.work.karmada.io",
            "Work.work.karmada.io",
            "metadata.annotations[resourcebinding.karmada.io/name]",
        )
    },
    named(
        "ClusterResourceBinding.work.karmada.io",
        "Work.work.karmada.io",
        "metadata.annotations[clusterresourcebinding.karmada.io/name]",
    ),
];

/// Fields of owners that name a child: owner, child (empty: the field has the kind), field, and the
/// field managers of the operator.
const BY_FIELD: [(&str, &str, &str, &[&str]); 5] = [
    // https://argo-rollouts.readthedocs.io/en/stable/migrating/
    ("Rollout.argoproj.io", "", "spec.workloadRef", &["rollouts-controller"]),
    // https://docs.flagger.app/usage/how-it-works
    ("Canary.flagger.app", "", "spec.targetRef", &["flagger"]),
    // https://cert-manager.io/docs/configuration/acme/
    (
        "Issuer.cert-manager.io",
        "Secret",
        "spec.acme.privateKeySecretRef",
        &["cert-manager-issuers", "cert-manager-acme-issuers"],
    ),
    // https://external-secrets.io/latest/guides/ownership-deletion-policy/
    ("ExternalSecret.external-secrets.io", "Secret", "spec.target", &["external-secrets"]),
    // https://cert-manager.io/docs/usage/certificate/: a Secret that lost its annotation
    (
        "Certificate.cert-manager.io",
        "Secret",
        "spec.secretName",
        &["cert-manager-certificates-issuing"],
    ),
];

/// The marks of well-known operators.
pub(super) fn shipped() -> Vec<OwnerSettings> {
    let kind = |text: &str| KindSelector::parse(text).ok();
    let path = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let by_reference = BY_REFERENCE.iter().map(|owner| OwnerSettings {
        owner: kind(owner),
        child: None,
        mark: OwnerMarkSettings::Reference,
    });
    let by_name = BY_NAME.iter().map(|row| OwnerSettings {
        owner: kind(row.owner),
        child: kind(row.child),
        mark: OwnerMarkSettings::Name {
            name: row.name.to_owned(),
            namespace: path(row.namespace),
            kind: path(row.kind),
        },
    });
    let by_field = BY_FIELD.iter().map(|(owner, child, field, managers)| OwnerSettings {
        owner: kind(owner),
        child: kind(child),
        mark: OwnerMarkSettings::Field {
            field: (*field).to_owned(),
            managers: managers.iter().map(|manager| (*manager).to_owned()).collect(),
        },
    });
    by_reference.chain(by_name).chain(by_field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field_path::is_well_formed;

    #[test]
    fn every_shipped_mark_is_one_that_the_option_accepts() {
        for row in shipped() {
            let paths = match &row.mark {
                OwnerMarkSettings::Reference => Vec::new(),
                OwnerMarkSettings::Name { name, kind, .. } => {
                    let is_one_kind = row.owner.as_ref().is_some_and(|owner| owner.kind.is_some());
                    assert!(is_one_kind || kind.is_some(), "{row:?}");
                    [Some(name), kind.as_ref()].into_iter().flatten().collect()
                }
                OwnerMarkSettings::Field { field, managers } => {
                    assert!(!managers.is_empty(), "{row:?}");
                    vec![field]
                }
            };
            assert!(paths.iter().all(|path| is_well_formed(path)), "{row:?}");
        }
        let kinds = BY_NAME.iter().flat_map(|row| [row.owner, row.child]);
        let kinds = kinds.chain(BY_REFERENCE).chain(BY_FIELD.iter().flat_map(|row| [row.0, row.1]));
        for kind in kinds.filter(|kind| !kind.is_empty()) {
            assert!(KindSelector::parse(kind).is_ok(), "{kind}");
        }
    }
}
