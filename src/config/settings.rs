//! The settings: options that are checked and complete, one struct for each part of the daemon.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::health_rule::HealthRule;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub cluster: ClusterSettings,
    pub watch: WatchSettings,
    pub trace: TraceSettings,
    pub export: ExportSettings,
    pub outbox: OutboxSettings,
    pub admin: AdminSettings,
    /// Whether the option `watch` is set: without it, a replay is not limited to the default kinds.
    pub are_kinds_configured: bool,
    /// Warnings about variables of OpenTelemetry that are ignored, one sentence each.
    pub ignored_variables: Vec<String>,
}

/// The cluster that is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The resource attribute `k8s.cluster.name`; `None`: spans have no such attribute.
    pub name: Option<String>,
}

/// Which objects to watch, and what to read of them.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchSettings {
    /// The entries of `watch`.
    pub kinds: Vec<KindSettings>,
    /// How long the watches rest between two reads; zero: not at all.
    pub read_interval: Duration,
    /// Where objects may carry a trace context; the first place with a valid one counts. Empty: no trace
    /// context is read.
    pub carriers: Vec<CarrierSettings>,
    /// The annotations and labels whose values become attributes of spans.
    pub attributes: AttributeSettings,
    /// Keys of the baggage entries that become attributes.
    pub baggage: Vec<String>,
    /// Fields by which objects refer to objects that do not own them.
    pub references: Vec<ReferenceSettings>,
    /// The entries of `health_checks`: the first that names a kind decides about its objects.
    pub health_checks: Vec<HealthCheck>,
    /// Which shipped rules judge kinds without a rule in the configuration.
    pub shipped_rules: ShippedRules,
    /// How operators mark what they made, other than by a controller reference: the configured marks,
    /// then those of well-known operators.
    pub owners: Vec<OwnerSettings>,
    /// Paths, in every kind, below which neither values nor field names are exported or recorded.
    pub redact: Vec<String>,
}

/// A place in objects that may contain a trace context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierSettings {
    pub place: CarrierPlace,
    pub format: CarrierFormat,
}

impl CarrierSettings {
    /// An annotation in any format.
    pub fn annotation(key: &str) -> Self {
        Self { place: CarrierPlace::Annotation(key.to_owned()), format: CarrierFormat::Auto }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CarrierPlace {
    /// The annotation with this key.
    Annotation(String),
    /// Every annotation whose key ends with this text: `/traceparent`.
    AnnotationSuffix(String),
    /// The field at this path: `status.spanContext`.
    Field(String),
}

/// How a value contains a trace context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarrierFormat {
    /// `Json` where the value begins with `{`, else `W3c`.
    #[default]
    Auto,
    /// A W3C `traceparent`; annotations with the same prefix contain `tracestate` and `baggage`.
    W3c,
    /// A JSON object with `traceparent`, and optionally `tracestate` and `baggage`.
    Json,
    /// A trace id; the span id is in the annotation with `span-id` instead of `trace-id` in its key.
    Pair,
}

/// Values of objects that become attributes of the spans of their changes and of what those caused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeSettings {
    /// Attribute keys by the keys of annotations.
    pub from_annotations: BTreeMap<String, String>,
    /// Attribute keys by the keys of labels.
    pub from_labels: BTreeMap<String, String>,
}

/// A field by which objects of one kind refer to another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSettings {
    /// The kind that has the field.
    pub from: KindSelector,
    /// `spec.clusterRef`: an object reference, or the name of an object of the kind `to`.
    pub field: String,
    /// The kind of the other object, where the field has only its name.
    pub to: Option<KindSelector>,
}

/// How the objects of one operator show which object they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerSettings {
    /// The kind of the owner. Without a kind in it, or `None` (the group of the child), the mark names
    /// the kind.
    pub owner: Option<KindSelector>,
    /// The kind of the child; `None`: any.
    pub child: Option<KindSelector>,
    pub mark: OwnerMarkSettings,
}

/// What shows the owner of an object that has no controller reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerMarkSettings {
    /// An owner reference that is not the controller's.
    Reference,
    /// Paths in the child: labels, annotations or fields.
    Name {
        /// The path of the owner's name.
        name: String,
        /// The path of its namespace, or the namespace; `None`: that of the child.
        namespace: Option<String>,
        /// The path of its kind.
        kind: Option<String>,
    },
    /// A field of the owner that names the child.
    Field {
        field: String,
        /// Only their writes are the owner's doing; empty: those of the owner's controller.
        managers: Vec<String>,
    },
}

