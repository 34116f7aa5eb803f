//! Tests of the configuration file: the settings it becomes, and the messages that refuse mistakes.

use std::{fs, path::Path, time::Duration};

use expect_test::{Expect, expect};
use spanlink::{
    config::settings::{ConvergesSettings, Settings},
    trace::model::object::GroupKind,
};

use crate::{
    config_environment::variables,
    scenarios::{configured, settings},
};

/// The message that refuses a file of this content.
fn refusal(yaml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, yaml).unwrap();
    let message = Settings::load(Some(&path), []).unwrap_err().to_string();
    message.replace(&format!("{}/", folder.path().display()), "")
}

#[expect(clippy::needless_pass_by_value, reason = "reads as a table")]
pub(crate) fn refuses(yaml: &str, message: Expect) {
    message.assert_eq(&refusal(yaml));
}

#[test]
fn example_has_every_option_with_its_default() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.yaml");
    let defaults = Settings::load(None, []).unwrap();
    let example = Settings::load(Some(&example), []).unwrap();
    assert!(example.are_kinds_configured && !defaults.are_kinds_configured);
    assert_eq!(Settings { are_kinds_configured: false, ..example }, defaults);
    assert_eq!(defaults.watch.kinds.len(), 8);
}

#[test]
fn mistakes_are_refused_with_their_position_and_the_nearest_valid_name() {
    refuses(
        "setle: 2s\n",
        expect![[r#"spanlink.yaml:1:1: unknown option "setle"; did you mean "settle"?"#]],
    );
    refuses(
        "otlp:\n  endpiont: http://x\n",
        expect![[r#"spanlink.yaml:2:3: unknown option "endpiont"; did you mean "endpoint"?"#]],
    );
    refuses(
        "startup: skipp\n",
        expect![[r#"spanlink.yaml:1:10: unknown value "skipp"; did you mean "skip"?"#]],
    );
    refuses(
        "settle: soon\n",
        expect![[
            r#"spanlink.yaml:1:9: "soon" is not a valid duration; write 500ms, 2s, 15m or 24h"#
        ]],
    );
    refuses(
        "watch:\n  - kind: deployments\n",
        expect![[
            r#"spanlink.yaml:2:11: "deployments" is not a kind; write Kind.group (Deployment.apps), a core Kind (Pod), group/version/Kind (apps/v1/Deployment) or *.group (*.example.com)"#
        ]],
    );
    refuses(
        "watch:\n  - namespaces: [a]\n",
        expect![[r#"spanlink.yaml:2:5: missing option "kind""#]],
    );
    refuses(
        "outbox: {spans_max: many}\n",
        expect![[r#"spanlink.yaml:1:21: "many" is not a whole number that is not negative"#]],
    );
    refuses(
        "a: 1\n",
        expect![[
            r#"spanlink.yaml:1:1: unknown option "a"; expected one of: cluster, watch, layout, projection, span_names, cascade_max, settle, deadline, owner_wait, stuck_after, evidence, read_interval, startup, metadata_changes, health_checks, shipped_rules, shipped_rules_except, redact, propagation, causes, attributes, sampling, otlp, data_dir, outbox, admin, own_traces"#
        ]],
    );
    refuses(
        "shipped_rules_except: [Rollout.argoproj.io]\n",
        expect![[
            r#"spanlink.yaml:1:24: "Rollout.argoproj.io" is not an API group; write what follows the kind in Kind.group, as in argoproj.io"#
        ]],
    );
    refuses("a: [\n", expect!["spanlink.yaml:1:4: unclosed bracket '['"]);
    refuses(
        "settle: 1s\nsettle: 2s\n",
        expect!["spanlink.yaml:2:1: duplicate mapping key `settle` is not allowed here"],
    );
    refuses(
        "- settle\n",
        expect!["spanlink.yaml:1:1: expected options and their values, as in `settle: 2s`"],
    );
    refuses(
        "otlp: grpc\n",
        expect![[r#"spanlink.yaml:1:7: invalid type: text, expected a map of options"#]],
    );
    refuses(
        "otlp.endpoint: http://x\n",
        expect![[
            r#"spanlink.yaml:1:1: unknown option "otlp.endpoint"; indent an option below the one it belongs to"#
        ]],
    );
    refuses(
        "causes: {baggage: tenant}\n",
        expect![[r#"spanlink.yaml:1:19: invalid type: string "tenant", expected a list"#]],
    );
    refuses(
        "sampling: {ratio: 2}\n",
        expect!["spanlink.yaml:1:19: 2 is not a ratio; write a number from 0 to 1"],
    );
    refuses(
        "admin: {listen: here}\n",
        expect![[
            r#"spanlink.yaml:1:17: "here" is not a valid address; write 0.0.0.0:9464, or none"#
        ]],
    );
    refuses(
        "propagation: {enabled: maybe}\n",
        expect![[r#"spanlink.yaml:1:24: "maybe" is neither true nor false"#]],
    );
    refuses(
        "causes: {annotations: [{key: a, format: xml}]}\n",
        expect![[
            r#"spanlink.yaml:1:41: unknown value "xml"; expected one of: auto, w3c, json, pair"#
        ]],
    );
    refuses(
        "causes: {annotations: ['']}\n",
        expect!["spanlink.yaml:1:24: the key of an annotation cannot be empty"],
    );
}

#[test]
fn incomplete_carriers_and_attributes_are_refused_with_what_to_write() {
    refuses(
        "causes: {annotations: [{key: a, field: spec.a}]}\n",
        expect!["spanlink.yaml:1:24: key and field exclude each other; write two entries"],
    );
    refuses(
        "causes: {annotations: [{format: w3c}]}\n",
        expect![[r#"spanlink.yaml:1:24: missing option "key" or "field""#]],
    );
    refuses(
        "causes: {annotations: ['*traceparent']}\n",
        expect![[
            r#"spanlink.yaml:1:24: "*traceparent" is not a suffix; write */ and the name of the annotation: */traceparent"#
        ]],
    );
    refuses(
        "causes: {annotations: ['a/*/traceparent']}\n",
        expect![[
            r#"spanlink.yaml:1:24: "a/*/traceparent" has a * that is not at its beginning; write */traceparent for every key that ends so"#
        ]],
    );
    refuses(
        "causes: {annotations: [{key: a/id, format: pair}]}\n",
        expect![[
            r#"spanlink.yaml:1:24: "a/id" is not the key of a pair; write the key that ends with trace-id, beside which the one with span-id is read"#
        ]],
    );
    refuses(
        "causes: {annotations: [{field: spec.a, format: pair}]}\n",
        expect!["spanlink.yaml:1:24: a field cannot have the format pair; write auto, w3c or json"],
    );
    refuses(
        "causes: {annotations: [{field: metadata.name}]}\n",
        expect![[
            r#"spanlink.yaml:1:32: "metadata.name" cannot carry a trace context; write the path of one field of the content or the status: status.spanContext, spec.traceId.traceparent"#
        ]],
    );
    refuses(
        "attributes: {from_labels: {team: spanlink.team}}\n",
        expect![[
            r#"spanlink.yaml:1:13: "spanlink.team" is a name of spanlink's own attributes; write another one"#
        ]],
    );
    refuses(
        "attributes: {from_labels: {team: ''}}\n",
        expect![
            "spanlink.yaml:1:13: neither a key nor the attribute it becomes can be empty; write example.com/team: team"
        ],
    );
    refuses(
        "attributes: {labels: {team: team}}\n",
        expect![[r#"spanlink.yaml:1:14: unknown option "labels"; did you mean "from_labels"?"#]],
    );
}

#[test]
fn converges_needs_a_status_field_and_distinct_values() {
    let entry = |converges: &str| format!("watch:\n  - kind: Pod\n    converges: {converges}\n");
    refuses(
        &entry("{field: status.phase}"),
        expect![
            "spanlink.yaml:3:16: status.phase has no values; list those that mean converged in current, those that mean failed in failed"
        ],
    );
    refuses(
        &entry("{field: status.phase, current: [Done], failed: [Lost, done]}"),
        expect![[
            r#"spanlink.yaml:3:16: "Done" is in both current and failed; remove it from one of them"#
        ]],
    );
    refuses(
        &entry("{field: spec.phase, current: [Done]}"),
        expect![[
            r#"spanlink.yaml:3:24: "spec.phase" is not the path of a status field; write status.health.status, or status.conditions[Synced].status"#
        ]],
    );
    refuses(
        &entry("{field: 'status.conditions[*].status', current: [true]}"),
        expect![[
            r#"spanlink.yaml:3:24: "status.conditions[*].status" is not the path of a status field; write status.health.status, or status.conditions[Synced].status"#
        ]],
    );
    refuses(
        &entry("{field: status.phase, current: [[Done]]}"),
        expect!["spanlink.yaml:3:48: invalid type: list, expected a string"],
    );
    refuses(
        &entry("{field: status.phase, curent: [Done]}"),
        expect![[r#"spanlink.yaml:3:38: unknown option "curent"; did you mean "current"?"#]],
    );
    let settings = configured(&entry(
        "{field: 'status.conditions[Ready].status', current: [True, 3], failed: [\"False\"]}",
    ));
    let Some(ConvergesSettings::Field(converges)) = &settings.kinds[0].converges else {
        unreachable!("it names a field")
    };
    assert_eq!(converges.current, ["True", "3"]);
    assert_eq!(converges.failed, ["False"]);
}

#[test]
fn values_and_redactions_are_paths_of_traced_fields() {
    refuses(
        "redact: [status.message]\n",
        expect![[
            r#"spanlink.yaml:1:10: changes of "status.message" are not traced; write a path of the content, of labels or of annotations: spec.replicas, spec.template.spec.containers[*].image, metadata.labels[example.com/team]"#
        ]],
    );
    refuses(
        "watch: [{kind: Pod, values: ['spec..image']}]\n",
        expect![[
            r#"spanlink.yaml:1:30: "spec..image" is not a path: expected names between dots, with the keys of list items in closed brackets, as in spec.template.spec.containers[web].image"#
        ]],
    );
    let text = "redact: [data]\nwatch: [{kind: Pod, values: [spec], redact: [spec.a]}]\n";
    let pods = configured(text);
    assert_eq!(pods.redacted_of("", "Pod").collect::<Vec<_>>(), ["data", "spec.a"]);
    assert_eq!(pods.redacted_of("", "Secret").collect::<Vec<_>>(), ["data"]);
    assert_eq!(pods.values_of("", "Pod"), ["spec"]);
    // A redaction applies from any entry for the kind.
    let twice = "watch:
  - {kind: Pod, namespaces: [a], settle: 1s}
  - {kind: Pod, namespaces: [b], settle: 9s, redact: [spec.a], events: true}
";
    let pods = settings(twice);
    assert_eq!(pods.watch.redacted_of("", "Pod").collect::<Vec<_>>(), ["spec.a"]);
    assert!(pods.watch.wants_events("", "Pod"));
    let of_pods = &spanlink::daemon::rules(&pods).kinds[&GroupKind::new("", "Pod")];
    assert_eq!(of_pods.redact, ["spec.a".into()]);
    // For other options of the kind, the first entry applies.
    assert_eq!(of_pods.settle, Some(Duration::from_secs(1)));
    let secrets = configured("watch: [{kind: Secret, values: [data]}]\n");
    assert!(secrets.values_of("", "Secret").is_empty());
}

#[test]
fn kubernetes_events_are_an_option_of_the_kinds_they_are_about() {
    let settings = configured(
        "watch: [{kind: Pod, events: true}, {kind: '*.example.com', events: true}, {kind: Node}]\n",
    );
    assert!(settings.wants_events("", "Pod") && settings.wants_events("example.com", "Widget"));
    assert!(!settings.wants_events("", "Node") && !settings.wants_events("apps", "Deployment"));
    for kind in ["Event", "events.k8s.io/v1/Event", "'*.events.k8s.io'"] {
        assert!(
            refusal(&format!("watch: [{{kind: {kind}}}]\n")).contains("events: true"),
            "{kind}"
        );
    }
    refuses(
        "watch:\n  - kind: Event.events.k8s.io\n",
        expect![
            "spanlink.yaml:2:11: Event.events.k8s.io: Kubernetes Events cannot be watched as a kind; write events: true at the kinds whose Kubernetes Events you want"
        ],
    );
}

#[test]
fn renamed_options_are_refused_with_their_new_name() {
    refuses(
        "settle: 2s\nproject: true\n",
        expect![[r#"spanlink.yaml:2:1: the option "project" is now called "projection""#]],
    );
    refuses(
        "batch: 25ms\n",
        expect![[r#"spanlink.yaml:1:1: the option "batch" is now called "read_interval""#]],
    );
    for (variable, message) in [
        (
            "SPANLINK_PROJECT",
            expect![[
                r#"environment variable SPANLINK_PROJECT: the option "project" is now called "projection""#
            ]],
        ),
        (
            "SPANLINK_BATCH",
            expect![[
                r#"environment variable SPANLINK_BATCH: the option "batch" is now called "read_interval""#
            ]],
        ),
    ] {
        let error = Settings::load(None, variables(&[(variable, "1")])).unwrap_err();
        message.assert_eq(&error.to_string());
    }
}

#[test]
fn texts_are_read_as_written() {
    for name in ["1.10", "007", "1e3", "0x1F", "1_000", "yes", "True", "1e999", "-0", "2026-01-01"]
    {
        let settings = settings(&format!("cluster: {{name: {name}}}\n"));
        assert_eq!(settings.cluster.name.as_deref(), Some(name));
        let settings = configured(&format!("watch:\n  - kind: Pod\n    service: {name} # why\n"));
        assert_eq!(settings.kinds[0].service.as_deref(), Some(name));
    }
    assert_eq!(settings("cluster: {name: '~'}\n").cluster.name.as_deref(), Some("~"));
    assert_eq!(settings("cluster: {name: }\n").cluster.name, None);
    assert_eq!(settings("otlp: {headers: {X-Tenant: 010}}\n").export.headers["x-tenant"], "010");
}

#[test]
fn anchors_merge_keys_and_byte_order_marks_are_read() {
    let text = "\u{feff}# entries share their options\nwatch:\n  - &base {kind: Pod, settle: 1s}\n  \
                - {<<: *base, kind: Job.batch}\n";
    let kinds = &configured(text).kinds;
    assert_eq!(kinds[1].selector.to_string(), "Job.batch");
    assert_eq!(kinds[1].settle, Some(Duration::from_secs(1)));
    assert_eq!(settings("# no options\n"), settings(""));
}

#[test]
fn paths_and_selectors_that_could_never_match_are_refused() {
    refuses(
        "causes:\n  references:\n    - {kind: Pod, field: 'spec.refs[0'}\n",
        expect![[
            r#"spanlink.yaml:3:26: "spec.refs[0" is not a path: expected names between dots, with the keys of list items in closed brackets, as in spec.template.spec.containers[web].image"#
        ]],
    );
    refuses(
        "causes: {references: [{kind: Pod, field: 'spec.refs[*].name'}]}\n",
        expect![[
            r#"spanlink.yaml:1:42: "spec.refs[*].name" is not the path of a reference; write field names between dots, as in spec.clusterRef; a list may only be the last field"#
        ]],
    );
    let entry = |options: &str| format!("watch:\n  - kind: Pod\n    {options}\n");
    refuses(
        &entry("ignore: {fields: [spec..replicas]}"),
        expect![[
            r#"spanlink.yaml:3:23: "spec..replicas" is not a path: expected names between dots, with the keys of list items in closed brackets, as in spec.template.spec.containers[web].image"#
        ]],
    );
    refuses(
        &entry("redact: [$.spec.credentials]"),
        expect![[
            r#"spanlink.yaml:3:14: "$.spec.credentials" is a JSONPath; write it without its beginning, as spec.credentials"#
        ]],
    );
    refuses(
        &entry("redact: [/spec/credentials]"),
        expect![[
            r#"spanlink.yaml:3:14: "/spec/credentials" is a JSON pointer; write names between dots, as spec.credentials"#
        ]],
    );
    refuses(
        &entry("values: ['spec.containers[0].image']"),
        expect![[
            r#"spanlink.yaml:3:14: "spec.containers[0].image" has an index; write the key of the item (spec.containers[web]), or spec.containers[*] for every item"#
        ]],
    );
    refuses(
        &entry("namespaces: ['*']"),
        expect![[
            r#"spanlink.yaml:3:18: "*" is not the name of a namespace; leave out namespaces to watch them all"#
        ]],
    );
    refuses(
        &entry("namespaces: [team-*]"),
        expect![[
            r#"spanlink.yaml:3:18: "team-*" is a pattern; list the namespaces by their names, or leave out namespaces to watch them all"#
        ]],
    );
    refuses(
        &entry("namespaces: [Shop]"),
        expect![[
            r#"spanlink.yaml:3:18: "Shop" is not the name of a namespace; expected at most 63 lower-case letters, digits and '-', with a letter or digit at both ends"#
        ]],
    );
    refuses(
        &entry("label_selector: app in web"),
        expect![[
            r#"spanlink.yaml:3:21: "app in web" is not a label selector: write app in (web)"#
        ]],
    );
    refuses(
        &entry("label_selector: app=we_"),
        expect![[
            r#"spanlink.yaml:3:21: "app=we_" is not a label selector: "we_" is not the value of a label"#
        ]],
    );
    refuses(
        &entry("field_selector: status.phase in (Running)"),
        expect![[
            r#"spanlink.yaml:3:21: "status.phase in (Running)" is not a field selector: expected path=value or path!=value, found "status.phase in (Running)""#
        ]],
    );
    let accepted = configured(&entry(
        "label_selector: \"app in (web,api),!canary\"\n    field_selector: status.phase!=Failed",
    ));
    assert_eq!(accepted.kinds[0].label_selector.as_deref(), Some("app in (web,api),!canary"));
}

#[test]
fn span_names_have_the_kind_unless_the_object_is_configured() {
    use spanlink::trace::rules::SpanNames;
    let span_names = |text: &str| spanlink::daemon::rules(&settings(text)).span_names;
    assert_eq!(span_names(""), SpanNames::Kind);
    assert_eq!(span_names("span_names: object\n"), SpanNames::Object);
    refuses(
        "span_names: objects\n",
        expect![[r#"spanlink.yaml:1:13: unknown value "objects"; did you mean "object"?"#]],
    );
}
