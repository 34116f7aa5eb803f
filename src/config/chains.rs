//! Where a configuration breaks a chain of causes: both ends are watched, what joins them is not.

use std::collections::BTreeSet;

use super::settings::Settings;

/// A group and a kind, and how people call several of it.
type Link = (&'static str, &'static str, &'static str);

const POD: Link = ("", "Pod", "Pods");
/// What the built-in controllers make of what, by way of what.
const CHAINS: [[Link; 3]; 2] = [
    [("apps", "Deployment", "Deployments"), ("apps", "ReplicaSet", "ReplicaSets"), POD],
    [("batch", "CronJob", "CronJobs"), ("batch", "Job", "Jobs"), POD],
];

/// Namespaces in which a kind is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Where {
    Everywhere,
    In(BTreeSet<String>),
}

impl Where {
    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everywhere, both) | (both, Self::Everywhere) => both.clone(),
            (Self::In(some), Self::In(others)) => Self::In(some & others),
        }
    }

    /// What is here and not there; `Everywhere` but for some is `Everywhere`.
    fn without(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (_, Self::Everywhere) => None,
            (Self::Everywhere, Self::In(_)) => Some(Self::Everywhere),
            (Self::In(some), Self::In(others)) => {
                let left = some - others;
                (!left.is_empty()).then_some(Self::In(left))
            }
        }
    }
}

impl Settings {
    /// Where a chain is broken, a sentence each.
    pub(super) fn broken_chains(&self) -> impl Iterator<Item = String> {
        CHAINS.into_iter().filter_map(|chain| self.broken(chain))
    }

    fn broken(&self, [first, between, last]: [Link; 3]) -> Option<String> {
        let ends = self.watches(first).and(&self.watches(last));
        let between_is_watched = self.watches(between);
        let missing = ends.without(&between_is_watched)?;
        let (first, between, last) = (first.2, between.2, last.2);
        let place = match (&missing, &between_is_watched) {
            (Where::In(namespaces), _) => {
                let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
                format!(" in {}", namespaces.join(", "))
            }
            (Where::Everywhere, Where::In(namespaces)) if !namespaces.is_empty() => {
                let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
                format!(" outside {}", namespaces.join(", "))
            }
            (Where::Everywhere, _) => String::new(),
        };
        Some(format!(
            "{first} and {last} are watched{place}, {between} between them are not: \
             {last} will not be seen as caused by {first}"
        ))
    }

    fn watches(&self, (group, kind, _): Link) -> Where {
        let mut namespaces = BTreeSet::new();
        for entry in self.watch.kinds.iter().filter(|entry| entry.selector.selects(group, kind)) {
            if entry.namespaces.is_empty() {
                return Where::Everywhere;
            }
            namespaces.extend(entry.namespaces.iter().cloned());
        }
        Where::In(namespaces)
    }
}
