//! Steps and outcomes as Jaeger shows them, at the times at which a watcher of the test's own saw them.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};
use spanlink::trace::model::{
    span::{Role, Span, Value},
    time::Timestamp,
};

use crate::{
    control_plane::{ControlPlane, shared, until},
    in_jaeger,
    live::{SOON, beside},
    observer::{Observer, Seen},
    scene::{template, workload},
    span_tree::attribute,
};

/// By how much two watchers on a busy machine differ at worst, and commonly.
const LATE: Duration = Duration::from_secs(5);
const COMMONLY: Duration = Duration::from_millis(200);

const KINDS: [&str; 5] = [
    "apps/v1/StatefulSet",
    "apps/v1/DaemonSet",
    "batch/v1/Job",
    "v1/Pod",
    "v1/PersistentVolumeClaim",
];
fn watched(namespace: &str) -> String {
    let entries = KINDS
        .map(|kind| format!("  - {{kind: {kind}, namespaces: [{namespace}], events: true}}\n"));
    format!("settle: 1s\nwatch:\n{}", entries.concat())
}

fn time(value: &Json) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?)
}

/// A condition, if it is true.
fn is_true<'a>(object: &'a Json, kind: &str) -> Option<&'a Json> {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|it| it["type"] == kind && it["status"] == "True")
}

fn containers(object: &Json) -> impl Iterator<Item = &Json> {
    object["status"]["containerStatuses"].as_array().into_iter().flatten()
}

/// When a phase of an object ended, by its observed states: by the API's clock where it has a time,
/// and when it was seen.
fn ended(step: &str, generation: i64, seen: &[Seen]) -> Option<(Option<Timestamp>, Timestamp)> {
    let first = |time_of: &dyn Fn(&Seen) -> Option<Option<Timestamp>>| {
        seen.iter().find_map(|it| Some((time_of(it)?, it.at)))
    };
    let condition = |kind: &'static str| {
        let since = |it: &Json| time(&it["lastTransitionTime"]);
        first(&|it: &Seen| is_true(&it.object, kind).map(since))
    };
    match step {
        "schedule" => condition("PodScheduled"),
        "sandbox" => condition("PodReadyToStartContainers"),
        "init" => condition("Initialized"),
        "ready" => condition("Ready"),
        "start" => first(&|it| {
            let all: Option<Vec<Timestamp>> = containers(&it.object)
                .map(|it| time(&it["state"]["running"]["startedAt"]))
                .collect();
            all.filter(|all| !all.is_empty()).map(|all| all.into_iter().max())
        }),
        "terminate" => first(&|it| {
            let is_held = !it.object["metadata"]["finalizers"].is_null();
            let ends: Option<Vec<Timestamp>> = containers(&it.object)
                .map(|it| time(&it["state"]["terminated"]["finishedAt"]))
                .collect();
            let is_going = !it.object["metadata"]["deletionTimestamp"].is_null();
            let ends = ends.filter(|_| is_going && is_held).map(|ends| ends.into_iter().max());
            ends.or_else(|| it.is_gone.then_some(None))
        }),
        "finalize" => first(&|it| it.is_gone.then_some(None)),
        "run" => condition("Complete").or_else(|| condition("Failed")),
        "roll" => first(&|it| {
            let status = &it.object["status"];
            let int = |key: &str| status[key].as_i64();
            let wanted =
                int("desiredNumberScheduled").or_else(|| it.object["spec"]["replicas"].as_i64());
            let updated = int("updatedNumberScheduled").or_else(|| int("updatedReplicas"));
            let is_observed = int("observedGeneration") >= Some(generation);
            (is_observed && updated.is_some() && updated >= wanted).then_some(None)
        }),
        "provision" => first(&|it| it.object["spec"]["volumeName"].is_string().then_some(None)),
        "pull" => first(&|it| {
            let occurred = time(&it.object["deprecatedLastTimestamp"]);
            (it.object["reason"] == "Pulled").then_some(occurred)
        }),
        "bind" => first(&|it| (it.object["status"]["phase"] == "Bound").then_some(None)),
        "over" => first(&|it| {
            let is_over =
                matches!(it.object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            let ends =
                containers(&it.object).map(|it| time(&it["state"]["terminated"]["finishedAt"]));
            is_over.then(|| ends.max().flatten())
        }),
        "rolled and ready" => first(&|it| {
            let status = &it.object["status"];
            let int = |key: &str| status[key].as_i64();
            let are = |wanted: Option<i64>, counts: &[&str]| {
                wanted.is_some() && counts.iter().all(|count| int(count) >= wanted)
            };
            let is_done =
                are(it.object["spec"]["replicas"].as_i64(), &["updatedReplicas", "readyReplicas"])
                    || are(
                        int("desiredNumberScheduled"),
                        &["updatedNumberScheduled", "numberReady", "numberAvailable"],
                    );
            (is_done && int("observedGeneration") >= Some(generation)).then_some(None)
        }),
        _ => None,
    }
}

