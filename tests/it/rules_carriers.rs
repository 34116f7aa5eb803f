//! Claims about carriers: where a context is found, who wrote it, and what follows for the chain. And
//! about attributes that labels and annotations become.

use std::fmt::Write as _;

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::{
    daemon::rules,
    trace::model::span::{Role, Span, Value as SpanValue},
};

use crate::{
    scenarios::settings,
    written::{History, annotated, current, merged, object, owned, traceparent},
};

fn with_annotations(object: &Value, annotations: &Value) -> Value {
    merged(object, &json!({"metadata": {"annotations": annotations}}))
}

/// An object whose field managers own these fields: `[manager, fields]`.
fn managed(object: &Value, entries: &[(&str, Value)]) -> Value {
    let entry = |(manager, fields): &(&str, Value)| {
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2026-11-24T10:00:00Z", "fieldsV1": fields})
    };
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    merged(object, &json!({"metadata": {"managedFields": entries}}))
}

fn annotation(key: &str) -> Value {
    let key = format!("f:{key}");
    json!({"f:metadata": {"f:annotations": {key: {}}}})
}

fn owner_reference(uid: &str) -> Value {
    let key = format!("k:{{\"uid\":\"{uid}\"}}");
    json!({"f:metadata": {"f:ownerReferences": {key: {}}}})
}

fn spans(history: &History, configuration: &str) -> Vec<Span> {
    history.spans(&rules(&settings(configuration)), configuration)
}

/// The first digits of the linked traces and of the origin of each change.
fn contexts(spans: &[Span]) -> String {
    let begin = |id: &str| id.get(..4).unwrap_or_default().to_owned();
    let mut lines = String::new();
    for span in spans.iter().filter(|span| span.role == Role::Change) {
        let ids: Vec<String> =
            span.links.iter().map(|link| begin(&link.trace_id.to_string())).collect();
        let origin = match span.attribute("spanlink.origin.trace_id") {
            Some(SpanValue::Text(id)) => begin(id),
            _ => "none".to_owned(),
        };
        let (change, name, ids) = (&span.name, &span.object.name, ids.join(" "));
        writeln!(lines, "{change} {name} links [{ids}] origin {origin}").unwrap();
    }
    lines
}

