//! Warns about options and variables that have no effect, about an endpoint without a path, and about
//! gaps between the watched kinds.

use super::{
    endpoint::missing_path,
    settings::{KindSettings, Settings},
};

impl Settings {
    /// Warnings about a valid configuration, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let entries = &self.watch.kinds;
        let secret_values = entries
            .iter()
            .any(|entry| entry.selector.selects("", "Secret") && !entry.values.is_empty())
            .then_some(
                "values of Secrets are never exported; the option values has no effect on them",
            );
        let shadowed = entries.iter().enumerate().filter_map(|(index, entry)| {
            let first = entries[..index].iter().find(|first| is_of_same_kind(first, entry))?;
            let options = different_kind_options(first, entry);
            (!options.is_empty()).then(|| {
                format!(
                    "{} has several entries with different values of {}; the values of the first entry \
                     apply to all of them",
                    entry.selector,
                    options.join(", ")
                )
            })
        });
        self.export_warnings()
            .chain(self.ownership_gaps())
            .chain(secret_values.map(str::to_owned))
            .chain(shadowed)
            .collect()
    }

    /// The warnings that concern where spans are sent, for commands that only export.
    pub fn export_warnings(&self) -> impl Iterator<Item = String> {
        let missing_path = missing_path(self.export.protocol, &self.export.endpoint);
        self.ignored_variables.iter().cloned().chain(missing_path)
    }
}

fn is_of_same_kind(first: &KindSettings, other: &KindSettings) -> bool {
    (&first.selector.group, &first.selector.kind) == (&other.selector.group, &other.selector.kind)
}

/// The options with different values that a kind has only one value of. The others belong to the
/// watch of an entry (`namespaces`, `label_selector`, `field_selector`) or apply from any entry
/// (`events`, `redact`).
fn different_kind_options(first: &KindSettings, other: &KindSettings) -> Vec<&'static str> {
    [
        ("service", first.service != other.service),
        ("ignore", first.ignore != other.ignore),
        ("converges", first.converges != other.converges),
        ("episodes", first.episodes != other.episodes),
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