/// One entry of `watch`. Where several entries have the same kind, each opens its own watch, and the
/// first one decides the options of the kind; `events` and `redact` apply from any of them.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSettings {
    pub selector: KindSelector,
    /// The namespaces to watch; empty: all of them.
    pub namespaces: Vec<String>,
    /// Only objects whose labels match are watched.
    pub label_selector: Option<String>,
    /// Only objects whose fields match are watched.
    pub field_selector: Option<String>,
    /// The `service.name` of the spans; `None`: the one known for the kind.
    pub service: Option<String>,
    /// Changes that have no spans.
    pub ignore: IgnoreSettings,
    /// The rule that decides when a change has converged; `None`: that of the kind decides.
    pub converges: Option<ConvergesSettings>,
    /// Whether work that no change of the spec began has spans; `None`: of custom resources.
    pub episodes: Option<bool>,
    /// Kubernetes Events about the objects become span events of their changes.
    pub events: bool,
    /// Paths whose new values are exported when they change. Values of a Secret are never exported.
    pub values: Vec<String>,
    /// Paths below which neither values nor field names are exported or recorded, in addition to
    /// [`WatchSettings::redact`] and to other entries for the kind.
    pub redact: Vec<String>,
    /// Keys of labels whose changes have spans.
    pub include_labels: Vec<String>,
    /// Keys of annotations whose changes have spans. For kinds whose generation counts annotations,
    /// all of them have.
    pub include_annotations: Vec<String>,
    /// The following five replace the options of the same name in [`TraceSettings`].
    pub settle: Option<Duration>,
    pub deadline: Option<Duration>,
    pub owner_wait: Option<Duration>,
    pub stuck_after: Option<Duration>,
    pub evidence: Option<Duration>,
}

impl KindSettings {
    /// An entry with only a kind: every other option has its default.
    pub fn new(selector: KindSelector) -> Self {
        Self {
            selector,
            namespaces: Vec::new(),
            label_selector: None,
            field_selector: None,
            service: None,
            ignore: IgnoreSettings::default(),
            converges: None,
            episodes: None,
            events: false,
            values: Vec::new(),
            redact: Vec::new(),
            include_labels: Vec::new(),
            include_annotations: Vec::new(),
            settle: None,
            deadline: None,
            owner_wait: None,
            stuck_after: None,
            evidence: None,
        }
    }
}

/// Changes that have no spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreSettings {
    /// A change that touches only fields at or below these paths is ignored.
    pub fields: Vec<String>,
    /// A change that one of these field managers made is ignored.
    pub managers: Vec<String>,
}

/// What decides when a change of an object has converged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConvergesSettings {
    /// The value of one status field.
    Field(StatusFieldSettings),
    /// Expressions over the object.
    Cel(HealthRule),
}

/// A rule for the kinds that it names, in the shape of Flux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `example.com/v1`: only objects of this version.
    pub api_version: String,
    /// `None`: every kind of the group.
    pub kind: Option<String>,
    pub rule: HealthRule,
}

/// Which of the shipped rules apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShippedRules {
    /// None.
    Off,
    /// All but those for kinds of these API groups.
    Except(Vec<String>),
}

impl ShippedRules {
    /// Whether the rules for kinds of this group apply.
    pub fn apply_to(&self, group: &str) -> bool {
        match self {
            Self::Off => false,
            Self::Except(groups) => !groups.iter().any(|excepted| excepted == group),
        }
    }
}

/// The status field that decides when a change of an object has converged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFieldSettings {
    /// A path below `status`: `status.health.status`, `status.conditions[Synced].status`.
    pub field: String,
    /// Values that mean converged. Values are compared without regard to case; every other value
    /// means in progress.
    pub current: Vec<String>,
    /// Values that mean failed.
    pub failed: Vec<String>,
}

/// A kind, or every kind of a group: `Deployment.apps`, `Pod`, `apps/v1/Deployment`,
/// `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindSelector {
    /// Empty for the core group.
    pub group: String,
    /// `None`: the version that the API server prefers.
    pub version: Option<String>,
    /// `None`: every kind of the group that can be watched, also kinds that are installed later.
    pub kind: Option<String>,
}

