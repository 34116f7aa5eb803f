//! Our judgement beside kstatus' own, on thousands of objects; every deviation has its reason here.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    io::{Seek as _, Write as _},
    process::{Command, Stdio},
    sync::Arc,
};

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::{
    config::settings::Settings,
    trace::{
        model::{
            kind::{self, ChangeDetection},
            observation::Body,
            time::Timestamp,
        },
        readiness::{
            judge::judge,
            kstatus::is_to_finish,
            status::{Evidence, Status},
        },
    },
    watch::decode::{Decoded, Decoder},
};

use crate::{
    control_plane::{kstatus_ready, to_stderr},
    kstatus_objects::{Chance, KINDS, object},
};

const OBJECTS_OF_A_KIND: usize = 800;

/// An object, and whether its status was written after the change.
pub(crate) struct Case {
    pub(crate) object: Value,
    pub(crate) written_since: bool,
}

impl Case {
    fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap()
    }

    fn at(&self, pointer: &str) -> &Value {
        self.object.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn condition(&self, kind: &str) -> &Value {
        let conditions = self.at("/status/conditions").as_array();
        let of_kind = |condition: &&Value| condition["type"] == kind;
        conditions.and_then(|all| all.iter().find(of_kind)).unwrap_or(&Value::Null)
    }

    fn is_true(&self, kind: &str) -> bool {
        self.condition(kind)["status"] == "True"
    }

    /// How the generation that `by` has seen compares with the object's.
    fn observed(&self, by: &Value) -> Option<Ordering> {
        Some(by["observedGeneration"].as_i64()?.cmp(&self.at("/metadata/generation").as_i64()?))
    }

    /// The status, or a condition in it, has observed this generation.
    fn is_observed(&self) -> bool {
        let conditions = self.at("/status/conditions").as_array();
        let mut observers = conditions.into_iter().flatten().chain([self.at("/status")]);
        observers.any(|by| self.observed(by) >= Some(Ordering::Equal))
    }
}

/// Where we judge otherwise, and why.
struct Deviation {
    kinds: &'static [&'static str],
    theirs: &'static [&'static str],
    ours: &'static str,
    reason: &'static str,
    applies: fn(&Case) -> bool,
}

const WORKLOADS: &[&str] = &["Deployment", "ReplicaSet", "StatefulSet"];

