//! The options that decide which fields of objects are read: digests of other fields cannot be
//! compared.
//!
//! A checkpoint holds digests of what was read. If the next run reads other fields, every object
//! would seem to have changed, so such a checkpoint is discarded (`docs/architecture.md`).

use std::borrow::Cow;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::settings::{
    CarrierFormat, CarrierPlace, KindSelector, OwnerMarkSettings, WatchSettings,
};

/// The options that decide what is read of objects, as stable text: names and values here are
/// part of the checkpoint's format, whatever the settings are called in the code.
#[derive(Debug, Serialize)]
struct Reading<'a> {
    /// In order of preference.
    context_annotations: Vec<ContextAnnotation<'a>>,
    references: Vec<Reference<'a>>,
    /// A digest of the marks of owners, those of well-known operators among them.
    owners: u64,
    /// In order of the selector; the order of entries for one selector counts.
    metadata: Vec<Metadata<'a>>,
}

#[derive(Debug, Serialize)]
struct ContextAnnotation<'a> {
    /// A field has the word `field` before its path.
    key: Cow<'a, str>,
    format: &'static str,
}

#[derive(Debug, Serialize)]
struct Reference<'a> {
    from: String,
    field: &'a str,
    to: Option<String>,
}

/// Labels and annotations of a kind that count as changes.
#[derive(Debug, Serialize)]
struct Metadata<'a> {
    kind: String,
    labels: Vec<&'a str>,
    annotations: Vec<&'a str>,
}

/// A fingerprint of the options that decide what is read of objects.
pub(super) fn fingerprint(settings: &WatchSettings) -> u64 {
    xxh3_64(canonical(settings).as_bytes())
}

fn canonical(settings: &WatchSettings) -> String {
    let reading = Reading {
        context_annotations: settings
            .carriers
            .iter()
            .map(|carrier| ContextAnnotation {
                key: match &carrier.place {
                    CarrierPlace::Annotation(key) => key.into(),
                    CarrierPlace::AnnotationSuffix(suffix) => format!("*{suffix}").into(),
                    CarrierPlace::Field(path) => format!("field {path}").into(),
                },
                format: match carrier.format {
                    CarrierFormat::Auto => "auto",
                    CarrierFormat::W3c => "w3c",
                    CarrierFormat::Json => "json",
                    CarrierFormat::Pair => "pair",
                },
            })
            .collect(),
        references: settings
            .references
            .iter()
            .map(|reference| Reference {
                from: kind_name(&reference.from),
                field: &reference.field,
                to: reference.to.as_ref().map(kind_name),
            })
            .collect(),
        owners: owners(settings),
        metadata: metadata(settings),
    };
    // Keys in the order of the fields above; JSON of strings cannot fail.
    serde_json::to_string(&reading).unwrap_or_default()
}

fn owners(settings: &WatchSettings) -> u64 {
    let rows = settings.owners.iter().map(|row| {
        let kind = |kind: Option<&KindSelector>| kind.map(kind_name).unwrap_or_default();
        let paths = match &row.mark {
            OwnerMarkSettings::Reference => ["reference", "", "", ""],
            OwnerMarkSettings::Name { name, namespace, kind } => {
                let namespace = namespace.as_deref().unwrap_or_default();
                ["name", name, namespace, kind.as_deref().unwrap_or_default()]
            }
            OwnerMarkSettings::Field { field, .. } => ["field", field, "", ""],
        };
        let [mark, first, second, third] = paths;
        [&kind(row.owner.as_ref()), &kind(row.child.as_ref()), mark, first, second, third].join(" ")
    });
    xxh3_64(rows.collect::<Vec<_>>().join("\n").as_bytes())
}

fn metadata(settings: &WatchSettings) -> Vec<Metadata<'_>> {
    let mut metadata: Vec<Metadata<'_>> = settings
        .kinds
        .iter()
        .map(|entry| Metadata {
            kind: kind_name(&entry.selector),
            labels: sorted(&entry.include_labels),
            annotations: sorted(&entry.include_annotations),
        })
        .filter(|entry| !entry.labels.is_empty() || !entry.annotations.is_empty())
        .collect();
    metadata.sort_by(|a, b| a.kind.cmp(&b.kind));
    metadata
}

