//! Resolves configured kinds to the resources that the API server serves.

use kube::{
    Client,
    discovery::{Discovery, Scope, verbs},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::{field::Empty, info_span};

use crate::{
    config::settings::{KindSelector, KindSettings},
    trace::model::{kind::is_built_in, object::GroupKind},
};

/// A kind as the server serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resolved {
    pub kind: GroupKind,
    pub version: String,
    pub plural: String,
    pub namespaced: bool,
    /// The resource has the subresource `status`.
    pub has_status: bool,
}

impl Resolved {
    /// The name of the resource in recordings: `deployments.apps`, `pods`.
    pub fn name(&self) -> String {
        if self.kind.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.kind.group)
        }
    }

    pub fn api_version(&self) -> String {
        if self.kind.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.kind.group, self.version)
        }
    }

    /// The path to list and watch at.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.kind.group.is_empty() { "/api/" } else { "/apis/" };
        match namespace {
            Some(namespace) => {
                format!("{root}{}/namespaces/{namespace}/{}", self.api_version(), self.plural)
            }
            None => format!("{root}{}/{}", self.api_version(), self.plural),
        }
    }
}

/// A kind in the configuration that can never be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownKind {
    #[error("unknown kind {wanted}{}", suggestion(.nearest.as_ref()))]
    Kind { wanted: String, nearest: Option<String> },
    #[error("kind {wanted} cannot be watched")]
    NotWatchable { wanted: String },
}

fn suggestion(nearest: Option<&String>) -> String {
    nearest.map_or_else(
        || "; write custom resources as Kind.group; they may be installed later".to_owned(),
        |nearest| format!("; did you mean {nearest}?"),
    )
}

/// All kinds that the server serves, with whether each can be watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    kinds: Vec<(Resolved, bool)>,
}

impl Served {
    /// Sends two requests.
    pub(super) async fn discover(client: &Client) -> kube::Result<Self> {
        let span = info_span!("discover", otel.kind = "client", spanlink.discover.kinds = Empty);
        let discovery = Discovery::new(client.clone()).run_aggregated().await?;
        let mut kinds = Vec::new();
        for group in discovery.groups() {
            // The preferred version first.
            let mut versions: Vec<&str> = group.versions().collect();
            let preferred = group.preferred_version_or_latest();
            versions.sort_by_key(|version| *version != preferred);
            for version in versions {
                for (resource, capabilities) in group.versioned_resources(version) {
                    let resolved = Resolved {
                        kind: GroupKind::new(&resource.group, &resource.kind),
                        version: resource.version,
                        plural: resource.plural,
                        namespaced: capabilities.scope == Scope::Namespaced,
                        has_status: capabilities
                            .subresources
                            .iter()
                            .any(|(resource, _)| resource.plural == "status"),
                    };
                    let watchable = capabilities.supports_operation(verbs::WATCH);
                    kinds.push((resolved, watchable));
                }
            }
        }
        span.record("spanlink.discover.kinds", kinds.len());
        Ok(Self { kinds })
    }

    /// The served kinds that match an entry of the configuration; none where the kind may still be
    /// installed.
    pub(super) fn resolve(&self, entry: &KindSettings) -> Result<Vec<Resolved>, UnknownKind> {
        let selector = &entry.selector;
        let of_group = self.kinds.iter().filter(|(kind, _)| {
            *kind.kind.group == *selector.group
                && selector.version.as_ref().is_none_or(|version| *version == kind.version)
        });
        let Some(wanted) = &selector.kind else {
            let mut found: Vec<Resolved> = Vec::new();
            for (kind, watchable) in of_group {
                if *watchable && !found.iter().any(|known| known.kind == kind.kind) {
                    found.push(kind.clone());
                }
            }
            return Ok(found);
        };
        let found = of_group.clone().find(|(kind, _)| *kind.kind.kind == **wanted);
        match found {
            Some((kind, true)) => Ok(vec![kind.clone()]),
            Some((_, false)) => Err(UnknownKind::NotWatchable { wanted: selector.to_string() }),
            None if is_built_in(&GroupKind::new(&selector.group, wanted)) => {
                Err(UnknownKind::Kind {
                    wanted: selector.to_string(),
                    nearest: self.nearest(selector),
                })
            }
            None => Ok(Vec::new()),
        }
    }

    /// Kubernetes Events; both APIs share one storage, the newer one is preferred.
    pub(super) fn events(&self) -> Option<&Resolved> {
        let of = |group: &'static str| {
            let is_it =
                move |(of, watchable): &&(Resolved, bool)| *watchable && of.kind.is(group, "Event");
            self.kinds.iter().find(is_it)
        };
        of("events.k8s.io").or_else(|| of("")).map(|(events, _)| events)
    }

    fn nearest(&self, selector: &KindSelector) -> Option<String> {
        let wanted = selector.to_string().to_lowercase();
        let kind = selector.kind.as_deref().unwrap_or_default().to_lowercase();
        let names = self.kinds.iter().filter(|(_, watchable)| *watchable).map(|(of, _)| of);
        // A wrong group or a plural is the nearest match.
        let same =
            names.clone().find(|of| of.kind.kind.to_lowercase() == kind || of.plural == kind);
        let near = || {
            names
                .map(|of| (strsim::osa_distance(&of.kind.to_string().to_lowercase(), &wanted), of))
                .min_by_key(|(distance, _)| *distance)
                .filter(|(distance, _)| *distance <= 4)
                .map(|(_, of)| of)
        };
        same.or_else(near).map(|of| of.kind.to_string())
    }
}

/// All but the unreserved characters of [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes text for a path or a query parameter.
pub(super) fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}
