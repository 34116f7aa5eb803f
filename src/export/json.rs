//! Formats spans as OTLP/JSON, one request per line, like the collector's file exporter.
//!
//! <https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>

use serde_json::Value;

use super::encode::Encoder;
use crate::trace::model::span::Span;

/// Formats an `ExportTraceServiceRequest` as one line, without the line feed.
pub fn line(spans: &[Span], encoder: &Encoder) -> String {
    let mut request = serde_json::to_value(encoder.message(spans))
        .expect("a message has strings, numbers and lists only");
    remove_defaults(&mut request);
    request.to_string()
}

/// Fields that are left out at their default value, as protobuf's JSON mapping does. The values of
/// attributes are not affected: they are below `value`, which is never searched.
const OPTIONAL_FIELDS: [&str; 15] = [
    "attributes",
    "code",
    "droppedAttributesCount",
    "droppedEventsCount",
    "droppedLinksCount",
    "entityRefs",
    "events",
    "flags",
    "links",
    "message",
    "parentSpanId",
    "schemaUrl",
    "status",
    "traceState",
    "version",
];

fn remove_defaults(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                !(OPTIONAL_FIELDS.contains(&name.as_str()) && is_default(value))
            });
            fields.iter_mut().filter(|(name, _)| *name != "value").for_each(|(_, value)| {
                remove_defaults(value);
            });
        }
        Value::Array(items) => items.iter_mut().for_each(remove_defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    use super::*;
    use crate::export::samples::{encoder, full_span, int, span, text};

    #[test]
    fn request_is_one_line_with_hexadecimal_ids_and_integers_as_strings() {
        let line = line(&[full_span()], &encoder());
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        expect_file!["full_span.json"].assert_eq(&serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn attribute_keeps_an_empty_value() {
        let mut span = span("s", "n");
        span.attributes = vec![text("message", ""), int("code", 0)];
        let line = line(&[span], &encoder());
        assert!(line.contains(r#"{"key":"message","value":{"stringValue":""}}"#), "{line}");
        assert!(line.contains(r#"{"key":"code","value":{"intValue":"0"}}"#), "{line}");
    }

    #[test]
    fn line_parses_back_to_the_same_request() {
        let spans = [full_span(), span("job-controller", "create Job")];
        let request: ExportTraceServiceRequest =
            serde_json::from_str(&line(&spans, &encoder())).unwrap();
        assert_eq!(request, encoder().message(&spans));
    }
}
