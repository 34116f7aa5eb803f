//! Exports the traces of the daemon itself, apart from those of the cluster.

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message as _;
use tokio::{runtime::Handle, sync::Mutex};

use super::{
    client::{Client, Transport as _},
    error::ClientError,
    response::ResponseCode,
};
use crate::config::settings::{
    Compression, ExportSettings, Protocol, ProxySettings, Settings, TlsSettings,
};

/// `service.name` of the traces. Not `spanlink`, which is the service of spans of kinds without a
/// controller.
const SERVICE: &str = "spanlink-daemon";
/// The time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Creates a provider that exports to the OTLP endpoint (gRPC) of the option `own_traces.endpoint`, if
/// it is set. The headers, certificates and tokens of the collector are not used: the endpoint may be
/// another receiver, which must not get them.
///
/// It must be called on the tokio runtime that drives the connection.
///
/// # Errors
/// When the endpoint or its proxy is invalid.
pub fn tracer_provider(settings: &Settings) -> Result<Option<SdkTracerProvider>, ClientError> {
    let Some(endpoint) = &settings.admin.own_traces else { return Ok(None) };
    provider(endpoint, &settings.export.proxy).map(Some)
}

fn provider(endpoint: &str, proxy: &ProxySettings) -> Result<SdkTracerProvider, ClientError> {
    let settings = ExportSettings {
        endpoint: endpoint.to_owned(),
        protocol: Protocol::Grpc,
        headers: [].into(),
        compression: Compression::None,
        timeout: TIMEOUT,
        request_bytes_max: ExportSettings::REQUEST_BYTES_MAX,
        tls: TlsSettings::default(),
        bearer_token_file: None,
        proxy: proxy.clone(),
        resource: [].into(),
    };
    let client = Client::for_option("own_traces.endpoint", &settings)?;
    let exporter = Exporter {
        client: Arc::new(Mutex::new(client)),
        resource: ResourceAttributesWithSchema::default(),
        runtime: Handle::current(),
    };
    let resource = Resource::builder().with_service_name(SERVICE).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

struct Exporter {
    client: Arc<Mutex<Client>>,
    resource: ResourceAttributesWithSchema,
    /// The SDK exports from a thread of its own, and the connection needs a runtime.
    runtime: Handle,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec().into();
        let client = Arc::clone(&self.client);
        let sending = self.runtime.spawn(async move { client.lock().await.send(request).await });
        match sending.await.map(|response| response.code()) {
            Ok(ResponseCode::Ok) => Ok(()),
            Ok(code) => Err(OTelSdkError::InternalFailure(code.to_string())),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn invalid_endpoint_is_refused_without_its_secrets() {
        let error =
            |endpoint| provider(endpoint, &ProxySettings::default()).unwrap_err().to_string();
        assert_eq!(
            error("localhost:4317"),
            "invalid endpoint \"localhost:4317\" (option own_traces.endpoint): write it as \
             http://collector:4317"
        );
        assert_eq!(
            error("grpc://user:secret@collector?key=secret"),
            "invalid endpoint \"grpc://collector\" (option own_traces.endpoint): write it as \
             http://collector:4317"
        );
    }
}
