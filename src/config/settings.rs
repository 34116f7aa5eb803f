//! Options as meant: checked, complete, one small struct for each part of the daemon.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// Everything the daemon can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub cluster: ClusterSettings,
    pub watch: WatchSettings,
    pub trace: TraceSettings,
    pub export: ExportSettings,
    pub admin: AdminSettings,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// `k8s.cluster.name`; absent where nobody gave one.
    pub name: Option<String>,
}

/// How and what to watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchSettings {
    pub kinds: Vec<KindSettings>,
    /// Rest between wake-ups of the watches; zero: none.
    pub batch: Duration,
    /// Annotation keys that may hold a trace context, the first that is there counts.
    pub annotations: Vec<String>,
}

/// One entry of `watch`.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSettings {
    pub selector: KindSelector,
    /// Empty: every namespace.
    pub namespaces: Vec<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `service.name` of its spans, where it is not the one known for the kind.
    pub service: Option<String>,
    pub settle: Option<Duration>,
    pub deadline: Option<Duration>,
    pub owner_wait: Option<Duration>,
    pub stuck_after: Option<Duration>,
}

/// `Deployment.apps`, `Pod`, `apps/v1/Deployment`, `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindSelector {
    /// Empty for the core group.
    pub group: String,
    /// `None`: the version the server prefers.
    pub version: Option<String>,
    /// `None`: every kind of the group that can be watched, also those installed later.
    pub kind: Option<String>,
}

/// What the trace is to make of what it sees.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    pub settle: Duration,
    pub deadline: Duration,
    pub owner_wait: Duration,
    pub stuck_after: Duration,
    pub startup: Startup,
    pub stale: Stale,
}

/// What objects are that existed before the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// Known, not changes.
    Skip,
    /// A `create` each.
    Report,
}

/// What becomes of a context that was not written for this change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// A link that says so.
    Mark,
    /// No link.
    Drop,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportSettings {
    /// With scheme; for HTTP the complete URL, path included.
    pub endpoint: String,
    pub protocol: Protocol,
    pub headers: BTreeMap<String, String>,
    pub compression: Compression,
    /// Of one request.
    pub timeout: Duration,
    pub tls: TlsSettings,
    /// Resource attributes besides `service.name` (`OTEL_RESOURCE_ATTRIBUTES`).
    pub resource: BTreeMap<String, String>,
    /// Spans the outbox holds in memory; when full, the watches wait.
    pub outbox_spans_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
}

/// PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Name to expect in the server's certificate, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Where `/livez`, `/readyz` and `/metrics` answer; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Traces of the daemon itself, by OTLP to this gRPC endpoint; `None`: none.
    pub own_traces: Option<String>,
}
