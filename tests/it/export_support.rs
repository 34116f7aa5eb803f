//! Settings, spans and a running sender for the tests of the export.

use std::time::Duration;

use spanlink::{
    config::settings::{
        ClusterSettings, Compression, ExportSettings, Protocol, ProxySettings, TlsSettings,
    },
    daemon::{OutboxQueue, now},
    export::{
        batch::{Batch, Limits as RequestLimits},
        client::{Client, Transport as _},
        encode::Encoder,
        response::{NoResponse, Response},
        sender::{Drain, Sender},
    },
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    trace::model::{
        object::{GroupKind, ObjectRef, Uid},
        span::{Role, Span, SpanId, SpanStatus, TraceId},
        time::Timestamp,
    },
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::scripted_receiver::{Received, Receiver};

pub(crate) fn settings(protocol: Protocol, endpoint: String) -> ExportSettings {
    // The first test installs the provider for all.
    rustls::crypto::ring::default_provider().install_default().ok();
    ExportSettings {
        endpoint,
        protocol,
        headers: [].into(),
        compression: Compression::None,
        timeout: Duration::from_secs(10),
        request_bytes_max: 1 << 20,
        tls: TlsSettings::default(),
        bearer_token_file: None,
        proxy: ProxySettings::default(),
        resource: [].into(),
    }
}

pub(crate) fn grpc(receiver: &Receiver) -> ExportSettings {
    settings(Protocol::Grpc, format!("http://{}", receiver.address))
}

pub(crate) fn http(receiver: &Receiver) -> ExportSettings {
    settings(Protocol::HttpProtobuf, format!("http://{}/v1/traces", receiver.address))
}

pub(crate) fn encoder(settings: &ExportSettings) -> Encoder {
    Encoder::new(settings, &ClusterSettings::default(), None)
}

pub(crate) fn span(service: &str, name: &str) -> Span {
    let at = Timestamp::from_nanos(1_767_323_045_000_000_000);
    Span {
        trace_id: TraceId(1),
        span_id: SpanId(2),
        parent: None,
        parent_is_remote: false,
        trace_state: None,
        role: Role::Change,
        name: name.into(),
        service: service.into(),
        object: ObjectRef {
            kind: GroupKind::new("apps", "Deployment"),
            namespace: Some("shop".into()),
            name: "web".into(),
            uid: Uid::new("u"),
        },
        start: at,
        end: at.plus(Duration::from_micros(1)),
        attributes: Vec::new(),
        links: Vec::new(),
        dropped_links: 0,
        events: Vec::new(),
        status: SpanStatus::Unset,
    }
}

/// A running sender.
pub(crate) struct Export {
    pub(crate) outbox: Outbox,
    pub(crate) metrics: Metrics,
    encoder: Encoder,
    stop: oneshot::Sender<Drain>,
    task: JoinHandle<usize>,
}

impl Export {
    pub(crate) fn start(settings: &ExportSettings) -> Self {
        let metrics = Metrics::new().unwrap();
        let outbox = Outbox::in_memory(Limits::records(1000), metrics.clone());
        Self::start_with(settings, outbox, metrics)
    }

    pub(crate) fn start_with(settings: &ExportSettings, outbox: Outbox, metrics: Metrics) -> Self {
        let encoder = encoder(settings);
        let client = Client::new(settings).unwrap();
        let limits = RequestLimits::bytes(settings.request_bytes_max);
        let queue = OutboxQueue(outbox.clone());
        let sender = Sender::new(queue, client, encoder.clone(), limits, metrics.clone(), now);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(sender.run(async { stopped.await.unwrap_or_default() }));
        Self { outbox, metrics, encoder, stop, task }
    }

    pub(crate) async fn push(&self, service: &str, names: &[&str]) {
        for name in names {
            let records = vec![self.encoder.record(&span(service, name))];
            self.outbox.ready().await.unwrap();
            self.outbox.commit(Commit { records, entries: Vec::new() });
        }
    }

    /// Queues all spans at once.
    pub(crate) async fn push_all(&self, service: &str, names: &[&str]) {
        let records = names.iter().map(|name| self.encoder.record(&span(service, name))).collect();
        self.outbox.ready().await.unwrap();
        self.outbox.commit(Commit { records, entries: Vec::new() });
    }

    /// Waits until every record was acknowledged.
    pub(crate) async fn until_empty(&self) {
        while !self.outbox.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the sender and returns the number of records that remain.
    pub(crate) async fn stop(self, drain: Drain) -> usize {
        self.stop.send(drain).ok();
        self.task.await.unwrap()
    }
}

/// The spans of a request, as `service: name`.
pub(crate) fn names(received: &Received) -> Vec<String> {
    let mut names = Vec::new();
    for resource_spans in &received.request.resource_spans {
        let attributes = &resource_spans.resource.as_ref().unwrap().attributes;
        let service = format!("{:?}", attributes[0].value);
        let service = service.split('"').nth(1).unwrap().to_owned();
        for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
            names.push(format!("{service}: {}", span.name));
        }
    }
    names
}

/// Sends one request with one span, and returns the response.
pub(crate) async fn send_once(settings: &ExportSettings) -> Response {
    let encoder = encoder(settings);
    let records = [encoder.record(&span("s", "n"))];
    let limits = RequestLimits::bytes(settings.request_bytes_max);
    let batch = Batch::from_records(&records, &encoder, limits);
    Client::new(settings).unwrap().send(batch.request).await
}

/// The reason why there was no response, without the port, which differs between runs.
pub(crate) fn missing_reason(response: Response, receiver: std::net::SocketAddr) -> String {
    match response {
        Response::Missing(NoResponse::TimedOut(reason) | NoResponse::Failed(reason)) => {
            reason.replace(&receiver.port().to_string(), "PORT")
        }
        other => format!("{other:?}"),
    }
}
