//! Causal trees of hand-written traces, as text.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};

use super::{
    Emitter, Incomplete, Printed, Search, StoredSpan, assemble, causing_traces,
    samples::{CHAIN, PERSON, SERVER, With as _, change, other, rollout, stored},
    searches_for_caused, to_json, to_text,
};
use crate::{
    export::tree::Style,
    trace::model::span::{Attribute, Role, Span, SpanId, TraceId},
};

const TIMED: Printed<'static> = Printed {
    style: Style { colour: false, durations: true },
    everything: false,
    why: false,
    ui_link: None,
};

#[expect(clippy::needless_pass_by_value, reason = "written in place")]
fn check_as(printed: Printed<'_>, spans: Vec<Span>, asked: u128, expected: Expect) {
    let tree = assemble(stored(spans), [TraceId(asked)]);
    expected.assert_eq(&to_text(&tree, &printed).replace(&"0".repeat(28), ""));
}

fn check(spans: Vec<Span>, asked: u128, expected: Expect) {
    check_as(TIMED, spans, asked, expected);
}

#[test]
fn tree_leads_from_the_persons_span_through_linked_traces_to_the_pods() {
    let tree = |spans, asked| to_text(&assemble(stored(spans), [TraceId(asked)]), &TIMED);
    let expected = tree(rollout(), PERSON);
    // The same tree, whichever of its traces was asked for, and in which order the spans come.
    for asked in [SERVER, CHAIN] {
        assert_eq!(tree(rollout(), asked), expected);
    }
    let mut reversed = rollout();
    reversed.reverse();
    assert_eq!(tree(reversed, PERSON), expected);
    check(
        rollout(),
        PERSON,
        expect![[r#"
            deploy shop (ci) 900ms  trace 000a  (+1 span)
            └─ kubectl apply (kubectl) 300ms
               └─ PATCH deployments (apiserver) 50ms  trace 000b  (+1 span)
                  └─ update Deployment shop/web -> converged 4.0s  (longest: Pod web-1-a start)  [context 00000000…]  trace 000c
                     └─ create ReplicaSet web-1 -> converged 3.7s
                        └─ create Pod web-1-a -> converged 3.5s

            10 spans in 3 traces, 4.2s from the first start to the last end; changes: 3 converged
            slowest: Pod web-1-a start 3.0s
        "#]],
    );
}

#[test]
fn everything_includes_phases_and_spans_that_led_to_no_change() {
    check_as(
        Printed { everything: true, ..TIMED },
        rollout(),
        PERSON,
        expect![[r#"
            deploy shop (ci) 900ms  trace 000a
            ├─ lint (ci) 90ms
            └─ kubectl apply (kubectl) 300ms
               └─ PATCH deployments (apiserver) 50ms  trace 000b
                  ├─ etcd (apiserver) 20ms
                  └─ update Deployment shop/web -> converged 4.0s  (longest: Pod web-1-a start)  [context 00000000…]  trace 000c
                     └─ create ReplicaSet web-1 -> converged 3.7s
                        └─ create Pod web-1-a -> converged 3.5s
                           └─ start (pod-lifecycle) 3.0s

            10 spans in 3 traces, 4.2s from the first start to the last end; changes: 3 converged
            slowest: Pod web-1-a start 3.0s
        "#]],
    );
}

#[test]
fn cause_that_has_not_ended_is_named_by_its_owner() {
    let spans = rollout().into_iter().filter(|span| ![7, 8].contains(&span.span_id.0));
    let mut spans: Vec<Span> = spans.filter(|span| span.trace_id.0 == CHAIN).collect();
    for span in &mut spans {
        if span.span_id.0 == 9 {
            *span = span.clone().owner(CHAIN, 8);
        }
    }
    check(
        spans,
        CHAIN,
        expect![[r#"
            (annotated trace, not in the backend)  trace 000b
            └─ update Deployment shop/web …  [context 00000000…]  trace 000c
               └─ Deployment web …  (no span yet: it has not ended)
                  └─ create Pod web-1-a -> converged 3.5s

            3 spans in 1 trace, 3.7s from the first start to the last end; changes: 1 converged, 2 in progress
        "#]],
    );
}

#[test]
fn span_that_was_stored_twice_has_one_row() {
    let spans = [rollout(), rollout()].concat();
    let tree = assemble(stored(spans), [TraceId(PERSON)]);
    let once = assemble(stored(rollout()), [TraceId(PERSON)]);
    assert_eq!(to_text(&tree, &TIMED), to_text(&once, &TIMED));
}

#[test]
fn links_in_a_circle_are_cut_at_the_earliest_span() {
    let spans = vec![
        other(PERSON, 1, 0, "first", "a", [0, 10]).link(SERVER, 2),
        other(SERVER, 2, 0, "second", "b", [5, 15]).link(CHAIN, 3),
        other(CHAIN, 3, 0, "third", "c", [7, 17]).link(PERSON, 1),
        other(0xd, 4, 4, "its own parent", "d", [0, 10]).link(PERSON, 1),
    ];
    check(
        spans,
        SERVER,
        expect![[r"
        first (a) 10ms  (its causes form a circle)  trace 000a
        └─ third (c) 10ms  trace 000c
           └─ second (b) 10ms  trace 000b

        3 spans in 3 traces, 17ms from the first start to the last end
    "]],
    );
}

#[test]
fn parents_in_a_circle_within_a_trace_end_at_the_earliest_span() {
    let spans = vec![
        other(PERSON, 1, 2, "first", "a", [0, 10]),
        other(PERSON, 2, 1, "second", "a", [5, 15]),
        other(PERSON, 3, 3, "its own parent", "a", [6, 16]),
    ];
    check_as(
        Printed { everything: true, ..TIMED },
        spans,
        PERSON,
        expect![[r"
        first (a) 10ms  (its causes form a circle)  trace 000a
        └─ second (a) 10ms
        its own parent (a) 10ms  trace 000a

        3 spans in 1 trace, 16ms from the first start to the last end
    "]],
    );
}

#[test]
fn clock_that_is_behind_is_noted_and_changes_no_order() {
    let spans = vec![
        other(PERSON, 1, 0, "kubectl apply", "kubectl", [9_000, 9_500]),
        change(CHAIN, 2, 0, "update ConfigMap a", [0, 0])
            .context(PERSON, 1)
            .origin(PERSON)
            .outcome("converged"),
        change(0xd, 3, 0, "update ConfigMap b", [8_500, 8_500])
            .context(PERSON, 1)
            .origin(PERSON)
            .outcome("converged"),
    ];
    check(
        spans,
        PERSON,
        expect![[r#"
            kubectl apply (kubectl) 500ms  trace 000a
            ├─ update ConfigMap shop/a -> converged  [context 00000000…]  (starts 9.0s before its cause: clocks differ)  trace 000c
            └─ update ConfigMap shop/b -> converged  [context 00000000…]  trace 000d

            3 spans in 3 traces, 9.5s from the first start to the last end; changes: 2 converged
        "#]],
    );
}

#[test]
fn change_with_a_stale_context_or_a_settled_owner_is_not_below_it() {
    let stale = change(CHAIN, 2, 0, "update Deployment web", [500, 500]).context(PERSON, 1);
    let mut settled = change(0xd, 3, 0, "create Pod web-1-b", [600, 900]).owner(PERSON, 1);
    settled.attributes.push(Attribute::flag("spanlink.owner.settled"));
    let spans = vec![other(PERSON, 1, 0, "kubectl apply", "kubectl", [0, 300]), stale, settled];
    check(
        spans,
        PERSON,
        expect![[r"
        kubectl apply (kubectl) 300ms  trace 000a

        1 span in 1 trace, 300ms from the first start to the last end
    "]],
    );
}

#[test]
fn changes_that_are_traces_of_their_own_are_below_their_owners() {
    // As with the layout `linked`, and where a trace was cut.
    let spans = vec![
        other(PERSON, 1, 0, "kubectl apply", "kubectl", [0, 300]),
        change(CHAIN, 2, 0, "update Deployment web", [200, 200]).context(PERSON, 1).origin(PERSON),
        change(0xd, 3, 0, "create ReplicaSet web-1", [300, 300])
            .owner(CHAIN, 2)
            .link(CHAIN, 2)
            .link(PERSON, 1)
            .origin(PERSON),
    ];
    check(
        spans,
        PERSON,
        expect![[r#"
            kubectl apply (kubectl) 300ms  trace 000a
            └─ update Deployment shop/web …  [context 00000000…]  trace 000c
               └─ create ReplicaSet shop/web-1 …  [owner Deployment web]  [origin 00000000…]  trace 000d

            3 spans in 3 traces, 300ms from the first start to the last end; changes: 2 in progress
        "#]],
    );
}

#[test]
fn instrumented_controller_is_below_the_span_that_its_own_links_to() {
    let spans = vec![
        other(PERSON, 1, 0, "kubectl apply", "kubectl", [0, 300]),
        other(SERVER, 2, 0, "Reconcile", "widget-operator", [300, 900])
            .link(PERSON, 1)
            .fails("quota"),
        other(SERVER, 3, 2, "GET /quota", "widget-operator", [310, 320]).fails(""),
        other(SERVER, 4, 2, "list", "widget-operator", [320, 330]),
    ];
    check(
        spans,
        PERSON,
        expect![[r#"
            kubectl apply (kubectl) 300ms  trace 000a
            └─ Reconcile (widget-operator) 600ms  quota  trace 000b  (+1 span)
               └─ GET /quota (widget-operator) 10ms  error

            4 spans in 2 traces, 900ms from the first start to the last end
        "#]],
    );
}

#[test]
fn trace_id_is_a_link_in_a_terminal() {
    let ui_link = |trace_id: TraceId| Some(format!("http://jaeger/trace/{trace_id}"));
    let spans = stored(vec![other(PERSON, 1, 0, "kubectl apply", "kubectl", [0, 300])]);
    let tree = assemble(spans, [TraceId(PERSON)]);
    let text = to_text(&tree, &Printed { ui_link: Some(&ui_link), ..TIMED });
    let id = TraceId(PERSON);
    let link = format!("\x1b]8;;http://jaeger/trace/{id}\x1b\\{id}\x1b]8;;\x1b\\");
    assert!(text.lines().next().unwrap().ends_with(&link), "{text:?}");
}

#[test]
fn why_names_the_rule_and_whether_it_was_ambiguous() {
    let mut spans = rollout();
    for span in &mut spans {
        if span.span_id.0 == 8 {
            *span = span.clone().text("spanlink.cause.rule", "owner");
            span.attributes.push(Attribute::flag("spanlink.cause.ambiguous"));
        }
    }
    spans.retain(|span| span.trace_id.0 == CHAIN && span.span_id.0 <= 8);
    check_as(
        Printed { why: true, style: Style::STABLE, ..TIMED },
        spans,
        CHAIN,
        expect![[r#"
            (annotated trace, not in the backend)  trace 000b
            └─ update Deployment shop/web -> converged  [context 00000000…]  (cause: the annotated span)  trace 000c
               └─ create ReplicaSet web-1 -> converged  (cause: owner, ambiguous)

            3 spans in 1 trace; changes: 2 converged
            slowest: Pod web-1-a start
        "#]],
    );
}

#[test]
fn deep_tree_is_printed_whole() {
    let spans: Vec<Span> =
        (1..20_000).map(|id| other(PERSON, id, id - 1, "call", "loop", [id, id + 1])).collect();
    let tree = assemble(stored(spans), [TraceId(PERSON)]);
    let text = to_text(&tree, &Printed { everything: true, ..TIMED });
    assert_eq!(text.lines().count(), 20_001);
    assert!(text.len() < 20_000 * 600);
    let json = to_json(&tree, &[], &|_| None);
    assert_eq!(json["spans"].as_array().unwrap().len(), 19_999);
}

#[test]
fn json_has_each_span_with_its_cause_and_what_is_missing() {
    let tree = assemble(stored(rollout()), [TraceId(PERSON)]);
    let incomplete = [Incomplete::TraceNotFound { trace_id: TraceId(0xe) }];
    let json = to_json(&tree, &incomplete, &|trace_id| Some(format!("http://ui/{trace_id}")));
    assert_eq!(json["complete"], false);
    assert_eq!(json["incomplete"][0]["reason"], "trace_not_found");
    assert_eq!(json["traces"][0]["url"], format!("http://ui/{}", TraceId(PERSON)));
    assert_eq!(json["traces"][0]["asked"], true);
    assert_eq!(json["summary"]["outcomes"]["converged"], 3);
    assert_eq!(json["summary"]["slowest"]["duration_seconds"], 3.0);
    let spans = json["spans"].as_array().unwrap();
    let span = |id: u64| {
        let id = SpanId(id).to_string();
        spans.iter().find(|span| span["span_id"] == id).unwrap()
    };
    assert_eq!(spans.len(), 10);
    assert!(span(1)["cause"].is_null());
    assert_eq!(span(6)["cause"]["via"], "origin");
    assert_eq!(span(6)["cause"]["span_id"], SpanId(4).to_string());
    assert_eq!(span(6)["outcome"], "converged");
    assert_eq!(span(8)["object"]["name"], "web-1");
    assert_eq!(span(8)["depth"], 4);
    assert_eq!(span(4)["cause"]["via"], "link");
}

#[test]
fn role_of_a_span_is_read_from_its_attributes() {
    let role = |span: Span| {
        let stored = StoredSpan::new(span, None);
        (stored.emitter == Emitter::Spanlink).then_some(stored.span.role)
    };
    assert_eq!(role(change(CHAIN, 1, 0, "create Pod a", [0, 1])), Some(Role::Change));
    assert_eq!(role(change(CHAIN, 1, 0, "reconcile Pod a", [0, 1])), Some(Role::Reconcile));
    let episode = change(CHAIN, 1, 0, "reconcile Certificate a", [0, 1]);
    assert_eq!(role(episode.text("k8s.object.uid", "u")), Some(Role::Change));
    let plain = other(CHAIN, 1, 0, "update Deployment", "mine", [0, 1]);
    assert_eq!(role(plain.clone()), None);
    assert_eq!(role(plain.text("k8s.object.kind", "Deployment")), None);
}

#[test]
fn causing_traces_are_origins_owners_contexts_and_links_of_others() {
    let traces = |spans: Vec<Span>| -> Vec<u128> {
        causing_traces(&stored(spans)).into_iter().map(|trace_id| trace_id.0).collect()
    };
    let chain: Vec<Span> = rollout().into_iter().filter(|span| span.trace_id.0 == CHAIN).collect();
    assert_eq!(traces(chain), [SERVER]);
    let server: Vec<Span> =
        rollout().into_iter().filter(|span| span.trace_id.0 == SERVER).collect();
    assert_eq!(traces(server), [PERSON]);
    let stamped_by_a_controller = change(CHAIN, 1, 5, "create Pod a", [0, 1]).context(0xd, 2);
    assert_eq!(traces(vec![stamped_by_a_controller]), [0xd]);
    let mut consumer = other(PERSON, 1, 0, "consume", "queue", [0, 1]);
    for trace in 100..200 {
        consumer = consumer.link(trace, 1);
    }
    assert_eq!(traces(vec![consumer]).len(), 16);
}

#[test]
fn caused_traces_are_searched_by_origin_context_link_and_owner() {
    let keys = |trace: u128, spans: Vec<Span>| -> BTreeSet<String> {
        let searches = searches_for_caused(TraceId(trace), &stored(spans));
        let key = |search: Search| match search {
            Search::Attributes(attributes) => attributes.into_keys().next().unwrap().to_owned(),
            Search::LinksTo(_) => "link".to_owned(),
        };
        searches.into_iter().map(key).collect()
    };
    let annotated =
        ["link", "spanlink.context.trace_id", "spanlink.origin.trace_id"].map(str::to_owned);
    assert_eq!(keys(PERSON, Vec::new()), BTreeSet::from(annotated.clone()));
    let person = other(PERSON, 1, 0, "apply", "kubectl", [0, 1]);
    assert_eq!(keys(PERSON, vec![person]), BTreeSet::from(annotated.clone()));
    let joined = change(PERSON, 2, 1, "update Deployment web", [0, 1]).origin(PERSON);
    assert_eq!(keys(PERSON, vec![joined]), BTreeSet::from(annotated));
    let head = change(CHAIN, 2, 0, "update Deployment web", [0, 1]);
    let owner = BTreeSet::from(["spanlink.owner.trace_id".to_owned()]);
    assert_eq!(keys(CHAIN, vec![head.clone()]), owner);
    assert_eq!(keys(CHAIN, vec![head.origin(PERSON)]), BTreeSet::new());
}
