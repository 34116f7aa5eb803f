//! Joins records of the outbox into requests that a receiver accepts.

use bytes::Bytes;

use super::encode::{Encoder, split_record};

/// The largest request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub spans_max: usize,
    /// A span that exceeds it alone is left out.
    pub bytes_max: usize,
    /// Requests of several spans are filled up to this size, as far as `bytes_max` allows.
    pub bytes_target: usize,
}

impl Limits {
    /// Spans in one request.
    const SPANS_MAX: usize = 2048;

    pub const fn bytes(bytes_max: usize) -> Self {
        Self { spans_max: Self::SPANS_MAX, bytes_max, bytes_target: bytes_max }
    }
}

/// A request, and the records to acknowledge after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// An encoded `ExportTraceServiceRequest`.
    pub request: Bytes,
    /// Records that the batch covers, from the first on: those in the request, and those left out.
    pub records: usize,
    /// Positions of the records whose spans are in the request.
    pub included: Vec<usize>,
    /// Positions of records left out because they alone exceed [`Limits::bytes_max`].
    pub oversized: Vec<usize>,
    /// Positions of records left out because they cannot be decoded, as after a corruption of the
    /// outbox.
    pub undecodable: Vec<usize>,
}

impl Batch {
    /// Joins as many records as the limits allow, from the first on. A request groups its spans by
    /// service; services and the spans of each keep the order of the records.
    pub fn from_records(records: &[Bytes], encoder: &Encoder, limits: Limits) -> Self {
        let mut batch = Self::default();
        let mut services: Vec<(&str, Vec<&[u8]>)> = Vec::new();
        let bytes_target = limits.bytes_target.min(limits.bytes_max);
        let mut bytes = 0;
        for (position, record) in records.iter().enumerate() {
            let Some((service, span)) = split_record(record) else {
                batch.undecodable.push(position);
                continue;
            };
            let index = services.iter().position(|(existing, _)| *existing == service);
            let len_alone = encoder.service_len(service) + Encoder::span_len(span);
            if len_alone > limits.bytes_max {
                batch.oversized.push(position);
                continue;
            }
            let added_len = if index.is_some() { Encoder::span_len(span) } else { len_alone };
            let is_full = bytes + added_len > bytes_target || batch.spans() >= limits.spans_max;
            if is_full && batch.spans() > 0 {
                break;
            }
            bytes += added_len;
            batch.included.push(position);
            match index.and_then(|index| services.get_mut(index)) {
                Some((_, spans)) => spans.push(span),
                None => services.push((service, vec![span])),
            }
        }
        batch.records = batch.included.len() + batch.oversized.len() + batch.undecodable.len();
        batch.request = encoder.request(services);
        batch
    }

    /// The number of spans in the request.
    pub fn spans(&self) -> usize {
        self.included.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::export::samples::{encoder, span};

    const LIMITS: Limits = Limits::bytes(1 << 20);

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
        let batch = Batch::from_records(&records, &encoder, LIMITS);
        assert_eq!((batch.spans(), batch.records), (4, 4));
        let expected = [("a", ["1", "3"]), ("b", ["2", "4"])];
        let expected = expected
            .map(|(service, names)| (service.to_owned(), names.map(str::to_owned).to_vec()));
        assert_eq!(names(&batch), expected);
    }

    #[test]
    fn record_that_cannot_be_decoded_is_left_out_and_counted() {
        let encoder = encoder();
        let records = [encoder.record(&span("a", "1")), Bytes::from_static(&[9, 0, 1])];
        let batch = Batch::from_records(&records, &encoder, LIMITS);
        assert_eq!((batch.included, batch.undecodable), (vec![0], vec![1]));
        assert_eq!((batch.records, batch.oversized), (2, Vec::new()));
    }

    #[test]
    fn span_larger_than_the_largest_request_is_left_out_and_counted() {
        let encoder = encoder();
        let limits = Limits::bytes(2_000);
        let records = [span("a", "1"), span("a", &"x".repeat(2_000)), span("a", "3")]
            .map(|s| encoder.record(&s));
        let batch = Batch::from_records(&records, &encoder, limits);
        assert_eq!((batch.included, batch.oversized), (vec![0, 2], vec![1]));
        assert_eq!((batch.records, batch.undecodable), (3, Vec::new()));
    }

    #[test]
    fn span_larger_than_the_target_is_in_a_request_of_its_own() {
        let encoder = encoder();
        let limits = Limits { bytes_target: 100, ..LIMITS };
        let records = [span("a", "1"), span("a", "2")].map(|s| encoder.record(&s));
        let batch = Batch::from_records(&records, &encoder, limits);
        assert_eq!((batch.included, batch.records), (vec![0], 1));
    }

    #[test]
    fn request_from_records_equals_request_from_spans() {
        let encoder = encoder();
        let spans = [span("a", "1"), span("b", "2"), span("a", "3")];
        let records: Vec<Bytes> = spans.iter().map(|span| encoder.record(span)).collect();
        let batch = Batch::from_records(&records, &encoder, LIMITS);
        assert_eq!(batch.request, encoder.message(&spans).encode_to_vec());
    }

    proptest! {
        #[test]
        fn batches_respect_the_limits_and_cover_every_record_in_order(
            sizes in prop::collection::vec((0_usize..5, 0_usize..3_000), 1..60),
            spans_max in 1_usize..10,
            bytes_max in 500_usize..8_000,
            bytes_target in 0_usize..8_000,
        ) {
            let encoder = encoder();
            let limits = Limits { spans_max, bytes_max, bytes_target };
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
                prop_assert!(batch.spans() <= spans_max);
                prop_assert!(batch.spans() <= 1 || batch.request.len() <= bytes_target);
                prop_assert!(batch.records > 0);
                let mut covered = [batch.included.clone(), batch.oversized.clone()].concat();
                covered.sort_unstable();
                prop_assert!(covered.into_iter().eq(0..batch.records));
                spans += batch.spans();
                oversized += batch.oversized.len();
                rest = &rest[batch.records..];
            }
            prop_assert_eq!(spans + oversized, records.len());
        }
    }
}
