//! The options as a file writes them. Each is optional; `defaults` has what applies without it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{
    converges::{Converges, HealthCheckOption},
    endpoint::EndpointUrl,
    headers::Headers,
    object_selector::{FieldSelector, LabelSelector, NamespaceName},
    paths::{CarrierPath, ContentPath, MarkPath, ReferencePath},
    scalars::{ApiGroup, HumanDuration, Kind, Listen, Ratio, RequestBytes, WatchedKind},
    settings::{
        CarrierFormat, Compression, ContextSampling, Layout, MetadataChanges, Protocol, SpanNames,
        Stale, Startup,
    },
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct File {
    pub(super) cluster: Cluster,
    pub(super) watch: Option<Vec<Watch>>,
    pub(super) layout: Layout,
    pub(super) projection: bool,
    pub(super) span_names: SpanNames,
    pub(super) cascade_max: Option<u32>,
    pub(super) settle: Option<HumanDuration>,
    pub(super) deadline: Option<HumanDuration>,
    pub(super) owner_wait: Option<HumanDuration>,
    pub(super) stuck_after: Option<HumanDuration>,
    pub(super) evidence: Option<HumanDuration>,
    pub(super) read_interval: Option<HumanDuration>,
    pub(super) startup: Startup,
    pub(super) metadata_changes: MetadataChanges,
    pub(super) health_checks: Vec<HealthCheckOption>,
    pub(super) shipped_rules: Option<bool>,
    pub(super) shipped_rules_except: Vec<ApiGroup>,
    pub(super) redact: Vec<ContentPath>,
    pub(super) propagation: Propagation,
    pub(super) causes: Causes,
    pub(super) attributes: Attributes,
    pub(super) sampling: Sampling,
    pub(super) otlp: Otlp,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) outbox: Outbox,
    pub(super) admin: Admin,
    pub(super) own_traces: OwnTraces,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Cluster {
    pub(super) name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of options")]
pub(super) struct Watch {
    pub(super) kind: WatchedKind,
    #[serde(default)]
    pub(super) namespaces: Vec<NamespaceName>,
    pub(super) label_selector: Option<LabelSelector>,
    pub(super) field_selector: Option<FieldSelector>,
    pub(super) service: Option<String>,
    #[serde(default)]
    pub(super) ignore: Ignore,
    pub(super) converges: Option<Converges>,
    pub(super) episodes: Option<bool>,
    #[serde(default)]
    pub(super) events: bool,
    #[serde(default)]
    pub(super) values: Vec<ContentPath>,
    #[serde(default)]
    pub(super) redact: Vec<ContentPath>,
    #[serde(default)]
    pub(super) include_labels: Vec<String>,
    #[serde(default)]
    pub(super) include_annotations: Vec<String>,
    pub(super) settle: Option<HumanDuration>,
    pub(super) deadline: Option<HumanDuration>,
    pub(super) owner_wait: Option<HumanDuration>,
    pub(super) stuck_after: Option<HumanDuration>,
    pub(super) evidence: Option<HumanDuration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Ignore {
    pub(super) fields: Vec<ContentPath>,
    pub(super) managers: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Propagation {
    pub(super) enabled: bool,
}

impl Default for Propagation {
    fn default() -> Self {
        Self { enabled: true }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Causes {
    pub(super) annotations: Option<Vec<Carrier>>,
    pub(super) baggage: Vec<String>,
    pub(super) stale: Stale,
    pub(super) previous: bool,
    pub(super) references: Vec<Reference>,
    pub(super) owners: Vec<OwnerEntry>,
}

/// Also written as the key alone. Checked as a whole in `carriers`.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a map with key or field, and format")]
pub(super) struct Carrier {
    pub(super) key: Option<String>,
    pub(super) field: Option<CarrierPath>,
    #[serde(default)]
    pub(super) format: CarrierFormat,
}

/// Checked as a whole in `attributes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Attributes {
    pub(super) from_annotations: BTreeMap<String, String>,
    pub(super) from_labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of options")]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) field: ReferencePath,
    pub(super) to: Option<Kind>,
}

/// Checked as a whole in `owners`.
#[derive(Clone, Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, expecting = "a map of options")]
pub(super) struct OwnerEntry {
    pub(super) owner: Option<Kind>,
    pub(super) child: Option<Kind>,
    pub(super) name: Option<MarkPath>,
    pub(super) namespace: Option<String>,
    pub(super) kind: Option<MarkPath>,
    pub(super) field: Option<ReferencePath>,
    #[serde(default)]
    pub(super) managers: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Sampling {
    pub(super) contexts: ContextSampling,
    pub(super) ratio: Option<Ratio>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Otlp {
    pub(super) endpoint: Option<EndpointUrl>,
    pub(super) protocol: Protocol,
    pub(super) headers: Headers,
    pub(super) compression: Compression,
    pub(super) timeout: Option<HumanDuration>,
    pub(super) request_bytes_max: Option<RequestBytes>,
    pub(super) bearer_token_file: Option<PathBuf>,
    pub(super) tls: Tls,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Tls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
#[expect(clippy::struct_field_names, reason = "the names of the options")]
pub(super) struct Outbox {
    pub(super) spans_max: Option<usize>,
    pub(super) bytes_max: Option<usize>,
    pub(super) quarantine_bytes_max: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct Admin {
    pub(super) listen: Option<Listen>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a map of options")]
pub(super) struct OwnTraces {
    pub(super) endpoint: Option<EndpointUrl>,
}
