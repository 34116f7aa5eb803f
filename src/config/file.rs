//! Configuration as it is written: YAML, with the environment over it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    environment,
    settings::{
        AdminSettings, ClusterSettings, Compression, ExportSettings, KindSelector, KindSettings,
        Protocol, Settings, Stale, Startup, TlsSettings, TraceSettings, WatchSettings,
    },
};

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {problem}")]
    Written { path: PathBuf, line: u64, column: u64, problem: String },
    #[error("{place}: {problem}")]
    Environment { place: String, problem: String },
}

/// The file. Every option is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    cluster: Cluster,
    watch: Option<Vec<Watch>>,
    layout: Option<Layout>,
    settle: Option<Length>,
    deadline: Option<Length>,
    owner_wait: Option<Length>,
    stuck_after: Option<Length>,
    batch: Option<Length>,
    startup: Option<StartupName>,
    causes: Causes,
    otlp: Otlp,
    outbox: Outbox,
    admin: Admin,
    own_traces: OwnTraces,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cluster {
    name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Watch {
    kind: Kind,
    #[serde(default)]
    namespaces: Vec<String>,
    label_selector: Option<String>,
    field_selector: Option<String>,
    service: Option<String>,
    settle: Option<Length>,
    deadline: Option<Length>,
    owner_wait: Option<Length>,
    stuck_after: Option<Length>,
}

/// The one there is yet.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    Cascade,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StartupName {
    Skip,
    Report,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StaleName {
    Mark,
    Drop,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Causes {
    annotations: Option<Vec<String>>,
    stale: Option<StaleName>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Otlp {
    endpoint: Option<String>,
    protocol: Option<ProtocolName>,
    headers: BTreeMap<String, String>,
    compression: Option<CompressionName>,
    timeout: Option<Length>,
    tls: Tls,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum ProtocolName {
    #[serde(rename = "grpc")]
    Grpc,
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CompressionName {
    None,
    Gzip,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Outbox {
    spans_max: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Admin {
    listen: Option<Listen>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OwnTraces {
    endpoint: Option<String>,
}

/// A duration as people write it: `500ms`, `5m`.
#[derive(Clone, Copy, Debug)]
struct Length(Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 500ms, 2s, 15m or 24h");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_unlike| wrong())?;
    let duration = Duration::try_from(duration).map_err(|_negative| wrong())?;
    if duration > Duration::from_hours(24 * 366) {
        return Err(format!("{text:?} is over a year; nobody waits for that"));
    }
    Ok(duration)
}

#[derive(Clone, Debug)]
struct Kind(KindSelector);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        KindSelector::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

#[derive(Clone, Copy, Debug)]
struct Listen(Option<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_unlike| {
            D::Error::custom(format!("{text:?} is no address; write 0.0.0.0:9464, or none"))
        })
    }
}

/// What is watched where nothing else is said.
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

impl Settings {
    /// Defaults, the file over them, the environment over both.
    ///
    /// # Errors
    /// When something is not as it should be: where, and what would be right.
    pub fn load(
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let mut layers = config::Config::builder();
        if let Some(path) = path {
            let text = fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            // Read for its errors: only here is it known on which line something stands.
            parse(path, &text)?;
            layers = layers.add_source(config::File::from_str(&text, config::FileFormat::Yaml));
        }
        let own: config::Map<String, String> = variables
            .iter()
            .filter(|(name, _)| name.starts_with("SPANLINK_") && name.as_str() != "SPANLINK_CONFIG")
            .filter(|(name, _)| name.as_str() != "SPANLINK_LOG")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let source = config::Environment::with_prefix("SPANLINK")
            .prefix_separator("_")
            .separator("__")
            .source(Some(own));
        let in_environment = |problem: String| ConfigError::Environment {
            place: "environment variables SPANLINK_…".to_owned(),
            problem,
        };
        let layered =
            layers.add_source(source).build().map_err(|error| in_environment(error.to_string()))?;
        let file: File = serde_path_to_error::deserialize(layered)
            .map_err(|error| in_environment(explain(&error.to_string())))?;
        let mut settings = file.settings();
        environment::apply(&mut settings, &variables)
            .map_err(|(place, problem)| ConfigError::Environment { place, problem })?;
        Ok(settings)
    }
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location();
        let of = |at: fn(&serde_saphyr::Location) -> u64| location.as_ref().map_or(1, at);
        ConfigError::Written {
            path: path.to_owned(),
            line: of(serde_saphyr::Location::line),
            column: of(serde_saphyr::Location::column),
            problem: explain(&error.to_string()),
        }
    })
}

/// Says an unknown word's nearest right one.
fn explain(problem: &str) -> String {
    // The place is said before.
    let problem = problem.split(" at line ").next().unwrap_or(problem);
    let unknown = [("unknown field ", "option"), ("unknown variant ", "value")]
        .into_iter()
        .find_map(|(prefix, what)| Some((what, problem.strip_prefix(prefix)?)));
    let Some((what, rest)) = unknown else {
        return match problem {
            "invalid u64" => "expected a whole number that is not negative".to_owned(),
            other => other.to_owned(),
        };
    };
    let (wrong, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let bare = |word: &str| word.trim_matches(|c| c == '`' || c == ' ').to_owned();
    let wrong = bare(wrong);
    let right: Vec<String> = expected
        .trim_start_matches("one of ")
        .replace(" or ", ", ")
        .split(", ")
        .map(bare)
        .collect();
    let nearest = right
        .iter()
        .map(|word| (strsim::osa_distance(&wrong, word), word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, word)| *distance <= word.len().div_ceil(2).max(2));
    match nearest {
        Some((_, word)) => format!("unknown {what} {wrong:?}; did you mean {word:?}?"),
        None => format!("unknown {what} {wrong:?}; there are {}", right.join(", ")),
    }
}

impl File {
    fn settings(self) -> Settings {
        let length = |given: Option<Length>, default| given.map_or(default, |length| length.0);
        let kinds = match self.watch {
            Some(watch) => watch.into_iter().map(Watch::settings).collect(),
            None => default_kinds(),
        };
        let annotations = self
            .causes
            .annotations
            .unwrap_or_else(|| vec!["tracing.k8s.io/traceparent".to_owned()]);
        let protocol = match self.otlp.protocol {
            Some(ProtocolName::HttpProtobuf) => Protocol::HttpProtobuf,
            Some(ProtocolName::Grpc) | None => Protocol::Grpc,
        };
        Settings {
            cluster: ClusterSettings { name: self.cluster.name },
            watch: WatchSettings {
                kinds,
                batch: length(self.batch, Duration::from_millis(25)),
                annotations,
            },
            trace: TraceSettings {
                settle: length(self.settle, Duration::from_secs(2)),
                deadline: length(self.deadline, Duration::from_mins(15)),
                owner_wait: length(self.owner_wait, Duration::from_millis(500)),
                stuck_after: length(self.stuck_after, Duration::from_secs(10)),
                startup: match self.startup {
                    Some(StartupName::Report) => Startup::Report,
                    Some(StartupName::Skip) | None => Startup::Skip,
                },
                stale: match self.causes.stale {
                    Some(StaleName::Drop) => Stale::Drop,
                    Some(StaleName::Mark) | None => Stale::Mark,
                },
            },
            export: ExportSettings {
                endpoint: self
                    .otlp
                    .endpoint
                    .unwrap_or_else(|| environment::default_endpoint(protocol).to_owned()),
                protocol,
                headers: self.otlp.headers,
                compression: match self.otlp.compression {
                    Some(CompressionName::Gzip) => Compression::Gzip,
                    Some(CompressionName::None) | None => Compression::None,
                },
                timeout: length(self.otlp.timeout, Duration::from_secs(10)),
                tls: TlsSettings {
                    ca_file: self.otlp.tls.ca_file,
                    cert_file: self.otlp.tls.cert_file,
                    key_file: self.otlp.tls.key_file,
                    server_name: self.otlp.tls.server_name,
                },
                resource: BTreeMap::new(),
                outbox_spans_max: self.outbox.spans_max.unwrap_or(65_536),
            },
            admin: AdminSettings {
                listen: self.admin.listen.map_or_else(
                    || Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
                    |listen| listen.0,
                ),
                own_traces: self.own_traces.endpoint,
            },
        }
    }
}

fn default_kinds() -> Vec<KindSettings> {
    DEFAULT_KINDS
        .into_iter()
        .filter_map(|kind| KindSelector::parse(kind).ok())
        .map(|selector| KindSettings {
            selector,
            namespaces: Vec::new(),
            label_selector: None,
            field_selector: None,
            service: None,
            settle: None,
            deadline: None,
            owner_wait: None,
            stuck_after: None,
        })
        .collect()
}

impl Watch {
    fn settings(self) -> KindSettings {
        KindSettings {
            selector: self.kind.0,
            namespaces: self.namespaces,
            label_selector: self.label_selector,
            field_selector: self.field_selector,
            service: self.service,
            settle: self.settle.map(|length| length.0),
            deadline: self.deadline.map(|length| length.0),
            owner_wait: self.owner_wait.map(|length| length.0),
            stuck_after: self.stuck_after.map(|length| length.0),
        }
    }
}
