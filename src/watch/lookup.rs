//! Reads one object of the cluster, by a kind and a name as `kubectl get` accepts them.

use http::Request;
use kube::{
    Client,
    core::discovery::v2::{APIGroupDiscovery, APIGroupDiscoveryList, APIResourceDiscovery},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    discovery::DiscoveryError,
    request::ANSWER_TIMEOUT,
    resolve::{Resolved, percent_encoded},
};
use crate::{
    config::settings::WatchSettings,
    trace::model::{kind::is_built_in, object::GroupKind},
};

/// An object as a command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// `Deployment`, `deployments`, `deploy`, `deployment.apps`, `apps/v1/Deployment`.
    pub kind: String,
    pub name: String,
    /// `None`: the namespace of the kubeconfig's context, for kinds in namespaces.
    pub namespace: Option<String>,
}

/// Why the object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("cannot read the kinds that the API server serves")]
    Discovery { source: DiscoveryError },
    #[error("the cluster serves no kind {wanted}{}", suggestion(.nearest.as_ref()))]
    UnknownKind { wanted: String, nearest: Option<String> },
    #[error("{wanted} is the name of several kinds; write one of: {}", .kinds.join(", "))]
    AmbiguousKind { wanted: String, kinds: Vec<String> },
    #[error("{object} does not exist{}", if *.is_namespaced { "; option -n sets the namespace" } else { "" })]
    NotFound { object: String, is_namespaced: bool },
    #[error("cannot read {object}")]
    Read { object: String, source: kube::Error },
    #[error("cannot read {object}: the API server did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout { object: String },
}

fn suggestion(nearest: Option<&String>) -> String {
    nearest.map_or_else(
        || "; kubectl api-resources lists its kinds".to_owned(),
        |nearest| format!("; did you mean {nearest}?"),
    )
}

/// An object of the cluster.
#[derive(Debug)]
pub struct FoundObject {
    pub object: Value,
    /// Its kind has a status subresource.
    pub has_status: bool,
}

/// Reads an object, in the version that the configuration watches, else in the version that the API
/// server prefers. Sends the two requests of discovery, and one for the object.
///
/// # Errors
/// When no kind or several kinds have this name, the object does not exist, or the API server does
/// not answer or refuses to.
pub async fn read_object(
    client: &Client,
    settings: &WatchSettings,
    wanted: &ObjectName,
) -> Result<FoundObject, LookupError> {
    let kinds = served_kinds(client).await.map_err(|source| LookupError::Discovery { source })?;
    let kind = choose(&kinds, settings, &wanted.kind)?;
    let namespace = kind
        .namespaced
        .then(|| wanted.namespace.as_deref().unwrap_or_else(|| client.default_namespace()));
    let name = &wanted.name;
    let object = match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", kind.kind),
        None => format!("{} {name}", kind.kind),
    };
    let encoded = namespace.map(percent_encoded);
    let path = format!("{}/{}", kind.path(encoded.as_deref()), percent_encoded(name));
    let failed = |source| match source {
        kube::Error::Api(status) if status.code == 404 => {
            LookupError::NotFound { object: object.clone(), is_namespaced: kind.namespaced }
        }
        source => LookupError::Read { object: object.clone(), source },
    };
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(|error| failed(kube::Error::HttpError(error)))?;
    match timeout(ANSWER_TIMEOUT, client.request(request)).await {
        Ok(Ok(object)) => Ok(FoundObject { object, has_status: kind.has_status }),
        Ok(Err(error)) => Err(failed(error)),
        Err(_elapsed) => Err(LookupError::Timeout { object }),
    }
}

/// A kind with every name that `kubectl` accepts for it.
#[derive(Clone, Debug)]
struct ServedKind {
    resolved: Resolved,
    singular: String,
    short_names: Vec<String>,
}

/// How well a name fits a kind; a full name comes before another kind's short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Full,
    Short,
}

impl ServedKind {
    /// `name` is in lower case.
    fn fit(&self, name: &str) -> Option<Fit> {
        let kind = self.resolved.kind.kind.to_lowercase();
        if [&*kind, &self.resolved.plural, &self.singular].contains(&name) {
            Some(Fit::Full)
        } else {
            self.short_names.iter().any(|short| short == name).then_some(Fit::Short)
        }
    }
}

