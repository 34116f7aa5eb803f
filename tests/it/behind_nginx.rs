//! A real proxy: nginx in front of a real Jaeger, restarted, without its upstream, and with a small
//! limit for bodies. Nothing is missing afterwards.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spanlink::{
    config::settings::Protocol::{self, Grpc, HttpProtobuf},
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    trace::model::span::{SpanId, TraceId},
};
use tokio::time::sleep;

use crate::{
    control_plane::{Jaeger, shared, until},
    export_support::{Export, encoder, settings, span},
};

/// Below the size of a request with all spans of a round, above that of a single span.
const BODY_MAX: &str = "4k";
const SPANS_PER_ROUND: u64 = 200;

struct Nginx {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Nginx {
    fn new(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        Ok(Self { folder: folder.to_owned(), port, process: None })
    }

    /// Starts it, instead of a running one.
    fn start(&mut self, protocol: Protocol, upstream: &str) -> Result<()> {
        self.stop();
        let (listen, pass) = match protocol {
            Grpc => ("http2", format!("grpc_pass {}", upstream.replace("http://", "grpc://"))),
            HttpProtobuf => ("", format!("proxy_pass {upstream}")),
        };
        let (folder, port) = (self.folder.display(), self.port);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\n{temporary}\
             server {{\nlisten 127.0.0.1:{port} {listen};\nclient_max_body_size {BODY_MAX};\n\
             location / {{ {pass}; }}\n}}\n}}\n"
        );
        let path = self.folder.join("nginx.conf");
        fs::write(&path, configuration)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path).arg("-e").arg(self.folder.join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().context("start nginx; is nginx-light installed?")?);
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The spans that Jaeger has of a trace.
async fn stored(jaeger: &Jaeger, trace: TraceId) -> Result<BTreeSet<String>> {
    let trace = jaeger.trace(&format!("{:032x}", trace.0)).await?.unwrap_or_default();
    let spans = trace["spans"].as_array().into_iter().flatten();
    Ok(spans.filter_map(|span| Some(span["spanID"].as_str()?.to_owned())).collect())
}

/// Returns what happened, in a line.
async fn export_through_nginx(protocol: Protocol, jaeger: &Jaeger) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let mut nginx = Nginx::new(folder.path())?;
    let (upstream, path) = match protocol {
        Grpc => (jaeger.otlp_grpc(), ""),
        HttpProtobuf => (jaeger.otlp_http(), "/v1/traces"),
    };
    let nowhere = format!("http://127.0.0.1:{}", free_port()?);
    let settings = settings(protocol, format!("http://127.0.0.1:{}{path}", nginx.port));
    let limits = Limits { bytes_max: 1 << 24, ..Limits::records(usize::MAX) };
    let outbox = Outbox::on_disk(&folder.path().join("data"), limits, Metrics::new()?)?;
    let metrics = Metrics::new()?;
    let export = Export::start_with(&settings, outbox.clone(), metrics.clone());
    let encoder = encoder(&settings);
    let trace = TraceId(fastrand::u128(1..));
    let mut pushed = BTreeSet::new();
    let mut push = async || -> Result<()> {
        let first = u64::try_from(pushed.len())? + 1;
        let spans = (first..first + SPANS_PER_ROUND).map(|id| {
            let mut span = span("behind-nginx", "update Deployment");
            (span.trace_id, span.span_id) = (trace, SpanId(id));
            pushed.insert(format!("{id:016x}"));
            encoder.record(&span)
        });
        let records = spans.collect();
        outbox.ready().await?;
        outbox.commit(Commit { records, entries: Vec::new() });
        Ok(())
    };
    nginx.start(protocol, &nowhere)?;
    push().await?;
    until("a failure of nginx", Duration::from_secs(20), async || {
        let code = if protocol == Grpc { "UNAVAILABLE" } else { "502" };
        let failures = metrics.export_failures.with_label_values(&[code]).get();
        ensure!(failures > 0, "no response with {code}");
        Ok(())
    })
    .await?;
    for _ in 0..3 {
        nginx.start(protocol, &upstream)?;
        push().await?;
        sleep(Duration::from_millis(700)).await;
        push().await?;
    }
    until("all spans to be sent", Duration::from_mins(2), async || {
        ensure!(outbox.is_empty(), "{} are left", outbox.len());
        Ok(())
    })
    .await?;
    let stored = stored(jaeger, trace).await?;
    let missing = pushed.difference(&stored).count();
    let refused = if protocol == Grpc { "UNKNOWN" } else { "413" };
    let too_large = metrics.export_failures.with_label_values(&[refused]).get();
    ensure!(missing == 0, "{missing} of {} spans are missing", pushed.len());
    ensure!(too_large > 0, "nginx never refused a request as too large");
    ensure!(metrics.spans_exported.get() == u64::try_from(pushed.len())?);
    export.stop(spanlink::export::sender::Drain::default()).await;
    Ok(format!("{protocol:?}: {} spans, {missing} missing, {too_large} times 413", pushed.len()))
}

#[tokio::test]
#[ignore = "needs nginx; see Build and test in CONTRIBUTING.md"]
async fn nginx_that_restarts_and_limits_bodies_loses_no_span() -> Result<()> {
    let jaeger = shared().await?.jaeger()?;
    for protocol in [Grpc, HttpProtobuf] {
        println!("{}", export_through_nginx(protocol, &jaeger).await?);
    }
    Ok(())
}
