//! Logs to standard error, as text on a terminal and as JSON otherwise; optionally exports traces of
//! the daemon itself.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt as _, LevelFilter, ParseError, Targets, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// The log level of each library, unless the filter names it: only what an operator can act on.
/// kube logs every failed attempt as an error, and the watches already log a failure once.
const LIBRARY_LEVELS: [(&str, LevelFilter); 9] = [
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("kube_client", LevelFilter::OFF),
    ("opentelemetry", LevelFilter::WARN),
    ("opentelemetry_sdk", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tonic", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
];
const DEFAULT_FILTER: &str = "info";

/// The instrumentation scope of the traces of the daemon itself.
const OWN_SCOPE: &str = "spanlink-daemon";
/// How long the process waits at its end for the export of the daemon's own traces.
const OWN_TRACES_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error(
        "invalid log filter {filter:?}; write for example info, debug or info,spanlink::watch=debug"
    )]
    Filter { filter: String, source: ParseError },
    #[error("logging is set up already")]
    AlreadySetUp(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging and runs `work`.
///
/// # Errors
/// When the filter is invalid, and when `work` fails.
pub async fn during<T, E: From<LoggingError>>(
    filter: Option<&str>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    init(filter, None)?;
    work.await
}

/// Sets up logging and, if `own_traces` returns a provider, the traces of the daemon itself; runs
/// `work`; then exports the remaining traces. They are never mixed with the spans of Kubernetes
/// changes.
///
/// # Errors
/// When the filter is invalid, and when `own_traces` or `work` fails.
pub async fn during_with_own_traces<T, E: From<LoggingError>>(
    filter: Option<&str>,
    own_traces: impl FnOnce() -> Result<Option<SdkTracerProvider>, E>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let own_traces = own_traces()?;
    init(filter, own_traces.as_ref())?;
    let result = work.await;
    if let Some(provider) = own_traces {
        // The connection is driven by the runtime of this thread, which therefore must not block.
        let shut_down = move || provider.shutdown_with_timeout(OWN_TRACES_TIMEOUT).ok();
        // A failure cannot be reported: the export of the reports has just ended.
        tokio::task::spawn_blocking(shut_down).await.ok();
    }
    result
}

/// Checks a log filter.
///
/// # Errors
/// When the filter is invalid.
pub fn check(filter: Option<&str>) -> Result<(), LoggingError> {
    parse(filter.unwrap_or(DEFAULT_FILTER)).map(drop)
}

fn init(filter: Option<&str>, own_traces: Option<&SdkTracerProvider>) -> Result<(), LoggingError> {
    let filter = parse(filter.unwrap_or(DEFAULT_FILTER))?;
    let lines = if stderr().is_terminal() {
        fmt::layer().with_writer(stderr).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
    };
    let lines = lines.with_filter(events(filter));
    let traces = own_traces.map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(OWN_SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target("spanlink", LevelFilter::INFO))
    });
    Registry::default().with(traces).with(lines).try_init()?;
    Ok(())
}

/// Parses the syntax of [`Targets`]: `info`, `debug`, `info,spanlink::watch=debug`.
fn parse(filter: &str) -> Result<Targets, LoggingError> {
    let requested: Targets = filter
        .parse()
        .map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let default_level = requested.default_level().unwrap_or(LevelFilter::OFF);
    let levels =
        LIBRARY_LEVELS.into_iter().map(|(library, level)| (library, level.min(default_level)));
    let mut targets: Targets = levels.collect();
    targets.extend(requested);
    Ok(targets.with_default(default_level))
}

/// The filter of the log. It leaves out spans, so that none are created unless the daemon exports
/// its own traces.
fn events<S: 'static>(targets: Targets) -> impl Filter<S> {
    targets.and(filter_fn(|metadata| !metadata.is_span()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages that pass the filter, one of each module and level.
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
    fn libraries_log_little_unless_the_filter_names_them() {
        assert_eq!(passes(DEFAULT_FILTER), ["daemon", "h2"]);
        assert_eq!(passes("debug"), ["watch", "daemon", "h2"]);
        assert_eq!(passes("warn"), ["h2"]);
        assert_eq!(passes("error"), [""; 0]);
        assert_eq!(passes("off"), [""; 0]);
        assert_eq!(passes("info,spanlink::watch=debug"), ["watch", "daemon", "h2"]);
        assert_eq!(passes("error,kube_client=error,hyper_util=debug"), ["kube", "hyper"]);
    }

    #[test]
    fn log_without_own_traces_creates_no_spans() {
        let is_created = || !tracing::info_span!("list").is_disabled();
        let targets = || parse(DEFAULT_FILTER).unwrap();
        let log = Registry::default().with(fmt::layer().with_filter(events(targets())));
        assert!(!tracing::subscriber::with_default(log, is_created));
        let traces = Registry::default().with(fmt::layer().with_filter(targets()));
        assert!(tracing::subscriber::with_default(traces, is_created));
    }

    #[test]
    fn invalid_filter_is_refused() {
        let error = parse("spanlink=loud").unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid log filter \"spanlink=loud\"; write for example info, debug or \
             info,spanlink::watch=debug"
        );
    }
}