/// In the order of the API server: the groups and versions that it prefers come first.
async fn served_kinds(client: &Client) -> Result<Vec<ServedKind>, DiscoveryError> {
    let lists = async {
        let core = client.list_core_api_versions_aggregated().await?;
        let others = client.list_api_groups_aggregated().await?;
        Ok::<_, kube::Error>([core, others])
    };
    match timeout(ANSWER_TIMEOUT, lists).await {
        Ok(lists) => Ok(lists?.iter().flat_map(kinds_of).collect()),
        Err(_elapsed) => Err(DiscoveryError::Timeout),
    }
}

fn kinds_of(list: &APIGroupDiscoveryList) -> impl Iterator<Item = ServedKind> {
    list.items.iter().flat_map(|group| {
        group.versions.iter().flat_map(move |version| {
            let version_name = version.version.as_deref().unwrap_or_default();
            let resources = version.resources.iter();
            resources.filter_map(move |resource| served_kind(group, version_name, resource))
        })
    })
}

fn served_kind(
    group: &APIGroupDiscovery,
    version: &str,
    resource: &APIResourceDiscovery,
) -> Option<ServedKind> {
    let group = group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref());
    // A resource with nothing but subresources has no kind.
    let kind = resource.response_kind.as_ref()?.kind.as_deref().filter(|kind| !kind.is_empty())?;
    Some(ServedKind {
        resolved: Resolved {
            kind: GroupKind::new(group.unwrap_or_default(), kind),
            version: version.to_owned(),
            plural: resource.resource.clone()?,
            namespaced: resource.scope.as_deref() == Some("Namespaced"),
            has_status: resource
                .subresources
                .iter()
                .any(|subresource| subresource.subresource.as_deref() == Some("status")),
        },
        singular: resource.singular_resource.clone().unwrap_or_default(),
        short_names: resource.short_names.clone(),
    })
}

/// A kind as it was written, in parts.
struct Written<'a> {
    name: String,
    group: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Written<'a> {
    /// Every way in which the text can be read: the part after a dot is a group, or a version and a
    /// group.
    fn readings(text: &'a str) -> Vec<Self> {
        let read = |name: &str, group, version| Self { name: name.to_lowercase(), group, version };
        let parts: Vec<&str> = text.split('/').collect();
        match *parts.as_slice() {
            [group, version, kind] => vec![read(kind, Some(group), Some(version))],
            [version, kind] => vec![read(kind, Some(""), Some(version))],
            _ => match text.split_once('.') {
                None => vec![read(text, None, None)],
                Some((name, rest)) => {
                    let versioned = rest
                        .split_once('.')
                        .map(|(version, group)| read(name, Some(group), Some(version)));
                    [read(name, Some(rest), None)].into_iter().chain(versioned).collect()
                }
            },
        }
    }

    fn fit(&self, kind: &ServedKind) -> Option<Fit> {
        let is_of =
            |wanted: Option<&str>, actual: &str| wanted.is_none_or(|wanted| wanted == actual);
        let is_it = is_of(self.group, &kind.resolved.kind.group)
            && is_of(self.version, &kind.resolved.version);
        if is_it { kind.fit(&self.name) } else { None }
    }
}

/// The kind that a text names. A kind of Kubernetes itself comes before others of the same name, as
/// with `kubectl`.
fn choose<'a>(
    kinds: &'a [ServedKind],
    settings: &WatchSettings,
    text: &str,
) -> Result<&'a Resolved, LookupError> {
    let readings = Written::readings(text);
    let fit_of = |kind: &ServedKind| readings.iter().filter_map(|reading| reading.fit(kind)).min();
    let best = kinds.iter().filter_map(fit_of).min();
    let fitting: Vec<&Resolved> = kinds
        .iter()
        .filter(|kind| best.is_some() && fit_of(kind) == best)
        .map(|kind| &kind.resolved)
        .collect();
    let first = fitting
        .iter()
        .find(|kind| kind.kind.group.is_empty())
        .or_else(|| fitting.iter().find(|kind| is_built_in(&kind.kind)));
    let kind = match first.or_else(|| fitting.first()) {
        Some(kind) => &kind.kind,
        None => {
            return Err(LookupError::UnknownKind {
                wanted: text.to_owned(),
                nearest: nearest(kinds, text),
            });
        }
    };
    if first.is_none() && fitting.iter().any(|other| other.kind != *kind) {
        let mut names: Vec<String> = fitting.iter().map(|kind| kind.kind.to_string()).collect();
        names.dedup();
        return Err(LookupError::AmbiguousKind { wanted: text.to_owned(), kinds: names });
    }
    let versions = || fitting.iter().filter(|version| version.kind == *kind);
    let configured = settings
        .entry(&kind.group, &kind.kind)
        .and_then(|entry| entry.selector.version.as_ref())
        .and_then(|configured| versions().find(|version| version.version == *configured));
    configured
        .or_else(|| versions().next())
        .copied()
        .ok_or_else(|| LookupError::UnknownKind { wanted: text.to_owned(), nearest: None })
}

