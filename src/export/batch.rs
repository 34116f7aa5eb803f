//! Cuts waiting records into requests a receiver takes.

use bytes::Bytes;

use super::encode::{Encoder, parts};

/// What a request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub spans_max: usize,
    pub bytes_max: usize,
}

impl Default for Limits {
    /// gRPC servers take messages of 4 MiB unless told otherwise; what a proxy or a header adds
    /// must not decide.
    fn default() -> Self {
        Self { spans_max: 2048, bytes_max: 3_500 << 10 }
    }
}

/// A request and the records that are done with when it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// An encoded `ExportTraceServiceRequest`.
    pub request: Bytes,
    /// Spans in it.
    pub spans: usize,
    /// Records it covers, in order from the first.
    pub records: usize,
    /// Of these, how many are not in it because no request may be so large.
    pub oversized: usize,
}

impl Batch {
    /// The largest batch of records from the first on. Spans of one service, in their order, stand
    /// together; services in the order they come.
    pub fn cut(records: &[Bytes], encoder: &Encoder, limits: Limits) -> Self {
        let mut batch = Self::default();
        let mut services: Vec<(&str, Vec<&[u8]>)> = Vec::new();
        let mut bytes = 0;
        for record in records {
            let Some((service, span)) = parts(record) else {
                batch.records += 1;
                batch.oversized += 1;
                continue;
            };
            let at = services.iter().position(|(known, _)| *known == service);
            let alone = encoder.service_len(service) + Encoder::span_len(span);
            if alone > limits.bytes_max {
                batch.records += 1;
                batch.oversized += 1;
                continue;
            }
            let more = if at.is_some() { Encoder::span_len(span) } else { alone };
            if batch.spans == limits.spans_max.max(1) || bytes + more > limits.bytes_max {
                break;
            }
            bytes += more;
            batch.records += 1;
            batch.spans += 1;
            match at.and_then(|at| services.get_mut(at)) {
                Some((_, spans)) => spans.push(span),
                None => services.push((service, vec![span])),
            }
        }
        batch.request = encoder.request(services);
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::export::samples::{encoder, span};

    fn names(batch: &Batch) -> Vec<(String, Vec<String>)> {
        let request =
            opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(
                batch.request.clone(),
            )
            .unwrap();
        request
            .resource_spans
            .iter()
            .map(|resource| {
                let service = resource.resource.as_ref().unwrap().attributes[0].value.clone();
                let text = match service.unwrap().value.unwrap() {
                    opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text) => {
                        text
                    }
                    other => panic!("{other:?}"),
                };
                (text, resource.scope_spans[0].spans.iter().map(|span| span.name.clone()).collect())
            })
            .collect()
    }

    #[test]
    fn spans_of_a_service_stand_together_in_their_order() {
        let encoder = encoder();
        let records: Vec<Bytes> = [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")]
            .into_iter()
            .map(|(service, name)| encoder.record(&span(service, name)))
            .collect();
        let batch = Batch::cut(&records, &encoder, Limits::default());
        assert_eq!((batch.spans, batch.records, batch.oversized), (4, 4, 0));
        let expected = [("a", ["1", "3"]), ("b", ["2", "4"])];
        let expected = expected
            .map(|(service, names)| (service.to_owned(), names.map(str::to_owned).to_vec()));
        assert_eq!(names(&batch), expected);
    }

    #[test]
    fn a_span_no_request_may_hold_is_passed_over_and_counted() {
        let encoder = encoder();
        let limits = Limits { spans_max: 10, bytes_max: 2_000 };
        let records = [span("a", "1"), span("a", &"x".repeat(2_000)), span("a", "3")]
            .map(|s| encoder.record(&s));
        let batch = Batch::cut(&records, &encoder, limits);
        assert_eq!((batch.spans, batch.records, batch.oversized), (2, 3, 1));
    }

    #[test]
    fn a_request_of_records_is_the_request_of_their_spans() {
        let encoder = encoder();
        let spans = [span("a", "1"), span("b", "2"), span("a", "3")];
        let records: Vec<Bytes> = spans.iter().map(|span| encoder.record(span)).collect();
        let batch = Batch::cut(&records, &encoder, Limits::default());
        assert_eq!(batch.request, encoder.message(&spans).encode_to_vec());
    }

    proptest! {
        #[test]
        fn batches_never_exceed_the_limits_and_cover_every_record_in_order(
            sizes in prop::collection::vec((0_usize..5, 0_usize..3_000), 1..60),
            spans_max in 1_usize..10,
            bytes_max in 500_usize..8_000,
        ) {
            let encoder = encoder();
            let limits = Limits { spans_max, bytes_max };
            let records: Vec<Bytes> = sizes
                .iter()
                .map(|(service, size)| {
                    encoder.record(&span(&format!("s{service}"), &"n".repeat(*size)))
                })
                .collect();
            let mut rest = records.as_slice();
            let (mut spans, mut oversized) = (0, 0);
            while !rest.is_empty() {
                let batch = Batch::cut(rest, &encoder, limits);
                prop_assert!(batch.request.len() <= bytes_max);
                prop_assert!(batch.spans <= spans_max);
                prop_assert!(batch.records > 0);
                prop_assert_eq!(batch.records, batch.spans + batch.oversized);
                spans += batch.spans;
                oversized += batch.oversized;
                rest = &rest[batch.records..];
            }
            prop_assert_eq!(spans + oversized, records.len());
        }
    }
}
