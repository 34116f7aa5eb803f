//! Rules about what holds things up, and when that is over, by hand-written histories.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::{
    export::tree::{Style, render},
    trace::rules::Rules,
};

use crate::written::{
    History, built_in, condition, current, going, is_true, merged, object, owned, pod, status,
};

/// The same under another name.
fn named(object: &Value, name: &str) -> Value {
    let uid = format!("{}-{name}", object["kind"].as_str().unwrap());
    merged(object, &json!({"metadata": {"name": name, "uid": uid}}))
}

/// The `stuck` spans of a history.
fn stuck(history: &History) -> String {
    let tree = render(&history.spans(&Rules::default(), ""), Style::STABLE);
    let rows = tree.lines().filter_map(|line| Some(line.split_once("stuck ")?.1));
    rows.map(|row| format!("{row}\n")).collect::<Vec<_>>().concat()
}

/// The `stuck` spans of objects that have this status from their first second.
fn stuck_as(objects: &[Value]) -> String {
    let add = |history: History, object: &Value| history.added(object);
    stuck(&objects.iter().fold(History::default(), add))
}

fn waits(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": format!("{reason}!")}})
}

/// The status of its one container.
fn has(list: &str, state: &Value) -> Value {
    let container = merged(&json!({"name": "web"}), state);
    status(&json!({"phase": "Pending", list: [container]}))
}

fn in_state(state: &Value) -> Value {
    has("containerStatuses", &json!({ "state": state }))
}