/// The kind whose name differs least from the text, if that is a likely misspelling.
fn nearest(kinds: &[ServedKind], text: &str) -> Option<String> {
    let wanted = text.rsplit('/').next().unwrap_or(text).to_lowercase();
    let name = wanted.split('.').next().unwrap_or(&wanted);
    let distance = |kind: &Resolved| {
        let of_kind = strsim::osa_distance(&kind.kind.kind.to_lowercase(), name);
        of_kind.min(strsim::osa_distance(&kind.plural, name))
    };
    kinds
        .iter()
        .map(|kind| (distance(&kind.resolved), &kind.resolved.kind))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= name.len().div_ceil(3))
        .map(|(_, kind)| kind.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;

    fn kind(api_version: &str, kind: &str, plural: &str, short: &str) -> ServedKind {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        ServedKind {
            resolved: Resolved {
                kind: GroupKind::new(group, kind),
                version: version.to_owned(),
                plural: plural.to_owned(),
                namespaced: true,
                has_status: true,
            },
            singular: kind.to_lowercase(),
            short_names: vec![short.to_owned()],
        }
    }

    fn chosen(text: &str) -> String {
        let kinds = [
            kind("v1", "Pod", "pods", "po"),
            kind("metrics.k8s.io/v1beta1", "PodMetrics", "pods", ""),
            kind("apps/v1", "Deployment", "deployments", "deploy"),
            kind("a.example.com/v2", "Cluster", "clusters", "cl"),
            kind("a.example.com/v1", "Cluster", "clusters", "cl"),
            kind("b.example.com/v1", "Cluster", "clusters", "cl"),
            kind("b.example.com/v1", "Deploy", "deploys", "po"),
        ];
        let settings = Settings::load(None, []).unwrap().watch;
        match choose(&kinds, &settings, text) {
            Ok(kind) => format!("{} {}", kind.kind, kind.version),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn kind_is_found_by_every_name_that_kubectl_accepts() {
        for text in [
            "Deployment",
            "deployment",
            "DEPLOYMENTS",
            "deployment.apps",
            "deployments.v1.apps",
            "apps/v1/Deployment",
        ] {
            assert_eq!(chosen(text), "Deployment.apps v1", "{text}");
        }
        for text in ["pod", "pods", "po", "v1/Pod"] {
            assert_eq!(chosen(text), "Pod v1", "{text}");
        }
        assert_eq!(chosen("pods.metrics.k8s.io"), "PodMetrics.metrics.k8s.io v1beta1");
        // A full name comes before a short name.
        assert_eq!(chosen("deploy"), "Deploy.b.example.com v1");
        assert_eq!(chosen("cluster.a.example.com"), "Cluster.a.example.com v2");
        assert_eq!(chosen("cl.v1.a.example.com"), "Cluster.a.example.com v1");
    }

    #[test]
    fn unknown_and_ambiguous_kinds_are_refused_with_the_right_names() {
        assert_eq!(
            chosen("deploymnet/web".split('/').next().unwrap()),
            "the cluster serves no kind deploymnet; did you mean Deployment.apps?"
        );
        assert_eq!(
            chosen("deployment.example.com"),
            "the cluster serves no kind deployment.example.com; did you mean Deployment.apps?"
        );
        assert_eq!(
            chosen("certificate"),
            "the cluster serves no kind certificate; kubectl api-resources lists its kinds"
        );
        assert_eq!(
            chosen("clusters"),
            "clusters is the name of several kinds; write one of: Cluster.a.example.com, \
             Cluster.b.example.com"
        );
    }
}
