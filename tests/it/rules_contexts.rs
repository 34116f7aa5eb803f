//! Claims about contexts: fresh, stale, revived, inherited, joined.

use std::{collections::HashSet, fmt::Write as _};

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::{
    model::span::{Role, Value as SpanValue},
    rules::Rules,
};

use crate::written::{History, annotated, built_in, merged, object, owned, traceparent};

#[test]
fn context_is_found_under_every_configured_key_and_format() {
    let configuration = "
causes:
  annotations: [tracing.k8s.io/traceparent, {key: example.com/span-context, format: json}, other/traceparent]
  baggage: [tenant]
";
    let with = |name: &str, annotations: Value| {
        merged(&object("Widget", name), &json!({"metadata": {"annotations": annotations}}))
    };
    let json = json!({
        "traceparent": traceparent('2'), "tracestate": "vendor=2", "baggage": "tenant=b%20c,user=u",
    });
    let spans = History::default()
        .added(&with("a", json!({
            "tracing.k8s.io/traceparent": traceparent('1'), "tracing.k8s.io/tracestate": "vendor=1",
            "tracing.k8s.io/baggage": "tenant=a;secret=1,user=u", "other/traceparent": traceparent('9'),
        })))
        .added(&with("b", json!({"example.com/span-context": json.to_string()})))
        .added(&with("c", json!({"other/traceparent": traceparent('3'), "tracestate": "vendor=9"})))
        .added(&with("d", json!({"example.com/span-context": "{\"traceparent\": 7}"})))
        .added(&with("e", json!({"example.com/span-context": "no JSON"})))
        .spans(&Rules::default(), configuration);
    let mut lines = String::new();
    for head in spans.iter().filter(|span| span.is_head()) {
        let link = head.links.first();
        let trace_id = link.map(|link| link.trace_id.to_string());
        let state = link.and_then(|link| link.trace_state.as_deref());
        let tenant = head.attribute("tenant");
        writeln!(lines, "{} {trace_id:?} {state:?} {tenant:?}", head.object.name).unwrap();
        assert_eq!(head.attribute("user"), None);
    }
    expect![[r#"
        a Some("11111111111111111111111111111111") Some("vendor=1") Some(Text("a"))
        b Some("22222222222222222222222222222222") Some("vendor=2") Some(Text("b c"))
        c Some("33333333333333333333333333333333") None None
        d None None None
        e None None None
    "#]]
    .assert_eq(&lines);
}

#[test]
fn tracestate_and_baggage_written_after_a_context_belong_to_it() {
    let noted = |annotations: Value| {
        merged(
            &annotated(&object("Widget", "w"), '1'),
            &json!({"metadata": {"annotations": annotations}}),
        )
    };
    let stepped = |object: &Value, generation: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"size": generation}});
        merged(object, &step)
    };
    let full = noted(
        json!({"tracing.k8s.io/tracestate": "vendor=1", "tracing.k8s.io/baggage": "tenant=a"}),
    );
    let renewed = noted(json!({"tracing.k8s.io/tracestate": "vendor=2"}));
    let spans = History::default()
        .added(&object("Widget", "w"))
        .event("MODIFIED", &noted(json!({})))
        .event("MODIFIED", &noted(json!({"tracing.k8s.io/tracestate": "vendor=1"})))
        .event("MODIFIED", &full)
        .event("MODIFIED", &stepped(&full, 2))
        .event("MODIFIED", &stepped(&renewed, 3))
        .spans(&Rules::default(), "causes: {baggage: [tenant]}");
    let mut lines = String::new();
    for head in spans.iter().filter(|span| span.is_head() && &*span.name == "update Widget") {
        let state = head.links.first().and_then(|link| link.trace_state.as_deref());
        let is_stale = head.attribute("spanlink.context.stale").is_some();
        writeln!(lines, "{state:?} {:?} stale: {is_stale}", head.attribute("tenant")).unwrap();
    }
    expect![[r#"
        Some("vendor=1") Some(Text("a")) stale: false
        Some("vendor=2") None stale: true
    "#]]
    .assert_eq(&lines);
}

/// Vectors of the [W3C test suite](https://github.com/w3c/trace-context/blob/main/test/test.py), in
/// annotations.
#[test]
fn tracestate_that_breaks_the_specification_is_dropped_and_the_context_stays() {
    let passed_on = |state: &str| {
        let state = json!({"metadata": {"annotations": {"tracing.k8s.io/tracestate": state}}});
        let widget = merged(&annotated(&object("Widget", "w"), '1'), &state);
        let spans = History::default().added(&widget).spans(&Rules::default(), "{}");
        let head = spans.iter().find(|span| span.is_head()).unwrap();
        let context = head.links.first().unwrap();
        assert_eq!(context.trace_id.to_string(), "1".repeat(32));
        context.trace_state.clone()
    };
    for state in ["@foo=1,bar=2", "_foo=1", "foo=1,foo=2", "foo=,bar=3", "FOO=1"] {
        assert_eq!(passed_on(state), None, "{state}");
    }
    for state in ["foo=1 \t , \t bar=2, \t baz=3", "1tenant@system=1,foo=2", "foo=1,,bar=2"] {
        assert_eq!(passed_on(state).as_deref(), Some(state));
    }
}

#[test]
fn attribute_keys_are_unique() {
    let baggage = "k8s.object.name=other,k8s.pod.name=other,spanlink.outcome=other";
    let annotations = json!({"metadata": {"annotations": {"tracing.k8s.io/baggage": baggage}}});
    let map = merged(&object("ConfigMap", "m"), &json!({"apiVersion": "v1"}));
    let pod = |name| merged(&object("Pod", name), &json!({"apiVersion": "v1"}));
    let spans = History::default()
        .added(&merged(&annotated(&map, '1'), &annotations))
        .added(&pod("outer"))
        .added(&owned(&pod("inner"), &[(&pod("outer"), true)]))
        .spans(
            &Rules::default(),
            "causes: {baggage: [k8s.object.name, k8s.pod.name, spanlink.outcome]}",
        );
    for span in &spans {
        let keys: HashSet<_> = span.attributes.iter().map(|attribute| &attribute.key).collect();
        assert_eq!(keys.len(), span.attributes.len(), "{span:?}");
    }
    let of = |name: &str| spans.iter().find(|span| *span.object.name == *name).unwrap();
    let name = |text: &str| Some(SpanValue::Text(text.into()));
    assert_eq!(of("inner").attribute("k8s.pod.name"), name("inner").as_ref());
    assert_eq!(of("m").attribute("k8s.pod.name"), name("other").as_ref());
    assert_eq!(of("m").attribute("spanlink.outcome"), name("converged").as_ref());
}

#[test]
fn context_is_fresh_for_five_seconds_and_once() {
    let step = |object: &Value, generation: i64| {
        merged(
            object,
            &json!({"metadata": {"generation": generation}, "spec": {"size": generation}}),
        )
    };
    let widget = object("Widget", "w");
    // Custom resources do not count annotations: they come without a change of their own.
    History::default()
        .added(&widget)
        .later(60)
        .event("MODIFIED", &annotated(&widget, '1'))
        .later(4)
        .event("MODIFIED", &step(&annotated(&widget, '1'), 2))
        .later(60)
        .event("MODIFIED", &annotated(&step(&widget, 2), '2'))
        .later(7)
        .event("MODIFIED", &step(&annotated(&widget, '2'), 3))
        .event("MODIFIED", &step(&annotated(&widget, '1'), 4))
        .event("DELETED", &step(&annotated(&widget, '1'), 4))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            update Widget shop/w g2 -> unknown  [context 11111111…]  {spec.size}
            update Widget shop/w g3 -> superseded  [context 22222222… stale]  {spec.size}
            update Widget shop/w g4 -> superseded  [context 11111111… revived]  supersedes g3  {spec.size}
            delete Widget shop/w g4 -> deleted  supersedes g4
        "#]]);
    // For a delete, an unused context is enough.
    History::default()
        .added(&widget)
        .event("MODIFIED", &annotated(&widget, '3'))
        .later(600)
        .event("DELETED", &annotated(&widget, '3'))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            delete Widget shop/w g1 -> deleted  [context 33333333…]
        "#]]);
}

#[test]
fn context_annotated_long_before_is_not_fresh_for_another_annotation() {
    let web = |generation, note: &str| {
        let note = json!({"metadata": {"annotations": {"note": note}}});
        merged(&annotated(&deployment(generation, "a", 1), '1'), &note)
    };
    History::default()
        .added(&deployment(1, "a", 1))
        .later(20 * 60)
        .event("MODIFIED", &web(2, "a"))
        .later(60)
        .event("MODIFIED", &web(3, "b"))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> converged  [context 11111111…]  (metadata)
            update Deployment shop/web g3 -> converged  [context 11111111… stale]  (metadata)
        "#]]);
}

#[test]
fn context_that_existed_at_the_start_counts_as_used() {
    let widget = annotated(&object("Widget", "w"), '1');
    History::default()
        .listed("Widget", &[&widget])
        .modified(&widget, &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}))
        .becomes(expect![[r#"
            update Widget shop/w g2 -> unknown  [context 11111111… stale]  {spec.size}
        "#]]);
}

/// A Deployment that runs `image`, not yet dealt with.
pub(crate) fn deployment(generation: i64, image: &str, replicas: i64) -> Value {
    let mut deployment = object("Deployment", "web");
    deployment["apiVersion"] = json!("apps/v1");
    let spec = json!({"replicas": replicas, "template": {"spec": {"image": image}}});
    merged(&deployment, &json!({"metadata": {"generation": generation}, "spec": spec}))
}

/// Name, generation and origin of every change of the Deployment.
pub(crate) fn origins(history: &History, rules: &Rules) -> String {
    let mut lines = String::new();
    for span in history.spans(rules, "").iter().filter(|span| span.role == Role::Change) {
        let of = |key: &str| match span.attribute(key) {
            Some(SpanValue::Text(text)) => text.get(..4).unwrap_or_default().to_owned(),
            Some(SpanValue::Int(number)) => number.to_string(),
            _ => "none".to_owned(),
        };
        let (generation, origin) = (of("spanlink.generation"), of("spanlink.origin.trace_id"));
        writeln!(lines, "{} g{generation} of {origin}", span.name).unwrap();
    }
    lines
}

#[test]
fn superseding_change_with_the_same_template_takes_over_origin_and_sampling() {
    let history = |flags: &str| {
        let context = format!("{}{flags}", traceparent('1').trim_end_matches("01"));
        let stamped = json!({"metadata": {"annotations": {"tracing.k8s.io/traceparent": context}}});
        let web = |generation, image, replicas| {
            merged(&deployment(generation, image, replicas), &stamped)
        };
        History::default()
            .added(&web(1, "a", 1))
            .later(10)
            .event("MODIFIED", &web(2, "a", 2))
            .event("MODIFIED", &web(3, "b", 2))
            .event("MODIFIED", &web(4, "b", 3))
    };
    expect![[r#"
        create Deployment g1 of 1111
        update Deployment g2 of 1111
        update Deployment g3 of none
        update Deployment g4 of none
    "#]]
    .assert_eq(&origins(&history("01"), &Rules::default()));
    // The third has another template: a chain of its own, sampled by itself.
    expect![[r#"
        update Deployment g3 of none
        update Deployment g4 of none
    "#]]
    .assert_eq(&origins(&history("00"), &Rules::default()));
}

#[test]
fn context_joins_an_open_change_once_and_within_five_seconds() {
    let web = |generation, digit| annotated(&deployment(generation, "a", 1), digit);
    let step = |generation, image, digit| annotated(&deployment(generation, image, 1), digit);
    History::default()
        .added(&web(1, '1'))
        .later(20)
        .event("MODIFIED", &step(2, "b", '1'))
        .event("MODIFIED", &step(3, "b", '2'))
        .event("MODIFIED", &step(4, "b", '3'))
        .later(20)
        .event("MODIFIED", &step(5, "c", '3'))
        .later(7)
        .event("MODIFIED", &step(6, "c", '4'))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded  [context 11111111…]
            update Deployment shop/web g2 -> superseded  [context 11111111… stale]  supersedes g1  [context 22222222… joined]  {spec.template.spec.image}
            ├─ update Deployment web g3 -> superseded  [context 22222222… joined]  (metadata)
            └─ update Deployment web g4 -> superseded  [context 33333333…]  (metadata)
            update Deployment shop/web g5 -> timed_out  no verdict before the deadline  [context 33333333… stale]  supersedes g2  {spec.template.spec.image}
            └─ update Deployment web g6 -> timed_out  no verdict before the deadline  [context 44444444…]  (metadata)
        "#]]);
}

#[test]
fn included_context_annotation_joins_a_change_of_a_kind_that_ignores_annotations() {
    let web = |generation: i64, metadata: Value| {
        let set = built_in("apps/v1", "StatefulSet", &json!({"replicas": generation}));
        let of_that = json!({"metadata": {"generation": generation}});
        merged(&merged(&set, &of_that), &metadata)
    };
    History::default()
        .added(&web(1, json!({})))
        .later(20)
        .event("MODIFIED", &web(2, json!({})))
        .event("MODIFIED", &annotated(&web(2, json!({})), '1'))
        .becomes_with(
            "
watch:
  - {kind: StatefulSet.apps, include_annotations: [tracing.k8s.io/traceparent]}
",
            expect![[r#"
                create StatefulSet shop/it g1 -> superseded
                update StatefulSet shop/it g2 -> timed_out  no verdict before the deadline  supersedes g1  [context 11111111… joined]  {spec.replicas}
                └─ update StatefulSet it g2 -> timed_out  no verdict before the deadline  [context 11111111… joined]  (metadata)  {metadata.annotations[tracing.k8s.io/traceparent]}
            "#]],
        );
}

#[test]
fn context_joins_a_resumed_rollout_with_other_links() {
    let web = |generation, paused: bool, digit| {
        let paused = json!({"spec": {"paused": paused}, "status": {"observedGeneration": 2}});
        annotated(&merged(&deployment(generation, "a", 1), &paused), digit)
    };
    History::default()
        .added(&deployment(1, "a", 1))
        .later(20)
        .event("MODIFIED", &web(2, true, '1'))
        .later(20)
        .event("MODIFIED", &web(3, false, '1'))
        .event("MODIFIED", &web(4, false, '2'))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            update Deployment shop/web g2 -> paused  [context 11111111…]  supersedes g1  {spec.paused}
            update Deployment shop/web g3 -> timed_out  no verdict before the deadline  [context 11111111… stale]  [context 11111111…]  [context 22222222… joined]  {spec.paused}
            └─ update Deployment web g4 -> timed_out  no verdict before the deadline  [context 22222222… joined]  (metadata)
        "#]]);
}

#[test]
fn context_of_an_older_replicaset_that_returns_is_revived() {
    let web = |generation, image, digit| annotated(&deployment(generation, image, 1), digit);
    let set = |name: &str, image: &str, replicas: i64, digit| {
        let mut set = owned(&object("ReplicaSet", name), &[(&web(1, "a", '1'), true)]);
        set["apiVersion"] = json!("apps/v1");
        let template = json!({"spec": {"image": image}});
        let spec = json!({"spec": {"replicas": replicas, "template": template}});
        annotated(&merged(&set, &spec), digit)
    };
    // All from before the start: the use of the old context was not observed.
    History::default()
        .listed("Deployment", &[&web(1, "a", '1')])
        .listed("ReplicaSet", &[&set("old", "b", 0, '9'), &set("now", "a", 1, '1')])
        .later(60)
        .event("MODIFIED", &web(2, "b", '9'))
        .becomes(expect![[r#"
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  [context 99999999… revived]  {spec.template.spec.image}
        "#]]);
}
