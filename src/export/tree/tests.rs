//! Rendered rows, and when trees are printed.

use std::{collections::HashSet, time::Duration};

use expect_test::expect;

use super::{Progress, Style, TreePrinter, render};
use crate::{
    export::samples::{START, flag, int, span as sample, text, texts},
    trace::model::{
        object::GroupKind,
        span::{Attribute, Link, Role, Span, SpanId, SpanStatus, TraceId},
        time::Timestamp,
    },
};

const TIMED: Style = Style { colour: false, durations: true };

/// A span by its name (`update Deployment web`), its id, its parent's, and its start and end in
/// milliseconds.
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
    fn link(self, role: &str, more: &[Attribute]) -> Self;
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

    fn link(mut self, role: &str, more: &[Attribute]) -> Self {
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
fn change_and_its_outcome_are_one_row() {
    expect![[r#"
        update Deployment shop/web g2 -> converged 4.2s  [context 4bf92f35…]  {spec.template.spec.containers[web].image by kubectl-patch}
        ├─ create ReplicaSet web-5b g1 -> converged 3.1s
        │  └─ create Pod web-5b-mpdtf g1 -> converged 3.0s
        └─ update ReplicaSet web-75 g2 -> converged 12ms  {spec.replicas by kube-controller-manager}
           └─ delete Pod web-75-gv2zv g2 -> deleted 1.2s
    "#]].assert_eq(&render(&rollout(), TIMED));
}

#[test]
fn order_and_repetition_of_spans_do_not_change_the_tree() {
    let mut spans = rollout();
    spans.reverse();
    spans.extend(rollout());
    assert_eq!(render(&spans, Style::STABLE), render(&rollout(), Style::STABLE));
}

#[test]
fn row_shows_the_causes_of_a_change_and_the_limits_of_its_data() {
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
fn failed_and_stuck_objects_have_rows_with_their_messages() {
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
fn span_without_its_parent_is_at_the_top_of_its_trace() {
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

fn printer(progress: Progress) -> TreePrinter {
    TreePrinter::new(Style::STABLE, progress)
}

/// Every trace is closed.
fn closed() -> HashSet<TraceId> {
    HashSet::new()
}

/// The trace of [`rollout`] is open.
fn open() -> HashSet<TraceId> {
    HashSet::from([rollout()[0].trace_id])
}

#[test]
fn head_has_a_line_at_once_and_its_tree_a_second_after_the_last_span() {
    let mut printer = printer(Progress::Shown);
    let mut spans = rollout();
    let reconcile = spans.pop().unwrap();
    let head = spans.pop().unwrap();
    expect![[r#"
        … update Deployment shop/web g2  [context 4bf92f35…]  {spec.template.spec.containers[web].image by kubectl-patch}
    "#]].assert_eq(&printer.accept(vec![head], at(0)));
    assert_eq!(printer.accept(spans, at(3)), "");
    assert_eq!(printer.tick(at(60), open), "");
    assert_eq!(printer.accept(vec![reconcile], at(61)), "");
    assert_eq!(printer.tick(at(61), closed), "");
    assert_eq!(printer.tick(at(62), closed), render(&rollout(), Style::STABLE));
    assert_eq!(printer.tick(at(63), closed), "");
    assert_eq!(printer.finish(at(64)), "");
}

#[test]
fn tree_of_an_open_trace_is_printed_once_it_is_closed() {
    let mut printer = printer(Progress::Hidden);
    let mut spans = rollout();
    let last = spans.remove(1);
    assert_eq!(&*last.name, "delete Pod");
    printer.accept(spans, at(0));
    assert_eq!(printer.tick(at(10), open), "");
    printer.accept(vec![last], at(30));
    assert_eq!(printer.tick(at(31), closed), render(&rollout(), Style::STABLE));
}

#[test]
fn late_span_has_a_separate_tree_that_names_the_head() {
    let mut printer = printer(Progress::Hidden);
    printer.accept(rollout(), at(0));
    assert_eq!(printer.tick(at(5), closed), render(&rollout(), Style::STABLE));
    printer.accept(vec![span("late Deployment web", 9, 1, 9_000, 9_000)], at(9));
    expect![[r#"
        late Deployment shop/web -> converged  (update Deployment shop/web g2)
    "#]]
    .assert_eq(&printer.tick(at(10), closed));
}

#[test]
fn stuck_object_has_a_line_at_once_that_names_the_head() {
    let stuck =
        span("stuck Pod web-1", 4, 1, 10, 10).error("ImagePullBackOff", "no such image: nope");
    let mut printer = printer(Progress::Shown);
    printer.accept(vec![span("update Deployment web", 1, 0, 0, 0).generation(3)], at(0));
    expect![[r#"
        stuck Pod shop/web-1  ImagePullBackOff: no such image: nope  (update Deployment shop/web g3)
    "#]]
    .assert_eq(&printer.accept(vec![stuck], at(10)));
}

#[test]
fn change_with_an_outcome_when_observed_has_no_line_before_its_tree() {
    let mut printer = printer(Progress::Shown);
    let change = span("update ConfigMap settings", 1, 0, 0, 0).outcome("converged");
    assert_eq!(printer.accept(vec![change], at(0)), "");
    expect![[r#"
        update ConfigMap shop/settings -> converged
    "#]]
    .assert_eq(&printer.tick(at(1), closed));
}

#[test]
fn hidden_progress_has_no_lines_before_the_tree() {
    let mut printer = printer(Progress::Hidden);
    assert_eq!(printer.accept(rollout(), at(0)), "");
}

#[test]
fn quietest_trace_is_printed_incomplete_when_there_are_too_many() {
    let mut printer = printer(Progress::Shown);
    let mut text = String::new();
    for id in 1..=1_001_u32 {
        let mut head = span("update Deployment web", 1, 0, 0, 0).generation(i64::from(id));
        head.trace_id = TraceId(u128::from(id));
        text = printer.accept(vec![head], at(id.into()));
    }
    expect![[r#"
        … update Deployment shop/web g1001
        update Deployment shop/web g1 …
    "#]]
    .assert_eq(&text);
}

#[test]
fn printed_traces_do_not_count_as_pending() {
    let mut printer = printer(Progress::Hidden);
    let mut text = String::new();
    for id in 1..=3_000_u32 {
        let mut head = span("update ConfigMap settings", 1, 0, 0, 0).outcome("converged");
        head.trace_id = TraceId(u128::from(id));
        text += &printer.accept(vec![head], at(id.into()));
        text += &printer.tick(at(id.into()), closed);
    }
    text += &printer.finish(at(3_001));
    assert_eq!(text, "update ConfigMap shop/settings -> converged\n".repeat(3_000));
}
