//! Options as meant: checked, complete, one small struct for each part of the daemon.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

/// Everything the daemon can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub cluster: ClusterSettings,
    pub watch: WatchSettings,
    pub trace: TraceSettings,
    pub export: ExportSettings,
    pub outbox: OutboxSettings,
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
    /// Annotations that may hold a trace context, the first that is there counts. None: no context
    /// is read at all.
    pub annotations: Vec<CarrierKey>,
    /// Keys of baggage entries that become attributes.
    pub baggage: Vec<String>,
    pub references: Vec<ReferenceSettings>,
    /// Paths of every kind below which neither values nor names leave.
    pub redact: Vec<String>,
}

/// An annotation that may hold a trace context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarrierKey {
    pub key: String,
    #[serde(default)]
    pub format: CarrierFormat,
}

/// How an annotation holds a trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarrierFormat {
    /// A `traceparent`; `tracestate` and `baggage` in annotations of the same prefix.
    #[default]
    W3c,
    /// A JSON map that holds `traceparent`, and may hold `tracestate` and `baggage`.
    Json,
}

/// A field by which objects of one kind name another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSettings {
    pub from: KindSelector,
    /// `spec.clusterRef`: an object reference, or the name of an object of the kind `to`.
    pub field: String,
    /// What is referenced, where the reference does not say it itself.
    pub to: Option<KindSelector>,
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
    pub ignore: IgnoreSettings,
    pub converges: Option<ConvergesSettings>,
    /// Kubernetes' Events about its objects are told with their changes.
    pub events: bool,
    /// Paths whose new values are told, where they change. Never of a Secret.
    pub values: Vec<String>,
    /// Paths below which neither values nor names leave, besides those of every kind and of other
    /// entries for this one.
    pub redact: Vec<String>,
    /// Labels that count as changes.
    pub include_labels: Vec<String>,
    /// Annotations that count as changes, beside those of kinds whose generation counts them all.
    pub include_annotations: Vec<String>,
    pub settle: Option<Duration>,
    pub deadline: Option<Duration>,
    pub owner_wait: Option<Duration>,
    pub stuck_after: Option<Duration>,
}

impl KindSettings {
    /// With nothing said but the kind.
    pub fn of(selector: KindSelector) -> Self {
        Self {
            selector,
            namespaces: Vec::new(),
            label_selector: None,
            field_selector: None,
            service: None,
            ignore: IgnoreSettings::default(),
            converges: None,
            events: false,
            values: Vec::new(),
            redact: Vec::new(),
            include_labels: Vec::new(),
            include_annotations: Vec::new(),
            settle: None,
            deadline: None,
            owner_wait: None,
            stuck_after: None,
        }
    }
}

/// Changes nobody wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreSettings {
    /// Paths; a change that touches nothing else is ignored, and so is what lies below them.
    pub fields: Vec<String>,
    /// Field managers.
    pub managers: Vec<String>,
}

/// By what objects of a kind converge, where conventions do not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConvergesSettings {
    /// A path below `status`: `status.health.status`, `status.conditions[Synced].status`.
    pub field: String,
    /// Values that mean converged, and those that mean failed, in upper or lower case; every other
    /// is in progress.
    pub current: Vec<String>,
    pub failed: Vec<String>,
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
    pub layout: Layout,
    /// One span in each annotated trace links to the change it led to.
    pub project: bool,
    /// Children of one owner in its own trace.
    pub cascade_max: u32,
    pub settle: Duration,
    pub deadline: Duration,
    pub owner_wait: Duration,
    pub stuck_after: Duration,
    pub startup: Startup,
    pub metadata_changes: MetadataChanges,
    pub stale: Stale,
    /// A link to the last change of the same object.
    pub previous: bool,
    pub sampling: SamplingSettings,
}

/// The shape of traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A root for a change nothing in flight caused, all it caused below it.
    #[default]
    Cascade,
    /// A root for every change, linked to what caused it.
    Linked,
    /// As `cascade`, continuing the annotated trace.
    Joined,
}

/// What becomes of changes of annotations alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataChanges {
    #[default]
    Report,
    /// No span; a context they bring still joins.
    Ignore,
}

/// Which chains are exported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingSettings {
    pub contexts: ContextSampling,
    /// Of chains that no context decides: 0 to 1.
    pub ratio: f64,
}

/// Whether a head's own fresh context decides by its `sampled` flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextSampling {
    #[default]
    Follow,
    Ignore,
}

/// What objects are that existed before the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Startup {
    /// Known, not changes.
    #[default]
    Skip,
    /// A `create` each.
    Report,
}

/// What becomes of a context that was not written for this change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stale {
    /// A link that says so.
    #[default]
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
}

/// What waits for export, and what is kept for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Where both are kept; `None`: in memory, and nothing is kept.
    pub folder: Option<PathBuf>,
    /// Spans that wait in memory; when there are as many, the watches wait.
    pub spans_max: usize,
    /// Bytes of spans that wait on disk; when there are as many, the watches wait.
    pub bytes_max: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
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