const DEVIATIONS: &[Deviation] = &[
    Deviation {
        kinds: &["Pod"],
        theirs: &["Current"],
        ours: "Failed",
        reason: "A Pod in phase Failed is a failure.",
        applies: |case| case.at("/status/phase") == "Failed",
    },
    Deviation {
        kinds: &["Pod"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A Pod that shall succeed converges when it succeeded, not when it is Ready.",
        applies: |case| {
            let policy = case.at("/spec/restartPolicy");
            let owner = case.at("/metadata/ownerReferences/0/kind");
            (owner == "Job" || owner == "TaskRun")
                && (policy == "Never" || policy == "OnFailure")
                && case.at("/status/phase") == "Running"
        },
    },
    Deviation {
        kinds: &["Pod"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A Pod is not done while it is resized in place.",
        applies: |case| case.is_true("PodResizePending") || case.is_true("PodResizeInProgress"),
    },
    Deviation {
        kinds: &["PersistentVolumeClaim"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A claim is not done while its volume is resized.",
        applies: |case| {
            case.is_true("Resizing")
                || case.is_true("FileSystemResizePending")
                || !case.at("/status/allocatedResourceStatuses/storage").is_null()
                || case.at("/status/capacity/storage") == "1Gi"
        },
    },
    Deviation {
        kinds: &["Pod"],
        theirs: &["Failed"],
        ours: "InProgress",
        reason: "What cannot be scheduled is a problem, not yet a failure.",
        applies: |case| {
            case.at("/status/phase") == "Pending"
                && case.condition("PodScheduled")["reason"] == "Unschedulable"
        },
    },
    Deviation {
        kinds: &["Pod"],
        theirs: &["Failed"],
        ours: "InProgress",
        reason: "What crashes again and again is a problem, not yet a failure.",
        applies: |case| {
            let state = case.at("/status/containerStatuses/0/state");
            case.at("/status/phase") == "Running"
                && state["waiting"]["reason"] == "CrashLoopBackOff"
        },
    },
    Deviation {
        kinds: &["Pod"],
        theirs: &["Unknown"],
        ours: "InProgress",
        reason: "A Pod of an unreachable node continues when the node is back.",
        applies: |case| case.at("/status/phase") == "Unknown",
    },
    Deviation {
        kinds: &["Job"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A running Job has not converged.",
        applies: |case| !case.at("/status/startTime").is_null() && !case.is_true("Complete"),
    },
    Deviation {
        kinds: &["Job"],
        theirs: &["InProgress"],
        ours: "Current",
        reason: "A Job that is suspended as its spec asks needs nothing more.",
        applies: |case| case.is_true("Suspended") && case.at("/spec/suspend") == true,
    },
    Deviation {
        kinds: &["Deployment", "Widget"],
        theirs: &["Current", "InProgress", "Failed"],
        ours: "Paused",
        reason: "Paused is an outcome of its own, once the controller has taken note.",
        applies: |case| {
            case.at("/spec/paused") == true && !case.at("/status/observedGeneration").is_null()
        },
    },
    Deviation {
        kinds: WORKLOADS,
        theirs: &["Current", "Failed"],
        ours: "InProgress",
        reason: "A workload's status without an observed generation belongs to no generation.",
        applies: |case| case.at("/status/observedGeneration").is_null(),
    },
    Deviation {
        kinds: &["PodDisruptionBudget"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A budget that is not computed yet, or cannot be, is not Current.",
        applies: |case| {
            case.at("/status/observedGeneration").is_null()
                || (case.condition("DisruptionAllowed")["reason"] == "SyncFailed"
                    && !case.is_true("DisruptionAllowed"))
        },
    },
    Deviation {
        kinds: &["DaemonSet"],
        theirs: &["InProgress"],
        ours: "Current",
        reason: "Under OnDelete nothing happens until Pods are deleted, as with StatefulSets.",
        applies: |case| case.at("/spec/updateStrategy/type") == "OnDelete",
    },
    Deviation {
        kinds: &["Service"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A load balancer is there once it has an address.",
        applies: |case| {
            case.at("/spec/type") == "LoadBalancer"
                && case.at("/status/loadBalancer/ingress/0").is_null()
        },
    },
    Deviation {
        kinds: &["Service"],
        theirs: &["InProgress"],
        ours: "Current",
        reason: "The API server gives the cluster's address before anybody sees the Service.",
        applies: |case| !case.at("/status/loadBalancer/ingress/0").is_null(),
    },
    Deviation {
        kinds: &[
            "Deployment",
            "ReplicaSet",
            "StatefulSet",
            "DaemonSet",
            "Pod",
            "PodDisruptionBudget",
            "CustomResourceDefinition",
            "Widget",
        ],
        theirs: &["InProgress"],
        ours: "",
        reason: "Who has seen a newer generation than the change's has seen the change's too.",
        applies: |case| case.observed(case.at("/status")) == Some(Ordering::Greater),
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current", "InProgress", "Failed"],
        ours: "Unknown",
        reason: "A custom resource whose status was not written since is not Current.",
        applies: |case| !case.written_since && !case.is_observed(),
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current", "Failed"],
        ours: "InProgress",
        reason: "A condition of an older generation is not evidence for this one.",
        applies: |case| {
            let conditions = case.at("/status/conditions").as_array();
            let mut seen = conditions.into_iter().flatten().map(|by| case.observed(by));
            seen.any(|seen| seen == Some(Ordering::Less))
        },
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "Any condition that is good when True, and is not, is open work; so is work itself.",
        applies: |case| {
            let conditions = case.at("/status/conditions").as_array();
            let mut open = conditions.into_iter().flatten().filter(|condition| {
                let kind = condition["type"].as_str().unwrap_or_default();
                let is_work = matches!(kind, "Reconciling" | "Progressing" | "Stalled" | "Paused");
                if is_work { condition["status"] != "False" } else { condition["status"] != "True" }
            });
            open.next().is_some()
        },
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current"],
        ours: "InProgress",
        reason: "A phase of beginnings is not the end.",
        applies: |case| case.at("/status/phase") == "Pending",
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current", "InProgress"],
        ours: "Failed",
        reason: "The phase Failed is a failure, and so is a run that has not succeeded.",
        applies: |case| {
            case.at("/status/phase") == "Failed"
                || (!case.condition("Succeeded").is_null() && !case.is_true("Succeeded"))
        },
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current", "InProgress", "Failed"],
        ours: "Paused",
        reason: "A custom resource that is paused as asked need not write a status.",
        applies: |case| case.at("/spec/paused") == true,
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["InProgress"],
        ours: "Failed",
        reason: "Of Stalled and Reconciling the worse one decides.",
        applies: |case| case.is_true("Stalled"),
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["InProgress"],
        ours: "Current",
        reason: "A condition without a status, or of an older generation, does not count.",
        applies: |case| {
            let conditions = case.at("/status/conditions").as_array();
            let mut all = conditions.into_iter().flatten();
            all.any(|c| c["status"].is_null() || case.observed(c) == Some(Ordering::Less))
        },
    },
    Deviation {
        kinds: &["Widget"],
        theirs: &["Current"],
        ours: "Unknown",
        reason: "A status without any word or condition that has a meaning says nothing.",
        applies: |case| {
            let phase = case.at("/status/phase");
            let has_word = !phase.is_null() && phase != "Enchanted";
            let conditions = case.at("/status/conditions").as_array();
            let has_good = conditions.into_iter().flatten().any(|c| c["status"] == "True");
            !has_word && !has_good && !case.is_observed()
        },
    },
];

/// The verdicts of the Go program beside the control plane: status and message of each.
fn theirs(cases: &[Case]) -> Vec<String> {
    let judge = kstatus_ready(&to_stderr).unwrap();
    let mut objects = tempfile::tempfile().unwrap();
    for case in cases {
        writeln!(objects, "{}", case.object).unwrap();
    }
    objects.rewind().unwrap();
    let output = Command::new(judge).stdin(objects).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "kstatus ended with {}", output.status);
    let lines: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), cases.len(), "one line for each object");
    lines
}

/// The object as an event of a watch.
pub(crate) fn ours(case: &Case) -> Status {
    judged(case).0
}

fn judged(case: &Case) -> (Status, Box<Body>) {
    let settings = Settings::load(None, []).unwrap().watch;
    let line = json!({ "type": "MODIFIED", "object": case.object }).to_string();
    let mut decoder = Decoder::new(&Arc::new(settings));
    let read = decoder.decode_event(line.as_bytes(), Timestamp::from_nanos(1)).unwrap();
    let Decoded::Applied(now) = read else { unreachable!("{read:?}") };
    let body = now.body.unwrap();
    let owner = body.owners.iter().find(|owner| owner.controller);
    let status = judge(&Evidence {
        kind: &now.object.kind,
        spec: &body.spec,
        status: &now.status,
        generation: now
            .generation
            .filter(|_| kind::change_detection(&now.object.kind) == ChangeDetection::Generation),
        written_since: case.written_since,
        is_to_finish: is_to_finish(&body.spec, owner.map(|owner| &owner.kind)),
        is_data_only: false,
        status_field: None,
    })
    .status;
    (status, body)
}

/// In kstatus' words. A deletion is a change of its own here, so the remaining object is not judged.
fn in_their_words(case: &Case) -> &'static str {
    match judged(case) {
        (_, body) if body.deletion.is_some() => "Terminating",
        (Status::Current { .. }, _) => "Current",
        (Status::InProgress, _) => "InProgress",
        (Status::Paused, _) => "Paused",
        (Status::OnHold, _) => "OnHold",
        (Status::Failed { .. }, _) => "Failed",
        (Status::Unknown, _) => "Unknown",
    }
}

#[test]
fn we_judge_as_kstatus_does_but_for_the_deviations() {
    let mut cases = Vec::new();
    for (index, kind) in KINDS.iter().enumerate() {
        // A kind's objects do not depend on those of other kinds.
        let mut chance = Chance(20_261_124 + u64::try_from(index).unwrap());
        for number in 0..OBJECTS_OF_A_KIND {
            let object = object(*kind, number, &mut chance);
            cases.push(Case { object, written_since: !chance.one_in(3) });
        }
    }
    let mut agreed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut met = vec![0_usize; DEVIATIONS.len()];
    let mut unexplained = Vec::new();
    let verdicts = theirs(&cases);
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let (theirs, message) = verdict.split_once('\t').unwrap();
        let ours = in_their_words(case);
        if ours == theirs {
            agreed.entry(case.kind()).or_default().insert(ours);
            continue;
        }
        let explains = |deviation: &Deviation| {
            deviation.kinds.contains(&case.kind())
                && deviation.theirs.contains(&theirs)
                && (deviation.ours.is_empty() || deviation.ours == ours)
                && (deviation.applies)(case)
        };
        match DEVIATIONS.iter().position(explains) {
            Some(place) => met[place] += 1,
            None => unexplained.push(format!(
                "ours {ours}, theirs {theirs} ({message}), written since: {}\n{}",
                case.written_since, case.object
            )),
        }
    }
    let some = unexplained.iter().take(8).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(unexplained.is_empty(), "{} without a reason:\n{some}", unexplained.len());
    for (deviation, met) in DEVIATIONS.iter().zip(met) {
        assert!(met > 0, "no longer a deviation: {}", deviation.reason);
    }
    let agreed = agreed.iter().map(|(kind, on)| {
        format!("{kind}: {}\n", on.iter().copied().collect::<Vec<_>>().join(", "))
    });
    expect![[r#"
        ConfigMap: Current, Terminating
        CronJob: Current, Terminating
        CustomResourceDefinition: Current, Failed, InProgress, Terminating
        DaemonSet: Current, InProgress, Terminating
        Deployment: Current, Failed, InProgress, Terminating
        Job: Current, Failed, InProgress, Terminating
        PersistentVolumeClaim: Current, InProgress, Terminating
        Pod: Current, InProgress, Terminating
        PodDisruptionBudget: Current, InProgress, Terminating
        ReplicaSet: Current, InProgress, Terminating
        Role: Current, Terminating
        Secret: Current, Terminating
        Service: Current, InProgress, Terminating
        StatefulSet: Current, InProgress, Terminating
        Widget: Current, Failed, InProgress, Terminating
    "#]]
    .assert_eq(&agreed.collect::<String>());
}
