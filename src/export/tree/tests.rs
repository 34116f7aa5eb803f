//! Trees of a rollout, while it happens and at its end.

use std::time::Duration;

use expect_test::expect;

use super::{Live, Style, render};
use crate::{
    export::samples::{START, flag, int, span as sample, text, texts},
    trace::model::{
        object::GroupKind,
        span::{Link, Role, Span, SpanId, SpanStatus, TraceId},
        time::Timestamp,
    },
};

const TIMED: Style = Style { colour: false, durations: true };

/// `update Deployment web`, its id, its parent's, from and to in milliseconds.
fn span(name: &str, id: u64, parent: u64, from: u64, to: u64) -> Span {
    let words: Vec<&str> = name.split(' ').collect();
    let [verb, kind, object] = words[..] else { panic!("{name}") };
    let mut span = sample("s", &format!("{verb} {kind}"));
    span.span_id = SpanId(id);
    span.parent = (parent > 0).then_some(SpanId(parent));
    span.role = match verb {
        "reconcile" => Role::Reconcile,
        "stuck" => Role::Stuck,
        "late" => Role::Late,
        _ => Role::Change,
    };
    span.object.kind = GroupKind::new("", kind);
    span.object.name = object.into();
    span.start = START.plus(Duration::from_millis(from));
    span.end = START.plus(Duration::from_millis(to));
    span.attributes = vec![text("spanlink.verb", verb)];
    span
}

trait With: Sized {
    fn generation(self, generation: i64) -> Self;
    fn outcome(self, outcome: &str) -> Self;
    fn fields(self, fields: &[&str], manager: &str) -> Self;
    fn link(self, role: &str, more: &[crate::trace::model::span::Attribute]) -> Self;
    fn error(self, reason: &str, message: &str) -> Self;
}

impl With for Span {
    fn generation(mut self, generation: i64) -> Self {
        self.attributes.push(int("spanlink.generation", generation));
        self
    }

    fn outcome(mut self, outcome: &str) -> Self {
        self.attributes.push(text("spanlink.outcome", outcome));
        self
    }

    fn fields(mut self, fields: &[&str], manager: &str) -> Self {
        self.attributes.push(texts("spanlink.change.fields", fields));
        self.attributes.push(text("spanlink.change.manager", manager));
        self
    }

    fn link(mut self, role: &str, more: &[crate::trace::model::span::Attribute]) -> Self {
        let mut attributes = vec![text("spanlink.link.role", role)];
        attributes.extend_from_slice(more);
        self.links.push(Link {
            trace_id: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            span_id: SpanId(1),
            trace_state: None,
            flags: 1,
            remote: true,
            attributes,
        });
        self
    }

    fn error(mut self, reason: &str, message: &str) -> Self {
        self.attributes.push(text("error.type", reason));
        self.status = SpanStatus::Error(message.into());
        self
    }
}

fn rollout() -> Vec<Span> {
    vec![
        span("create Pod web-5b-mpdtf", 4, 3, 20, 3_020).generation(1).outcome("converged"),
        span("delete Pod web-75-gv2zv", 6, 5, 60, 1_260).generation(2).outcome("deleted"),
        span("create ReplicaSet web-5b", 3, 1, 10, 3_110).generation(1).outcome("converged"),
        span("update ReplicaSet web-75", 5, 1, 50, 62)
            .generation(2)
            .outcome("converged")
            .fields(&["spec.replicas"], "kube-controller-manager"),
        span("update Deployment web", 1, 0, 0, 0)
            .generation(2)
            .link("context", &[])
            .fields(&["spec.template.spec.containers[web].image"], "kubectl-patch"),
        span("reconcile Deployment web", 2, 1, 0, 4_200).outcome("converged"),
    ]
}

