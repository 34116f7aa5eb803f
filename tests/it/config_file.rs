//! Configuration files: what is read, and what people are told when it is wrong.

use std::{fs, path::Path, time::Duration};

use expect_test::{Expect, expect};
use spanlink::{
    config::settings::{Protocol, Settings},
    trace::model::object::GroupKind,
};

use crate::scenarios::{configured, settings};

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What is wrong with a file of this content, as people are told.
fn problem(yaml: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, yaml).unwrap();
    let told = Settings::load(Some(&path), []).unwrap_err().to_string();
    told.replace(&format!("{}/", folder.path().display()), "")
}

#[expect(clippy::needless_pass_by_value, reason = "reads as a table")]
fn refuses(yaml: &str, message: Expect) {
    message.assert_eq(&problem(yaml));
}

#[test]
fn the_example_is_every_default() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.yaml");
    let nothing = Settings::load(None, []).unwrap();
    assert_eq!(Settings::load(Some(&example), []).unwrap(), nothing);
    assert_eq!(nothing.watch.kinds.len(), 8);
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_the_nearest_right_word() {
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
        expect![[r#"spanlink.yaml:1:9: "soon" is no duration; write 500ms, 2s, 15m or 24h"#]],
    );
    refuses(
        "watch:\n  - kind: deployments\n",
        expect![[
            r#"spanlink.yaml:2:11: "deployments" names no kind; write Kind.group (Deployment.apps), a core Kind (Pod), group/version/Kind (apps/v1/Deployment) or *.group (*.example.com)"#
        ]],
    );
    refuses("watch:\n  - namespaces: [a]\n", expect!["spanlink.yaml:2:5: missing field `kind`"]);
    refuses(
        "outbox: {spans_max: many}\n",
        expect!["spanlink.yaml:1:21: expected a whole number that is not negative"],
    );
    refuses(
        "a: [\n",
        expect![[
            r#"spanlink.yaml:1:1: unknown option "a"; there are cluster, watch, layout, project, cascade_max, settle, deadline, owner_wait, stuck_after, batch, startup, metadata_changes, redact, propagation, causes, sampling, otlp, data_dir, outbox, admin, own_traces"#
        ]],
    );
}

#[test]
fn by_what_a_kind_converges_must_be_able_to_tell() {
    let entry = |converges: &str| format!("watch:\n  - kind: Pod\n    converges: {converges}\n");
    refuses(
        &entry("{field: status.phase}"),
        expect![
            "spanlink.yaml:3:16: no value of status.phase means anything; list some in current, in failed, or both"
        ],
    );
    refuses(
        &entry("{field: status.phase, current: [Done], failed: [Lost, done]}"),
        expect![[r#"spanlink.yaml:3:16: "Done" cannot mean both: it is in current and in failed"#]],
    );
    refuses(
        &entry("{field: spec.phase, current: [Done]}"),
        expect![[
            r#"spanlink.yaml:3:24: "spec.phase" names no field of a status; write status.health.status, or status.conditions[Synced].status"#
        ]],
    );
    refuses(
        &entry("{field: 'status.conditions[*].status', current: [true]}"),
        expect![[
            r#"spanlink.yaml:3:24: "status.conditions[*].status" names no field of a status; write status.health.status, or status.conditions[Synced].status"#
        ]],
    );
    refuses(
        &entry("{field: status.phase, current: [[Done]]}"),
        expect![
            "spanlink.yaml:3:48: invalid type: sequence, expected a value: text, a number, true or false"
        ],
    );
    refuses(
        &entry("{field: status.phase, curent: [Done]}"),
        expect![[r#"spanlink.yaml:3:38: unknown option "curent"; did you mean "current"?"#]],
    );
    let words = configured(&entry(
        "{field: 'status.conditions[Ready].status', current: [True, 3], failed: [\"False\"]}",
    ));
    let converges = words.kinds[0].converges.as_ref().unwrap();
    assert_eq!(converges.current, ["true", "3"]);
    assert_eq!(converges.failed, ["False"]);
}

#[test]
fn values_and_redactions_name_what_changes_are_told_of() {
    refuses(
        "redact: [status.message]\n",
        expect![[
            r#"spanlink.yaml:1:10: "status.message" names no field whose changes are told; write spec.replicas, spec.template.spec.containers[*].image or metadata.labels[example.com/team]"#
        ]],
    );
    refuses(
        "watch: [{kind: Pod, values: ['spec..image']}]\n",
        expect![[
            r#"spanlink.yaml:1:30: "spec..image" names no field whose changes are told; write spec.replicas, spec.template.spec.containers[*].image or metadata.labels[example.com/team]"#
        ]],
    );
    let text = "redact: [data]\nwatch: [{kind: Pod, values: [spec], redact: [spec.a]}]\n";
    let pods = configured(text);
    assert_eq!(pods.redacted_of("", "Pod").collect::<Vec<_>>(), ["data", "spec.a"]);
    assert_eq!(pods.redacted_of("", "Secret").collect::<Vec<_>>(), ["data"]);
    assert_eq!(pods.values_of("", "Pod"), ["spec"]);
    // What any entry for a kind redacts stays redacted, whichever came first.
    let twice = "watch:
  - {kind: Pod, namespaces: [a], settle: 1s}
  - {kind: Pod, namespaces: [b], settle: 9s, redact: [spec.a], events: true}
";
    let pods = settings(twice);
    assert_eq!(pods.watch.redacted_of("", "Pod").collect::<Vec<_>>(), ["spec.a"]);
    assert!(pods.watch.hears("", "Pod"));
    let of_pods = &spanlink::daemon::rules(&pods).kinds[&GroupKind::new("", "Pod")];
    assert_eq!(of_pods.redact, ["spec.a".into()]);
    // Of the rest the first entry counts, and the other is told so.
    assert_eq!(of_pods.settle, Some(Duration::from_secs(1)));
    warns(
        "{kind: Pod, namespaces: [a], settle: 1s}, {kind: v1/Pod, ignore: {fields: [spec]}}",
        expect![
            "v1/Pod is watched by several entries, and what the first one says of ignore, settle counts for all"
        ],
    );
    warns("{kind: Pod, namespaces: [a]}, {kind: Pod, redact: [spec], events: true}", expect![[""]]);
    warns(
        "{kind: Secret, values: [data]}",
        expect!["values of Secrets are never told, whatever values says"],
    );
    let secrets = configured("watch: [{kind: Secret, values: [data]}]\n");
    assert!(secrets.values_of("", "Secret").is_empty());
}

#[test]
fn events_are_heard_with_the_kinds_they_are_about_and_are_no_kind_to_watch() {
    let heard = configured(
        "watch: [{kind: Pod, events: true}, {kind: '*.example.com', events: true}, {kind: Node}]\n",
    );
    assert!(heard.hears("", "Pod") && heard.hears("example.com", "Widget"));
    assert!(!heard.hears("", "Node") && !heard.hears("apps", "Deployment"));
    for kind in ["Event", "events.k8s.io/v1/Event", "'*.events.k8s.io'"] {
        assert!(
            problem(&format!("watch: [{{kind: {kind}}}]\n")).contains("events: true"),
            "{kind}"
        );
    }
    refuses(
        "watch:\n  - kind: Event.events.k8s.io\n",
        expect![
            "spanlink.yaml:2:11: Event.events.k8s.io is no kind that changes; write events: true at the kinds that Events are about"
        ],
    );
}

#[test]
fn the_environment_comes_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, "settle: 3s\notlp: {endpoint: \"http://file:4317\"}\n").unwrap();
    let set = variables(&[
        ("SPANLINK_SETTLE", "4s"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318/"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,y=1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=infra"),
    ]);
    let settings = Settings::load(Some(&path), set).unwrap();
    assert_eq!(settings.trace.settle, Duration::from_secs(4));
    assert_eq!(settings.export.endpoint, "http://env:4318/v1/traces");
    assert_eq!(settings.export.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.export.headers["x-tenant"], "a b");
    assert_eq!(settings.export.timeout, Duration::from_millis(2500));
    assert_eq!(settings.export.resource["team"], "infra");
}

#[test]
fn services_that_are_called_like_us_are_no_options() {
    let set = variables(&[
        ("SPANLINK_SERVICE_HOST", "10.0.0.1"),
        ("SPANLINK_SERVICE_PORT", "9464"),
        ("SPANLINK_SERVICE_PORT_ADMIN", "9464"),
        ("SPANLINK_PORT", "tcp://10.0.0.1:9464"),
        ("SPANLINK_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("SPANLINK_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("SPANLINK_OF_TEAM_A_SERVICE_HOST", "10.0.0.2"),
        ("SPANLINK_OF_TEAM_A_PORT_80_TCP_PROTO", "tcp"),
        ("SPANLINK_SETTLE", "4s"),
        ("SPANLINK_OTLP__HEADERS__X_PORT", "1"),
    ]);
    let settings = Settings::load(None, set).unwrap();
    assert_eq!(settings.trace.settle, Duration::from_secs(4));
    assert_eq!(settings.export.headers["x_port"], "1");
    let wrong = variables(&[("SPANLINK_SERVICE", "x")]);
    assert!(Settings::load(None, wrong).is_err());
}

#[test]
fn an_endpoint_for_traces_is_used_as_it_is() {
    let set = variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318/here"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ]);
    assert_eq!(Settings::load(None, set).unwrap().export.endpoint, "http://traces:4318/here");
}

#[expect(clippy::needless_pass_by_value, reason = "reads as a table")]
fn warns(watch: &str, of: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, format!("watch: [{watch}]\n")).unwrap();
    of.assert_eq(&Settings::load(Some(&path), []).unwrap().warnings().join("\n"));
}

#[test]
fn a_broken_chain_is_warned_of_with_where_it_breaks() {
    warns(
        "{kind: Deployment.apps}, {kind: Pod}",
        expect![
            "Deployments and Pods are watched, ReplicaSets between them are not: Pods will not be seen as caused by Deployments"
        ],
    );
    warns(
        "{kind: CronJob.batch, namespaces: [a]}, {kind: v1/Pod}",
        expect![
            "CronJobs and Pods are watched in a, Jobs between them are not: Pods will not be seen as caused by CronJobs"
        ],
    );
    let deployments = "{kind: Deployment.apps, namespaces: [a, b]}";
    warns(
        &format!("{deployments}, {{kind: ReplicaSet.apps, namespaces: [a]}}, {{kind: Pod}}"),
        expect![
            "Deployments and Pods are watched in b, ReplicaSets between them are not: Pods will not be seen as caused by Deployments"
        ],
    );
    warns(
        "{kind: Deployment.apps}, {kind: ReplicaSet.apps, namespaces: [a, b]}, {kind: Pod}",
        expect![
            "Deployments and Pods are watched outside a, b, ReplicaSets between them are not: Pods will not be seen as caused by Deployments"
        ],
    );
    // Whole chains.
    warns(&format!("{deployments}, {{kind: ReplicaSet.apps}}, {{kind: Pod}}"), expect![[""]]);
    warns("{kind: '*.apps'}, {kind: Pod}", expect![[""]]);
    // One end alone, ends that never meet, a kind of the same name.
    warns("{kind: Deployment.apps}, {kind: ReplicaSet.apps}", expect![[""]]);
    warns(&format!("{deployments}, {{kind: Pod, namespaces: [c]}}"), expect![[""]]);
    warns("{kind: Deployment.example.com}, {kind: Pod}", expect![[""]]);
}
