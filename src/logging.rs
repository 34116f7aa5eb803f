//! Logs to stderr: text on a terminal, JSON otherwise; the daemon's own traces where asked for.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tonic::transport::ClientTlsConfig;
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt as _, LevelFilter, ParseError, Targets, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// Libraries, and what they may say unless they are asked by name: what an operator can act on. kube's
/// own layer logs every failed attempt as an error; ours are told once.
const LIBRARIES: [(&str, LevelFilter); 11] = [
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("kube_client", LevelFilter::OFF),
    ("opentelemetry", LevelFilter::WARN),
    ("opentelemetry_otlp", LevelFilter::WARN),
    ("opentelemetry_sdk", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tonic", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
];
const DEFAULT_FILTER: &str = "info";

/// `service.name` of the daemon's own traces, and their scope. Not `spanlink`: spans made for others
/// have that where nobody reconciles a kind.
const OWN_SERVICE: &str = "spanlink-daemon";
/// For the last of its own traces to leave; what ends is not held up for longer.
const OWN_TRACES_LEAVE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("{filter:?} is no log filter; write info, debug or info,spanlink::watch=debug")]
    Filter { filter: String, source: ParseError },
    #[error(
        "own_traces.endpoint {endpoint:?} is no endpoint: it has the form http://collector:4317"
    )]
    Endpoint { endpoint: String },
    #[error("cannot export own traces to {endpoint}")]
    OwnTraces { endpoint: String, source: opentelemetry_otlp::ExporterBuildError },
    #[error("logging was set up before")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Logs, and traces the daemon itself, while `work` goes on. `own_traces`: a gRPC endpoint for such
/// traces, which never mix with the spans it makes for others.
///
/// # Errors
/// When the filter or the endpoint is wrong; those of `work`.
pub async fn during<T, E: From<LoggingError>>(
    filter: Option<&str>,
    own_traces: Option<&str>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let own_traces = init(filter, own_traces)?;
    let result = work.await;
    if let Some(provider) = own_traces {
        // It waits for a connection that lives on this runtime, so it must not wait on its thread.
        let leave = move || provider.shutdown_with_timeout(OWN_TRACES_LEAVE).ok();
        // Whoever ends has nobody left to tell.
        tokio::task::spawn_blocking(leave).await.ok();
    }
    result
}

/// On a tokio runtime, which carries the connection of the daemon's own traces.
fn init(
    filter: Option<&str>,
    own_traces: Option<&str>,
) -> Result<Option<SdkTracerProvider>, LoggingError> {
    let filter = parse(filter.unwrap_or(DEFAULT_FILTER))?;
    let lines = if stderr().is_terminal() {
        fmt::layer().with_writer(stderr).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
    };
    let lines = lines.with_filter(events(filter));
    let provider = own_traces.map(own_provider).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(OWN_SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target("spanlink", LevelFilter::INFO))
    });
    Registry::default().with(traces).with(lines).try_init()?;
    Ok(provider)
}

/// `info`, `debug`, `info,spanlink::watch=debug`: [`Targets`]' own syntax.
fn parse(filter: &str) -> Result<Targets, LoggingError> {
    let asked: Targets = filter
        .parse()
        .map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let everyone = asked.default_level().unwrap_or(LevelFilter::OFF);
    let quieter = LIBRARIES.into_iter().map(|(library, most)| (library, most.min(everyone)));
    let mut targets: Targets = quieter.collect();
    targets.extend(asked);
    Ok(targets.with_default(everyone))
}

/// Without spans: they are for the daemon's own traces, and where nobody else asks for any, none is
/// made.
fn events<S: 'static>(of: Targets) -> impl Filter<S> {
    of.and(filter_fn(|metadata| !metadata.is_span()))
}

fn own_provider(endpoint: &str) -> Result<SdkTracerProvider, LoggingError> {
    let is_encrypted = endpoint.starts_with("https://");
    // The library would take what has no scheme for https.
    if !is_encrypted && !endpoint.starts_with("http://") {
        return Err(LoggingError::Endpoint { endpoint: endpoint.to_owned() });
    }
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if is_encrypted {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    let exporter = exporter
        .build()
        .map_err(|source| LoggingError::OwnTraces { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(OWN_SERVICE).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of a message of each module and level passes.
    fn passes(filter: &str) -> Vec<String> {
        let (seen, lines) = std::sync::mpsc::channel();
        let layer =
            fmt::layer().with_ansi(false).without_time().with_writer(move || Lines(seen.clone()));
        let subscriber = Registry::default().with(layer.with_filter(parse(filter).unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "spanlink::watch", "watch");
            tracing::info!(target: "spanlink::daemon", "daemon");
            tracing::error!(target: "kube_client::client", "kube");
            tracing::debug!(target: "hyper_util::client", "hyper");
            tracing::warn!(target: "h2", "h2");
        });
        lines
            .iter()
            .map(|line: String| line.rsplit(' ').next().unwrap_or_default().trim().to_owned())
            .collect()
    }

    struct Lines(std::sync::mpsc::Sender<String>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .send(String::from_utf8_lossy(bytes).into_owned())
                .map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_asked_by_name() {
        assert_eq!(passes(DEFAULT_FILTER), ["daemon", "h2"]);
        assert_eq!(passes("debug"), ["watch", "daemon", "h2"]);
        assert_eq!(passes("warn"), ["h2"]);
        assert_eq!(passes("error"), [""; 0]);
        assert_eq!(passes("off"), [""; 0]);
        assert_eq!(passes("info,spanlink::watch=debug"), ["watch", "daemon", "h2"]);
        assert_eq!(passes("error,kube_client=error,hyper_util=debug"), ["kube", "hyper"]);
    }

    #[test]
    fn the_log_alone_makes_no_span() {
        let is_made = || !tracing::info_span!("list").is_disabled();
        let asked = || parse(DEFAULT_FILTER).unwrap();
        let log = Registry::default().with(fmt::layer().with_filter(events(asked())));
        assert!(!tracing::subscriber::with_default(log, is_made));
        let traces = Registry::default().with(fmt::layer().with_filter(asked()));
        assert!(tracing::subscriber::with_default(traces, is_made));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let told = parse("spanlink=loud").unwrap_err().to_string();
        assert_eq!(
            told,
            "\"spanlink=loud\" is no log filter; write info, debug or info,spanlink::watch=debug"
        );
    }

    #[test]
    fn own_traces_go_to_an_endpoint_with_its_scheme() {
        let told = own_provider("localhost:4317").unwrap_err().to_string();
        let form = "it has the form http://collector:4317";
        assert_eq!(told, format!("own_traces.endpoint \"localhost:4317\" is no endpoint: {form}"));
    }
}
