//! Joins records of the outbox into requests that a receiver accepts.

use bytes::Bytes;

use super::encode::{Encoder, split_record};

/// The largest request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub spans_max: usize,
    pub bytes_max: usize,
}

impl Default for Limits {
    /// By default a gRPC server accepts messages of up to 4 MiB. The margin is for what proxies and
    /// the protocol add.
    fn default() -> Self {
        Self { spans_max: 2048, bytes_max: 3_500 << 10 }
    }
}

/// A request, and the records to acknowledge after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// An encoded `ExportTraceServiceRequest`.
    pub request: Bytes,
    /// Spans in the request.
    pub spans: usize,
    /// Records that the batch covers, from the first on: those in the request, and those left out.
    pub records: usize,
    /// Records left out because they alone exceed [`Limits::bytes_max`].
    pub oversized: usize,
    /// Records left out because they cannot be decoded, as after a corruption of the outbox.
    pub undecodable: usize,
}

impl Batch {
    /// Joins as many records as the limits allow, from the first on. A request groups its spans by
    /// service; services and the spans of each keep the order of the records.
    pub fn from_records(records: &[Bytes], encoder: &Encoder, limits: Limits) -> Self {
        let mut batch = Self::default();
        let mut services: Vec<(&str, Vec<&[u8]>)> = Vec::new();
        let mut bytes = 0;
        for record in records {
            let Some((service, span)) = split_record(record) else {
                batch.records += 1;
                batch.undecodable += 1;
                continue;
            };
            let index = services.iter().position(|(existing, _)| *existing == service);
            let len_alone = encoder.service_len(service) + Encoder::span_len(span);
            if len_alone > limits.bytes_max {
                batch.records += 1;
                batch.oversized += 1;
                continue;
            }
            let added_len = if index.is_some() { Encoder::span_len(span) } else { len_alone };
            if batch.spans == limits.spans_max.max(1) || bytes + added_len > limits.bytes_max {
                break;
            }
            bytes += added_len;
            batch.records += 1;
            batch.spans += 1;
            match index.and_then(|index| services.get_mut(index)) {
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
    fn request_groups_spans_by_service_in_the_order_of_the_records() {
        let encoder = encoder();
        let records: Vec<Bytes> = [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")]
            .into_iter()
            .map(|(service, name)| encoder.record(&span(service, name)))
            .collect();
        let batch = Batch::from_records(&records, &encoder, Limits::default());
        assert_eq!((batch.spans, batch.records, batch.oversized), (4, 4, 0));
        let expected = [("a", ["1", "3"]), ("b", ["2", "4"])];
        let expected = expected
            .map(|(service, names)| (service.to_owned(), names.map(str::to_owned).to_vec()));
        assert_eq!(names(&batch), expected);
    }

    #[test]
    fn record_that_cannot_be_decoded_is_left_out_and_counted() {
        let encoder = encoder();
        let records = [encoder.record(&span("a", "1")), Bytes::from_static(&[9, 0, 1])];
        let batch = Batch::from_records(&records, &encoder, Limits::default());
        assert_eq!((batch.spans, batch.records), (1, 2));
        assert_eq!((batch.oversized, batch.undecodable), (0, 1));
    }

    #[test]
    fn span_larger_than_the_largest_request_is_left_out_and_counted() {
        let encoder = encoder();
        let limits = Limits { spans_max: 10, bytes_max: 2_000 };
        let records = [span("a", "1"), span("a", &"x".repeat(2_000)), span("a", "3")]
            .map(|s| encoder.record(&s));
        let batch = Batch::from_records(&records, &encoder, limits);
        assert_eq!((batch.spans, batch.records), (2, 3));
        assert_eq!((batch.oversized, batch.undecodable), (1, 0));
    }

    #[test]
    fn request_from_records_equals_request_from_spans() {
        let encoder = encoder();
        let spans = [span("a", "1"), span("b", "2"), span("a", "3")];
        let records: Vec<Bytes> = spans.iter().map(|span| encoder.record(span)).collect();
        let batch = Batch::from_records(&records, &encoder, Limits::default());
        assert_eq!(batch.request, encoder.message(&spans).encode_to_vec());
    }

    proptest! {
        #[test]
        fn batches_respect_the_limits_and_cover_every_record_in_order(
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
                let batch = Batch::from_records(rest, &encoder, limits);
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
