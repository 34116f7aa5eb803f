//! The options `converges` and `health_checks`: what decides when a change has converged.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    paths::StatusPath,
    settings::{ConvergesSettings, HealthCheck, StatusFieldSettings},
};
use crate::health_rule::{Expression, HealthRule, Order};

/// `{field: status.health.status, current: [Healthy], failed: [Degraded]}`, or
/// `{cel: {current: "status.ready", failed: "status.failed"}}`.
#[derive(Clone, Debug)]
pub(super) struct Converges(pub(super) ConvergesSettings);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map with field, current and failed, or with cel")]
struct ConvergesOptions {
    field: Option<StatusPath>,
    #[serde(default)]
    current: Vec<String>,
    #[serde(default)]
    failed: Vec<String>,
    cel: Option<CelOptions>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a map with current, failed, in_progress, paused, reason and message"
)]
struct CelOptions {
    current: Option<CelText>,
    failed: Option<CelText>,
    in_progress: Option<CelText>,
    paused: Option<CelText>,
    reason: Option<CelText>,
    message: Option<CelText>,
}

impl<'de> Deserialize<'de> for Converges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ConvergesOptions { field, current, failed, cel } =
            ConvergesOptions::deserialize(deserializer)?;
        let settings = match (field, cel) {
            (Some(_), Some(_)) => Err("field and cel exclude each other; remove one".to_owned()),
            (None, None) => Err("write field, or cel".to_owned()),
            (Some(field), None) => {
                status_field(field.0, current, failed).map(ConvergesSettings::Field)
            }
            (None, Some(_)) if !current.is_empty() || !failed.is_empty() => {
                Err("current and failed belong below cel".to_owned())
            }
            (None, Some(cel)) => cel.rule().map(ConvergesSettings::Cel),
        };
        settings.map(Self).map_err(D::Error::custom)
    }
}

fn status_field(
    field: String,
    current: Vec<String>,
    failed: Vec<String>,
) -> Result<StatusFieldSettings, String> {
    if current.is_empty() && failed.is_empty() {
        return Err(format!(
            "{field} has no values; list those that mean converged in current, those that mean failed \
             in failed"
        ));
    }
    let has_failed = |value: &String| failed.iter().any(|other| other.eq_ignore_ascii_case(value));
    if let Some(value) = current.iter().find(|value| has_failed(value)) {
        return Err(format!("{value:?} is in both current and failed; remove it from one of them"));
    }
    Ok(StatusFieldSettings { field, current, failed })
}

impl CelOptions {
    fn rule(self) -> Result<HealthRule, String> {
        let expression = |text: Option<CelText>| text.map(|text| text.0);
        let rule = HealthRule {
            order: Order::FailedFirst,
            current: expression(self.current),
            failed: expression(self.failed),
            in_progress: expression(self.in_progress),
            paused: expression(self.paused),
            reason: expression(self.reason),
            message: expression(self.message),
            ignores_observed_generation: false,
        };
        if rule.current.is_none() {
            return Err("no expression says when the object is converged; write current".to_owned());
        }
        Ok(rule)
    }
}

/// An entry of `health_checks`, as in the `healthCheckExprs` of a Flux Kustomization.
#[derive(Clone, Debug)]
pub(super) struct HealthCheckOption(pub(super) HealthCheck);

impl<'de> Deserialize<'de> for HealthCheckOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            deny_unknown_fields,
            rename_all = "camelCase",
            expecting = "a map with apiVersion, kind, current, failed and inProgress"
        )]
        struct Options {
            api_version: String,
            kind: String,
            current: CelText,
            failed: Option<CelText>,
            in_progress: Option<CelText>,
        }
        let options = Options::deserialize(deserializer)?;
        let expression = |text: Option<CelText>| text.map(|text| text.0);
        let rule = HealthRule {
            order: Order::InProgressFirst,
            current: Some(options.current.0),
            failed: expression(options.failed),
            in_progress: expression(options.in_progress),
            ..HealthRule::default()
        };
        let kind = (options.kind != "*").then_some(options.kind);
        Ok(Self(HealthCheck { api_version: options.api_version, kind, rule }))
    }
}

/// The text of an expression, compiled.
#[derive(Clone, Debug)]
struct CelText(Expression);

impl<'de> Deserialize<'de> for CelText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Expression::parse(text.trim_end()).map(Self).map_err(D::Error::custom)
    }
}
