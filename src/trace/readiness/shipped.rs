//! The rules that are shipped for widely used kinds, from `shipped.yaml`.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use serde::Deserialize;

use crate::{
    health_rule::{Expression, HealthRule, Order},
    trace::model::object::GroupKind,
};

/// A row of `shipped.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippedRule {
    /// `Kind.group`.
    pub kind: String,
    /// The documentation of the API that the row was written from.
    pub source: String,
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

static RULES: LazyLock<HashMap<String, ShippedRule>> = LazyLock::new(|| {
    let rows: Vec<ShippedRule> =
        serde_saphyr::from_str(include_str!("shipped.yaml")).unwrap_or_default();
    rows.into_iter().map(|row| (row.kind.clone(), row)).collect()
});

/// The rule for a kind.
pub fn rule(kind: &GroupKind) -> Option<&'static HealthRule> {
    // `Kind.group`, as rows name their kinds.
    let row = RULES.get(&format!("{}.{}", kind.kind, kind.group))?;
    row.compiled.get_or_init(|| row.compile().ok()).as_ref()
}

/// All rows, in the order of their kinds.
pub fn rules() -> Vec<&'static ShippedRule> {
    let mut rows: Vec<&ShippedRule> = RULES.values().collect();
    rows.sort_unstable_by(|a, b| a.kind.cmp(&b.kind));
    rows
}

impl ShippedRule {
    fn compile(&self) -> Result<HealthRule, String> {
        let expression = |text: &Option<String>| {
            let compiled = text.as_deref().map(|text| Expression::parse(text.trim_end()));
            compiled.transpose().map_err(|error| format!("{}: {error}", self.kind))
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
        assert_eq!(rows.len(), RULES.len(), "no kind has two rows");
        for row in rows {
            row.compile().unwrap();
            assert!(row.source.starts_with("https://"), "{}", row.kind);
            assert!(row.current.is_some(), "{} can never converge", row.kind);
        }
    }
}
