//! What a configuration says and does not get.

use super::settings::{KindSettings, Settings};

impl Settings {
    /// What is to be warned of, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let kinds = &self.watch.kinds;
        let mut tells_secrets = kinds
            .iter()
            .filter(|entry| entry.selector.selects("", "Secret") && !entry.values.is_empty());
        let secrets = tells_secrets
            .next()
            .map(|_| "values of Secrets are never told, whatever values says".to_owned());
        let repeated = kinds.iter().enumerate().filter_map(|(at, entry)| {
            let first = kinds[..at].iter().find(|first| is_of_same_kind(first, entry))?;
            let unheard = differences(first, entry);
            (!unheard.is_empty()).then(|| {
                format!(
                    "{} is watched by several entries, and what the first one says of {} counts \
                     for all",
                    entry.selector,
                    unheard.join(", ")
                )
            })
        });
        self.broken_chains().chain(secrets).chain(repeated).collect()
    }
}

fn is_of_same_kind(first: &KindSettings, other: &KindSettings) -> bool {
    (&first.selector.group, &first.selector.kind) == (&other.selector.group, &other.selector.kind)
}

/// Options that are a kind's and differ. Each entry has its own objects (`namespaces`, selectors),
/// and `events` and `redact` count wherever they stand.
fn differences(first: &KindSettings, other: &KindSettings) -> Vec<&'static str> {
    [
        ("service", first.service != other.service),
        ("ignore", first.ignore != other.ignore),
        ("converges", first.converges != other.converges),
        ("values", first.values != other.values),
        ("include_labels", first.include_labels != other.include_labels),
        ("include_annotations", first.include_annotations != other.include_annotations),
        ("settle", first.settle != other.settle),
        ("deadline", first.deadline != other.deadline),
        ("owner_wait", first.owner_wait != other.owner_wait),
        ("stuck_after", first.stuck_after != other.stuck_after),
    ]
    .into_iter()
    .filter_map(|(option, differs)| differs.then_some(option))
    .collect()
}