#[test]
fn container_is_held_up_by_reasons_that_do_not_pass() {
    let reasons = [
        "ContainerCreating",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "PodInitializing",
        "RunContainerError",
    ];
    let pods = reasons
        .map(|reason| merged(&named(&pod(), &reason.to_lowercase()), &in_state(&waits(reason))));
    expect![[r#"
        Pod crashloopbackoff  CrashLoopBackOff: CrashLoopBackOff!
        Pod createcontainerconfigerror  CreateContainerConfigError: CreateContainerConfigError!
        Pod createcontainererror  CreateContainerError: CreateContainerError!
        Pod errimageneverpull  ErrImageNeverPull: ErrImageNeverPull!
        Pod errimagepull  ImagePullBackOff: ErrImagePull!
        Pod imagepullbackoff  ImagePullBackOff: ImagePullBackOff!
        Pod invalidimagename  InvalidImageName: InvalidImageName!
        Pod runcontainererror  RunContainerError: RunContainerError!
    "#]]
    .assert_eq(&stuck_as(&pods));
}

#[test]
fn last_termination_is_reported_for_crash_loops_only() {
    let last = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    let again = |reason: &str| {
        let state = json!({"state": waits(reason), "lastState": last});
        merged(&named(&pod(), &reason.to_lowercase()), &has("containerStatuses", &state))
    };
    let silent = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last});
    let silent = merged(&named(&pod(), "silent"), &has("containerStatuses", &silent));
    let pods = [again("CrashLoopBackOff"), again("ImagePullBackOff"), silent];
    expect![[r#"
        Pod crashloopbackoff  CrashLoopBackOff: exit code 1 (Error): CrashLoopBackOff!
        Pod imagepullbackoff  ImagePullBackOff: ImagePullBackOff!
        Pod silent  CrashLoopBackOff: exit code 1 (Error)
    "#]]
    .assert_eq(&stuck_as(&pods));
}

#[test]
fn pod_is_held_up_while_it_is_unschedulable_or_gated() {
    let pod = |name: &str, kind: &str, reason: &str| {
        let conditions = json!({"conditions": [condition(kind, "False", reason, 0)]});
        merged(&named(&pod(), name), &status(&conditions))
    };
    let pods = [
        pod("gated", "PodScheduled", "SchedulingGated"),
        pod("nowhere", "PodScheduled", "Unschedulable"),
        pod("unlucky", "PodScheduled", "SchedulerError"),
        pod("unready", "Ready", "ReadinessGatesNotReady"),
        pod("starting", "Ready", "ContainersNotReady"),
    ];
    expect![[r#"
        Pod gated  SchedulingGated: SchedulingGated!
        Pod nowhere  Unschedulable: Unschedulable!
        Pod unready  ReadinessGatesNotReady: ReadinessGatesNotReady!
    "#]]
    .assert_eq(&stuck_as(&pods));
}

#[test]
fn conditions_refuse_for_the_kinds_that_have_them() {
    let of = |api_version: &str, kind: &str, refusal: &str, value: &str| {
        let refused = json!({"conditions": [condition(refusal, value, "Refused", 0)]});
        let name = format!("{kind}-{refusal}").to_lowercase();
        merged(&named(&built_in(api_version, kind, &json!({})), &name), &status(&refused))
    };
    let parents = json!({"parents": [{"conditions": [condition("Accepted", "False", "NotAllowedByListeners", 0)]}]});
    let route = merged(
        &built_in("gateway.networking.k8s.io/v1", "HTTPRoute", &json!({})),
        &status(&parents),
    );
    let objects = [
        of("apps/v1", "ReplicaSet", "ReplicaFailure", "True"),
        of("autoscaling/v2", "HorizontalPodAutoscaler", "AbleToScale", "False"),
        of("autoscaling/v2", "HorizontalPodAutoscaler", "ScalingActive", "False"),
        of("apiregistration.k8s.io/v1", "APIService", "Available", "False"),
        // It may become so.
        of("apps/v1", "Deployment", "Available", "False"),
        of("gateway.networking.k8s.io/v1", "Gateway", "Accepted", "False"),
        of("gateway.networking.k8s.io/v1", "Gateway", "Programmed", "False"),
        of("gateway.networking.k8s.io/v1", "Gateway", "ResolvedRefs", "False"),
        route,
        of("example.com/v1", "Bucket", "Synced", "False"),
        merged(
            &named(&built_in("example.com/v1", "Bucket", &json!({})), "silent"),
            &status(&json!({"conditions": [{"type": "Synced", "status": "False"}]})),
        ),
        of("example.com/v1", "Bucket", "Ready", "False"),
    ];
    expect![[r#"
        ReplicaSet replicaset-replicafailure  Refused: Refused!
        HorizontalPodAutoscaler horizontalpodautoscaler-abletoscale  Refused: Refused!
        APIService apiservice-available  Refused: Refused!
        Gateway gateway-accepted  Refused: Refused!
        Gateway gateway-programmed  Refused: Refused!
        Gateway gateway-resolvedrefs  NotProgrammed: Refused!
        HTTPRoute it  NotAllowedByListeners: NotAllowedByListeners!
        Bucket bucket-ready  Refused: Refused!
        Bucket bucket-synced  Refused: Refused!
        Bucket silent  Synced: condition Synced is False
    "#]]
    .assert_eq(&stuck_as(&objects));
}

#[test]
fn namespace_reports_its_remaining_content_unless_pods_are_terminating() {
    let namespace = |name: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": ["kubernetes"]},
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-11-24T10:00:00Z"},
        });
        merged(&object, &status(&json!({"phase": "Active"})))
    };
    let going = |name: &str, kind: &str, message: &str| {
        let because = merged(&condition(kind, "True", kind, 1), &json!({"message": message}));
        let going = json!({"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"},
            "status": {"phase": "Terminating", "conditions": [because]}});
        merged(&namespace(name), &going)
    };
    let all = [
        going("a", "NamespaceDeletionDiscoveryFailure", "a group is away"),
        going("b", "NamespaceDeletionGroupVersionParsingFailure", "no such version"),
        going("c", "NamespaceDeletionContentFailure", "refused by a webhook"),
        going("d", "NamespaceFinalizersRemaining", "example.com/keep in 1 resource instances"),
        going(
            "e",
            "NamespaceDeletionContentFailure",
            "unexpected items still remain in namespace: e for gvr: /v1, Resource=pods",
        ),
    ];
    let history = ["a", "b", "c", "d", "e"]
        .iter()
        .fold(History::default(), |history, name| history.added(&namespace(name)));
    let history = all.iter().fold(history, |history, going| history.event("MODIFIED", going));
    expect![[r#"
        Namespace a  NamespaceDeletionDiscoveryFailure: a group is away
        Namespace b  NamespaceDeletionGroupVersionParsingFailure: no such version
        Namespace c  NamespaceDeletionContentFailure: refused by a webhook
        Namespace d  NamespaceFinalizersRemaining: example.com/keep in 1 resource instances
    "#]]
    .assert_eq(&stuck(&history.later(60)));
}

/// Held up at one second, as given at the fifth, and of the same problem ready later.
fn after(before: &Value, then: &Value) -> String {
    let history = History::default()
        .added(&pod())
        .later(1)
        .modified(&pod(), before)
        .later(4)
        .modified(&pod(), then)
        .later(9)
        .modified(&pod(), then)
        .later(6)
        .modified(
            &pod(),
            &status(&json!({"phase": "Running", "conditions": [is_true("Ready", 21)]})),
        );
    stuck(&history)
}

#[test]
fn problem_lasts_until_its_condition_is_true() {
    let runs = json!({"running": {"startedAt": "2026-11-24T10:00:05Z"}});
    let ended =
        |code: u8| json!({"terminated": {"exitCode": code, "finishedAt": "2026-11-24T10:00:05Z"}});
    let ready = has("containerStatuses", &json!({"state": runs, "ready": true}));
    let crashes = in_state(&waits("CrashLoopBackOff"));
    let init = |state: &Value| has("initContainerStatuses", &json!({ "state": state }));
    let no_image = in_state(&waits("ImagePullBackOff"));
    let cases = [
        ("it crashes and continues to crash", &crashes, &crashes),
        ("it crashes and is restarted", &crashes, &in_state(&runs)),
        ("it crashes and is ready", &crashes, &ready),
        ("it crashes and ends well", &crashes, &in_state(&ended(0))),
        (
            "before the others, it crashes and ends well",
            &init(&waits("CrashLoopBackOff")),
            &init(&ended(0)),
        ),
        (
            "before the others, it crashes and ends",
            &init(&waits("CrashLoopBackOff")),
            &init(&ended(1)),
        ),
        ("it has no image and waits", &no_image, &in_state(&waits("ContainerCreating"))),
        ("it has no image and runs", &no_image, &in_state(&runs)),
        ("it has no image and has run", &no_image, &in_state(&ended(1))),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(case, before, then)| format!("{case}: {}\n", after(before, then).trim_end()))
        .collect();
    expect![[r#"
        it crashes and continues to crash: Pod it  CrashLoopBackOff: CrashLoopBackOff!
        it crashes and is restarted: Pod it  CrashLoopBackOff: CrashLoopBackOff!
        it crashes and is ready: 
        it crashes and ends well: Pod it  CrashLoopBackOff: CrashLoopBackOff!
        before the others, it crashes and ends well: 
        before the others, it crashes and ends: Pod it  CrashLoopBackOff: CrashLoopBackOff!
        it has no image and waits: Pod it  ImagePullBackOff: ImagePullBackOff!
        it has no image and runs: 
        it has no image and has run: 
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn two_containers_with_the_same_problem_have_one_problem_each() {
    let of = |a: &Value, b: &Value| {
        let a = merged(&json!({"name": "a"}), a);
        let b = merged(&json!({"name": "b"}), b);
        status(&json!({"phase": "Running", "containerStatuses": [a, b]}))
    };
    let crashes = json!({"state": waits("CrashLoopBackOff")});
    let ready = json!({"state": {"running": {"startedAt": "2026-11-24T10:00:05Z"}}, "ready": true});
    // The second has crashed for less than `stuck_after`.
    let history = History::default()
        .added(&pod())
        .modified(&pod(), &of(&crashes, &ready))
        .later(8)
        .modified(&pod(), &of(&ready, &crashes))
        .later(4)
        .modified(&pod(), &of(&ready, &ready));
    assert_eq!(stuck(&history.later(1).deleted(&pod())), "");
    // The first still runs, for an unknown time.
    let runs = json!({"state": {"running": {"startedAt": "2026-11-24T10:00:05Z"}}});
    let history = History::default()
        .added(&pod())
        .modified(&pod(), &of(&crashes, &ready))
        .later(5)
        .modified(&pod(), &of(&runs, &crashes))
        .later(7)
        .deleted(&pod());
    assert_eq!(stuck(&history), "Pod it  CrashLoopBackOff: CrashLoopBackOff!\n");
}

#[test]
fn a_lost_claim_is_lost_until_it_is_bound() {
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({}));
    let phase = |phase: &str| status(&json!({"phase": phase}));
    let becomes = |then: &str| {
        History::default()
            .added(&claim)
            .modified(&claim, &phase("Lost"))
            .later(5)
            .modified(&claim, &phase(then))
            .later(15)
            .deleted(&claim)
    };
    assert_eq!(stuck(&becomes("Lost")), "PersistentVolumeClaim it  Lost\n");
    assert_eq!(stuck(&becomes("Pending")), "PersistentVolumeClaim it  Lost\n");
    assert_eq!(stuck(&becomes("Bound")), "");
}

#[test]
fn a_claim_that_has_its_volume_in_time_is_not_stuck() {
    let claim = built_in("v1", "PersistentVolumeClaim", &json!({}));
    let asked = merged(
        &claim,
        &json!({"metadata": {"annotations":
            {"volume.kubernetes.io/storage-provisioner": "disk.example.com"}}}),
    );
    let bound = merged(&asked, &json!({"spec": {"volumeName": "pv-1"}}));
    let history = History::default()
        .added(&asked)
        .later(5)
        .event("MODIFIED", &bound)
        .later(20)
        .modified(&bound, &status(&json!({"phase": "Bound"})));
    assert_eq!(stuck(&history), "");
}

#[test]
fn refused_deletion_reports_its_reason_before_finalizers() {
    let bucket = merged(&object("Bucket", "b"), &json!({"metadata": {"finalizers": ["a.io/x"]}}));
    let refused = json!({"metadata": {"generation": 2}, "status":
        {"conditions": [condition("Synced", "False", "ReconcileError", 6)]}});
    let history = History::default()
        .added(&bucket)
        .modified(&bucket, &current(1))
        .later(5)
        .modified(&going(&bucket, &["a.io/x"]), &refused)
        .later(30)
        .deleted(&going(&bucket, &["a.io/x"]));
    expect![[r#"
        Bucket b  ReconcileError: ReconcileError!
    "#]]
    .assert_eq(&stuck(&history));
    history.has_phases(expect![[r#"
          reconcile Bucket b observe 0.1s by bucket-controller
        reconcile Bucket b g1 waited for Bucket b observe
          reconcile Bucket b finalize 35.4s by a.io/x ReconcileError (ReconcileError!) [finalizer removed a.io/x]
        reconcile Bucket b g2 waited for Bucket b finalize ReconcileError
    "#]]);
}

#[test]
fn a_problem_of_before_the_change_counts_from_the_change_on() {
    let bucket = object("Bucket", "b");
    let refused = |generation: i64| {
        json!({"metadata": {"generation": generation}, "spec": {"size": generation},
            "status": {"conditions": [condition("Synced", "False", "ReconcileError", 1)]}})
    };
    let ready = merged(
        &refused(2),
        &json!({"status": {"conditions": [is_true("Synced", 28), is_true("Ready", 28)]}}),
    );
    let history = History::default()
        .listed("Bucket", &[&merged(&bucket, &refused(1))])
        .later(20)
        .modified(&bucket, &refused(2))
        .later(7)
        .modified(&bucket, &ready);
    assert_eq!(stuck(&history), "");
}

#[test]
fn a_problem_that_is_seen_again_and_again_is_one() {
    let unschedulable =
        status(&json!({"conditions": [json!({"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes"})]}));
    let history = (0..3)
        .fold(History::default().added(&pod()), |history, _| {
            history.modified(&pod(), &unschedulable).later(4)
        })
        .deleted(&pod());
    assert_eq!(stuck(&history), "Pod it  Unschedulable: 0/3 nodes\n");
}

#[test]
fn refusal_is_reported_for_the_refused_object_and_not_for_its_owner() {
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let set =
        owned(&built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1})), &[(&deployment, true)]);
    let refused = status(&json!({"observedGeneration": 1,
        "conditions": [condition("ReplicaFailure", "True", "FailedCreate", 0)]}));
    let created = || History::default().added(&deployment).added(&set);
    let as_it_comes = created().modified(&set, &refused).modified(&deployment, &refused);
    let the_other_way = created().modified(&deployment, &refused).modified(&set, &refused);
    let when_it_is_over =
        created().later(1).modified(&set, &refused).modified(&deployment, &refused);
    for history in [as_it_comes, the_other_way, when_it_is_over] {
        assert_eq!(stuck(&history.later(30)), "ReplicaSet it  FailedCreate: FailedCreate!\n");
    }
}

#[test]
fn owner_that_repeats_a_problem_of_its_child_is_not_reported() {
    let widget = object("Widget", "w");
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let deployment = owned(&deployment, &[(&widget, true)]);
    let set =
        owned(&built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1})), &[(&deployment, true)]);
    let refused = status(&json!({"observedGeneration": 1,
        "conditions": [condition("ReplicaFailure", "True", "FailedCreate", 0)]}));
    let history = History::default()
        .added(&widget)
        .added(&deployment)
        .added(&set)
        .modified(&set, &refused)
        .modified(&deployment, &refused);
    assert_eq!(stuck(&history.later(30)), "ReplicaSet it  FailedCreate: FailedCreate!\n");
}

#[test]
fn stuck_deletion_reports_the_finalizers_that_remain() {
    let gone = |finalizers: &[&str]| going(&object("Widget", "w"), finalizers);
    let history = History::default()
        .added(&object("Widget", "w"))
        .modified(&gone(&["a.io/x", "b.io/y"]), &json!({"metadata": {"generation": 2}}))
        .later(5)
        .modified(&gone(&["b.io/y"]), &json!({"metadata": {"generation": 2}}))
        .later(20)
        .deleted(&gone(&["b.io/y"]));
    assert_eq!(stuck(&history), "Widget w  SomeFinalizersRemain: b.io/y\n");
}

#[test]
fn ignored_child_does_not_hide_a_problem_of_its_owner() {
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let set =
        owned(&built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1})), &[(&deployment, true)]);
    let left_alone = json!({"metadata": {"annotations": {"spanlink.io/ignore": "true"}}});
    let set = merged(&set, &left_alone);
    let refused = status(&json!({"observedGeneration": 1,
        "conditions": [condition("ReplicaFailure", "True", "FailedCreate", 0)]}));
    let history = History::default()
        .added(&deployment)
        .added(&set)
        .modified(&set, &refused)
        .modified(&deployment, &refused);
    assert_eq!(stuck(&history.later(30)), "Deployment it  FailedCreate: FailedCreate!\n");
}
