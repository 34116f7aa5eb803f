//! Claims about what runs to its end: Jobs, and Pods that shall succeed.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::written::{
    History, built_in, condition, current, is_true, merged, object, owned, status,
};

fn time(second: u32) -> String {
    format!("2026-11-24T10:{:02}:{:02}Z", second / 60, second % 60)
}

fn pod_of(owner: &Value, policy: &str) -> Value {
    let pod = built_in("v1", "Pod", &json!({"restartPolicy": policy}));
    owned(&pod, &[(owner, true)])
}

/// Its controller works on it.
fn works() -> Value {
    status(&json!({"conditions": [{"type": "Ready", "status": "Unknown"}]}))
}

fn ran(phase: &str, state: &Value) -> Value {
    let ready = if phase == "Running" { "True" } else { "False" };
    status(&json!({
        "phase": phase,
        "conditions": [is_true("PodScheduled", 0), condition("Ready", ready, "", 4)],
        "containerStatuses": [{"name": "step", "ready": phase == "Running", "state": state}],
    }))
}

fn running() -> Value {
    ran("Running", &json!({"running": {"startedAt": time(4)}}))
}

fn ended(phase: &str, exit_code: i64, reason: &str, second: u32) -> Value {
    let terminated = json!({"exitCode": exit_code, "reason": reason, "startedAt": time(4),
        "finishedAt": time(second)});
    ran(phase, &json!({ "terminated": terminated }))
}

