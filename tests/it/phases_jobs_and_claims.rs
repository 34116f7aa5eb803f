//! Claims about the phases of Jobs and claims (`PersistentVolumeClaim`).

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::rules::Rules;

use crate::written::{History, built_in, condition, is_true, merged, status};

#[test]
fn job_runs_from_its_start_and_each_failed_attempt_is_an_event() {
    let job = built_in("batch/v1", "Job", &json!({"parallelism": 1}));
    let started = |more: &Value| {
        status(&merged(&json!({"startTime": "2026-11-24T10:00:02Z", "active": 1}), more))
    };
    History::default()
        .added(&job)
        .later(2)
        .modified(&job, &started(&json!({})))
        .later(5)
        .modified(&job, &started(&json!({"failed": 1})))
        .later(5)
        .modified(&job, &started(&json!({"failed": 2})))
        .later(5)
        .modified(&job, &started(&json!({"conditions": [is_true("SuccessCriteriaMet", 17)]})))
        .modified(&job, &started(&json!({"conditions": [is_true("Complete", 18)]})))
        .has_phases(expect![[r#"
              reconcile Job it run 15.8s by job-controller [attempt failed 1] [attempt failed 2]
            reconcile Job it g1 waited for Job it run
        "#]]);
}

#[test]
fn run_of_a_failed_job_ends_with_the_error() {
    let job = built_in("batch/v1", "Job", &json!({}));
    let failed = json!({"startTime": "2026-11-24T10:00:01Z", "failed": 1,
        "conditions": [condition("Failed", "True", "BackoffLimitExceeded", 9)]});
    History::default()
        .added(&job)
        .later(1)
        .modified(&job, &status(&json!({"startTime": "2026-11-24T10:00:01Z"})))
        .later(8)
        .modified(&job, &status(&failed))
        .has_phases(expect![[r#"
              reconcile Job it run 8.1s by job-controller BackoffLimitExceeded (BackoffLimitExceeded!) [attempt failed 1]
            reconcile Job it g1 waited for Job it run BackoffLimitExceeded
        "#]]);
}

#[test]
fn claim_is_provisioned_and_bound_and_its_binding_is_not_a_change() {
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({"storageClassName": "fast"}));
    let asked = merged(
        &claim,
        &json!({"metadata": {"annotations":
        {"volume.kubernetes.io/storage-provisioner": "disk.example.com"}}}),
    );
    let bound = merged(&asked, &json!({"spec": {"volumeName": "pv-1"}}));
    let pending = status(&json!({"phase": "Pending"}));
    let history = History::default()
        .added(&claim)
        .modified(&claim, &pending)
        .later(3)
        .modified(&asked, &pending)
        .later(30)
        .modified(&bound, &pending)
        .later(1)
        .modified(&bound, &status(&json!({"phase": "Bound"})));
    let spans = history.spans(&Rules::default(), "");
    let tree = spanlink::export::tree::render(&spans, spanlink::export::tree::Style::STABLE);
    expect![[r#"
        create PersistentVolumeClaim shop/it -> converged
        └─ stuck PersistentVolumeClaim it  Pending: disk.example.com has made no volume yet
    "#]]
    .assert_eq(&tree);
    history.has_phases(expect![[r#"
          reconcile PersistentVolumeClaim it provision 33.3s by disk.example.com Pending (disk.example.com has made no volume yet)
          reconcile PersistentVolumeClaim it bind 1.1s by persistentvolume-controller
        reconcile PersistentVolumeClaim it waited for PersistentVolumeClaim it provision Pending
    "#]]);
}

#[test]
fn claim_that_waits_for_its_first_pod_is_not_stuck() {
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({"storageClassName": "late"}));
    let pending = status(&json!({"phase": "Pending"}));
    History::default().added(&claim).modified(&claim, &pending).later(60).becomes(expect![[r#"
        create PersistentVolumeClaim shop/it -> timed_out  no verdict before the deadline
    "#]]);
}

#[test]
fn job_that_was_not_started_has_no_run_and_earlier_failures_do_not_count() {
    let job = built_in("batch/v1", "Job", &json!({"parallelism": 1}));
    History::default().added(&job).has_phases(expect![[""]]);
    let failed = |failed: u8, conditions: &Value| {
        json!({"metadata": {"generation": 2}, "spec": {"parallelism": 2}, "status": {
            "startTime": "2026-11-24T10:00:02Z", "failed": failed, "conditions": conditions}})
    };
    let before = json!({"startTime": "2026-11-24T10:00:02Z", "failed": 2});
    History::default()
        .listed("Job", &[&merged(&job, &status(&before))])
        .later(5)
        .modified(&job, &failed(2, &json!([])))
        .later(5)
        .modified(&job, &failed(3, &json!([])))
        .later(5)
        .modified(&job, &failed(3, &json!([is_true("Complete", 15)])))
        .has_phases(expect![[r#"
              reconcile Job it run 10.2s by job-controller [attempt failed 3]
            reconcile Job it g2 waited for Job it run
        "#]]);
}

#[test]
fn failed_attempt_of_a_job_is_not_progress() {
    let job = built_in("batch/v1", "Job", &json!({"parallelism": 1}));
    let failed = json!({"startTime": "2026-11-24T10:00:02Z", "failed": 1});
    History::default()
        .added(&job)
        .later(2)
        .modified(&job, &status(&json!({"startTime": "2026-11-24T10:00:02Z"})))
        .later(1800)
        .modified(&job, &status(&failed))
        .has_phases(expect![[r#"
              reconcile Job it run 86397.9s by job-controller timeout [attempt failed 1]
            reconcile Job it g1 waited for Job it run timeout
        "#]]);
}

#[test]
fn claim_changed_together_with_its_binding_has_changed() {
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({"size": 1}));
    let bound = json!({"spec": {"volumeName": "pv-1", "size": 2}, "status": {"phase": "Bound"}});
    let volume = built_in("v1", "PersistentVolume", &json!({"size": 1}));
    let taken = json!({"spec": {"claimRef": {"name": "it"}}, "status": {"phase": "Bound"}});
    History::default()
        .added(&claim)
        .added(&volume)
        .later(1)
        .modified(&claim, &bound)
        .modified(&volume, &taken)
        .becomes(expect![[r#"
            create PersistentVolumeClaim shop/it -> superseded
            create PersistentVolume shop/it -> converged
            update PersistentVolumeClaim shop/it -> converged  supersedes  {spec.size, spec.volumeName}
        "#]]);
}
