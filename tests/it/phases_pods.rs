//! Claims about the phases of Pods, and the problems that delay them.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::rules::Rules;

use crate::{
    phases::{Times, phases_of},
    written::{History, built_in, condition, is_true, kubelet_event, pod, status},
};

#[test]
fn phases_observed_at_once_follow_each_other_with_init_containers_inside() {
    let over = |name: &str, second: u32| {
        let run = json!({"exitCode": 0, "finishedAt": format!("2026-11-24T10:00:{second:02}Z")});
        json!({"name": name, "state": {"terminated": run}})
    };
    let running =
        json!({"name": "web", "state": {"running": {"startedAt": "2026-11-24T10:00:09Z"}}});
    let ready = status(&json!({
        "phase": "Running",
        "conditions": [is_true("PodScheduled", 2), is_true("Initialized", 8), is_true("Ready", 12)],
        "initContainerStatuses": [over("a", 4), over("b", 7)],
        "containerStatuses": [running],
    }));
    // The time of the sandbox is unknown.
    History::default().added(&pod()).later(30).modified(&pod(), &ready).has_phases(expect![[r#"
          reconcile Pod it schedule 1.9s by default-scheduler
          reconcile Pod it init 6.0s by kubelet
          init it init a 2.0s by kubelet
          init it init b 3.0s by kubelet
          reconcile Pod it start 1.0s by kubelet
          reconcile Pod it ready 3.0s by kubelet
        reconcile Pod it g1 waited for Pod it init
    "#]]);
}

#[test]
fn problem_that_was_resolved_stays_the_error_of_its_phase() {
    let gated = condition("PodScheduled", "False", "SchedulingGated", 0);
    let unschedulable = condition("PodScheduled", "False", "Unschedulable", 3);
    History::default()
        .added(&pod())
        .modified(&pod(), &status(&json!({"conditions": [gated]})))
        .later(20)
        .modified(&pod(), &status(&json!({"conditions": [unschedulable]})))
        .later(20)
        .modified(&pod(), &status(&json!({"conditions": [is_true("PodScheduled", 40)]})))
        .has_phases(expect![[r#"
              reconcile Pod it schedule 40.3s by default-scheduler Unschedulable (Unschedulable!)
              reconcile Pod it sandbox 900.0s by kubelet timeout
            reconcile Pod it g1 waited for Pod it sandbox timeout
        "#]]);
}

#[test]
fn crashed_container_has_started_and_its_problem_has_the_exit_code() {
    let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled",
        "startedAt": "2026-11-24T10:00:04Z", "finishedAt": "2026-11-24T10:00:05Z"}});
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let crashing = status(&json!({
        "phase": "Running",
        "conditions": [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 2)],
        "containerStatuses": [{"name": "web", "state": waiting, "lastState": last}],
    }));
    History::default()
        .added(&pod())
        .later(6)
        .modified(&pod(), &crashing)
        .later(60)
        .deleted(&pod())
        .has_phases(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
              reconcile Pod it sandbox 1.0s by kubelet
              reconcile Pod it start 2.0s by kubelet
              reconcile Pod it ready 62.3s by kubelet CrashLoopBackOff (exit code 137 (OOMKilled): back-off 10s)
            reconcile Pod it g1 waited for Pod it ready CrashLoopBackOff
        "#]]);
}

#[test]
fn readiness_gate_delays_a_running_pod() {
    let running =
        json!({"name": "web", "state": {"running": {"startedAt": "2026-11-24T10:00:02Z"}}});
    let gated = condition("Ready", "False", "ReadinessGatesNotReady", 3);
    let waits = json!({"phase": "Running", "containerStatuses": [running],
        "conditions": [is_true("PodScheduled", 1), gated]});
    let goes_on = json!({"phase": "Running", "containerStatuses": [running],
        "conditions": [is_true("PodScheduled", 1), is_true("Ready", 30)]});
    let history = History::default()
        .added(&pod())
        .later(3)
        .modified(&pod(), &status(&waits))
        .later(27)
        .modified(&pod(), &status(&goes_on));
    let stuck = "create Pod shop/it g1 -> converged\n\
        └─ stuck Pod it  ReadinessGatesNotReady: ReadinessGatesNotReady!\n";
    let spans = history.spans(&Rules::default(), "");
    let tree = spanlink::export::tree::render(&spans, spanlink::export::tree::Style::STABLE);
    assert_eq!(tree, stuck);
    history.has_phases(expect![[r#"
          reconcile Pod it schedule 0.9s by default-scheduler
          reconcile Pod it start 2.0s by kubelet
          reconcile Pod it ready 27.3s by kubelet ReadinessGatesNotReady (ReadinessGatesNotReady!)
        reconcile Pod it g1 waited for Pod it ready ReadinessGatesNotReady
    "#]]);
}

#[test]
fn pod_that_becomes_ready_after_a_minute_has_its_outcome() {
    let ready = status(&json!({"phase": "Running", "conditions": [is_true("Ready", 58)]}));
    let history = History::default().added(&pod()).later(58).modified(&pod(), &ready);
    history.later(60).becomes(expect![[r#"
        create Pod shop/it g1 -> converged
    "#]]);
}

#[test]
fn images_are_pulled_before_containers_start_where_kubernetes_events_report_it() {
    let waits = json!({"waiting": {"reason": "ContainerCreating"}});
    let runs = json!({"running": {"startedAt": "2026-11-24T10:00:25Z"}});
    let over = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-11-24T10:00:06Z"}});
    let at = |web: &Value, conditions: &[Value]| {
        status(&json!({
            "phase": "Pending", "conditions": conditions,
            "initContainerStatuses": [{"name": "first", "state": over}],
            "containerStatuses": [{"name": "web", "state": web}],
        }))
    };
    let sandboxed = [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 2)];
    let initialized = [&sandboxed[..], &[is_true("Initialized", 6)]].concat();
    let history = History::default()
        .added(&pod())
        .later(2)
        .modified(&pod(), &at(&waits, &sandboxed))
        // An init container's image is part of its step.
        .added(&kubelet_event("Pulling", "initContainers", "first", 2))
        .added(&kubelet_event("Pulled", "initContainers", "first", 3))
        .later(4)
        .modified(&pod(), &at(&waits, &initialized))
        .added(&kubelet_event("Pulling", "containers", "web", 6))
        .later(14)
        .added(&kubelet_event("Pulled", "containers", "web", 21))
        .later(4)
        .modified(&pod(), &at(&runs, &initialized));
    let configuration = "watch: [{kind: Pod, events: true}]\n";
    let rules = spanlink::daemon::rules(&crate::scenarios::settings(configuration));
    let spans = history.spans(&rules, configuration);
    expect![[r#"
          reconcile Pod it schedule 1.9s by default-scheduler
          reconcile Pod it sandbox 0.2s by kubelet
          reconcile Pod it init 4.3s by kubelet
          init it init first 4.3s by kubelet
          reconcile Pod it pull 14.5s by kubelet
          reconcile Pod it start 4.0s by kubelet
          reconcile Pod it ready 881.5s by kubelet timeout
        reconcile Pod it g1 waited for Pod it ready timeout [event Normal Pulling kubelet first 1] [event Normal Pulled kubelet first 1] [event Normal Pulling kubelet web 1] [event Normal Pulled kubelet web 1]
    "#]].assert_eq(&phases_of(&spans, Times::Shown));
}

#[test]
fn phase_has_at_most_32_events() {
    let job = built_in("batch/v1", "Job", &json!({"parallelism": 1}));
    let failed = |failed: u8| {
        status(&json!({"startTime": "2026-11-24T10:00:02Z", "failed": failed, "active": 1}))
    };
    let history = (0..50).fold(History::default().added(&job).later(2), |history, count| {
        history.modified(&job, &failed(count))
    });
    let over = json!({"startTime": "2026-11-24T10:00:02Z", "conditions": [is_true("Complete", 8)]});
    let spans = history.modified(&job, &status(&over)).spans(&Rules::default(), "");
    let run = spans.iter().find(|span| &*span.name == "run").unwrap();
    assert_eq!(run.events.len(), 32);
}