/// The observation that shows the outcome of a change; `None`: it was overtaken.
fn end_of(span: &Span) -> Option<&'static str> {
    let of_a_job = attribute(span, "k8s.job.name").is_some();
    Some(match (&*span.object.kind.kind, &*attribute(span, "spanlink.outcome")?) {
        (_, "deleted") => "finalize",
        ("Pod", "converged") if !of_a_job => "ready",
        ("Pod", "converged" | "failed") => "over",
        ("Job", "converged" | "failed") => "run",
        ("PersistentVolumeClaim", "converged") => "bind",
        ("StatefulSet" | "DaemonSet", "converged") => "rolled and ready",
        _ => return None,
    })
}

fn int(span: &Span, key: &str) -> i64 {
    match span.attribute(key) {
        Some(Value::Int(int)) => *int,
        _ => 0,
    }
}

/// Which steps and outcomes there are, and how far the end of each is from when it was seen; fails
/// where that is not the second of which the API speaks.
fn compared(spans: &[Span], observer: &Observer) -> Result<(BTreeSet<String>, Vec<Duration>)> {
    let by_id: HashMap<_, &Span> = spans.iter().map(|span| (span.span_id, span)).collect();
    let mut found = BTreeSet::new();
    let mut apart = Vec::new();
    for span in spans {
        let (of, name, end) = match span.role {
            // Within a second of the change it is an event, later a phase.
            Role::Phase if &*span.name == "observe" => continue,
            Role::Phase => {
                let parent = by_id[&span.parent.context("no parent")?];
                let is_within = parent.start <= span.start && span.end <= parent.end;
                ensure!(is_within, "{span:?} in {parent:?}");
                // A Pod's run ends with the Pod, a Job's with the Job.
                let is_of_pod = &*parent.object.kind.kind == "Pod" && &*span.name == "run";
                (parent, &*span.name, if is_of_pod { "over" } else { &*span.name })
            }
            Role::Change | Role::Reconcile => {
                let Some(end) = end_of(span) else { continue };
                let outcome = attribute(span, "spanlink.outcome").unwrap_or_default();
                found.insert(format!("{} {outcome}", span.object.kind.kind));
                (span, "outcome", end)
            }
            Role::Stuck | Role::Late | Role::Projection => continue,
        };
        if span.attribute("k8s.container.name").is_some() {
            continue;
        }
        let (kind, object) = (&*of.object.kind.kind, &*of.object.name);
        if span.role == Role::Phase {
            found.insert(format!("{kind} {name}"));
        }
        let seen = match end {
            "pull" => observer.events_about(object),
            _ => observer.of(kind, object),
        };
        let (by_api, seen) = ended(end, int(of, "spanlink.generation"), &seen)
            .with_context(|| format!("{name} of {kind} {object} was not seen"))?;
        let second = Duration::from_secs(1);
        let (off, at_most) = match by_api {
            Some(api) => (api.since(span.end).max(span.end.since(api.plus(second))), second),
            None => (span.end.since(seen).max(seen.since(span.end)), LATE),
        };
        ensure!(off < at_most, "{kind} {object} {name}: {:?}, {by_api:?}, {seen:?}", span.end);
        // States observed within the API's second, or without an API time, are timed by the watch.
        if by_api.is_none_or(|api| seen.since(api) < second) {
            apart.push(span.end.since(seen).max(seen.since(span.end)));
        }
    }
    apart.sort();
    Ok((found, apart))
}