/// How changes become traces.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    pub layout: Layout,
    /// One span in each annotated trace links to the change that it led to.
    pub projection: bool,
    pub span_names: SpanNames,
    /// The most children of one owner in the owner's trace; further ones have traces of their own.
    pub cascade_max: u32,
    /// How long an object must stay converged before its change has the outcome `converged`.
    pub settle: Duration,
    /// After this time without progress and without a verdict, a change has the outcome `timed_out`.
    pub deadline: Duration,
    /// The longest time that a change waits for the change of its owner to arrive.
    pub owner_wait: Duration,
    /// How long a known problem must hold before it is reported.
    pub stuck_after: Duration,
    /// How long good signs from before a change must stand after the first status since, to count.
    pub evidence: Duration,
    pub startup: Startup,
    pub metadata_changes: MetadataChanges,
    pub stale: Stale,
    /// Each change links to the previous change of the same object.
    pub previous: bool,
    pub sampling: SamplingSettings,
}

/// The shape of traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A head is the root of a trace that contains every change it caused.
    #[default]
    Cascade,
    /// Every change is the root of its own trace, and links to its cause.
    Linked,
    /// Like `cascade`, but the head continues the annotated trace.
    Joined,
}

/// How spans are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanNames {
    /// `update Deployment`: metrics that are made from span names have few series.
    #[default]
    Kind,
    /// `update Deployment shop/web`, for kinds whose objects have no controller owner. Never for a
    /// `ReplicaSet` or a Pod.
    Object,
}

/// Whether a change that touches only annotations has spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataChanges {
    /// It has a span.
    #[default]
    Report,
    /// It has no span; a trace context that it brings is still used by the next change.
    Ignore,
}

/// Which chains are exported. A chain is exported as a whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingSettings {
    pub contexts: ContextSampling,
    /// The share, from 0 to 1, of the chains that no trace context decides about.
    pub ratio: f64,
}

/// Whether the trace context that was written for a head decides about its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextSampling {
    /// Its `sampled` flag decides.
    #[default]
    Follow,
    /// `ratio` decides.
    Ignore,
}

/// Whether the first list of a watch reports its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Startup {
    /// Objects that existed already have no spans until they change.
    #[default]
    Skip,
    /// Each object has a `create` span.
    Report,
}

/// How a change uses a trace context that was not written for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stale {
    /// The link has an attribute that marks the context as stale.
    #[default]
    Mark,
    /// The context is not linked.
    Drop,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportSettings {
    /// A URL; for HTTP it includes the path.
    pub endpoint: String,
    pub protocol: Protocol,
    /// Sent with every request; names are in lower case.
    pub headers: BTreeMap<String, String>,
    pub compression: Compression,
    /// The time limit of one request; a year where there is none.
    pub timeout: Duration,
    /// The largest request, in bytes before compression.
    pub request_bytes_max: usize,
    pub tls: TlsSettings,
    /// A file with a token that requests carry as `authorization: Bearer …`; it may change.
    pub bearer_token_file: Option<PathBuf>,
    pub proxy: ProxySettings,
    /// Resource attributes from `OTEL_RESOURCE_ATTRIBUTES`; `service.name` is not among them.
    pub resource: BTreeMap<String, String>,
}

impl ExportSettings {
    /// The default of the largest request. A gRPC server accepts messages of up to 4 MiB by default. The
    /// margin is for what proxies and the protocol add.
    pub const REQUEST_BYTES_MAX: usize = 3_500 << 10;
}

/// The queue of spans for the collector, and the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// The directory of both; `None`: they are in memory and end with the process.
    pub folder: Option<PathBuf>,
    /// The most spans that wait in memory; a full queue blocks the watches.
    pub spans_max: usize,
    /// The most bytes of spans that wait on disk; a full queue blocks the watches.
    pub bytes_max: usize,
    /// The most bytes of refused spans that are kept on disk; further ones replace the oldest. Zero:
    /// refused spans are dropped.
    pub quarantine_bytes_max: usize,
}

/// The protocol of OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// The compression of requests to the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    Gzip,
}

/// TLS to the collector; files are in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates of the authorities to trust; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, and its key.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have; `None`: the host of the endpoint.
    pub server_name: Option<String>,
}

/// The proxies that the environment names, by the scheme of the endpoints they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    pub http: Option<ProxyVariable>,
    pub https: Option<ProxyVariable>,
    /// Hosts that are connected to without a proxy, separated by commas, as in `NO_PROXY`.
    pub exceptions: String,
}

/// An environment variable with the URL of a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyVariable {
    pub name: &'static str,
    /// May contain a user and a password.
    pub url: String,
}

impl fmt::Debug for ProxyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyVariable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The HTTP server for operators: health and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// The address that serves `/livez`, `/readyz` and `/metrics`; `None`: no server.
    pub listen: Option<SocketAddr>,
    /// The OTLP endpoint (gRPC) for traces of the daemon itself; `None`: no such traces.
    pub own_traces: Option<String>,
}
