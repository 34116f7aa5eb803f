//! The watches that the configuration asks for, given what the API server serves.

use std::{collections::BTreeSet, fmt};

use super::resolve::{Resolved, Served, percent_encoded};
use crate::{
    config::settings::{KindSettings, WatchSettings},
    trace::model::observation::{Filter, WatchScope},
};

/// The objects that one watch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) resolved: Resolved,
    pub(super) namespace: Option<String>,
    pub(super) selectors: Selectors,
    pub(super) reason: Reason,
}

/// Why a watch exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The entry of the configuration with this index.
    Entry(usize),
    /// Entries that want the Kubernetes Events of their kinds.
    Events,
}

/// Label and field selectors as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selectors {
    label: Option<String>,
    field: Option<String>,
}

impl Selectors {
    fn from_settings(settings: &KindSettings) -> Self {
        Self { label: settings.label_selector.clone(), field: settings.field_selector.clone() }
    }

    fn is_empty(&self) -> bool {
        self.label.is_none() && self.field.is_none()
    }

    /// Encoded query parameters, without the leading `&`; `None` without selectors.
    pub(super) fn query(&self) -> Option<String> {
        let label = self.label.iter().map(|text| ("labelSelector", text));
        let field = self.field.iter().map(|text| ("fieldSelector", text));
        let parameters: Vec<String> = label
            .chain(field)
            .map(|(key, text)| format!("{key}={}", percent_encoded(text)))
            .collect();
        (!parameters.is_empty()).then(|| parameters.join("&"))
    }
}

impl Scope {
    /// Whether this watch receives every event of the other.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.resolved.kind == other.resolved.kind
            && (self.namespace.is_none() || self.namespace == other.namespace)
            && (self.selectors.is_empty() || self.selectors == other.selectors)
    }

    pub(super) fn to_watch_scope(&self) -> WatchScope {
        WatchScope {
            kind: self.resolved.kind.clone(),
            namespace: self.namespace.as_deref().map(Into::into),
            filter: match self.selectors.query() {
                Some(query) => Filter::Selectors(query.into()),
                None => Filter::Everything,
            },
            has_status: self.resolved.has_status,
        }
    }
}

/// `Pod in namespace shop, label_selector app=web`: the name of a watch in `/readyz`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resolved.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in namespace {namespace}")?;
        }
        if let Some(selector) = &self.selectors.label {
            write!(f, ", label_selector {selector}")?;
        }
        if let Some(selector) = &self.selectors.field {
            write!(f, ", field_selector {selector}")?;
        }
        Ok(())
    }
}

/// One watch for each namespace of an entry, or one for all namespaces.
pub(super) fn scopes_of_entry(
    kinds: Vec<Resolved>,
    settings: &KindSettings,
    entry: usize,
) -> Vec<Scope> {
    let mut scopes = Vec::new();
    for resolved in kinds {
        let namespaces: Vec<Option<String>> =
            if resolved.namespaced && !settings.namespaces.is_empty() {
                settings.namespaces.iter().cloned().map(Some).collect()
            } else {
                vec![None]
            };
        scopes.extend(namespaces.into_iter().map(|namespace| Scope {
            resolved: resolved.clone(),
            namespace,
            selectors: Selectors::from_settings(settings),
            reason: Reason::Entry(entry),
        }));
    }
    scopes
}

/// Watches of Kubernetes Events, one for each namespace from which an entry wants them. The watch of
/// all namespaces comes first: it includes the others.
pub(super) fn scopes_of_events(served: &Served, settings: &WatchSettings) -> Vec<Scope> {
    let mut namespaces = BTreeSet::new();
    for entry in settings.kinds.iter().filter(|entry| entry.events) {
        for kind in served.resolve(entry).unwrap_or_default() {
            match &entry.namespaces[..] {
                // Events about cluster-scoped objects are in namespace default.
                _ if !kind.namespaced => drop(namespaces.insert(Some("default".to_owned()))),
                [] => drop(namespaces.insert(None)),
                some => namespaces.extend(some.iter().cloned().map(Some)),
            }
        }
    }
    let Some(events) = served.events() else { return Vec::new() };
    let scope = |namespace| Scope {
        resolved: events.clone(),
        namespace,
        selectors: Selectors::default(),
        reason: Reason::Events,
    };
    namespaces.into_iter().map(scope).collect()
}
