//! A list as the daemon's own traces tell it: of what, why, how much, and how it ended.

use tracing::{Span, field::Empty, info_span};

/// The reason of a watch's first list.
const START: &str = "start";

/// From the first request to the end of the list, or to what kept it from ending.
#[derive(Debug)]
pub(super) struct Listing {
    /// What made it necessary.
    reason: String,
    span: Option<Span>,
    objects: u64,
}

impl Listing {
    pub(super) fn new() -> Self {
        Self { reason: START.to_owned(), span: None, objects: 0 }
    }

    pub(super) fn is_for(&mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    /// Goes on where pages of the same list follow.
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

    pub(super) fn read_object(&mut self) {
        self.objects += 1;
    }

    pub(super) fn ended(&mut self) {
        let objects = std::mem::take(&mut self.objects);
        if let Some(span) = self.span.take() {
            span.record("spanlink.list.objects", objects);
        }
    }

    /// While it watches, there is no list to fail.
    pub(super) fn failed(&mut self, error: &str) {
        if let Some(span) = &self.span {
            span.record("otel.status_code", "ERROR").record("error.type", error);
        }
        self.ended();
    }
}
