//! Logs to stderr: text on a terminal, JSON otherwise; the daemon's own traces where asked for.

use std::io::{IsTerminal as _, stderr};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// kube's own layer logs every failed attempt as an error; ours are told once.
const DEFAULT_FILTER: &str =
    "info,kube_client=off,hyper=warn,tower=warn,h2=warn,opentelemetry=warn";

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("{filter:?} is no log filter; write info, debug or spanlink=debug,info")]
    Filter { filter: String, source: ParseError },
    #[error("cannot export own traces to {endpoint}")]
    OwnTraces { endpoint: String, source: opentelemetry_otlp::ExporterBuildError },
    #[error("logging was set up before")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Flushes the daemon's own traces when it is dropped.
#[derive(Debug)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.0 {
            // Whoever ends has nobody left to tell.
            provider.shutdown().ok();
        }
    }
}

/// `own_traces`: a gRPC endpoint for traces of the daemon itself. They never mix with the spans it
/// makes for others, and need a tokio runtime around the call.
///
/// # Errors
/// When the filter or the endpoint is wrong.
pub fn init(filter: Option<&str>, own_traces: Option<&str>) -> Result<Guard, LoggingError> {
    let filter = filter.unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let is_terminal = stderr().is_terminal();
    let text = is_terminal.then(|| fmt::layer().with_writer(stderr).with_target(false));
    let json = (!is_terminal).then(|| fmt::layer().json().flatten_event(true).with_writer(stderr));
    let provider = own_traces.map(own_provider).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("spanlink"))
            .with_filter(EnvFilter::new("off,spanlink=info"))
    });
    Registry::default().with(traces).with(filter).with(text).with(json).try_init()?;
    Ok(Guard(provider))
}

fn own_provider(endpoint: &str) -> Result<SdkTracerProvider, LoggingError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| LoggingError::OwnTraces { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name("spanlink").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
