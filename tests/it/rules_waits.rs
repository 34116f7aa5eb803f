//! Rules about waits: the current one and the longest, by hand-written histories.

use std::{collections::BTreeSet, fs};

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::{
    trace::{
        rules::Rules,
        spans::output::{Output, TraceMetric},
        tracer::Tracer,
    },
    watch::recording::Recording,
};

use crate::{
    scenarios::configured,
    written::{History, built_in, condition, is_true, merged, object, owned, pod, status},
};

/// The open convergences at the end of a history, by kind and wait.
fn open(history: &History) -> String {
    let tracer = play(history, |_| ());
    let open = tracer.open_convergences();
    let rows: BTreeSet<String> = open
        .iter()
        .map(|((kind, what), count)| format!("{count} {} waiting for {what:?}\n", kind.kind))
        .collect();
    rows.into_iter().collect()
}

fn named(object: &Value, name: &str) -> Value {
    let uid = format!("{}-{name}", object["kind"].as_str().unwrap());
    merged(object, &json!({"metadata": {"name": name, "uid": uid}}))
}

fn deployment() -> Value {
    built_in("apps/v1", "Deployment", &json!({"replicas": 1}))
}

#[test]
fn owner_waits_for_the_problem_of_its_child() {
    let widget = object("Widget", "w");
    let deployment = owned(&deployment(), &[(&widget, true)]);
    let of = |name: &str| owned(&named(&pod(), name), &[(&deployment, true)]);
    let unschedulable = condition("PodScheduled", "False", "Unschedulable", 0);
    let history = History::default()
        .added(&widget)
        .added(&deployment)
        .added(&of("a"))
        .added(&of("b"))
        .modified(&of("a"), &status(&json!({"conditions": [is_true("PodScheduled", 0)]})))
        .later(1)
        .modified(&of("b"), &status(&json!({"conditions": [unschedulable]})))
        .later(1)
        .modified(&of("a"), &status(&json!({"conditions": [is_true("PodScheduled", 0)]})));
    expect![[r#"
        1 Deployment waiting for "Unschedulable"
        1 Pod waiting for "Unschedulable"
        1 Pod waiting for "sandbox"
        1 Widget waiting for "Unschedulable"
    "#]]
    .assert_eq(&open(&history));
}

#[test]
fn owner_waits_for_the_longest_phase() {
    let deployment = deployment();
    let of = |name: &str| owned(&named(&pod(), name), &[(&deployment, true)]);
    let scheduled = |second: u32| status(&json!({"conditions": [is_true("PodScheduled", second)]}));
    let observed = status(&json!({"observedGeneration": 1}));
    let history = History::default()
        .added(&deployment)
        .modified(&deployment, &observed)
        .added(&of("a"))
        .added(&of("b"))
        .later(1)
        .modified(&of("a"), &scheduled(1))
        .later(3)
        .modified(&of("b"), &scheduled(4))
        .added(&of("c"))
        .later(1)
        .modified(&of("c"), &scheduled(5))
        .modified(
            &of("a"),
            &status(&json!({"conditions":
            [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 5)]})),
        );
    expect![[r#"
        1 Deployment waiting for "sandbox"
        1 Pod waiting for "start"
        2 Pod waiting for "sandbox"
    "#]]
    .assert_eq(&open(&history));
}

#[test]
fn unobserved_change_waits_for_its_observation() {
    let history = History::default().added(&deployment()).added(&object("Widget", "w"));
    expect![[r#"
        1 Deployment waiting for "observe"
        1 Widget waiting for ""
    "#]]
    .assert_eq(&open(&history));
}

#[test]
fn object_without_a_phase_waits_for_its_conditions() {
    let widgets = [
        (
            "ready",
            json!([
                condition("Available", "False", "Few", 0),
                condition("Ready", "False", "Creating", 0)
            ]),
        ),
        ("synced", json!([is_true("Ready", 0), condition("Synced", "Unknown", "Asking", 0)])),
        (
            "available",
            json!([condition("Ready", "False", "", 0), condition("Available", "False", "Few", 0)]),
        ),
        ("accepted", json!([condition("Accepted", "Unknown", "Waiting", 0)])),
        ("programmed", json!([condition("Programmed", "False", "AddressNotAssigned", 0)])),
        (
            "progressing",
            json!([
                condition("Available", "True", "Enough", 0),
                condition("Progressing", "False", "Paused", 0)
            ]),
        ),
        ("other", json!([condition("Other", "False", "Whatever", 0)])),
    ];
    let history = widgets.iter().fold(History::default(), |history, (name, conditions)| {
        let kind = format!("{}Widget", name.to_uppercase());
        let widget = built_in("example.com/v1", &kind, &json!({}));
        let reported = status(&json!({"observedGeneration": 1, "conditions": conditions}));
        history.added(&widget).modified(&widget, &reported)
    });
    expect![[r#"
        1 ACCEPTEDWidget waiting for "Waiting"
        1 AVAILABLEWidget waiting for "Few"
        1 OTHERWidget waiting for ""
        1 PROGRAMMEDWidget waiting for "AddressNotAssigned"
        1 PROGRESSINGWidget waiting for "Paused"
        1 READYWidget waiting for "Creating"
        1 SYNCEDWidget waiting for "Asking"
    "#]]
    .assert_eq(&open(&history));
}

fn failed(second: u32) -> Value {
    status(&json!({"observedGeneration": 1, "conditions":
        [condition("Progressing", "False", "ProgressDeadlineExceeded", second)]}))
}

#[test]
fn longest_open_or_ended_phase_below_a_failure_is_named() {
    let widget = object("Widget", "w");
    let deployment = owned(&deployment(), &[(&widget, true)]);
    let of = |name: &str| owned(&named(&pod(), name), &[(&deployment, true)]);
    let later = json!({"metadata": {"creationTimestamp": "2026-11-24T10:00:10Z"}});
    let scheduled = |second: u32| status(&json!({"conditions": [is_true("PodScheduled", second)]}));
    let created = || {
        History::default()
            .added(&widget)
            .added(&deployment)
            .modified(&deployment, &status(&json!({"observedGeneration": 1})))
            .added(&of("a"))
            .later(10)
            .added(&merged(&of("b"), &later))
    };
    // Both are open.
    created().later(40).modified(&deployment, &failed(50)).has_phases(expect![[r#"
        create Deployment it g1 waited for Pod a schedule [observed]
        reconcile Widget w g1 waited for Pod a schedule
          create Pod a schedule 900.0s by default-scheduler timeout
        create Pod a g1 waited for Pod a schedule timeout
          create Pod b schedule 900.0s by default-scheduler timeout
        create Pod b g1 waited for Pod b schedule timeout
    "#]]);
    // One has waited longer before than the other does now.
    created()
        .later(25)
        .modified(&of("a"), &scheduled(35))
        .later(5)
        .modified(&of("b"), &scheduled(40))
        .later(8)
        .modified(&deployment, &failed(50))
        .has_phases(expect![[r#"
              create Pod a schedule 35.2s by default-scheduler
              create Pod b schedule 30.2s by default-scheduler
            create Deployment it g1 waited for Pod a schedule [observed]
            reconcile Widget w g1 waited for Pod a schedule
              create Pod a sandbox 900.0s by kubelet timeout
            create Pod a g1 waited for Pod a sandbox timeout
              create Pod b sandbox 900.0s by kubelet timeout
            create Pod b g1 waited for Pod b sandbox timeout
        "#]]);
}

#[test]
fn of_equal_waits_the_first_ended_or_the_first_by_name_counts() {
    let deployment = deployment();
    let of = |name: &str| owned(&named(&pod(), name), &[(&deployment, true)]);
    let scheduled = status(&json!({"conditions": [is_true("PodScheduled", 20)]}));
    let created = || {
        History::default()
            .added(&deployment)
            .modified(&deployment, &status(&json!({"observedGeneration": 1})))
            .later(5)
            .added(&of("b"))
            .added(&of("a"))
    };
    created().later(45).modified(&deployment, &failed(50)).has_phases(expect![[r#"
        reconcile Deployment it g1 waited for Pod a schedule [observed]
          create Pod b schedule 905.2s by default-scheduler timeout
        create Pod b g1 waited for Pod b schedule timeout
          create Pod a schedule 905.3s by default-scheduler timeout
        create Pod a g1 waited for Pod a schedule timeout
    "#]]);
    created()
        .later(25)
        .modified(&of("b"), &scheduled)
        .modified(&of("a"), &scheduled)
        .modified(&deployment, &failed(30))
        .has_phases(expect![[r#"
              create Pod b schedule 19.9s by default-scheduler
              create Pod a schedule 19.9s by default-scheduler
            reconcile Deployment it g1 waited for Pod b schedule [observed]
              create Pod b sandbox 910.5s by kubelet timeout
            create Pod b g1 waited for Pod b sandbox timeout
              create Pod a sandbox 910.6s by kubelet timeout
            create Pod a g1 waited for Pod a sandbox timeout
        "#]]);
}

#[test]
fn ignored_change_is_not_named_as_the_longest_wait() {
    let widget = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    let ignored =
        merged(&part, &json!({"metadata": {"annotations": {"spanlink.io/ignore": "true"}}}));
    History::default()
        .added(&widget)
        .added(&ignored)
        .later(3)
        .modified(&ignored, &status(&json!({"conditions": [is_true("Ready", 3)]})))
        .later(1)
        .modified(&widget, &status(&json!({"conditions": [is_true("Ready", 4)]})))
        .has_phases(expect![[""]]);
}

#[test]
fn late_links_are_counted() {
    let deployment = merged(&deployment(), &json!({"metadata": {"generation": 1}}));
    let annotated = merged(
        &crate::written::annotated(&deployment, '1'),
        &json!({"metadata": {"generation": 2}}),
    );
    let history = History::default().added(&deployment).event("MODIFIED", &annotated).later(1);
    let history = history.deleted(&annotated);
    let on_spans: usize =
        history.spans(&Rules::default(), "").iter().map(|span| span.links.len()).sum();
    let mut counted = 0;
    play(&history, |output| {
        let is_link = |note: &&TraceMetric| matches!(note, TraceMetric::Link { .. });
        counted += output.metrics.iter().filter(is_link).count();
    });
    assert_eq!(counted, on_spans);
}

fn play(history: &History, mut take: impl FnMut(Output)) -> Tracer {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), history.text()).unwrap();
    let recording = Recording::open(file.path()).unwrap();
    let begin = recording.start().unwrap();
    let mut tracer = Tracer::new(Rules::default(), "");
    for (_, watch) in recording.watches() {
        tracer.open_empty(watch.id, watch.watched.clone(), begin);
    }
    let settings = configured("");
    let event = |watch, event| take(tracer.process(watch, event));
    recording.play(&settings, event, |line, error| unreachable!("{line}: {error}")).unwrap();
    tracer
}
