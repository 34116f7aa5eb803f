//! The cost of spanlink beside a real API server: `cargo bench`; with a disk: `cargo bench -- --data-dir`.
//!
//! Prints CPU per watch event beside a program that only receives the same watches, memory at 10,000
//! Pods, and the time from a change to its head's span at the receiver. One run, side by side:
//! ratios hold, absolutes don't.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as Any,
};
use serde_json::json;
use tokio::time::Instant;

#[path = "../control_plane/mod.rs"]
mod control_plane;

use control_plane::{Account, ControlPlane, Options, until};

const PODS: usize = 10_000;
const EVENTS_A_SECOND: u64 = 187;
const CHANGES_A_SECOND: u64 = 50;
const LASTS: Duration = Duration::from_secs(30);
/// The kinds that the reader of bytes and spanlink both watch.
const WATCHED: [&str; 3] =
    ["/api/v1/pods", "/apis/apps/v1/deployments", "/apis/apps/v1/replicasets"];

fn print_line(text: &str) {
    writeln!(io::stdout(), "{text}").ok();
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let is = |name: &str| arguments.iter().any(|argument| argument == name);
    if is("read-bytes") {
        let kubeconfig = arguments.get(2).context("no kubeconfig")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(read_bytes(Path::new(kubeconfig)));
    }
    tokio::runtime::Runtime::new()?.block_on(bench(is("--data-dir")))
}

/// The floor: receives the same watches over TLS and counts lines.
async fn read_bytes(kubeconfig: &Path) -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = spanlink::watch::client(Some(kubeconfig)).await?;
    let read = WATCHED.map(|path| {
        let client = client.clone();
        async move {
            let uri = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion=0");
            let request = http::Request::get(uri)
                .header("accept-encoding", "identity")
                .body(kube::client::Body::empty())?;
            let mut body = client.send(request).await?.into_body();
            let mut lines = 0_usize;
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    lines += memchr::memchr_iter(b'\n', &data).count();
                }
            }
            anyhow::Ok(lines)
        }
    });
    futures::future::try_join_all(read).await?;
    Ok(())
}

async fn bench(has_disk: bool) -> Result<()> {
    let plane = ControlPlane::start(&Options::api_server_only(), &print_line).await?;
    plane.kubectl(&["create", "namespace", "bench"]).await?;
    let client = plane.client().await?;
    print_line(&format!("Creating {PODS} Pods."));
    create_pods(&client).await?;

    let arrivals = Arrivals::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let otlp = format!("http://{}", listener.local_addr()?);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let service = TraceServiceServer::new(arrivals.clone());
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );

    let kubeconfig = plane.kubeconfig(&Account::Admin);
    let admin = format!("127.0.0.1:{}", free_port()?);
    let folder = plane.folder();
    let configuration = folder.join("bench.yaml");
    fs::write(
        &configuration,
        "watch: [{kind: Pod}, {kind: Deployment.apps}, {kind: ReplicaSet.apps}]\n",
    )?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command
        .args(["run", "--log", "error", "--config"])
        .arg(&configuration)
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .env("SPANLINK_ADMIN__LISTEN", &admin)
        .env("SPANLINK_OTLP__ENDPOINT", &otlp)
        .stdin(Stdio::null());
    if has_disk {
        command.env("SPANLINK_DATA_DIR", folder.join("data"));
    }
    let spanlink = Running(command.spawn()?);
    until("spanlink to be ready", Duration::from_mins(1), async || {
        let answer = reqwest::get(format!("http://{admin}/readyz")).await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    })
    .await?;
    let floor = Running(
        Command::new(std::env::current_exe()?)
            .arg("read-bytes")
            .arg(&kubeconfig)
            .stdin(Stdio::null())
            .spawn()?,
    );
    until("the first list to be read", Duration::from_mins(1), async || {
        let busy = floor.cpu()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(floor.cpu()? == busy, "still reading");
        Ok(())
    })
    .await?;
    print_line(&format!(
        "memory: {} MiB resident with {PODS} Pods known",
        spanlink.resident()? >> 20
    ));

    let before = (spanlink.cpu()?, floor.cpu()?);
    let events = touch_pods(&client).await?;
    // Ticks are hundredths of a second.
    let micros = |ticks: u64| -> Result<f64> {
        Ok(f64::from(u32::try_from(ticks)?) * 10_000.0 / f64::from(u32::try_from(events)?))
    };
    let (ours, theirs) = (micros(spanlink.cpu()? - before.0)?, micros(floor.cpu()? - before.1)?);
    print_line(&format!(
        "cpu: {ours:.1} µs an event, a reader of bytes {theirs:.1} µs: {:.2} times ({events} events in {LASTS:?})",
        ours / theirs
    ));

    let mut took = change_deployments(&client, &arrivals).await?;
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    print_line(&format!(
        "latency: change to its head's span, p50 {:?}, p99 {:?} ({} changes at {CHANGES_A_SECOND}/s)",
        at(50),
        at(99),
        took.len()
    ));
    print_line(&format!("memory: {} MiB resident at the end", spanlink.resident()? >> 20));
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn create_pods(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "bench");
    let accounts =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    let account: k8s_openapi::api::core::v1::ServiceAccount = serde_json::from_value(accounts)?;
    Api::namespaced(client.clone(), "bench").create(&PostParams::default(), &account).await?;
    let create = |number: usize| {
        let pods = pods.clone();
        async move {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": format!("pod-{number}"), "labels": { "app": "bench" } },
                "spec": { "containers": [{
                    "name": "app",
                    "image": "app:1",
                    "env": (0..10).map(|i| json!({ "name": format!("V{i}"), "value": "value" })).collect::<Vec<_>>(),
                }] },
            }))?;
            pods.create(&PostParams::default(), &pod).await.context("create a Pod")
        }
    };
    let mut created = futures::stream::iter((0..PODS).map(create)).buffer_unordered(16);
    while let Some(pod) = created.next().await {
        pod?;
    }
    Ok(())
}

