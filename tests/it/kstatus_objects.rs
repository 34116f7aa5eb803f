//! Objects as clusters have them and as they should not be, by chance, the same ones every time.

use serde_json::{Map, Value, json};

/// An object of every kind that kstatus has a rule for, of one without, and custom resources.
pub(crate) const KINDS: &[(&str, &str)] = &[
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Pod"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Service"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("policy/v1", "PodDisruptionBudget"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("example.com/v1", "Widget"),
];

/// Pseudo-random numbers (SplitMix64): a seed gives the same ones everywhere.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, end: usize) -> bool {
        self.below(end) == 0
    }

    pub(crate) fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// The number, mostly; else one beside it, none at all, or nothing.
    fn around(&mut self, number: i64) -> Option<i64> {
        match self.below(24) {
            0 => Some(number - 1),
            1 => Some(number + 1),
            2 => Some(0),
            3 => None,
            _ => Some(number),
        }
    }

    /// Each condition once or not at all, in any order; the likely status is the first.
    fn conditions(&mut self, of: &[Choice], generation: i64) -> Value {
        let mut conditions = Vec::new();
        for (kind, statuses, reasons) in of {
            if self.one_in(5) {
                continue;
            }
            let likely = statuses[0];
            let status = if self.one_in(3) { self.of(statuses) } else { likely };
            let mut condition = json!({
                "type": kind, "status": status, "reason": self.of(reasons), "message": "as it is",
                "lastTransitionTime": "2026-11-24T10:00:00Z",
            });
            if self.one_in(40) {
                condition.as_object_mut().unwrap().remove("status");
            }
            if self.one_in(6) {
                condition["observedGeneration"] = json!(self.around(generation).unwrap_or(1));
            }
            let place = self.below(conditions.len() + 1);
            conditions.insert(place, condition);
        }
        json!(conditions)
    }
}

/// Sets the present fields.
fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// Kinds whose status has an observed generation.
const OBSERVING: &[&str] = &[
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Pod",
    "PodDisruptionBudget",
    "CustomResourceDefinition",
    "Widget",
];

/// A condition's type, its statuses and its reasons.
type Choice = (&'static str, &'static [&'static str], &'static [&'static str]);

const YES: &[&str] = &["True", "False", "Unknown"];
const NO: &[&str] = &["False", "True", "Unknown"];

pub(crate) fn object(
    (api_version, kind): (&str, &str),
    number: usize,
    chance: &mut Chance,
) -> Value {
    let generation = i64::try_from(chance.below(3)).unwrap() + 1;
    let mut metadata = json!({
        "name": format!("o-{number}"), "namespace": "shop", "uid": format!("u-{number}"),
        "resourceVersion": "7",
        // So old that it is late, or so young that it always is.
        "creationTimestamp": chance.of(&["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]),
    });
    if !chance.one_in(20) {
        metadata["generation"] = json!(generation);
    }
    if chance.one_in(20) {
        metadata["deletionTimestamp"] = json!("2026-11-24T10:00:00Z");
        metadata["finalizers"] = json!(["example.com/wait"]);
    }
    if kind == "Pod" && chance.one_in(3) {
        let (api_version, kind) = chance.of(&[
            ("batch/v1", "Job"),
            ("tekton.dev/v1", "TaskRun"),
            ("apps/v1", "ReplicaSet"),
            ("kubevirt.io/v1", "VirtualMachineInstance"),
        ]);
        metadata["ownerReferences"] = json!([{ "apiVersion": api_version, "kind": kind,
            "name": "owner", "uid": "u-owner", "controller": true }]);
    }
    let (spec, mut status) = match kind {
        "Deployment" => deployment(chance, generation),
        "ReplicaSet" => replica_set(chance, generation),
        "StatefulSet" => stateful_set(chance),
        "DaemonSet" => daemon_set(chance),
        "Pod" => pod(chance, generation),
        "Job" => job(chance, generation),
        "Service" => service(chance),
        "PersistentVolumeClaim" => claim(chance, generation),
        "PodDisruptionBudget" => budget(chance, generation),
        "CustomResourceDefinition" => definition(chance, generation),
        "Widget" => widget(chance, generation),
        _ => (Map::new(), Map::new()),
    };
    if OBSERVING.contains(&kind) {
        put(&mut status, "observedGeneration", chance.around(generation));
    }
    let mut object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
    if !spec.is_empty() {
        object["spec"] = Value::Object(spec);
    }
    if !status.is_empty() && !chance.one_in(30) {
        object["status"] = Value::Object(status);
    }
    object
}

type SpecAndStatus = (Map<String, Value>, Map<String, Value>);

fn replicas(chance: &mut Chance) -> (i64, SpecAndStatus) {
    let replicas = i64::try_from(chance.below(4)).unwrap();
    let (mut spec, mut status) = SpecAndStatus::default();
    put(&mut spec, "replicas", (replicas != 1 || chance.one_in(2)).then_some(replicas));
    for counter in ["replicas", "readyReplicas", "availableReplicas"] {
        put(&mut status, counter, chance.around(replicas));
    }
    (replicas, (spec, status))
}

fn deployment(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (replicas, (mut spec, mut status)) = replicas(chance);
    put(&mut spec, "paused", chance.one_in(15).then_some(true));
    put(&mut spec, "progressDeadlineSeconds", chance.of(&[Some(600), Some(i32::MAX), None]));
    put(&mut status, "updatedReplicas", chance.around(replicas));
    let reasons: &[_] = &[
        "NewReplicaSetAvailable",
        "NewReplicaSetAvailable",
        "NewReplicaSetAvailable",
        "ReplicaSetUpdated",
        "ProgressDeadlineExceeded",
    ];
    let conditions = &[
        ("Progressing", YES, reasons),
        ("Available", YES, &["MinimumReplicasAvailable"]),
        ("ReplicaFailure", NO, &["FailedCreate"]),
    ];
    put(&mut status, "conditions", Some(chance.conditions(conditions, generation)));
    (spec, status)
}

fn replica_set(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (replicas, (spec, mut status)) = replicas(chance);
    put(&mut status, "fullyLabeledReplicas", chance.around(replicas));
    let conditions = chance.conditions(&[("ReplicaFailure", NO, &["FailedCreate"])], generation);
    put(&mut status, "conditions", chance.one_in(2).then_some(conditions));
    (spec, status)
}

fn stateful_set(chance: &mut Chance) -> SpecAndStatus {
    let (replicas, (mut spec, mut status)) = replicas(chance);
    let strategy = chance.of(&[
        Value::Null,
        json!({ "type": "OnDelete" }),
        json!({ "type": "RollingUpdate" }),
        json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } }),
        json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } }),
        json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 5 } }),
    ]);
    put(&mut spec, "updateStrategy", (!strategy.is_null()).then_some(strategy));
    put(&mut status, "updatedReplicas", chance.around(replicas));
    put(&mut status, "currentReplicas", chance.around(replicas));
    put(&mut status, "currentRevision", chance.of(&[Some("one"), Some("one"), Some("two"), None]));
    put(&mut status, "updateRevision", chance.of(&[Some("one"), Some("one"), Some("two"), None]));
    (spec, status)
}

