//! Describes a record of the outbox to people.

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::encode::split_record;

/// The service and the name of an encoded span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The `service.name` of its resource.
    pub service: String,
    pub span_name: String,
}

impl Description {
    /// Describes a record; `None` if it is not a span, as after a corruption of the outbox.
    pub fn from_record(record: &[u8]) -> Option<Self> {
        let (service, span) = split_record(record)?;
        let span = Span::decode(span).ok()?;
        Some(Self { service: service.to_owned(), span_name: span.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::samples::{encoder, span};

    #[test]
    fn description_names_the_service_and_the_span() {
        let record = encoder().record(&span("web-controller", "create Deployment"));
        let description = Description::from_record(&record).unwrap();
        assert_eq!(description.service, "web-controller");
        assert_eq!(description.span_name, "create Deployment");
        assert_eq!(Description::from_record(&[9, 0, 1]), None);
    }
}