#[test]
fn pod_of_a_run_converges_when_it_has_succeeded() {
    let run = object("TaskRun", "t");
    let pod = pod_of(&run, "Never");
    let history = || {
        History::default()
            .added(&run)
            .modified(&run, &works())
            .added(&pod)
            .later(4)
            .modified(&pod, &running())
            .later(90)
            .modified(&pod, &ended("Succeeded", 0, "Completed", 94))
            .modified(&run, &current(1))
    };
    history().becomes(expect![[r#"
        create TaskRun shop/t g1 -> converged
        └─ create Pod it g1 -> converged
    "#]]);
    history().has_phases(expect![[r#"
          create Pod it schedule 0.0s by default-scheduler
          create Pod it start 4.1s by kubelet
          create Pod it ready 0.0s by kubelet
          create Pod it run 90.1s by kubelet
          reconcile TaskRun t observe 94.5s by taskrun-controller
        create Pod it g1 waited for Pod it run
        reconcile TaskRun t g1 waited for Pod it run
    "#]]);
}

#[test]
fn pod_of_a_run_fails_when_a_container_has_failed() {
    let run = object("Workflow", "w");
    let pod = pod_of(&run, "OnFailure");
    let history = || {
        History::default()
            .added(&run)
            .modified(&run, &works())
            .added(&pod)
            .later(4)
            .modified(&pod, &running())
            .later(90)
            .modified(&pod, &ended("Failed", 3, "Error", 94))
            .modified(&run, &current(1))
    };
    history().becomes(expect![[r#"
        create Workflow shop/w g1 -> converged
        └─ create Pod it g1 -> failed  Error: container step ended with exit code 3
    "#]]);
    history().has_phases(expect![[r#"
          create Pod it schedule 0.0s by default-scheduler
          create Pod it start 4.1s by kubelet
          create Pod it ready 0.0s by kubelet
          create Pod it run 90.1s by kubelet Error (container step ended with exit code 3)
        create Pod it g1 waited for Pod it run Error
          reconcile Workflow w observe 94.5s by workflow-controller
        reconcile Workflow w g1 waited for Pod it run Error
    "#]]);
}

#[test]
fn pod_of_a_run_may_run_for_as_long_as_a_job() {
    let run = object("TaskRun", "t");
    let pod = pod_of(&run, "Never");
    History::default()
        .added(&pod)
        .later(4)
        .modified(&pod, &running())
        .later(3600)
        .modified(&pod, &ended("Succeeded", 0, "Completed", 3599))
        .becomes(expect![[r#"
            create Pod shop/it g1 -> converged
        "#]]);
}

#[test]
fn pod_that_is_kept_running_converges_when_it_is_ready() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({}));
    let instance =
        merged(&object("VirtualMachineInstance", "v"), &json!({"apiVersion": "kubevirt.io/v1"}));
    let runs = |pod: &Value, expected: Expect| {
        let history = History::default().added(pod).later(4).modified(pod, &running()).later(90);
        history.becomes(expected);
    };
    runs(
        &pod_of(&object("Kafka", "k"), "Always"),
        expect![[r#"
        create Pod shop/it g1 -> converged
    "#]],
    );
    runs(
        &pod_of(&set, "Never"),
        expect![[r#"
        create Pod shop/it g1 -> converged
    "#]],
    );
    runs(
        &pod_of(&instance, "Never"),
        expect![[r#"
        create Pod shop/it g1 -> converged
    "#]],
    );
    runs(
        &built_in("v1", "Pod", &json!({"restartPolicy": "Never"})),
        expect![[r#"
        create Pod shop/it g1 -> converged
    "#]],
    );
}

#[test]
fn pod_that_was_rejected_or_evicted_has_the_message_of_the_kubelet() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({}));
    let pod = pod_of(&set, "Always");
    let failed = |reason: &str, message: &str| {
        status(&json!({"phase": "Failed", "reason": reason, "message": message}))
    };
    let rejected =
        failed("UnexpectedAdmissionError", "Allocate failed: 1 GPU requested, 0 available");
    History::default().added(&pod).modified(&pod, &rejected).becomes(expect![[r#"
        create Pod shop/it g1 -> failed  UnexpectedAdmissionError: Allocate failed: 1 GPU requested, 0 available
    "#]]);
    let evicted = failed("Evicted", "The node was low on resource: memory.");
    History::default()
        .added(&pod)
        .modified(&pod, &running())
        .later(60)
        .modified(
            &merged(&pod, &json!({"metadata": {"generation": 2}, "spec": {"x": 1}})),
            &evicted,
        )
        .becomes(expect![[r#"
            create Pod shop/it g1 -> converged
            update Pod shop/it g2 -> failed  Evicted: The node was low on resource: memory.
        "#]]);
    // Neither the status nor a container explains it.
    History::default().added(&pod).modified(&pod, &failed("", "")).becomes(expect![[r#"
        create Pod shop/it g1 -> failed  Failed
    "#]]);
}

fn job(suspend: bool, generation: i64) -> Value {
    let job = built_in("batch/v1", "Job", &json!({ "suspend": suspend }));
    merged(&job, &json!({"metadata": {"generation": generation}}))
}

fn suspended(second: u32) -> Value {
    status(&json!({"conditions": [condition("Suspended", "True", "JobSuspended", second)]}))
}

#[test]
fn job_that_is_resumed_runs_although_its_status_is_still_suspended() {
    let pod = pod_of(&job(false, 2), "Never");
    let resumed = condition("Suspended", "False", "JobResumed", 40);
    let active = json!({"startTime": time(40), "active": 1, "conditions": [&resumed]});
    let complete = json!({"startTime": time(40), "succeeded": 1,
        "conditions": [&resumed, is_true("Complete", 50)]});
    let quota = owned(&object("Workload", "w"), &[(&job(true, 1), true)]);
    let history = || {
        History::default()
            .added(&job(true, 1))
            .modified(&job(true, 1), &suspended(0))
            .later(5)
            // What waits for quota on behalf of the Job follows from its creation.
            .added(&quota)
            .modified(&quota, &current(1))
            .later(34)
            .modified(&job(false, 2), &suspended(0))
            .added(&pod)
            .modified(&job(false, 2), &status(&active))
            .modified(&pod, &running())
            .later(8)
            .modified(&pod, &ended("Succeeded", 0, "Completed", 48))
            .later(2)
            .modified(&job(false, 2), &status(&complete))
            .later(60)
            // A Pod after the end is not of the run.
            .added(&merged(&pod, &json!({"metadata": {"uid": "late", "name": "late"}})))
    };
    history().becomes(expect![[r#"
        create Pod shop/late g1 -> timed_out  no verdict before the deadline  (owner settled)
        create Job shop/it g1 -> converged
        └─ create Workload w g1 -> converged
        update Job shop/it g2 -> converged  {spec.suspend}
        └─ create Pod it g1 -> converged
    "#]]);
    history().has_phases(expect![[r#"
          create Workload w observe 5.3s by workload-controller
        create Workload w g1 waited for Workload w observe
          create Pod it schedule 0.0s by default-scheduler
          create Pod it start 0.0s by kubelet
          create Pod it ready 0.0s by kubelet
          create Pod it run 8.5s by kubelet
        create Pod it g1 waited for Pod it run
          reconcile Job it run 10.0s by job-controller
        reconcile Job it g2 waited for Pod it run
          reconcile Pod late schedule 1010.1s by default-scheduler timeout
        reconcile Pod late g1 waited for Pod late schedule timeout
    "#]]);
}

#[test]
fn job_that_is_suspended_while_it_runs_deletes_its_pods() {
    let pod = pod_of(&job(false, 1), "Never");
    let active = json!({"startTime": "2026-11-24T10:00:00Z", "active": 1});
    let history = || {
        History::default()
            .added(&job(false, 1))
            .added(&pod)
            .modified(&job(false, 1), &status(&active))
            .modified(&pod, &running())
            .later(30)
            .modified(&job(true, 2), &status(&active))
            .deleted(&pod)
            .modified(&job(true, 2), &suspended(30))
    };
    history().becomes(expect![[r#"
        create Job shop/it g1 -> superseded
        └─ create Pod it g1 -> superseded
        update Job shop/it g2 -> converged  supersedes g1  {spec.suspend}
        └─ delete Pod it g1 -> deleted  supersedes g1
    "#]]);
    history().has_phases(expect![[r#"
          create Pod it schedule 0.2s by default-scheduler
          create Pod it start 3.6s by kubelet
          create Pod it ready 0.0s by kubelet
          reconcile Job it run 30.2s by job-controller
        reconcile Job it g1 waited for Pod it run
          create Pod it run 26.6s by kubelet
        create Pod it g1 waited for Pod it run
        reconcile Job it g2 waited for Pod it
    "#]]);
}

#[test]
fn run_of_a_job_is_what_the_change_above_waited_for() {
    let widget = object("Widget", "w");
    let job = owned(&job(false, 1), &[(&widget, true)]);
    let pod = pod_of(&job, "Never");
    let active = json!({"startTime": "2026-11-24T10:00:00Z", "active": 1});
    let complete = json!({"startTime": "2026-11-24T10:00:00Z", "succeeded": 1,
        "conditions": [is_true("Complete", 30)]});
    History::default()
        .added(&widget)
        .modified(&widget, &works())
        .added(&job)
        .modified(&job, &status(&active))
        .later(1)
        .added(&pod)
        .later(2)
        .modified(&pod, &running())
        .later(25)
        .modified(&pod, &ended("Succeeded", 0, "Completed", 28))
        .modified(&job, &status(&complete))
        .modified(&widget, &current(1))
        .has_phases(expect![[r#"
              create Pod it schedule 0.0s by default-scheduler
              create Pod it start 3.0s by kubelet
              create Pod it ready 0.0s by kubelet
              create Pod it run 24.7s by kubelet
              create Job it run 29.6s by job-controller
              reconcile Widget w observe 28.8s by widget-controller
            create Pod it g1 waited for Pod it run
            create Job it g1 waited for Pod it run
            reconcile Widget w g1 waited for Job it run
        "#]]);
}

#[test]
fn problem_of_the_pods_of_a_job_explains_its_run() {
    let widget = object("Widget", "w");
    let job = owned(&job(false, 1), &[(&widget, true)]);
    let pod = pod_of(&job, "Never");
    let active = json!({"startTime": "2026-11-24T10:00:00Z", "active": 1});
    let backs_off = ran("Pending", &json!({"waiting": {"reason": "ImagePullBackOff"}}));
    let history = || {
        History::default()
            .added(&widget)
            .modified(&widget, &works())
            .added(&job)
            .added(&pod)
            .modified(&job, &status(&active))
            .modified(&pod, &backs_off)
            .later(40)
    };
    let complete = json!({"startTime": "2026-11-24T10:00:00Z", "succeeded": 1,
        "conditions": [is_true("Complete", 50)]});
    let terminated = json!({"exitCode": 0, "startedAt": time(42), "finishedAt": time(45)});
    history()
        .modified(&pod, &ran("Succeeded", &json!({ "terminated": terminated })))
        .later(5)
        .modified(&job, &status(&complete))
        .modified(&widget, &current(1))
        .has_phases(expect![[r#"
              create Pod it schedule 0.2s by default-scheduler
              create Pod it start 41.4s by kubelet ImagePullBackOff
              create Pod it run 3.0s by kubelet
            create Pod it g1 waited for Pod it start ImagePullBackOff
              create Job it run 49.5s by job-controller
              reconcile Widget w observe 45.8s by widget-controller
            create Job it g1 waited for Pod it start ImagePullBackOff
            reconcile Widget w g1 waited for Pod it start ImagePullBackOff
        "#]]);
    // The change is superseded while the Pod waits.
    history().modified(&merged(&widget, &json!({"spec": {"size": 2}})), &current(2)).has_phases(
        expect![[r#"
              create Pod it schedule 0.2s by default-scheduler
            reconcile Widget w g1 waited for Pod it sandbox ImagePullBackOff
              reconcile Widget w observe 0.0s by widget-controller
            reconcile Widget w g2 waited for Widget w observe
              create Pod it sandbox 900.0s by kubelet ImagePullBackOff
            create Pod it g1 waited for Pod it sandbox ImagePullBackOff
              create Job it run 86399.9s by job-controller timeout
            create Job it g1 waited for Job it run timeout
        "#]],
    );
}

#[test]
fn executors_of_a_driver_run_below_it_to_their_end() {
    let application = object("SparkApplication", "s");
    let driver = pod_of(&application, "Never");
    let executor = merged(
        &pod_of(&driver, "Never"),
        &json!({"metadata": {"name": "executor", "uid": "executor"}}),
    );
    History::default()
        .added(&application)
        .modified(&application, &works())
        .added(&driver)
        .modified(&driver, &running())
        .later(20)
        .added(&executor)
        .modified(&executor, &running())
        .later(60)
        .modified(&executor, &ended("Succeeded", 0, "Completed", 80))
        .modified(&driver, &ended("Succeeded", 0, "Completed", 81))
        .modified(&application, &current(1))
        .becomes(expect![[r#"
            create SparkApplication shop/s g1 -> converged
            └─ create Pod it g1 -> converged
               └─ create Pod executor g1 -> converged
        "#]]);
}

#[test]
fn object_that_is_observed_at_once_and_works_for_long_is_what_was_waited_for() {
    let widget = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    let observed = merged(&works(), &status(&json!({"observedGeneration": 1})));
    History::default()
        .added(&widget)
        .modified(&widget, &works())
        .added(&part)
        .modified(&part, &observed)
        .later(30)
        .modified(&part, &current(1))
        .modified(&widget, &current(1))
        .has_phases(expect![[r#"
              reconcile Widget w observe 30.5s by widget-controller
              create Part p observe 0.1s by part-controller
            create Part p g1 waited for Part p
            reconcile Widget w g1 waited for Part p
        "#]]);
}