/// Status patches at a steady rate; how many.
async fn touch_pods(client: &Client) -> Result<u64> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "bench");
    let total = EVENTS_A_SECOND * LASTS.as_secs();
    steadily(total, EVENTS_A_SECOND, |number| {
        let pods = pods.clone();
        async move {
            let name = format!("pod-{}", number * 7919 % PODS as u64);
            let patch = json!({ "status": { "message": format!("message {number}") } });
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            Ok(())
        }
    })
    .await?;
    Ok(total)
}

async fn steadily<F: Future<Output = Result<()>> + Send + 'static>(
    total: u64,
    a_second: u64,
    one: impl Fn(u64) -> F,
) -> Result<()> {
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / a_second));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..total {
        pace.tick().await;
        running.spawn(one(number));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// Creates Deployments; from the server's answer until the head's span is at the receiver.
async fn change_deployments(client: &Client, arrivals: &Arrivals) -> Result<Vec<Duration>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "bench");
    let answered: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let total = CHANGES_A_SECOND * LASTS.as_secs();
    steadily(total, CHANGES_A_SECOND, |number| {
        let (deployments, answered) = (deployments.clone(), Arc::clone(&answered));
        async move {
            let name = format!("web-{number}");
            let object: Deployment = serde_json::from_value(json!({
                "metadata": { "name": name },
                "spec": {
                    "selector": { "matchLabels": { "app": name } },
                    "template": {
                        "metadata": { "labels": { "app": name } },
                        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
                    },
                },
            }))?;
            deployments.create(&PostParams::default(), &object).await?;
            answered
                .lock()
                .expect("no thread panics while it holds the lock")
                .insert(name, Instant::now());
            Ok(())
        }
    })
    .await?;
    let expected = usize::try_from(total)?;
    until("every head's span", Duration::from_mins(1), async || {
        let arrived = arrivals.0.lock().expect("no thread panics while it holds the lock").len();
        ensure!(arrived == expected, "{arrived} of {expected}");
        Ok(())
    })
    .await?;
    let arrived = arrivals.0.lock().expect("no thread panics while it holds the lock");
    let answered = answered.lock().expect("no thread panics while it holds the lock");
    Ok(answered
        .iter()
        .filter_map(|(name, at)| Some(arrived.get(name)?.saturating_duration_since(*at)))
        .collect())
}

/// When each Deployment's head arrived.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<String, Instant>>>);

#[tonic::async_trait]
impl TraceService for Arrivals {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let now = Instant::now();
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans);
        let mut arrivals = self.0.lock().expect("no thread panics while it holds the lock");
        for span in scopes.flat_map(|scope| scope.spans) {
            let name = span.attributes.into_iter().find(|a| a.key == "k8s.deployment.name");
            let name = name.and_then(|attribute| attribute.value?.value);
            if let (Some(Any::StringValue(name)), "create Deployment") = (name, span.name.as_str())
            {
                arrivals.entry(name).or_insert(now);
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Ends with the benchmark.
struct Running(Child);

impl Running {
    /// User and system time, in hundredths of a second.
    fn cpu(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    }

    fn resident(&self) -> Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.0.id()))?;
        let pages: u64 = statm.split(' ').nth(1).context("no statm")?.parse()?;
        Ok(pages * 4096)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
