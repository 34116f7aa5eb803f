//! The span of a command: its ids, its context for what the command does, and its export.

use std::{env, time::Duration};

use anyhow::{Context as _, ensure};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};

use super::caller::CallerContext;
use crate::{
    config::settings::Settings,
    daemon::{self, OutboxQueue},
    export::{
        batch::Limits as RequestLimits,
        client::Client,
        encode::Encoder,
        sender::{Drain, Sender},
    },
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox},
    trace::model::{
        context::TraceContext,
        object::{GroupKind, ObjectRef, Uid},
        span::{Attribute, Role, Span, SpanId, SpanStatus, TraceId},
        time::Timestamp,
    },
};

/// `service.name` without the variable `OTEL_SERVICE_NAME`.
const SERVICE: &str = "spanlink-cli";
/// How long an export may take: the command has done its work. Where nothing listens, it ends sooner.
const EXPORT_TIME: Drain =
    Drain { responding: Duration::from_secs(5), unresponsive: Duration::from_secs(2) };
const SAMPLED: u8 = 1;

/// A span that has begun.
#[derive(Debug)]
pub(super) struct OwnSpan {
    name: String,
    context: TraceContext,
    parent: Option<SpanId>,
    start: Timestamp,
}

/// How a span ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    pub(super) attributes: Vec<Attribute>,
    pub(super) status: SpanStatus,
}

impl OwnSpan {
    /// Begins a span: a child of the context of the environment, else the root of a new trace. The
    /// parent decides whether it is sampled.
    pub(super) fn begin(name: &str, parent: Option<&CallerContext>) -> Self {
        let ids = RandomIdGenerator::default();
        let span_id = SpanId(u64::from_be_bytes(ids.new_span_id().to_bytes()));
        let (context, parent) = if let Some(CallerContext { context: parent, .. }) = parent {
            // The other flags describe the parent's trace id and stay with it.
            (TraceContext { span_id, ..parent.clone() }, Some(parent.span_id))
        } else {
            let context = TraceContext {
                trace_id: TraceId(u128::from_be_bytes(ids.new_trace_id().to_bytes())),
                span_id,
                flags: SAMPLED,
                trace_state: None,
                baggage: Vec::new(),
            };
            (context, None)
        };
        Self { name: name.to_owned(), context, parent, start: daemon::now() }
    }

    /// The context of the span for what the command does.
    pub(super) fn traceparent(&self) -> String {
        let TraceContext { trace_id, span_id, flags, .. } = &self.context;
        format!("00-{trace_id}-{span_id}-{flags:02x}")
    }

    pub(super) fn tracestate(&self) -> Option<String> {
        self.context.trace_state.as_deref().map(str::to_owned)
    }

    /// Exports the span by OTLP, if it is sampled.
    ///
    /// # Errors
    /// When the collector does not accept it in time. The caller reports that, and goes on.
    pub(super) async fn export(self, ended: Ended, settings: &Settings) -> anyhow::Result<()> {
        if !self.context.is_sampled() {
            return Ok(());
        }
        let metrics = Metrics::new().context("cannot register metrics")?;
        let outbox = Outbox::in_memory(Limits::records(1), metrics.clone());
        let client = Client::new(&settings.export)?;
        let encoder = Encoder::new(&settings.export, &settings.cluster, None);
        let record = encoder.record(&self.into_span(ended));
        let queue = OutboxQueue(outbox.clone());
        let limits = RequestLimits::bytes(settings.export.request_bytes_max);
        let sender = Sender::new(queue, client, encoder, limits, metrics.clone(), daemon::now);
        outbox.commit(Commit { records: vec![record], entries: Vec::new() });
        sender.run(async { EXPORT_TIME }).await;
        ensure!(
            metrics.spans_exported.get() == 1,
            "the span was not accepted by {}; is the collector up? The variable \
             OTEL_EXPORTER_OTLP_ENDPOINT chooses another one",
            settings.export.endpoint
        );
        Ok(())
    }

    fn into_span(self, ended: Ended) -> Span {
        let service = env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
        Span {
            trace_id: self.context.trace_id,
            span_id: self.context.span_id,
            parent: self.parent,
            parent_is_remote: self.parent.is_some(),
            trace_state: self.context.trace_state,
            role: Role::Change,
            name: self.name.as_str().into(),
            service: service.as_deref().unwrap_or(SERVICE).into(),
            // Only printed trees show the object of a span; the command has none.
            object: ObjectRef {
                kind: GroupKind::new("", ""),
                namespace: None,
                name: self.name.as_str().into(),
                uid: Uid::new(""),
            },
            start: self.start,
            end: ended.at.max(self.start),
            attributes: ended.attributes,
            links: Vec::new(),
            dropped_links: 0,
            events: Vec::new(),
            status: ended.status,
        }
    }
}
