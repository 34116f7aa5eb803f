//! `spanlink explain`: the verdict about an object, and every piece of evidence for it.

use std::{fmt::Write as _, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{clock::now, rules::rules, runtime::block_on};
use crate::{
    config::settings::{ConvergesSettings, Settings},
    trace::{
        model::{
            kind::{ChangeDetection, change_detection, is_built_in},
            object::GroupKind,
            observation::Observation,
        },
        readiness::{
            general::{self, Finding, Weight},
            judge::judge,
            kstatus::is_to_finish,
            shipped,
            status::{Evidence, Status},
        },
        rules::Rules,
    },
    watch::{
        self, ObjectName,
        decode::{Decoded, Decoder},
    },
};

/// Explains the objects in a text as `kubectl get -o yaml` or `-o json` prints them: for each its
/// verdict, the rule that gave it, and the evidence.
///
/// # Errors
/// When the text is neither YAML nor JSON, or something in it is not a Kubernetes object.
pub fn explain(settings: &Settings, text: &str) -> anyhow::Result<String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).context("the object is neither YAML nor JSON")?;
    explain_documents(settings, documents, true)
}

/// Explains an object of the cluster, as [`explain`] does.
///
/// # Errors
/// When there is no cluster, or the object cannot be read.
pub fn explain_in_cluster(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    name: &ObjectName,
) -> anyhow::Result<String> {
    let found = block_on(async {
        let client = watch::client(kubeconfig).await?;
        Ok(watch::read_object(&client, &settings.watch, name).await?)
    })?;
    explain_documents(settings, vec![found.object], found.has_status)
}

fn explain_documents(
    settings: &Settings,
    documents: Vec<Value>,
    has_status: bool,
) -> anyhow::Result<String> {
    let rules = rules(settings);
    let mut explained = String::new();
    for document in documents.into_iter().flat_map(items) {
        let observation = observe(settings, document)?;
        if !explained.is_empty() {
            explained.push('\n');
        }
        explain_object(settings, &rules, &observation, has_status, &mut explained)?;
    }
    if explained.is_empty() {
        bail!(
            "there is no object; pass one, as in: kubectl get deployment web -o yaml | spanlink explain"
        );
    }
    Ok(explained)
}

/// The objects of a `List`, or the object itself.
fn items(mut document: Value) -> Vec<Value> {
    match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ if document.is_null() => Vec::new(),
        _ => vec![document],
    }
}

fn observe(settings: &Settings, mut object: Value) -> anyhow::Result<Observation> {
    // A manifest that was never applied has neither of them.
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("uid").or_insert_with(|| json!("not applied"));
        metadata.entry("resourceVersion").or_insert_with(|| json!("1"));
    }
    let line = json!({"type": "ADDED", "object": object}).to_string();
    let mut decoder = Decoder::new(&Arc::new(settings.watch.clone()));
    match decoder.decode_event(line.as_bytes(), now()).context("this is not a Kubernetes object")? {
        Decoded::Applied(observation) => Ok(observation),
        _ => bail!("Kubernetes Events have no verdict"),
    }
}

fn explain_object(
    settings: &Settings,
    rules: &Rules,
    observation: &Observation,
    has_status: bool,
    out: &mut String,
) -> anyhow::Result<()> {
    let kind = &observation.object.kind;
    let Some(body) = &observation.body else { return Ok(()) };
    let owner = body.owners.iter().find(|owner| owner.controller);
    let evidence = Evidence {
        kind,
        spec: &body.spec,
        status: &observation.status,
        generation: observation
            .generation
            .filter(|_| change_detection(kind) == ChangeDetection::Generation),
        written_since: observation.status.present,
        is_to_finish: is_to_finish(&body.spec, owner.map(|owner| &owner.kind)),
        is_data_only: !has_status && !is_built_in(kind),
        status_field: rules.status_field(kind),
    };
    let judgement = judge(&evidence);
    writeln!(out, "{}: {}", observation.object, name_of(&judgement.status))?;
    let rule = match &observation.status.verdict {
        None if evidence.is_data_only
            && evidence.status_field.is_none()
            && !observation.status.present =>
        {
            "the kind has no status subresource".to_owned()
        }
        _ => rule_of(settings, observation),
    };
    writeln!(out, "  rule         {rule}")?;
    if let Status::Failed { reason, message, .. } = &judgement.status {
        writeln!(out, "  reason       {reason}: {message}")?;
    } else if let Some(why) = &judgement.why {
        writeln!(out, "  reason       {}: {}", why.reason, why.message)?;
    }
    if let (Some(observed), Some(generation)) =
        (observation.status.observed_generation, evidence.generation)
    {
        writeln!(out, "  observed     generation {observed} of {generation}")?;
    }
    if is_built_in(kind) {
        return Ok(());
    }
    let findings = general::findings(&evidence);
    for finding in &findings {
        writeln!(out, "  {:<13}{}", weight_name(finding.weight), line_of(finding))?;
    }
    if let Some(missing) = missing(&judgement.status, &findings) {
        writeln!(out, "  missing      {missing}")?;
    }
    Ok(())
}

