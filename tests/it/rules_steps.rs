//! Rules about steps, and about what holds them up, by hand-written histories.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::rules::Rules;

use crate::{
    steps::{Times, steps_of},
    written::{
        History, built_in, condition, current, going, is_true, merged, object, owned, pod, said,
        status,
    },
};

#[test]
fn steps_seen_at_once_are_told_apart_and_init_containers_within_theirs() {
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
    // Nobody said when the sandbox was there.
    History::default().added(&pod()).later(30).modified(&pod(), &ready).has_steps(expect![[r#"
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
fn what_holds_a_step_up_is_its_own_also_where_it_went_on_in_the_end() {
    let gated = condition("PodScheduled", "False", "SchedulingGated", 0);
    let unschedulable = condition("PodScheduled", "False", "Unschedulable", 3);
    History::default()
        .added(&pod())
        .modified(&pod(), &status(&json!({"conditions": [gated]})))
        .later(20)
        .modified(&pod(), &status(&json!({"conditions": [unschedulable]})))
        .later(20)
        .modified(&pod(), &status(&json!({"conditions": [is_true("PodScheduled", 40)]})))
        .has_steps(expect![[r#"
              reconcile Pod it schedule 40.3s by default-scheduler Unschedulable (Unschedulable!)
              reconcile Pod it sandbox 900.0s by kubelet timeout
            reconcile Pod it g1 waited for Pod it sandbox timeout
        "#]]);
}

#[test]
fn a_container_that_crashed_had_started_and_the_problem_says_how_it_ended() {
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
        .has_steps(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
              reconcile Pod it sandbox 1.0s by kubelet
              reconcile Pod it start 2.0s by kubelet
              reconcile Pod it ready 62.3s by kubelet CrashLoopBackOff (exit code 137 (OOMKilled): back-off 10s)
            reconcile Pod it g1 waited for Pod it ready CrashLoopBackOff
        "#]]);
}

#[test]
fn a_readiness_gate_holds_up_what_is_running() {
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
    history.has_steps(expect![[r#"
          reconcile Pod it schedule 0.9s by default-scheduler
          reconcile Pod it start 2.0s by kubelet
          reconcile Pod it ready 27.3s by kubelet ReadinessGatesNotReady (ReadinessGatesNotReady!)
        reconcile Pod it g1 waited for Pod it ready ReadinessGatesNotReady
    "#]]);
}

#[test]
fn a_job_runs_once_it_has_begun_and_each_failed_attempt_is_an_event() {
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
        .has_steps(expect![[r#"
              reconcile Job it run 15.8s by job-controller [attempt failed 1] [attempt failed 2]
            reconcile Job it g1 waited for Job it run
        "#]]);
}

#[test]
fn a_job_that_fails_ends_its_run_with_the_error() {
    let job = built_in("batch/v1", "Job", &json!({}));
    let failed = json!({"startTime": "2026-11-24T10:00:01Z", "failed": 1,
        "conditions": [condition("Failed", "True", "BackoffLimitExceeded", 9)]});
    History::default()
        .added(&job)
        .later(1)
        .modified(&job, &status(&json!({"startTime": "2026-11-24T10:00:01Z"})))
        .later(8)
        .modified(&job, &status(&failed))
        .has_steps(expect![[r#"
              reconcile Job it run 8.1s by job-controller BackoffLimitExceeded (BackoffLimitExceeded!) [attempt failed 1]
            reconcile Job it g1 waited for Job it run BackoffLimitExceeded
        "#]]);
}

#[test]
fn a_claim_is_provisioned_then_bound_and_its_binding_is_no_change() {
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
    history.has_steps(expect![[r#"
          reconcile PersistentVolumeClaim it provision 33.3s by disk.example.com Pending (disk.example.com has made no volume yet)
          reconcile PersistentVolumeClaim it bind 1.1s by persistentvolume-controller
        reconcile PersistentVolumeClaim it waited for PersistentVolumeClaim it provision Pending
    "#]]);
}

#[test]
fn a_claim_that_waits_for_its_first_pod_is_not_stuck() {
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({"storageClassName": "late"}));
    let pending = status(&json!({"phase": "Pending"}));
    History::default().added(&claim).modified(&claim, &pending).later(60).becomes(expect![[r#"
        create PersistentVolumeClaim shop/it -> timed_out  no verdict before the deadline
    "#]]);
}

#[test]
fn a_finalizer_that_nobody_removes_is_a_problem_and_the_end_after_the_deadline_is_late() {
    let part =
        merged(&object("Part", "p"), &json!({"metadata": {"finalizers": ["a.io/x", "b.io/y"]}}));
    let gone = going(&part, &["a.io/x", "b.io/y"]);
    let history = History::default()
        .added(&part)
        .modified(&part, &current(1))
        .later(5)
        .modified(&gone, &json!({"metadata": {"generation": 2}}))
        .later(30)
        .modified(&going(&part, &["b.io/y"]), &json!({"metadata": {"generation": 2}}))
        .later(16 * 60)
        .deleted(&going(&part, &["b.io/y"]));
    let spans = history.spans(&Rules::default(), "");
    let tree = spanlink::export::tree::render(&spans, spanlink::export::tree::Style::STABLE);
    expect![[r#"
        delete Part shop/p g2 -> timed_out  no verdict before the deadline
        ├─ stuck Part p  SomeFinalizersRemain: a.io/x, b.io/y
        └─ late Part p -> deleted
        create Part shop/p g1 -> converged
    "#]]
    .assert_eq(&tree);
    history.has_steps(expect![[r#"
          reconcile Part p observe 0.1s by part-controller
        reconcile Part p g1 waited for Part p observe
          reconcile Part p finalize 935.4s by b.io/y SomeFinalizersRemain (b.io/y) [finalizer removed a.io/x]
        reconcile Part p g2 waited for Part p finalize SomeFinalizersRemain
    "#]]);
}

#[test]
fn finalizers_outlive_the_containers_or_are_no_step_of_a_pod() {
    let dead = |name: &str| {
        let run = json!({"exitCode": 0, "finishedAt": "2026-11-24T10:00:09Z"});
        json!({"name": name, "state": {"terminated": run}})
    };
    let bound = merged(&pod(), &status(&json!({"conditions": [is_true("PodScheduled", 0)]})));
    let over = status(&json!({"phase": "Succeeded", "containerStatuses": [dead("web")]}));
    let held = merged(&going(&pod(), &["batch.kubernetes.io/job-tracking"]), &over);
    History::default()
        .added(&pod())
        .later(1)
        .say("MODIFIED", &going(&bound, &["batch.kubernetes.io/job-tracking"]))
        .later(8)
        .say("MODIFIED", &held)
        .later(5)
        .say("DELETED", &held)
        .has_steps(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
            reconcile Pod it g1 waited for Pod it schedule
              reconcile Pod it terminate 8.3s by kubelet
              reconcile Pod it finalize 5.1s by job-controller SomeFinalizersRemain (batch.kubernetes.io/job-tracking) [finalizer removed batch.kubernetes.io/job-tracking]
            reconcile Pod it g1 waited for Pod it terminate
        "#]]);
    History::default()
        .added(&pod())
        .later(1)
        .say("MODIFIED", &going(&bound, &[]))
        .later(8)
        .say("DELETED", &merged(&going(&pod(), &[]), &over))
        .has_steps(expect![[r#"
              reconcile Pod it schedule 0.9s by default-scheduler
            reconcile Pod it g1 waited for Pod it schedule
              reconcile Pod it terminate 8.3s by kubelet
            reconcile Pod it g1 waited for Pod it terminate
        "#]]);
}

#[test]
fn quota_is_told_once_by_whoever_is_refused_first() {
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let set =
        owned(&built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1})), &[(&deployment, true)]);
    let refused = json!({"observedGeneration": 1, "conditions": [{"type": "ReplicaFailure",
        "status": "True", "reason": "FailedCreate", "message": "exceeded quota: few"}]});
    History::default()
        .added(&deployment)
        .added(&set)
        .modified(&set, &status(&refused))
        .later(30)
        .becomes(expect![[r#"
            create Deployment shop/it g1 -> timed_out  no verdict before the deadline
            ├─ create ReplicaSet it g1 -> timed_out  no verdict before the deadline
            └─ stuck ReplicaSet it  FailedCreate: exceeded quota: few
        "#]]);
}

#[test]
fn an_observation_that_took_long_is_a_step_and_so_is_one_that_nothing_came_of() {
    let slow = object("Widget", "slow");
    let quick = object("Widget", "quick");
    let busy = object("Widget", "busy");
    let part = owned(&object("Part", "p"), &[(&busy, true)]);
    History::default()
        .added(&slow)
        .added(&quick)
        .modified(&quick, &current(1))
        .added(&busy)
        .added(&part)
        .modified(&busy, &current(1))
        .modified(&part, &current(1))
        .later(4)
        .modified(&slow, &current(1))
        .has_steps(expect![[r#"
              reconcile Widget quick observe 0.1s by widget-controller
            reconcile Widget quick g1 waited for Widget quick observe
            reconcile Widget busy g1 [observed]
              create Part p observe 0.2s by part-controller
            create Part p g1 waited for Part p observe
              reconcile Widget slow observe 4.7s by widget-controller
            reconcile Widget slow g1 waited for Widget slow observe
        "#]]);
}

#[test]
fn the_one_thing_waited_for_longest_is_found_through_all_that_was_caused() {
    let widget = object("Widget", "w");
    let deployment =
        owned(&built_in("apps/v1", "Deployment", &json!({"replicas": 1})), &[(&widget, true)]);
    let pod = owned(&pod(), &[(&deployment, true)]);
    let failed = json!({"observedGeneration": 1, "conditions": [{"type": "Progressing",
        "status": "False", "reason": "ProgressDeadlineExceeded"}]});
    let unschedulable = condition("PodScheduled", "False", "Unschedulable", 0);
    History::default()
        .added(&widget)
        .added(&deployment)
        .added(&pod)
        .modified(&deployment, &status(&json!({"observedGeneration": 1})))
        .modified(&pod, &status(&json!({"conditions": [unschedulable]})))
        .later(50)
        // The Pod is still open when the Deployment fails.
        .modified(&deployment, &status(&failed))
        .has_steps(expect![[r#"
            create Deployment it g1 waited for Pod it schedule Unschedulable [observed]
            reconcile Widget w g1 waited for Pod it schedule Unschedulable
              create Pod it schedule 900.0s by default-scheduler Unschedulable (Unschedulable!)
            create Pod it g1 waited for Pod it schedule Unschedulable
        "#]]);
}

#[test]
fn a_pod_that_was_ready_only_after_a_minute_has_its_outcome() {
    let ready = status(&json!({"phase": "Running", "conditions": [is_true("Ready", 58)]}));
    let history = History::default().added(&pod()).later(58).modified(&pod(), &ready);
    history.later(60).becomes(expect![[r#"
        create Pod shop/it g1 -> converged
    "#]]);
}

#[test]
fn what_is_seen_again_after_it_was_gone_ends_when_it_is_gone_again() {
    let widget = object("Widget", "w");
    let other = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    History::default()
        .added(&widget)
        .deleted(&widget)
        .modified(&widget, &other)
        .later(5)
        .deleted(&merged(&widget, &other))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            delete Widget shop/w g1 -> deleted  supersedes g1
            update Widget shop/w g2 -> superseded  {spec.size}
        "#]]);
}

#[test]
fn what_lives_again_though_it_was_to_go_was_restored() {
    let widget = object("Widget", "w");
    let gone = going(&widget, &["a.io/x"]);
    History::default()
        .added(&widget)
        .modified(&gone, &json!({"metadata": {"generation": 2}}))
        .modified(&widget, &current(1))
        .modified(&gone, &json!({"metadata": {"generation": 2}}))
        .deleted(&gone)
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            delete Widget shop/w g2 -> superseded  supersedes g1
            update Widget shop/w g1 -> converged  supersedes g2  (rewound)
            delete Widget shop/w g2 -> deleted
        "#]]);
}

#[test]
fn an_owner_is_not_done_before_what_it_waited_for_whichever_watch_was_first() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1}));
    let pod = owned(&pod(), &[(&set, true)]);
    let counted = json!({"observedGeneration": 1, "replicas": 1, "readyReplicas": 1,
        "availableReplicas": 1, "fullyLabeledReplicas": 1});
    let ready = status(&json!({"phase": "Running", "conditions": [is_true("Ready", 3)]}));
    let history = History::default()
        .added(&set)
        .added(&pod)
        .later(3)
        .modified(&set, &status(&counted))
        // Written before, and received after.
        .late("MODIFIED", &merged(&pod, &ready), 32);
    let spans = history.spans(&Rules::default(), "");
    let end = |name: &str| spans.iter().find(|span| &*span.name == name).unwrap().end;
    assert_eq!(end("create Pod"), end("reconcile ReplicaSet"));
}

#[test]
fn images_are_pulled_before_containers_start_where_events_tell_of_it() {
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
        .added(&said("Pulling", "initContainers", "first", 2))
        .added(&said("Pulled", "initContainers", "first", 3))
        .later(4)
        .modified(&pod(), &at(&waits, &initialized))
        .added(&said("Pulling", "containers", "web", 6))
        .later(14)
        .added(&said("Pulled", "containers", "web", 21))
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
    "#]].assert_eq(&steps_of(&spans, Times::Said));
}

#[test]
fn what_is_done_already_is_no_step() {
    let over = json!({"startTime": "2026-11-24T10:00:01Z", "succeeded": 1, "failed": 1,
        "conditions": [is_true("Complete", 3)]});
    let job = merged(&built_in("batch/v1", "Job", &json!({})), &status(&over));
    let changed = json!({"metadata": {"generation": 2}, "spec": {"ttlSecondsAfterFinished": 60}});
    History::default()
        .listed("Job", &[&job])
        .later(9)
        .modified(&job, &changed)
        .later(5)
        .has_steps(expect![[r#""#]]);
    let counted = |generation: i64, updated: i64| {
        json!({"metadata": {"generation": generation}, "spec": {"replicas": 2},
            "status": {"observedGeneration": generation, "replicas": 2, "readyReplicas": 2,
                "currentReplicas": 2, "updatedReplicas": updated}})
    };
    let spec = json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}});
    let set = merged(&built_in("apps/v1", "StatefulSet", &spec), &counted(1, 2));
    let waits_longer = json!({"metadata": {"generation": 2}, "spec": {"minReadySeconds": 5}});
    let new_image = json!({"metadata": {"generation": 3}, "spec": {"minReadySeconds": 5,
        "template": {"image": "2"}}});
    History::default()
        .listed("StatefulSet", &[&set])
        .modified(&set, &waits_longer)
        .modified(&set, &merged(&waits_longer, &counted(2, 2)))
        .later(5)
        .modified(&merged(&set, &counted(2, 2)), &new_image)
        .modified(&merged(&set, &new_image), &counted(3, 0))
        .later(4)
        .modified(&merged(&set, &new_image), &counted(3, 2))
        .has_steps(expect![[r#"
            reconcile StatefulSet it g2 [observed]
              reconcile StatefulSet it roll 4.1s by statefulset-controller [pods updated 2]
            reconcile StatefulSet it g3 waited for StatefulSet it roll [observed]
        "#]]);
}

#[test]
fn a_job_that_nobody_has_begun_does_not_run_and_its_pods_may_fail_before_a_change_of_it() {
    let job = built_in("batch/v1", "Job", &json!({"parallelism": 1}));
    History::default().added(&job).has_steps(expect![[""]]);
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
        .has_steps(expect![[r#"
              reconcile Job it run 10.2s by job-controller [attempt failed 3]
            reconcile Job it g2 waited for Job it run
        "#]]);
}

#[test]
fn a_step_has_32_events_at_most() {
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

#[test]
fn a_jobs_failed_attempt_is_no_progress() {
    let job = built_in("batch/v1", "Job", &json!({"parallelism": 1}));
    let failed = json!({"startTime": "2026-11-24T10:00:02Z", "failed": 1});
    History::default()
        .added(&job)
        .later(2)
        .modified(&job, &status(&json!({"startTime": "2026-11-24T10:00:02Z"})))
        .later(1800)
        .modified(&job, &status(&failed))
        .has_steps(expect![[r#"
              reconcile Job it run 86397.9s by job-controller timeout [attempt failed 1]
            reconcile Job it g1 waited for Job it run timeout
        "#]]);
}

#[test]
fn a_roll_is_over_when_all_that_are_to_be_of_the_new_revision_are() {
    let set = built_in("apps/v1", "StatefulSet", &json!({}));
    let says = |observed: u8, updated: u8| {
        json!({"metadata": {"generation": 2}, "spec": {"size": 2},
            "status": {"observedGeneration": observed, "replicas": 1, "updatedReplicas": updated}})
    };
    let before = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1});
    History::default()
        .listed("StatefulSet", &[&merged(&set, &status(&before))])
        .later(3)
        .modified(&set, &says(1, 1))
        .later(3)
        .modified(&set, &says(2, 0))
        .later(3)
        .modified(&set, &says(2, 1))
        .has_steps(expect![[r#"
              reconcile StatefulSet it observe 3.1s by statefulset-controller
              reconcile StatefulSet it roll 3.1s by statefulset-controller [pods updated 1]
            reconcile StatefulSet it g2 waited for StatefulSet it observe
        "#]]);
}

#[test]
fn pods_of_a_new_revision_are_counted_upwards() {
    let set = built_in("apps/v1", "DaemonSet", &json!({}));
    let says = |updated: u8| {
        status(&json!({"observedGeneration": 1, "desiredNumberScheduled": 3,
            "updatedNumberScheduled": updated}))
    };
    [1, 0, 1, 2, 3]
        .iter()
        .fold(History::default().added(&set), |history, updated| {
            history.later(1).modified(&set, &says(*updated))
        })
        .has_steps(expect![[r#"
              reconcile DaemonSet it observe 1.1s by daemonset-controller [pods updated 1]
              reconcile DaemonSet it roll 4.4s by daemonset-controller [pods updated 2] [pods updated 3]
            reconcile DaemonSet it g1 waited for DaemonSet it roll
        "#]]);
}

#[test]
fn finalizers_are_removed_by_their_controllers_and_the_first_acts_next() {
    let gone_with = |finalizers: &[&str]| {
        let map = built_in("v1", "ConfigMap", &json!({}));
        let had = merged(&map, &json!({"metadata": {"finalizers": finalizers}}));
        let going = going(&map, finalizers);
        History::default().added(&had).later(1).say("MODIFIED", &going).later(3).deleted(&going)
    };
    let told: Vec<String> = [
        &["foregroundDeletion"][..],
        &["orphan"],
        &["kubernetes"],
        &["batch.kubernetes.io/job-tracking"],
        &["kubernetes.io/pvc-protection"],
        &["kubernetes.io/pv-protection"],
        &["example.com/first", "example.com/last"],
    ]
    .iter()
    .map(|finalizers| {
        let spans = gone_with(finalizers).spans(&Rules::default(), "");
        let step = spans.iter().find(|span| &*span.name == "finalize").unwrap();
        let of = |key: &str| crate::told::attribute(step, key).unwrap_or_default();
        format!("{finalizers:?} by {} {}\n", of("spanlink.phase.actor"), of("error.type"))
    })
    .collect();
    expect![[r#"
        ["foregroundDeletion"] by garbage-collector-controller 
        ["orphan"] by garbage-collector-controller 
        ["kubernetes"] by namespace-controller 
        ["batch.kubernetes.io/job-tracking"] by job-controller SomeFinalizersRemain
        ["kubernetes.io/pvc-protection"] by persistentvolumeclaim-protection-controller SomeFinalizersRemain
        ["kubernetes.io/pv-protection"] by persistentvolume-protection-controller SomeFinalizersRemain
        ["example.com/first", "example.com/last"] by example.com/first SomeFinalizersRemain
    "#]].assert_eq(&told.concat());
}

#[test]
fn a_finalizer_that_goes_from_what_stays_is_nothing_that_happened_to_it() {
    let part = merged(&object("Part", "p"), &json!({"metadata": {"finalizers": ["a.io/x"]}}));
    let without = json!({"metadata": {"finalizers": []}});
    History::default()
        .added(&part)
        .later(1)
        .modified(&part, &without)
        .later(1)
        .modified(&part, &merged(&without, &current(1)))
        .has_steps(expect![[r#"
              reconcile Part p observe 2.2s by part-controller
            reconcile Part p g1 waited for Part p observe
        "#]]);
}

#[test]
fn updates_of_pods_and_claims_have_no_steps_and_nobody_observes_what_has_no_generation() {
    let updated = json!({"metadata": {"generation": 2}, "spec": {"changed": true}});
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({}));
    let service = built_in("v1", "Service", &json!({"type": "LoadBalancer"}));
    let says =
        json!({"conditions": [{"type": "Shared", "status": "True", "observedGeneration": 1}]});
    History::default()
        .listed("Pod", &[&pod()])
        .listed("PersistentVolumeClaim", &[&claim])
        .listed("Service", &[])
        .later(1)
        .modified(&pod(), &updated)
        .modified(&claim, &updated)
        .added(&service)
        .later(3)
        .modified(
            &pod(),
            &merged(&updated, &status(&json!({"conditions": [is_true("PodScheduled", 1)]}))),
        )
        .modified(&claim, &merged(&updated, &status(&json!({"phase": "Bound"}))))
        .modified(&service, &status(&says))
        .has_steps(expect![[r#"
              reconcile Pod it observe 903.3s by pod-lifecycle timeout
            reconcile Pod it g2 waited for Pod it observe timeout
        "#]]);
}

#[test]
fn a_kind_whose_controller_is_known_to_observe_waits_for_that() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1}));
    History::default().added(&set).added(&object("Widget", "w")).has_steps(expect![[r#"
          reconcile ReplicaSet it observe 900.0s by replicaset-controller timeout
        reconcile ReplicaSet it g1 waited for ReplicaSet it observe timeout
    "#]]);
}

#[test]
fn the_last_step_ends_with_the_change() {
    let at_once = status(&json!({"phase": "Running", "conditions":
        [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 1), is_true("Ready", 1)]}));
    let history = History::default().added(&pod()).later(1).modified(&pod(), &at_once);
    let spans = history.spans(&Rules::default(), "");
    let end = |name: &str| spans.iter().find(|span| &*span.name == name).unwrap().end;
    assert_eq!(end("ready"), end("reconcile Pod"));
}

#[test]
fn a_claim_that_is_changed_beside_its_binding_is_changed() {
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