/// A claim whose volume is made by the test, as an external provisioner does.
async fn provisioned_claim(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": { "name": namespace }, "provisioner": "disk.example.com",
    });
    plane.apply(&class.to_string()).await?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data", "namespace": namespace },
        "spec": {
            "storageClassName": namespace, "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    plane.apply(&claim.to_string()).await?;
    let path = "jsonpath={.metadata.annotations.volume\\.kubernetes\\.io/storage-provisioner} {.metadata.uid}";
    let uid = until("the provisioner to be asked", SOON, async || {
        let text = plane.kubectl(&["-n", namespace, "get", "pvc", "data", "-o", path]).await?;
        let (provisioner, uid) = text.split_once(' ').context("nothing")?;
        ensure!(provisioner == "disk.example.com", "{text}");
        Ok(uid.to_owned())
    })
    .await?;
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": format!("pv-{namespace}") },
        "spec": {
            "storageClassName": namespace, "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/none" },
            "claimRef": { "kind": "PersistentVolumeClaim", "name": "data",
                "namespace": namespace, "uid": uid },
        },
    });
    plane.apply(&volume.to_string()).await?;
    Ok(())
}

/// A Pod with two init containers, and a finalizer that the test removes.
fn pod(namespace: &str) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "alone", "namespace": namespace, "finalizers": ["example.com/hold"],
        },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{ "name": "one", "image": "one" }, { "name": "two", "image": "two" }],
            "containers": [{ "name": "web", "image": "web" }],
        },
    })
}

fn job(namespace: &str, name: &str, behaviour: Option<&str>) -> Json {
    let mut pod = template();
    pod["spec"]["restartPolicy"] = json!("Never");
    if let Some(behaviour) = behaviour {
        pod["metadata"]["labels"]["spanlink.test/behaviour"] = json!(behaviour);
    }
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "backoffLimit": 1, "template": pod },
    })
}