#[test]
fn first_valid_carrier_counts_in_the_order_of_the_defaults() {
    let json = |digit| json!({"traceparent": traceparent(digit)}).to_string();
    let history = History::default()
        .added(&with_annotations(
            &object("Widget", "empty"),
            &json!({
                "tracing.k8s.io/traceparent": "", "opentelemetry.io/traceparent": traceparent('1'),
            }),
        ))
        .added(&with_annotations(
            &object("Widget", "invalid"),
            &json!({
                "tracing.k8s.io/traceparent": "00-zz", "traceparent": traceparent('2'),
            }),
        ))
        .added(&with_annotations(
            &object("Widget", "both"),
            &json!({
                "tracing.k8s.io/traceparent": traceparent('3'), "traceparent": traceparent('9'),
            }),
        ))
        .added(&with_annotations(
            &object("Widget", "run"),
            &json!({
                "tekton.dev/pipelinerunSpanContext": json('4'),
            }),
        ))
        .added(&with_annotations(
            &object("Widget", "none"),
            &json!({
                "example.com/traceparent": traceparent('9'), "traceparent": "9",
            }),
        ));
    expect![[r#"
        create Widget empty links [1111] origin 1111
        create Widget invalid links [2222] origin 2222
        create Widget both links [3333] origin 3333
        create Widget run links [4444] origin 4444
        create Widget none links [] origin none
    "#]]
    .assert_eq(&contexts(&spans(&history, "")));
}

#[test]
fn carrier_is_found_by_suffix_pair_and_field() {
    let configuration = "
causes:
  annotations:
  - '*/trace-context'
  - {key: workflows.argoproj.io/trace-id, format: pair}
  - {field: spec.traceId.traceparent}
  - {field: spec.context}
";
    let pair = |trace: &str, span: &str| json!({"workflows.argoproj.io/trace-id": trace, "workflows.argoproj.io/span-id": span});
    let specified =
        |name: &str, spec: Value| merged(&object("Widget", name), &json!({ "spec": spec }));
    let history = History::default()
        .added(&with_annotations(&object("Widget", "suffix"), &json!({
            "agents.kruise.io/trace-context": traceparent('1'),
        })))
        .added(&with_annotations(&object("Widget", "suffix-json"), &json!({
            "kueue.x-k8s.io/trace-context": json!({"traceparent": traceparent('2')}).to_string(),
        })))
        .added(&with_annotations(&object("Widget", "pair"), &pair(&"3".repeat(32), &"1".repeat(16))))
        .added(&with_annotations(&object("Widget", "trace-alone"), &json!({
            "workflows.argoproj.io/trace-id": "9".repeat(32),
        })))
        .added(&specified("field", json!({"traceId": {"traceparent": traceparent('4')}})))
        .added(&specified("map", json!({"context": {"traceparent": traceparent('5')}})));
    expect![[r#"
        create Widget suffix links [1111] origin 1111
        create Widget suffix-json links [2222] origin 2222
        create Widget pair links [3333] origin 3333
        create Widget trace-alone links [] origin none
        create Widget field links [4444] origin 4444
        create Widget map links [5555] origin 5555
    "#]]
    .assert_eq(&contexts(&spans(&history, configuration)));
}

/// The admission plugin writes the context of the request into every object, as the client's field
/// manager: a person's on the Deployment, the controllers' on what they create and update.
#[test]
fn stamps_of_the_api_server_are_origins_where_a_person_asked_and_links_where_a_controller_did() {
    let key = "tracing.k8s.io/traceparent";
    let deployment = |generation: i64, digit, writer: &str| {
        let web = merged(
            &object("Deployment", "web"),
            &json!({
                "apiVersion": "apps/v1", "metadata": {"generation": generation},
                "spec": {"replicas": 1, "template": {"spec": {"image": "a"}}},
            }),
        );
        let status = ("kube-controller-manager", json!({"f:status": {"f:observedGeneration": {}}}));
        let web = managed(&annotated(&web, digit), &[(writer, annotation(key)), status]);
        // The revision that the controller writes.
        with_annotations(
            &web,
            &json!({"deployment.kubernetes.io/revision": generation.to_string()}),
        )
    };
    let made = |kind: &str, version: &str, owner: &Value, digit| {
        let mut made = owned(&object(kind, "web-1"), &[(owner, true)]);
        made["apiVersion"] = json!(version);
        made["spec"] = json!({"template": {"spec": {"image": "a"}}});
        let controller = "kube-controller-manager";
        let owner = owner["metadata"]["uid"].as_str().unwrap_or_default();
        managed(
            &annotated(&made, digit),
            &[(controller, annotation(key)), (controller, owner_reference(owner))],
        )
    };
    let web = deployment(1, '1', "kubectl");
    let set = made("ReplicaSet", "apps/v1", &web, '3');
    let pod = made("Pod", "v1", &set, '4');
    let history = History::default()
        .added(&web)
        .event("MODIFIED", &deployment(2, '2', "kube-controller-manager"))
        .added(&set)
        .added(&pod);
    history.becomes(expect![[r#"
        create Deployment shop/web g1 -> timed_out  no verdict before the deadline  [context 11111111…]
        ├─ update Deployment web g2 -> timed_out  no verdict before the deadline  [context 22222222… by controller]  (metadata)
        └─ create ReplicaSet web-1 g1 -> timed_out  no verdict before the deadline
           └─ create Pod web-1 g1 -> timed_out  no verdict before the deadline  [context 44444444… by controller]
    "#]]);
    // A Pod made while everything is at rest: the controller's request is no origin.
    let history = History::default().listed("ReplicaSet", &[&set]).later(20).added(&pod);
    expect![[r#"
        create Pod web-1 links [4444] origin none
    "#]]
    .assert_eq(&contexts(&spans(&history, "")));
}

/// A `PipelineRun` carries the context of its creator; Tekton writes its own to each `TaskRun`, and to
/// every status.
#[test]
fn contexts_of_tekton_are_links_and_that_of_the_creator_is_the_origin() {
    let configuration = "
causes:
  annotations:
  - tekton.dev/pipelinerunSpanContext
  - tekton.dev/taskrunSpanContext
  - {field: status.spanContext}
";
    let stored = |digit| json!({"traceparent": traceparent(digit)});
    let tekton = |kind: &str, name: &str| {
        merged(&object(kind, name), &json!({"apiVersion": "tekton.dev/v1"}))
    };
    let status =
        |object: &Value, digit| merged(object, &json!({"status": {"spanContext": stored(digit)}}));
    let done = json!({"status": {"conditions": [{"type": "Succeeded", "status": "True"}]}});
    let run = with_annotations(
        &tekton("PipelineRun", "build"),
        &json!({
            "tekton.dev/pipelinerunSpanContext": stored('1').to_string(),
        }),
    );
    let run =
        managed(&run, &[("pipelines-as-code", annotation("tekton.dev/pipelinerunSpanContext"))]);
    let task = owned(&tekton("TaskRun", "build-test"), &[(&run, true)]);
    let task = with_annotations(
        &task,
        &json!({
            "tekton.dev/taskrunSpanContext": stored('2').to_string(),
        }),
    );
    let task = managed(
        &task,
        &[
            ("controller", annotation("tekton.dev/taskrunSpanContext")),
            ("controller", owner_reference("PipelineRun-build")),
        ],
    );
    // Without an annotation, as of a person without a trace.
    let plain = tekton("PipelineRun", "plain");
    History::default()
        .added(&run)
        .event("MODIFIED", &status(&run, '1'))
        .added(&task)
        .event("MODIFIED", &merged(&task, &done))
        .event("MODIFIED", &merged(&status(&run, '1'), &done))
        .added(&plain)
        .event("MODIFIED", &status(&plain, '3'))
        .event("MODIFIED", &merged(&status(&plain, '3'), &done))
        .becomes_with(
            configuration,
            expect![[r#"
                create PipelineRun shop/build g1 -> converged  [context 11111111…]
                └─ create TaskRun build-test g1 -> converged  [context 22222222… by controller]
                create PipelineRun shop/plain g1 -> converged  [context 33333333… by controller]
            "#]],
        );
}

#[test]
fn context_that_the_controller_wrote_on_its_own_object_is_no_origin_and_decides_no_sampling() {
    let unsampled = traceparent('2').replace("-01", "-00");
    let stamped = |generation: i64, value: &str, writer: &str| {
        let widget = merged(&object("Widget", "w"), &current(generation));
        let widget = merged(&widget, &json!({"spec": {"size": generation}}));
        let key = "tracing.k8s.io/traceparent";
        managed(
            &with_annotations(&widget, &json!({key: value})),
            &[
                (writer, annotation(key)),
                ("person", json!({"f:spec": {"f:size": {}}})),
                ("operator", json!({"f:status": {"f:observedGeneration": {}}})),
            ],
        )
    };
    let history = History::default()
        .added(&object("Widget", "w"))
        .later(20)
        .event("MODIFIED", &stamped(2, &unsampled, "operator"))
        .later(20)
        .event("MODIFIED", &stamped(3, &unsampled, "operator"))
        .later(20)
        .event("MODIFIED", &stamped(4, &traceparent('3'), "person"));
    expect![[r#"
        create Widget w links [] origin none
        update Widget w links [2222 f164] origin none
        update Widget w links [] origin none
        update Widget w links [3333] origin 3333
    "#]]
    .assert_eq(&contexts(&spans(&history, "")));
}

#[test]
fn labels_and_annotations_become_attributes_of_the_chain() {
    let configuration = "
redact: ['metadata.annotations[example.com/secret]']
attributes:
  from_labels: {team: team, pod: example.pod}
  from_annotations:
    example.com/commit: vcs.ref.head.revision
    example.com/secret: secret
    example.com/name: k8s.object.name
";
    let labelled =
        |object: &Value, labels: Value| merged(object, &json!({"metadata": {"labels": labels}}));
    let widget = labelled(&object("Widget", "w"), json!({"team": "shop"}));
    let widget = with_annotations(
        &widget,
        &json!({
            "example.com/commit": "c".repeat(300), "example.com/secret": "s3cret", "example.com/name": "x",
        }),
    );
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    let part = labelled(&part, json!({"team": "other", "pod": "p"}));
    let history = History::default()
        .added(&widget)
        .added(&part)
        .event("MODIFIED", &merged(&part, &current(1)))
        .event("MODIFIED", &merged(&widget, &current(1)))
        .later(20)
        .deleted(&labelled(&widget, json!({"team": "moved"})));
    let mut lines = String::new();
    for span in spans(&history, configuration) {
        let of = |key: &str| span.attribute(key).map(|value| format!("{value:?}"));
        let commit = of("vcs.ref.head.revision").map(|text| text.len() - "Text(\"\")".len());
        let name = of("k8s.object.name");
        let (team, pod, secret) = (of("team"), of("example.pod"), of("secret"));
        writeln!(lines, "{}: {team:?} {pod:?} commit of {commit:?} {secret:?} {name:?}", span.name)
            .unwrap();
    }
    expect![[r#"
        create Widget: Some("Text(\"shop\")") None commit of Some(256) None Some("Text(\"w\")")
        observe: None None commit of None None Some("Text(\"p\")")
        create Part: Some("Text(\"shop\")") Some("Text(\"p\")") commit of Some(256) None Some("Text(\"p\")")
        reconcile Widget: Some("Text(\"shop\")") None commit of Some(256) None Some("Text(\"w\")")
        delete Widget: Some("Text(\"shop\")") None commit of Some(256) None Some("Text(\"w\")")
    "#]]
    .assert_eq(&lines);
}
