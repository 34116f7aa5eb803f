//! Claims about the phases of rollouts and observations, and about the longest waits.

use expect_test::expect;
use serde_json::json;
use spanlink::trace::rules::Rules;

use crate::written::{
    History, built_in, condition, current, is_true, merged, object, owned, pod, status,
};

#[test]
fn exceeded_quota_has_one_stuck_span_for_the_first_refused_object() {
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
            ├─ create ReplicaSet it g1 -> timed_out  FailedCreate: exceeded quota: few
            └─ stuck ReplicaSet it  FailedCreate: exceeded quota: few
        "#]]);
}

#[test]
fn observation_is_a_phase_if_it_took_long_or_nothing_else_followed() {
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
        .has_phases(expect![[r#"
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
fn longest_wait_is_found_through_all_caused_changes() {
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
        .has_phases(expect![[r#"
            create Deployment it g1 waited for Pod it schedule Unschedulable [observed]
            reconcile Widget w g1 waited for Pod it schedule Unschedulable
              create Pod it schedule 900.0s by default-scheduler Unschedulable (Unschedulable!)
            create Pod it g1 waited for Pod it schedule Unschedulable
        "#]]);
}

#[test]
fn owner_converges_no_earlier_than_the_change_it_waited_for() {
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
fn work_done_before_the_change_is_not_a_phase() {
    let over = json!({"startTime": "2026-11-24T10:00:01Z", "succeeded": 1, "failed": 1,
        "conditions": [is_true("Complete", 3)]});
    let job = merged(&built_in("batch/v1", "Job", &json!({})), &status(&over));
    let changed = json!({"metadata": {"generation": 2}, "spec": {"ttlSecondsAfterFinished": 60}});
    History::default()
        .listed("Job", &[&job])
        .later(9)
        .modified(&job, &changed)
        .later(5)
        .has_phases(expect![[r#""#]]);
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
        .has_phases(expect![[r#"
            reconcile StatefulSet it g2 [observed]
              reconcile StatefulSet it roll 4.1s by statefulset-controller [pods updated 2]
            reconcile StatefulSet it g3 waited for StatefulSet it roll [observed]
        "#]]);
}

#[test]
fn roll_ends_when_all_wanted_pods_have_the_new_revision() {
    let set = built_in("apps/v1", "StatefulSet", &json!({}));
    let reports = |observed: u8, updated: u8| {
        json!({"metadata": {"generation": 2}, "spec": {"size": 2},
            "status": {"observedGeneration": observed, "replicas": 1, "updatedReplicas": updated}})
    };
    let before = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1});
    History::default()
        .listed("StatefulSet", &[&merged(&set, &status(&before))])
        .later(3)
        .modified(&set, &reports(1, 1))
        .later(3)
        .modified(&set, &reports(2, 0))
        .later(3)
        .modified(&set, &reports(2, 1))
        .has_phases(expect![[r#"
              reconcile StatefulSet it observe 3.1s by statefulset-controller
              reconcile StatefulSet it roll 3.1s by statefulset-controller [pods updated 1]
            reconcile StatefulSet it g2 waited for StatefulSet it timeout
        "#]]);
}

#[test]
fn count_of_pods_of_the_new_revision_only_grows() {
    let set = built_in("apps/v1", "DaemonSet", &json!({}));
    let reports = |updated: u8| {
        status(&json!({"observedGeneration": 1, "desiredNumberScheduled": 3,
            "updatedNumberScheduled": updated}))
    };
    [1, 0, 1, 2, 3]
        .iter()
        .fold(History::default().added(&set), |history, updated| {
            history.later(1).modified(&set, &reports(*updated))
        })
        .has_phases(expect![[r#"
              reconcile DaemonSet it observe 1.1s by daemonset-controller [pods updated 1]
              reconcile DaemonSet it roll 4.4s by daemonset-controller [pods updated 2] [pods updated 3]
            reconcile DaemonSet it g1 waited for DaemonSet it roll
        "#]]);
}

#[test]
fn updates_of_pods_and_claims_and_kinds_without_generation_have_no_phases() {
    let updated = json!({"metadata": {"generation": 2}, "spec": {"changed": true}});
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({}));
    let service = built_in("v1", "Service", &json!({"type": "LoadBalancer"}));
    let reports =
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
        .modified(&service, &status(&reports))
        .has_phases(expect![[r#"
              reconcile Pod it observe 903.3s by pod-lifecycle timeout
            reconcile Pod it g2 waited for Pod it observe timeout
        "#]]);
}

#[test]
fn kind_whose_controller_observes_generations_waits_for_that() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1}));
    History::default().added(&set).added(&object("Widget", "w")).has_phases(expect![[r#"
          reconcile ReplicaSet it observe 900.0s by replicaset-controller timeout
        reconcile ReplicaSet it g1 waited for ReplicaSet it observe timeout
    "#]]);
}

#[test]
fn last_phase_ends_with_the_change() {
    let at_once = status(&json!({"phase": "Running", "conditions":
        [is_true("PodScheduled", 1), is_true("PodReadyToStartContainers", 1), is_true("Ready", 1)]}));
    let history = History::default().added(&pod()).later(1).modified(&pod(), &at_once);
    let spans = history.spans(&Rules::default(), "");
    let end = |name: &str| spans.iter().find(|span| &*span.name == name).unwrap().end;
    assert_eq!(end("ready"), end("reconcile Pod"));
}
