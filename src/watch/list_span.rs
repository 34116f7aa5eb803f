//! The span of a list in the daemon's own traces: kind, reason, number of objects, and error.

use tracing::{Span, field::Empty, info_span};

/// The reason of the first list of a watch.
const START: &str = "start";

/// Lasts from the first request to the end of the list, or to the failure that interrupted it.
#[derive(Debug)]
pub(super) struct ListSpan {
    /// Why the list is necessary.
    reason: String,
    span: Option<Span>,
    objects: u64,
}

impl ListSpan {
    pub(super) fn new() -> Self {
        Self { reason: START.to_owned(), span: None, objects: 0 }
    }

    pub(super) fn set_reason(&mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    /// Continues the span where further pages of the same list follow.
    pub(super) fn begin(&mut self, kind: &str, namespace: Option<&str>) {
        self.span.get_or_insert_with(|| {
            info_span!(
                "list",
                otel.name = format!("list {kind}"),
                otel.kind = "client",
                spanlink.list.kind = kind,
                spanlink.list.namespace = namespace,
                spanlink.list.reason = self.reason,
                spanlink.list.objects = Empty,
                otel.status_code = Empty,
                error.type = Empty,
            )
        });
    }

    pub(super) fn count_object(&mut self) {
        self.objects += 1;
    }

    pub(super) fn end(&mut self) {
        let objects = std::mem::take(&mut self.objects);
        if let Some(span) = self.span.take() {
            span.record("spanlink.list.objects", objects);
        }
    }

    /// Has no effect outside a list.
    pub(super) fn fail(&mut self, error: &str) {
        if let Some(span) = &self.span {
            span.record("otel.status_code", "ERROR").record("error.type", error);
        }
        self.end();
    }
}
