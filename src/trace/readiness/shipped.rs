//! The rules that are shipped for widely used kinds, from `shipped.yaml`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, OnceLock},
};

use serde::Deserialize;

use crate::{
    health_rule::{Expression, HealthRule, Order},
    trace::model::object::GroupKind,
};

/// A row of `shipped.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShippedRule {
    /// `Kind.group`, in any version.
    kinds: Vec<String>,
    /// The documentation of the API that the row was written from.
    source: String,
    current: Option<String>,
    failed: Option<String>,
    paused: Option<String>,
    in_progress: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    #[serde(default)]
    observed_generation: ObservedGeneration,
    /// Compiled when the first object of the kind is read.
    #[serde(skip)]
    compiled: OnceLock<Option<HealthRule>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ObservedGeneration {
    #[default]
    Maintained,
    Ignored,
}

static RULES: LazyLock<HashMap<String, Arc<ShippedRule>>> = LazyLock::new(|| {
    let rows: Vec<ShippedRule> =
        serde_saphyr::from_str(include_str!("shipped.yaml")).unwrap_or_default();
    let rows = rows.into_iter().map(Arc::new);
    rows.flat_map(|row| row.kinds.clone().into_iter().map(move |kind| (kind, Arc::clone(&row))))
        .collect()
});

/// The rule for a kind.
pub fn rule(kind: &GroupKind) -> Option<&'static HealthRule> {
    // `Kind.group`, as rows name their kinds.
    let row = RULES.get(&format!("{}.{}", kind.kind, kind.group))?;
    row.compiled.get_or_init(|| row.compile().ok()).as_ref()
}

/// Every kind with a rule, and the documentation that the rule was written from, by kind.
pub fn sources() -> BTreeMap<&'static str, &'static str> {
    RULES.iter().map(|(kind, row)| (&**kind, &*row.source)).collect()
}

impl ShippedRule {
    fn compile(&self) -> Result<HealthRule, String> {
        let expression = |text: &Option<String>| {
            let compiled = text.as_deref().map(|text| Expression::parse(text.trim_end()));
            compiled.transpose().map_err(|error| format!("{:?}: {error}", self.kinds))
        };
        Ok(HealthRule {
            order: Order::FailedFirst,
            current: expression(&self.current)?,
            failed: expression(&self.failed)?,
            paused: expression(&self.paused)?,
            in_progress: expression(&self.in_progress)?,
            reason: expression(&self.reason)?,
            message: expression(&self.message)?,
            ignores_observed_generation: self.observed_generation == ObservedGeneration::Ignored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_rule_compiles_and_names_its_source() {
        let rows: Vec<ShippedRule> = serde_saphyr::from_str(include_str!("shipped.yaml")).unwrap();
        assert!(!rows.is_empty());
        let kinds: usize = rows.iter().map(|row| row.kinds.len()).sum();
        assert_eq!(kinds, RULES.len(), "no kind has two rows");
        for row in rows {
            row.compile().unwrap();
            assert!(row.source.starts_with("https://"), "{:?}", row.kinds);
            assert!(row.current.is_some(), "{:?} can never converge", row.kinds);
        }
    }
}
