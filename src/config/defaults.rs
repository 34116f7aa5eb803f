//! Turns the options of a file into settings, with a default for every option that is not set.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    carriers,
    endpoint::default_endpoint,
    file::{Carrier, File, OwnerEntry, Reference, Watch},
    owners,
    scalars::{HumanDuration, no_limit_if_zero},
    settings::{
        AdminSettings, ClusterSettings, ExportSettings, IgnoreSettings, KindSelector, KindSettings,
        OutboxSettings, OwnerSettings, ProxySettings, ReferenceSettings, SamplingSettings,
        Settings, ShippedRules, TlsSettings, TraceSettings, WatchSettings,
    },
};

/// The kinds that are watched without the option `watch`.
const DEFAULT_KINDS: [&str; 8] = [
    "Deployment.apps",
    "ReplicaSet.apps",
    "StatefulSet.apps",
    "DaemonSet.apps",
    "Job.batch",
    "CronJob.batch",
    "Pod",
    "Namespace",
];

impl File {
    pub(super) fn settings(self) -> Settings {
        let duration =
            |option: Option<HumanDuration>, default| option.map_or(default, |duration| duration.0);
        let causes = self.causes;
        let carriers = match causes.annotations {
            // As with the feature gate of the KEP, no context is read then.
            _ if !self.propagation.enabled => Vec::new(),
            Some(carriers) => carriers.into_iter().filter_map(Carrier::settings).collect(),
            None => carriers::default_carriers(),
        };
        Settings {
            are_kinds_configured: self.watch.is_some(),
            cluster: ClusterSettings { name: self.cluster.name },
            watch: WatchSettings {
                kinds: match self.watch {
                    Some(watch) => watch.into_iter().map(Watch::settings).collect(),
                    None => default_kinds(),
                },
                read_interval: duration(self.read_interval, Duration::from_millis(25)),
                carriers,
                attributes: self.attributes.settings(),
                baggage: causes.baggage,
                references: causes.references.into_iter().map(Reference::settings).collect(),
                shipped_rules: match self.shipped_rules {
                    Some(false) => ShippedRules::Off,
                    Some(true) | None => ShippedRules::Except(
                        self.shipped_rules_except.into_iter().map(|group| group.0).collect(),
                    ),
                },
                health_checks: self.health_checks.into_iter().map(|check| check.0).collect(),
                owners: configured_owners(causes.owners),
                redact: self.redact.into_iter().map(|path| path.0).collect(),
            },
            trace: TraceSettings {
                layout: self.layout,
                projection: self.projection,
                span_names: self.span_names,
                cascade_max: self.cascade_max.unwrap_or(200),
                settle: duration(self.settle, Duration::from_secs(2)),
                deadline: duration(self.deadline, Duration::from_mins(15)),
                owner_wait: duration(self.owner_wait, Duration::from_millis(500)),
                stuck_after: duration(self.stuck_after, Duration::from_secs(10)),
                evidence: duration(self.evidence, Duration::from_secs(15)),
                startup: self.startup,
                metadata_changes: self.metadata_changes,
                stale: causes.stale,
                previous: causes.previous,
                sampling: SamplingSettings {
                    contexts: self.sampling.contexts,
                    ratio: self.sampling.ratio.map_or(1.0, |ratio| ratio.0),
                },
            },
            export: ExportSettings {
                endpoint: match self.otlp.endpoint {
                    Some(endpoint) => endpoint.0,
                    None => default_endpoint(self.otlp.protocol).to_owned(),
                },
                protocol: self.otlp.protocol,
                headers: self.otlp.headers.0,
                compression: self.otlp.compression,
                timeout: no_limit_if_zero(duration(self.otlp.timeout, Duration::from_secs(10))),
                request_bytes_max: self
                    .otlp
                    .request_bytes_max
                    .map_or(ExportSettings::REQUEST_BYTES_MAX, |bytes| bytes.0),
                tls: TlsSettings {
                    ca_file: self.otlp.tls.ca_file,
                    cert_file: self.otlp.tls.cert_file,
                    key_file: self.otlp.tls.key_file,
                    server_name: self.otlp.tls.server_name,
                },
                bearer_token_file: self.otlp.bearer_token_file,
                proxy: ProxySettings::default(),
                resource: BTreeMap::new(),
            },
            outbox: OutboxSettings {
                folder: self.data_dir,
                spans_max: self.outbox.spans_max.unwrap_or(65_536),
                bytes_max: self.outbox.bytes_max.unwrap_or(1 << 30),
                quarantine_bytes_max: self.outbox.quarantine_bytes_max.unwrap_or(256 << 20),
            },
            admin: AdminSettings {
                listen: self.admin.listen.map_or_else(
                    || Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
                    |listen| listen.0,
                ),
                own_traces: self.own_traces.endpoint.map(|endpoint| endpoint.0),
            },
            ignored_variables: Vec::new(),
        }
    }
}

/// The configured marks come before those of well-known operators.
fn configured_owners(owners: Vec<OwnerEntry>) -> Vec<OwnerSettings> {
    owners.into_iter().map(OwnerEntry::settings).chain(owners::shipped()).collect()
}

fn default_kinds() -> Vec<KindSettings> {
    DEFAULT_KINDS
        .into_iter()
        .filter_map(|kind| KindSelector::parse(kind).ok())
        .map(KindSettings::new)
        .collect()
}

impl Watch {
    fn settings(self) -> KindSettings {
        KindSettings {
            selector: self.kind.0,
            namespaces: self.namespaces.into_iter().map(|name| name.0).collect(),
            label_selector: self.label_selector.map(|selector| selector.0),
            field_selector: self.field_selector.map(|selector| selector.0),
            service: self.service,
            ignore: IgnoreSettings {
                fields: self.ignore.fields.into_iter().map(|path| path.0).collect(),
                managers: self.ignore.managers,
            },
            converges: self.converges.map(|converges| converges.0),
            episodes: self.episodes,
            events: self.events,
            values: self.values.into_iter().map(|path| path.0).collect(),
            redact: self.redact.into_iter().map(|path| path.0).collect(),
            include_labels: self.include_labels,
            include_annotations: self.include_annotations,
            settle: self.settle.map(|duration| duration.0),
            deadline: self.deadline.map(|duration| duration.0),
            owner_wait: self.owner_wait.map(|duration| duration.0),
            stuck_after: self.stuck_after.map(|duration| duration.0),
            evidence: self.evidence.map(|duration| duration.0),
        }
    }
}

impl Reference {
    fn settings(self) -> ReferenceSettings {
        ReferenceSettings { from: self.kind.0, field: self.field.0, to: self.to.map(|kind| kind.0) }
    }
}