const fn name_of(status: &Status) -> &'static str {
    match status {
        Status::Current { .. } => "Current",
        Status::InProgress => "InProgress",
        Status::Paused => "Paused",
        Status::OnHold => "OnHold",
        Status::Failed { .. } => "Failed",
        Status::Unknown => "Unknown",
    }
}

/// Which rule decided, as the page on readiness names them.
fn rule_of(settings: &Settings, observation: &Observation) -> String {
    let kind = &observation.object.kind;
    let entry = settings.watch.entry(&kind.group, &kind.kind);
    match entry.and_then(|entry| entry.converges.as_ref()) {
        Some(ConvergesSettings::Field(rule)) => {
            return format!("option converges: the field {}", rule.field);
        }
        Some(ConvergesSettings::Cel(_)) => return "option converges: expressions".to_owned(),
        None => {}
    }
    match (&observation.status.verdict, is_built_in(kind)) {
        (None, true) => "of the built-in kind".to_owned(),
        (None, false) => "the general rule".to_owned(),
        (Some(_), _) => match source_of(kind).filter(|_| !has_check(settings, kind)) {
            Some(source) => format!("shipped, after {source}"),
            None => "option health_checks".to_owned(),
        },
    }
}

fn has_check(settings: &Settings, kind: &GroupKind) -> bool {
    settings.watch.health_checks.iter().any(|check| {
        let group = check.api_version.split_once('/').map_or("", |(group, _)| group);
        *group == *kind.group && check.kind.as_ref().is_none_or(|name| **name == *kind.kind)
    })
}

fn source_of(kind: &GroupKind) -> Option<&'static str> {
    let name = format!("{}.{}", kind.kind, kind.group);
    shipped::sources().get(&*name).copied()
}

const fn weight_name(weight: Weight) -> &'static str {
    match weight {
        Weight::Thin | Weight::Good => "good",
        Weight::Work => "in progress",
        Weight::Paused => "paused",
        Weight::Failed => "failed",
    }
}

fn line_of(finding: &Finding<'_>) -> String {
    let Finding { path, name, value, reason, message, .. } = finding;
    let mut line = if path.ends_with("conditions") {
        format!("{path}[{name}] is {value}")
    } else if name.is_empty() {
        format!("{path}: {value}")
    } else {
        format!("{path}.{name} is {value}")
    };
    for text in [reason, message].into_iter().filter(|text| !text.is_empty()) {
        line += ", ";
        line += text;
    }
    line
}

fn missing(status: &Status, findings: &[Finding<'_>]) -> Option<&'static str> {
    match status {
        Status::Unknown if findings.is_empty() => Some(
            "nothing in the status has a meaning that is known; write a rule in the option converges",
        ),
        Status::Unknown | Status::InProgress
            if !findings.iter().any(|finding| finding.weight > Weight::Good) =>
        {
            Some("the controller has not said that it is done with this generation")
        }
        _ => None,
    }
}

/// The kinds with a shipped rule, with the documentation each was written from, and the watched kinds
/// with a rule of the configuration.
pub fn kinds(settings: &Settings) -> String {
    let mut lines = Vec::new();
    for entry in &settings.watch.kinds {
        let rule = match &entry.converges {
            Some(ConvergesSettings::Field(rule)) => &*rule.field,
            Some(ConvergesSettings::Cel(_)) => "expressions",
            None => continue,
        };
        lines.push(format!("{}\toption converges\t{rule}\n", entry.selector));
    }
    for check in &settings.watch.health_checks {
        let kind = check.kind.as_deref().unwrap_or("*");
        lines.push(format!("{}/{kind}\toption health_checks\texpressions\n", check.api_version));
    }
    for (kind, source) in shipped::sources() {
        let group = kind.split_once('.').map_or("", |(_, group)| group);
        if settings.watch.shipped_rules.apply_to(group) {
            lines.push(format!("{kind}\tshipped\t{source}\n"));
        }
    }
    lines.concat()
}