fn sorted(texts: &[String]) -> Vec<&str> {
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// `Kind.group`, `Kind`, `*.group`. Without the version: every version of a kind holds the same
/// objects.
fn kind_name(selector: &KindSelector) -> String {
    let kind = selector.kind.as_deref().unwrap_or("*");
    match &*selector.group {
        "" => kind.to_owned(),
        group => format!("{kind}.{group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;

    fn watch(yaml: &str) -> WatchSettings {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        Settings::load(Some(file.path()), []).unwrap().watch
    }

    const EVERYTHING: &str = "
watch:
- {kind: Pod, include_labels: [team, app], include_annotations: [example.com/owner]}
- {kind: apps/v1/Deployment, include_labels: [team]}
- {kind: ConfigMap}
causes:
  annotations:
  - {key: example.com/context, format: json}
  - {key: tracing.k8s.io/traceparent}
  references:
  - {kind: Machine.example.com, field: spec.clusterRef, to: Cluster.example.com}
  - {kind: Widget.example.com, field: spec.waitsFor}
";

    /// A change of this text discards the checkpoint of every user.
    #[test]
    fn canonical_text_and_fingerprint_are_stable() {
        let text = concat!(
            r#"{"context_annotations":[{"key":"example.com/context","format":"json"},"#,
            r#"{"key":"tracing.k8s.io/traceparent","format":"auto"}],"#,
            r#""references":[{"from":"Machine.example.com","field":"spec.clusterRef","#,
            r#""to":"Cluster.example.com"},"#,
            r#"{"from":"Widget.example.com","field":"spec.waitsFor","to":null}],"owners":6889513989877487652,"#,
            r#""metadata":[{"kind":"Deployment.apps","labels":["team"],"annotations":[]},"#,
            r#"{"kind":"Pod","labels":["app","team"],"annotations":["example.com/owner"]}]}"#,
        );
        assert_eq!(canonical(&watch(EVERYTHING)), text);
        assert_eq!(fingerprint(&watch(EVERYTHING)), xxh3_64(text.as_bytes()));
        assert_eq!(fingerprint(&watch("")), 3_907_188_428_021_021_338);
    }

    #[test]
    fn order_of_entries_and_order_of_keys_do_not_count() {
        let one =
            "watch: [{kind: Pod, include_labels: [a, b]}, {kind: ConfigMap, include_labels: [c]}]";
        let other = "watch: [{kind: ConfigMap, include_labels: [c]}, {kind: Job.batch}, \
                     {kind: v1/Pod, include_labels: [b, a, a]}]";
        assert_eq!(fingerprint(&watch(one)), fingerprint(&watch(other)));
    }

    #[test]
    fn every_option_that_decides_what_is_read_counts() {
        let fingerprints: std::collections::BTreeSet<u64> = [
            "",
            "watch: [{kind: Pod, include_labels: [a]}]",
            "watch: [{kind: Pod, include_annotations: [a]}]",
            "watch: [{kind: Job.batch, include_labels: [a]}]",
            "causes: {annotations: [{key: a}]}",
            "causes: {annotations: [{key: a, format: json}]}",
            "causes: {annotations: [{key: a}, {key: b}]}",
            "causes: {annotations: [{key: b}, {key: a}]}",
            "causes: {annotations: ['*/a']}",
            "causes: {annotations: [{field: spec.a}]}",
            "causes: {references: [{kind: Widget.a.b, field: spec.x}]}",
            "causes: {references: [{kind: Widget.a.b, field: spec.x, to: Pod}]}",
            "causes: {owners: [{owner: Widget.a.b}]}",
            "causes: {owners: [{owner: Widget.a.b, name: 'metadata.labels[a]'}]}",
            "causes: {owners: [{owner: Widget.a.b, child: Pod, name: 'metadata.labels[a]'}]}",
            "causes: {owners: [{owner: Widget.a.b, child: Pod, field: spec.pod}]}",
        ]
        .into_iter()
        .map(|yaml| fingerprint(&watch(yaml)))
        .collect();
        assert_eq!(fingerprints.len(), 16);
    }
}
