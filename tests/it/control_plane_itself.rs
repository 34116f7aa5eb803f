//! The servers of the control plane: accounts, restarts, compaction, and their end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::control_plane::{Account, Component, ControlPlane, Options, shared, to_stderr, until};

const SOON: Duration = Duration::from_mins(2);

#[tokio::test]
async fn account_has_the_permissions_of_its_rbac() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("rbac").await?;
    let grant = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "view", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "spanlink-system", "name": "spanlink" }],
    });
    plane.apply(&grant.to_string()).await?;
    let granted = plane.client_of(&Account::spanlink()).await?;
    until("the grant to be known", SOON, async || {
        list_config_maps(granted.clone(), &namespace).await
    })
    .await?;
    let refused = plane.client_of(&Account::Unprivileged).await?;
    let error = list_config_maps(refused, &namespace)
        .await
        .expect_err("an unprivileged account must not list");
    assert!(format!("{error:#}").contains("forbidden"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn jaeger_returns_the_trace_it_received() -> Result<()> {
    let jaeger = shared().await?.jaeger()?;
    let id = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(jaeger.trace("0af7651916cd43dd8448eb211c80319d").await?, None);
    send_span(&jaeger.otlp_http(), id).await?;
    let trace =
        until("the trace", SOON, async || jaeger.trace(id).await?.context("no trace")).await?;
    assert_eq!(trace["spans"][0]["operationName"], "a span");
    let found = jaeger.find("control-plane-itself", &[("colour", "blue")]).await?;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["traceID"], id);
    assert!(jaeger.find("control-plane-itself", &[("colour", "red")]).await?.is_empty());
    Ok(())
}

/// Kills and restarts parts one after the other, on a control plane of its own.
#[tokio::test]
async fn killed_server_returns_with_its_data() -> Result<()> {
    let options = Options::default().with_jaeger().with_audit();
    let plane = ControlPlane::start(&options, &to_stderr).await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await?, "default");
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some("kept".to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await?;

    plane.kill_api_server();
    assert!(maps.get("kept").await.is_err());
    plane.restart_api_server().await?;
    maps.get("kept").await.context("after the API server was restarted")?;

    plane.kill(Component::Etcd);
    plane.restart(Component::Etcd).await?;
    until("the API server to find etcd again", SOON, async || Ok(maps.get("kept").await?)).await?;

    plane.pause_jaeger();
    assert!(plane.jaeger()?.services().await.is_err());
    plane.resume_jaeger().await?;
    plane.jaeger()?.services().await?;

    let log = plane.audit_log()?;
    let created = log.iter().find(|event| {
        event["verb"] == "create" && event.pointer("/objectRef/name") == Some(&json!("kept"))
    });
    assert_eq!(created.context("no audit event")?["user"]["username"], "admin");
    Ok(())
}

#[tokio::test]
async fn a_restart_ends_old_watches_and_a_compaction_ends_old_reads() -> Result<()> {
    let plane = ControlPlane::start(&Options::api_server_only(), &to_stderr).await?;
    let client = plane.client().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let old = maps.list(&ListParams::default()).await?.metadata.resource_version;
    let old = old.context("a list without a resourceVersion")?;
    let metadata = ObjectMeta { name: Some("newer".to_owned()), ..ObjectMeta::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await?;
    let get = async |query: &str| {
        let path = format!("/api/v1/namespaces/default/configmaps?resourceVersion={old}&{query}");
        let request = http::Request::get(path).body(Vec::new()).context("make a request")?;
        let answer = client.request_text(request).await;
        anyhow::Ok(answer.unwrap_or_else(|error| error.to_string()))
    };
    let (watch, read) = ("watch=1&timeoutSeconds=1", "resourceVersionMatch=Exact");
    assert!(get(watch).await?.contains("ADDED"));

    plane.kill_api_server();
    plane.restart_api_server().await?;
    let answer = get(watch).await?;
    assert!(answer.contains("too old resource version"), "{answer}");
    let answer = get(read).await?;
    assert!(answer.contains(r#""items":[]"#), "{answer}");

    plane.compact().await?;
    let answer = get(read).await?;
    assert!(answer.contains("is too old"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn servers_end_with_the_process_that_started_them() -> Result<()> {
    let mut starter = start_in_another_process("waits").await?;
    starter.process.0.kill()?;
    starter.leaves_nothing_behind().await
}

#[tokio::test]
async fn servers_end_when_the_process_exits_without_dropping_them() -> Result<()> {
    let mut starter = start_in_another_process("exits").await?;
    assert!(starter.process.0.wait()?.success());
    starter.leaves_nothing_behind().await
}

/// Not a claim: what runs in the other process of the two tests above.
#[tokio::test]
#[ignore = "does nothing unless another test starts it"]
async fn starts_servers_and_never_stops_them() -> Result<()> {
    let (Some(report), Some(then)) = (std::env::var_os(REPORT), std::env::var_os(THEN)) else {
        return Ok(());
    };
    let plane = ControlPlane::start(&Options::default().with_jaeger(), &to_stderr).await?;
    let every = [
        Component::Etcd,
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kwok,
        Component::Jaeger,
    ];
    let ids: Vec<_> = every.iter().filter_map(|component| plane.process_id(*component)).collect();
    let text = json!({ "ids": ids, "folder": plane.folder() }).to_string();
    // Like a static, of which no destructor runs.
    std::mem::forget(plane);
    let unfinished = Path::new(&report).with_extension("unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, report)?;
    if then == "waits" {
        std::future::pending::<()>().await;
    }
    Ok(())
}

const REPORT: &str = "SPANLINK_TEST_REPORT";
const THEN: &str = "SPANLINK_TEST_THEN";

/// A process that started all servers: itself, their ids, and the folder of their data.
struct Starter {
    process: Process,
    ids: Vec<u64>,
    folder: PathBuf,
}

/// Ends with the test, also when that fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Starter {
    async fn leaves_nothing_behind(&self) -> Result<()> {
        until("every server to end", SOON, async || {
            for id in &self.ids {
                ensure!(!runs(*id), "process {id} still runs");
            }
            Ok(())
        })
        .await?;
        until("the data to be removed", SOON, async || {
            ensure!(!self.folder.exists(), "{} is still there", self.folder.display());
            Ok(())
        })
        .await
    }
}

/// Whether there is such a process, zombies aside.
fn runs(id: u64) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    // The state follows the name, which stands in parentheses.
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X'))
}

/// Returns once the other process has started its servers; it then `exits` or `waits`.
async fn start_in_another_process(then: &str) -> Result<Starter> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report");
    let child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact"])
        .arg("control_plane_itself::starts_servers_and_never_stops_them")
        .env(REPORT, &report)
        .env(THEN, then)
        .stdout(Stdio::null())
        .spawn()?;
    let process = Process(child);
    let report = until("the other process to start its servers", 2 * SOON, async || {
        let text = fs::read(&report)?;
        Ok(serde_json::from_slice::<Value>(&text)?)
    })
    .await?;
    let ids: Vec<u64> =
        report["ids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    ensure!(ids.len() == 6, "six servers were to start: {report}");
    let data = PathBuf::from(report["folder"].as_str().context("no folder")?);
    if then == "waits" {
        assert!(ids.iter().all(|id| runs(*id)), "all servers run: {report}");
        assert!(data.is_dir(), "their data is there: {report}");
    }
    Ok(Starter { process, ids, folder: data })
}

async fn list_config_maps(client: Client, namespace: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    maps.list(&ListParams::default()).await?;
    Ok(())
}

/// One span of the service `control-plane-itself`, as OTLP/JSON.
async fn send_span(collector: &str, trace_id: &str) -> Result<()> {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let now = jiff::Timestamp::now().as_nanosecond();
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "control-plane-itself")] },
        "scopeSpans": [{ "spans": [{
            "traceId": trace_id,
            "spanId": "b7ad6b7169203331",
            "name": "a span",
            "kind": 1,
            "startTimeUnixNano": now.to_string(),
            "endTimeUnixNano": (now + 1_000_000).to_string(),
            "attributes": [text("colour", "blue")],
        }] }],
    }] });
    let answer = reqwest::Client::new()
        .post(format!("{collector}/v1/traces"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await?;
    answer.error_for_status()?;
    Ok(())
}