#[test]
fn a_change_and_its_outcome_are_one_row() {
    expect![[r#"
        update Deployment shop/web g2 -> converged 4.2s  [context 4bf92f35…]  {spec.template.spec.containers[web].image by kubectl-patch}
        ├─ create ReplicaSet web-5b g1 -> converged 3.1s
        │  └─ create Pod web-5b-mpdtf g1 -> converged 3.0s
        └─ update ReplicaSet web-75 g2 -> converged 12ms  {spec.replicas by kube-controller-manager}
           └─ delete Pod web-75-gv2zv g2 -> deleted 1.2s
    "#]].assert_eq(&render(&rollout(), TIMED));
}

#[test]
fn the_order_of_spans_and_repeats_make_no_difference() {
    let mut spans = rollout();
    spans.reverse();
    spans.extend(rollout());
    assert_eq!(render(&spans, Style::STABLE), render(&rollout(), Style::STABLE));
}

#[test]
fn a_row_tells_why_a_change_was_and_what_to_trust_in_it() {
    let mut widget = span("update Widget w", 1, 0, 0, 0).generation(7).outcome("superseded");
    widget.attributes.extend([
        flag("spanlink.change.rewound"),
        int("spanlink.change.missed_generations", 2),
        text("spanlink.change.scope", "metadata"),
    ]);
    let widget = widget
        .link("context", &[flag("spanlink.link.stale")])
        .link("context", &[flag("spanlink.link.joined")])
        .link("supersedes", &[int("spanlink.link.generation", 4)])
        .link("previous", &[])
        .link(
            "reference",
            &[text("spanlink.link.kind", "Cluster"), text("spanlink.link.name", "c")],
        )
        .fields(&["a", "b", "c", "d", "e", "f"], "ui");
    let mut job = span("create Job tick-1", 2, 0, 0, 9)
        .generation(1)
        .outcome("converged")
        .link("inherited", &[])
        .link("owner", &[]);
    job.trace_id = TraceId(2);
    job.start = job.start.plus(Duration::from_millis(1));
    job.attributes.push(flag("spanlink.owner.settled"));
    expect![[r#"
        update Widget shop/w g7 -> superseded  [context 4bf92f35… stale]  [context 4bf92f35… joined]  supersedes g4  [reference Cluster c]  (metadata)  (rewound)  missed 2  {a, b, c, d, 2 more by ui}
        create Job shop/tick-1 g1 -> converged  [inherited 4bf92f35…]  (owner settled)
    "#]].assert_eq(&render(&[widget, job], Style::STABLE));
}

#[test]
fn what_fails_or_hangs_says_so_with_its_message() {
    let spans = [
        span("update Deployment web", 1, 0, 0, 0).generation(3),
        span("reconcile Deployment web", 2, 1, 0, 600_000)
            .outcome("failed")
            .error("ProgressDeadlineExceeded", "ReplicaSet has\ntimed out progressing."),
        span("create Pod web-1", 3, 1, 1, 600_000)
            .generation(1)
            .outcome("timed_out")
            .error("timeout", ""),
        span("stuck Pod web-1", 4, 1, 10_000, 10_000)
            .error("ImagePullBackOff", "no such image: shop/web:nope"),
        span("late Deployment web", 5, 1, 960_000, 960_000),
    ];
    expect![[r#"
        update Deployment shop/web g3 -> failed 10m00s  ProgressDeadlineExceeded: ReplicaSet has timed out progressing.
        ├─ create Pod web-1 g1 -> timed_out 9m59s
        ├─ stuck Pod web-1  ImagePullBackOff: no such image: shop/web:nope
        └─ late Deployment web -> converged 16m00s
    "#]].assert_eq(&render(&spans, TIMED));
    let coloured = render(&spans, Style { colour: true, durations: true });
    assert!(coloured.contains("\x1b[31mfailed\x1b[0m"), "{coloured}");
    assert!(coloured.contains("\x1b[31mstuck Pod"), "{coloured}");
}

#[test]
fn spans_whose_parents_are_unknown_stand_at_the_top_of_their_trace() {
    let spans = rollout().into_iter().filter(|span| ![1, 3].contains(&span.span_id.0));
    expect![[r#"
        reconcile Deployment shop/web -> converged
        create Pod shop/web-5b-mpdtf g1 -> converged
        update ReplicaSet shop/web-75 g2 -> converged  {spec.replicas by kube-controller-manager}
        └─ delete Pod web-75-gv2zv g2 -> deleted
    "#]]
    .assert_eq(&render(&spans.collect::<Vec<_>>(), Style::STABLE));
}

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

#[test]
fn a_head_is_told_at_once_and_its_tree_a_second_after_its_end() {
    let mut live = Live::new(Style::STABLE);
    let mut spans = rollout();
    let reconcile = spans.pop().unwrap();
    let head = spans.pop().unwrap();
    let begun = live.accept(vec![head], at(0));
    expect![[r#"
        … update Deployment shop/web g2  [context 4bf92f35…]  {spec.template.spec.containers[web].image by kubectl-patch}
    "#]].assert_eq(&begun);
    assert_eq!(live.accept(spans, at(3)), "");
    assert_eq!(live.tick(at(60)), "");
    assert_eq!(live.accept(vec![reconcile], at(61)), "");
    assert_eq!(live.tick(at(61)), "");
    assert_eq!(live.tick(at(62)), render(&rollout(), Style::STABLE));
    assert_eq!(live.tick(at(63)), "");
    assert_eq!(live.finish(), "");
}

#[test]
fn a_trace_that_gets_more_is_printed_again() {
    let mut live = Live::new(Style::STABLE);
    live.accept(rollout(), at(0));
    assert_eq!(live.tick(at(1)), render(&rollout(), Style::STABLE));
    let late = span("late Deployment web", 9, 1, 9_000, 9_000);
    live.accept(vec![late.clone()], at(9));
    let mut all = rollout();
    all.push(late);
    assert_eq!(live.tick(at(10)), render(&all, Style::STABLE));
}

#[test]
fn what_hangs_is_told_at_once_with_its_head() {
    let mut live = Live::new(Style::STABLE);
    live.accept(vec![span("update Deployment web", 1, 0, 0, 0).generation(3)], at(0));
    let stuck =
        span("stuck Pod web-1", 4, 1, 10, 10).error("ImagePullBackOff", "no such image: nope");
    expect![[r#"
        stuck Pod shop/web-1  ImagePullBackOff: no such image: nope  (update Deployment shop/web g3)
    "#]]
    .assert_eq(&live.accept(vec![stuck], at(10)));
}

#[test]
fn a_change_that_is_over_when_seen_is_told_once() {
    let mut live = Live::new(Style::STABLE);
    let change = span("update ConfigMap settings", 1, 0, 0, 0).outcome("converged");
    assert_eq!(live.accept(vec![change], at(0)), "");
    expect![[r#"
        update ConfigMap shop/settings -> converged
    "#]]
    .assert_eq(&live.tick(at(1)));
}

#[test]
fn many_traces_make_the_oldest_go_printed() {
    let mut live = Live::new(Style::STABLE);
    let mut text = String::new();
    for id in 1..=1_001_u32 {
        let mut head = span("update Deployment web", 1, 0, 0, 0).generation(i64::from(id));
        head.trace_id = TraceId(u128::from(id));
        text = live.accept(vec![head], at(id.into()));
    }
    expect![[r#"
        … update Deployment shop/web g1001
        update Deployment shop/web g1 …
    "#]]
    .assert_eq(&text);
}