fn daemon_set(chance: &mut Chance) -> SpecAndStatus {
    let desired = i64::try_from(chance.below(4)).unwrap();
    let (mut spec, mut status) = SpecAndStatus::default();
    let strategy = chance.of(&["OnDelete", "RollingUpdate"]);
    put(&mut spec, "updateStrategy", chance.one_in(2).then(|| json!({ "type": strategy })));
    put(&mut status, "desiredNumberScheduled", (!chance.one_in(20)).then_some(desired));
    let counters =
        ["currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"];
    for counter in counters {
        put(&mut status, counter, chance.around(desired));
    }
    (spec, status)
}

fn pod(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    let policies = [Some("Always"), Some("OnFailure"), Some("Never"), None];
    put(&mut spec, "restartPolicy", chance.of(&policies));
    let phases = ["Running", "Running", "Pending", "Pending", "Succeeded", "Failed", "Unknown"];
    put(&mut status, "phase", (!chance.one_in(20)).then(|| chance.of(&phases)));
    let conditions = &[
        ("Ready", YES, &["ContainersNotReady"] as &[_]),
        ("PodScheduled", YES, &["Unschedulable", "SchedulingGated"]),
        ("DisruptionTarget", NO, &["EvictionByEvictionAPI"]),
        ("PodResizePending", NO, &["Deferred", "Infeasible"]),
        ("PodResizeInProgress", NO, &["", "Error"]),
    ];
    put(&mut status, "conditions", Some(chance.conditions(conditions, generation)));
    let of_containers = [
        json!({ "running": { "startedAt": "2026-11-24T10:00:00Z" } }),
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } }),
        json!({ "waiting": { "reason": "ImagePullBackOff" } }),
        json!({ "waiting": { "reason": "ContainerCreating" } }),
        json!({ "terminated": { "exitCode": 1, "reason": "Error" } }),
    ];
    let container = |state| json!([{ "name": "web", "ready": false, "state": state }]);
    put(
        &mut status,
        "containerStatuses",
        (!chance.one_in(4)).then(|| container(chance.of(&of_containers))),
    );
    put(
        &mut status,
        "initContainerStatuses",
        chance.one_in(6).then(|| container(chance.of(&of_containers))),
    );
    (spec, status)
}

