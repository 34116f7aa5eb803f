//! `service.name` is the name by which controllers report in Events: each is made to report.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use expect_test::expect;
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    discovery::Discovery,
};
use serde_json::{Value, json};
use spanlink::trace::model::{kind, object::GroupKind};

use crate::{
    control_plane::{ControlPlane, shared, until},
    live::SOON,
    scene::{Scene, template, workload},
};

/// Kinds whose controllers no Event here can prove, and why.
const SILENT: &[(&str, &str)] = &[
    ("Namespace", "Its controller writes no Event, whatever becomes of the Namespace."),
    ("Service", "Its controller comes with a cloud provider, and there is none here."),
    ("Pod", "Many act on a Pod: the name is ours, and its phases name the actors."),
];

/// Other reporters about these kinds, which act on a part of them only.
const OTHERS: &[&str] = &["default-scheduler", "kubelet", "kwok"];

fn made(kind: &str, version: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// An object of each kind, in a state that its controller reports Events about.
async fn provoke(scene: &Scene<'_>, volume: &str) -> Result<()> {
    scene.apply(&workload("Deployment")).await?;
    let mut set = workload("StatefulSet");
    set["spec"]["serviceName"] = json!("web");
    scene.apply(&set).await?;
    let mut daemons = workload("DaemonSet");
    daemons["spec"].as_object_mut().context("no spec")?.remove("replicas");
    scene.apply(&daemons).await?;
    let selector = json!({ "app": "web" });
    let controller = json!({ "replicas": 1, "selector": selector, "template": template() });
    scene.apply(&made("ReplicationController", "v1", "web", &controller)).await?;
    let mut job = template();
    job["spec"]["restartPolicy"] = json!("Never");
    scene.apply(&made("Job", "batch/v1", "web", &json!({ "template": job }))).await?;
    let hourly = json!({ "schedule": "* * * * *", "jobTemplate": { "spec": { "template": job } } });
    scene.apply(&made("CronJob", "batch/v1", "web", &hourly)).await?;
    // The first run at once, for that of this minute seems to have been missed.
    let last = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1);
    let status = json!({ "status": { "lastScheduleTime": last.strftime("%FT%TZ").to_string() } });
    let jobs = scene.api("batch/v1", "CronJob").await?;
    jobs.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await?;
    // The metric is not served.
    let target = json!({ "type": "Utilization", "averageUtilization": 50 });
    let autoscaler = json!({
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
        "maxReplicas": 4,
        "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": target } }],
    });
    let version = "autoscaling/v2";
    scene.apply(&made("HorizontalPodAutoscaler", version, "web", &autoscaler)).await?;
    // It selects no Pod.
    let nothing = json!({ "minAvailable": 1, "selector": { "matchLabels": { "app": "none" } } });
    scene.apply(&made("PodDisruptionBudget", "policy/v1", "web", &nothing)).await?;
    // No volume is there for the one claim; that of the other cannot be deleted, as its path may not.
    let claim = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": { "requests": { "storage": "1Gi" } },
    });
    scene.apply(&made("PersistentVolumeClaim", "v1", "waits", &claim)).await?;
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "capacity": { "storage": "1Gi" }, "persistentVolumeReclaimPolicy": "Delete",
        "hostPath": { "path": "/not/below/tmp" },
        "claimRef": { "namespace": scene.namespace, "name": "goes" },
    });
    scene.plane.apply(&made("PersistentVolume", "v1", volume, &spec).to_string()).await?;
    let mut goes = made("PersistentVolumeClaim", "v1", "goes", &claim);
    goes["spec"]["volumeName"] = json!(volume);
    scene.apply(&goes).await?;
    // Its controller looks again every 15 seconds only.
    let bound = ["wait", "--for=jsonpath={.status.phase}=Bound", "--timeout=2m", "pvc/goes"];
    scene.kubectl(&bound).await?;
    scene.kubectl(&["delete", "pvc", "goes"]).await?;
    Ok(())
}

/// Reporters by the kind of the object: in the namespace, and of cluster-scoped objects.
async fn reporters(
    plane: &ControlPlane,
    namespace: &str,
    names: &[&str],
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let gvk = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let resource = ApiResource::from_gvk(&gvk);
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for place in [namespace, "default"] {
        let client = plane.client().await?;
        let events: Api<DynamicObject> = Api::namespaced_with(client, place, &resource);
        for event in events.list(&ListParams::default()).await? {
            let (about, event) = (&event.data["regarding"], &event.data);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if place == "default" && !names.contains(&&*text(&about["name"])) {
                continue;
            }
            let by = [&event["reportingController"], &event["deprecatedSource"]["component"]];
            let by =
                by.into_iter().map(text).find(|by| !by.is_empty()).context("without a reporter")?;
            found.entry(text(&about["kind"])).or_default().insert(by);
        }
    }
    Ok(found)
}

/// Every kind of the server whose controller is in the table.
async fn known(plane: &ControlPlane) -> Result<BTreeMap<String, &'static str>> {
    let mut known = BTreeMap::new();
    let discovery = Discovery::new(plane.client().await?).run_aggregated().await?;
    for group in discovery.groups() {
        for (resource, _) in group.recommended_resources() {
            let of = GroupKind::new(&resource.group, &resource.kind);
            if let Some(service) = kind::service(&of).filter(|service| *service != "spanlink") {
                known.insert(resource.kind.clone(), service);
            }
        }
    }
    Ok(known)
}

#[tokio::test]
async fn every_service_name_is_the_one_its_controller_reports_by() -> Result<()> {
    let plane = shared().await?;
    let scene = Scene::quiet_in(plane, plane.namespace("services").await?, &["Pod"]).await?;
    let volume = scene.namespace.clone();
    provoke(&scene, &volume).await?;
    let known = known(plane).await?;
    let silent: BTreeSet<&str> = SILENT.iter().map(|(kind, _)| *kind).collect();
    let names = [&*volume, "node-0"];
    let reported = until("every controller to report", 2 * SOON, async || {
        let reported = reporters(plane, &scene.namespace, &names).await?;
        for kind in known.keys().filter(|kind| !silent.contains(kind.as_str())) {
            ensure!(reported.contains_key(kind), "no Event about {kind}: {reported:#?}");
        }
        Ok(reported)
    })
    .await?;
    let mut table = String::new();
    for (kind, service) in &known {
        if silent.contains(kind.as_str()) {
            let ours = reported.get(kind).is_some_and(|by| by.contains(*service));
            assert!(!ours, "{service} does report on {kind}, so it is proved");
            continue;
        }
        let by: Vec<&str> = reported[kind].iter().map(String::as_str).collect();
        let by: Vec<&str> = by.into_iter().filter(|by| !OTHERS.contains(by)).collect();
        assert_eq!(by, [*service], "{kind}");
        table.extend([format!("{kind}: {service}"), "\n".to_owned()]);
    }
    expect![[r#"
        CronJob: cronjob-controller
        DaemonSet: daemonset-controller
        Deployment: deployment-controller
        HorizontalPodAutoscaler: horizontal-pod-autoscaler
        Job: job-controller
        Node: node-controller
        PersistentVolume: persistentvolume-controller
        PersistentVolumeClaim: persistentvolume-controller
        PodDisruptionBudget: controllermanager
        ReplicaSet: replicaset-controller
        ReplicationController: replication-controller
        StatefulSet: statefulset-controller
    "#]]
    .assert_eq(&table);
    for kind in reported.keys() {
        assert!(known.contains_key(kind), "{kind} has Events: {reported:#?}");
    }
    Ok(())
}