fn in_namespace(mut object: Json, namespace: &str) -> Json {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

#[tokio::test]
async fn every_phase_and_outcome_is_in_jaeger_with_its_observed_time() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("steps").await?;
    let daemon = beside(plane, &watched(&namespace)).await?;
    let seen = [&KINDS[..], &["events.k8s.io/v1/Event"]].concat();
    let observer = Observer::begin(plane, &namespace, &seen).await?;
    let kubectl = async |arguments: &[&str]| -> Result<String> {
        plane.kubectl(&[&["-n", &*namespace], arguments].concat()).await
    };

    plane.apply(&pod(&namespace).to_string()).await?;
    let fetched = json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "fetched", "namespace": namespace,
            "labels": { "spanlink.test/behaviour": "pulls" } },
        "spec": { "containers": template()["spec"]["containers"] } });
    plane.apply(&fetched.to_string()).await?;
    plane.apply(&job(&namespace, "well", None).to_string()).await?;
    plane.apply(&job(&namespace, "badly", Some("failing-job")).to_string()).await?;
    let mut stateful = in_namespace(workload("StatefulSet"), &namespace);
    stateful["spec"]["replicas"] = json!(2);
    stateful["spec"]["serviceName"] = json!("web");
    // kwok's own way of a Pod, step by step.
    stateful["spec"]["template"]["metadata"]["labels"]["spanlink.test/behaviour"] =
        json!("general");
    plane.apply(&stateful.to_string()).await?;
    let mut daemons = in_namespace(workload("DaemonSet"), &namespace);
    daemons["metadata"]["name"] = json!("agent");
    daemons["spec"].as_object_mut().context("no spec")?.remove("replicas");
    daemons["spec"]["selector"] = json!({ "matchLabels": { "app": "agent" } });
    daemons["spec"]["template"]["metadata"]["labels"] = json!({ "app": "agent" });
    plane.apply(&daemons.to_string()).await?;
    provisioned_claim(plane, &namespace).await?;

    kubectl(&["wait", "--for=condition=Ready", "pod/alone", "--timeout=120s"]).await?;
    kubectl(&["delete", "pod", "alone", "--wait=false"]).await?;
    kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/alone", "--timeout=120s"])
        .await?;
    let none = json!([{ "op": "remove", "path": "/metadata/finalizers" }]).to_string();
    kubectl(&["patch", "pod", "alone", "--type=json", "-p", &none]).await?;
    kubectl(&["rollout", "status", "daemonset/agent", "--timeout=120s"]).await?;
    kubectl(&["set", "image", "daemonset/agent", "web=web:2"]).await?;
    kubectl(&["rollout", "status", "daemonset/agent", "--timeout=120s"]).await?;
    kubectl(&["rollout", "status", "statefulset/web", "--timeout=120s"]).await?;
    kubectl(&["wait", "--for=condition=Failed", "job/badly", "--timeout=120s"]).await?;

    let jaeger = plane.jaeger()?;
    let expected = [
        "DaemonSet converged",
        "DaemonSet roll",
        "Job converged",
        "Job failed",
        "Job run",
        "PersistentVolumeClaim bind",
        "PersistentVolumeClaim converged",
        "PersistentVolumeClaim provision",
        "Pod converged",
        "Pod deleted",
        "Pod failed",
        "Pod finalize",
        "Pod init",
        "Pod pull",
        "Pod ready",
        "Pod run",
        "Pod sandbox",
        "Pod schedule",
        "Pod start",
        "Pod terminate",
        "StatefulSet converged",
        "StatefulSet roll",
    ];
    let (spans, apart) = until("every step and outcome", SOON, async || {
        daemon.is_at_rest().await?;
        let spans = in_jaeger::spans(&jaeger, &namespace).await?;
        let (found, apart) = compared(&spans, &observer)?;
        ensure!(found.iter().eq(expected), "{found:#?}");
        Ok((spans, apart))
    })
    .await?;
    let median = apart[apart.len() / 2];
    assert!(median < COMMONLY, "{median:?} of {apart:?}");

    let of = |name: &str, object: &str| -> Result<Vec<&Span>> {
        let found = spans.iter().filter(|span| {
            let is_of = |key| attribute(span, key).as_deref() == Some(object);
            &*span.name == name && ["k8s.pod.name", "k8s.job.name"].into_iter().any(is_of)
        });
        let found: Vec<&Span> = found.collect();
        ensure!(!found.is_empty(), "no {name} of {object}");
        Ok(found)
    };
    // Each init container within the step.
    let init = of("init", "alone")?;
    let containers: BTreeSet<String> =
        init.iter().filter_map(|span| attribute(span, "k8s.container.name")).collect();
    assert_eq!(containers, ["one", "two"].map(str::to_owned).into());
    let finalize = of("finalize", "alone")?[0];
    assert_eq!(attribute(finalize, "spanlink.phase.actor").as_deref(), Some("example.com/hold"));
    assert_eq!(finalize.events.len(), 1, "{finalize:?}");
    // Two attempts, both failed.
    let run = of("run", "badly")?[0];
    assert_eq!(run.events.len(), 2, "{run:?}");
    assert_eq!(attribute(run, "error.type").as_deref(), Some("BackoffLimitExceeded"));
    let run = of("run", "well")?[0];
    assert_eq!(attribute(run, "spanlink.phase.actor").as_deref(), Some("job-controller"));
    Ok(())
}