fn job(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    put(&mut spec, "parallelism", chance.around(1));
    put(&mut spec, "completions", chance.around(1));
    put(&mut spec, "suspend", chance.of(&[Some(true), Some(false), None]));
    for counter in ["active", "succeeded", "failed"] {
        put(&mut status, counter, chance.around(1));
    }
    put(&mut status, "startTime", (!chance.one_in(3)).then_some("2026-11-24T10:00:00Z"));
    let conditions = &[
        ("Complete", NO, &["CompletionsReached"] as &[_]),
        ("Failed", NO, &["BackoffLimitExceeded", "DeadlineExceeded"]),
        ("SuccessCriteriaMet", NO, &["CompletionsReached"]),
        ("FailureTarget", NO, &["BackoffLimitExceeded"]),
        ("Suspended", NO, &["JobSuspended"]),
    ];
    put(&mut status, "conditions", Some(chance.conditions(conditions, generation)));
    (spec, status)
}

fn service(chance: &mut Chance) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    let types =
        [Some("LoadBalancer"), Some("LoadBalancer"), Some("ClusterIP"), Some("ExternalName"), None];
    put(&mut spec, "type", chance.of(&types));
    let addresses = [Some("10.96.0.9"), Some("10.96.0.9"), Some("10.96.0.9"), Some(""), None];
    put(&mut spec, "clusterIP", chance.of(&addresses));
    let balancers = [
        json!({}),
        json!({ "ingress": [] }),
        json!({ "ingress": [{ "ip": "192.0.2.7" }] }),
        json!({ "ingress": [{ "hostname": "shop.example" }] }),
    ];
    put(&mut status, "loadBalancer", (!chance.one_in(10)).then(|| chance.of(&balancers)));
    (spec, status)
}

fn claim(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    let size = |size: &str| json!({ "storage": size });
    let requests = chance.one_in(2).then(|| json!({ "requests": size("2Gi") }));
    put(&mut spec, "resources", requests);
    let capacity = chance.one_in(2).then(|| size(chance.of(&["2Gi", "3G", "1Gi"])));
    put(&mut status, "capacity", capacity);
    let conditions = &[("Resizing", NO, &[""] as &[_]), ("FileSystemResizePending", NO, &[""])];
    let conditions = chance.one_in(3).then(|| chance.conditions(conditions, generation));
    put(&mut status, "conditions", conditions);
    let resizes = ["ControllerResizeInProgress", "NodeResizePending", "NodeResizeInfeasible"];
    let resize = chance.one_in(5).then(|| size(chance.of(&resizes)));
    put(&mut status, "allocatedResourceStatuses", resize);
    put(&mut spec, "volumeName", chance.one_in(2).then_some("volume"));
    put(&mut status, "phase", chance.of(&[Some("Bound"), Some("Pending"), Some("Lost"), None]));
    (spec, status)
}

fn budget(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    put(&mut spec, "minAvailable", chance.around(1));
    put(&mut status, "disruptionsAllowed", chance.around(1));
    let reasons: &[_] = &["SufficientPods", "InsufficientPods", "SyncFailed"];
    let conditions = chance.conditions(&[("DisruptionAllowed", YES, reasons)], generation);
    put(&mut status, "conditions", Some(conditions));
    (spec, status)
}

fn definition(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    put(&mut spec, "scope", Some("Namespaced"));
    let conditions = &[
        ("NamesAccepted", YES, &["NoConflicts", "ListKindConflict"] as &[_]),
        ("Established", YES, &["InitialNamesAccepted", "Installing", "NotAccepted"]),
        ("Terminating", NO, &["InstanceDeletionPending"]),
    ];
    put(&mut status, "conditions", Some(chance.conditions(conditions, generation)));
    (spec, status)
}

fn widget(chance: &mut Chance, generation: i64) -> SpecAndStatus {
    let (mut spec, mut status) = SpecAndStatus::default();
    put(&mut spec, "size", Some(3));
    put(&mut spec, "paused", chance.one_in(15).then_some(true));
    let ready: Choice = ("Ready", YES, &["AsAsked", "Progressing"]);
    let standard: &[Choice] =
        &[ready, ("Reconciling", NO, &["Working"]), ("Stalled", NO, &["CannotGoOn"])];
    let conventions: &[Choice] = &[
        ready,
        ("Synced", YES, &["ReconcileSuccess", "ReconcileError"]),
        ("Available", YES, &["Available"]),
        ("Accepted", YES, &["Accepted"]),
        ("Programmed", YES, &["Programmed", "Pending"]),
        ("Succeeded", YES, &["Completed", "Started"]),
    ];
    let one = [chance.of(conventions)];
    let of: &[Choice] = match chance.below(4) {
        0 => &[],
        1 => &one,
        2 => conventions,
        _ => standard,
    };
    let conditions = chance.conditions(of, generation);
    put(&mut status, "conditions", (!of.is_empty() || chance.one_in(2)).then_some(conditions));
    let phases = ["Ready", "Provisioned", "Pending", "Failed", "Running", "Enchanted"];
    put(&mut status, "phase", chance.one_in(3).then(|| chance.of(&phases)));
    (spec, status)
}
