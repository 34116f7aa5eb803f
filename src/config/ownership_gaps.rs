//! Finds gaps in chains of owners: both ends are watched, but not the kind between them.

use std::collections::BTreeSet;

use super::settings::Settings;

/// A group, a kind, and the plural of the kind.
type ChainKind = (&'static str, &'static str, &'static str);

const POD: ChainKind = ("", "Pod", "Pods");
/// The built-in controllers create objects of the last kind through objects of the one between.
const CHAINS: [[ChainKind; 3]; 2] = [
    [("apps", "Deployment", "Deployments"), ("apps", "ReplicaSet", "ReplicaSets"), POD],
    [("batch", "CronJob", "CronJobs"), ("batch", "Job", "Jobs"), POD],
];

/// The namespaces in which a kind is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Namespaces {
    All,
    Named(BTreeSet<String>),
}

impl Namespaces {
    fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, names) | (names, Self::All) => names.clone(),
            (Self::Named(names), Self::Named(other_names)) => Self::Named(names & other_names),
        }
    }

    /// Those that `other` lacks. All namespaces without some of them count as all.
    fn difference(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (_, Self::All) => None,
            (Self::All, Self::Named(_)) => Some(Self::All),
            (Self::Named(names), Self::Named(other_names)) => {
                let missing = names - other_names;
                (!missing.is_empty()).then_some(Self::Named(missing))
            }
        }
    }
}

impl Settings {
    /// One sentence for each gap.
    pub(super) fn ownership_gaps(&self) -> impl Iterator<Item = String> {
        CHAINS.into_iter().filter_map(|chain| self.ownership_gap(chain))
    }

    fn ownership_gap(&self, [first, between, last]: [ChainKind; 3]) -> Option<String> {
        let ends = self.watched_in(first).intersection(&self.watched_in(last));
        let between_is_watched = self.watched_in(between);
        let missing = ends.difference(&between_is_watched)?;
        let (first, between, last) = (first.2, between.2, last.2);
        let listed = |names: &BTreeSet<String>| {
            names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let place = match (&missing, &between_is_watched) {
            (Namespaces::Named(names), _) => format!(" in {}", listed(names)),
            (Namespaces::All, Namespaces::Named(names)) if !names.is_empty() => {
                format!(" outside {}", listed(names))
            }
            (Namespaces::All, _) => String::new(),
        };
        Some(format!(
            "{first} and {last} are watched{place}, but not the {between} between them: changes of \
             {last} are not traced to {first}"
        ))
    }

    fn watched_in(&self, (group, kind, _): ChainKind) -> Namespaces {
        let mut names = BTreeSet::new();
        for entry in self.watch.kinds.iter().filter(|entry| entry.selector.selects(group, kind)) {
            if entry.namespaces.is_empty() {
                return Namespaces::All;
            }
            names.extend(entry.namespaces.iter().cloned());
        }
        Namespaces::Named(names)
    }
}
