//! Tests of the configuration by environment variables: what they replace, and how mistakes are refused.

use std::{fs, time::Duration};

use expect_test::expect;
use spanlink::config::settings::{Protocol, Settings};

pub(crate) fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn environment_replaces_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, "settle: 3s\notlp: {endpoint: \"http://file:4317\"}\n").unwrap();
    let set = variables(&[
        ("SPANLINK_SETTLE", "4s"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318/"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,y=1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=infra"),
    ]);
    let settings = Settings::load(Some(&path), set).unwrap();
    assert_eq!(settings.trace.settle, Duration::from_secs(4));
    assert_eq!(settings.export.endpoint, "http://env:4318/v1/traces");
    assert_eq!(settings.export.protocol, Protocol::HttpProtobuf);
    assert_eq!(settings.export.headers["x-tenant"], "a b");
    assert_eq!(settings.export.timeout, Duration::from_millis(2500));
    assert_eq!(settings.export.resource["team"], "infra");
}

#[test]
pub(crate) fn variables_of_services_named_spanlink_are_ignored() {
    let set = variables(&[
        ("SPANLINK_SERVICE_HOST", "10.0.0.1"),
        ("SPANLINK_SERVICE_PORT", "9464"),
        ("SPANLINK_SERVICE_PORT_ADMIN", "9464"),
        ("SPANLINK_PORT", "tcp://10.0.0.1:9464"),
        ("SPANLINK_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("SPANLINK_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("SPANLINK_OF_TEAM_A_SERVICE_HOST", "10.0.0.2"),
        ("SPANLINK_OF_TEAM_A_PORT_80_TCP_PROTO", "tcp"),
        ("SPANLINK_SETTLE", "4s"),
        ("SPANLINK_OTLP__HEADERS__X_PORT", "1"),
    ]);
    let settings = Settings::load(None, set).unwrap();
    assert_eq!(settings.trace.settle, Duration::from_secs(4));
    assert_eq!(settings.export.headers["x_port"], "1");
    let unknown = variables(&[("SPANLINK_SERVICE", "x")]);
    assert!(Settings::load(None, unknown).is_err());
}

#[test]
fn endpoint_for_traces_is_used_unchanged() {
    let set = variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318/here"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ]);
    assert_eq!(Settings::load(None, set).unwrap().export.endpoint, "http://traces:4318/here");
}

#[test]
fn mistakes_in_the_environment_are_refused_with_the_variable() {
    for (variable, value, message) in [
        (
            "SPANLINK_SETTLE",
            "soon",
            expect![[
                r#"environment variable SPANLINK_SETTLE: "soon" is not a valid duration; write 500ms, 2s, 15m or 24h"#
            ]],
        ),
        (
            "SPANLINK_OTLP__ENDPIONT",
            "http://x",
            expect![[
                r#"environment variable SPANLINK_OTLP__ENDPIONT: unknown option "endpiont"; did you mean "endpoint"?"#
            ]],
        ),
        (
            "SPANLINK_OTLP",
            "grpc",
            expect![[
                r#"environment variable SPANLINK_OTLP: invalid type: text, expected a map of options"#
            ]],
        ),
        (
            "SPANLINK_OUTBOX__SPANS_MAX",
            "-1",
            expect![[
                r#"environment variable SPANLINK_OUTBOX__SPANS_MAX: "-1" is not a whole number that is not negative"#
            ]],
        ),
        (
            "SPANLINK_OTLP__HEADERS",
            "authorization=s3cret",
            expect![[
                r#"environment variable SPANLINK_OTLP__HEADERS: headers are a map, as in {authorization: Bearer …}, and not a text"#
            ]],
        ),
        (
            "SPANLINK_OTLP__ENDPOINT",
            "collector:4317",
            expect![[
                r#"environment variable SPANLINK_OTLP__ENDPOINT: the endpoint has no scheme; write it as http://collector:4317, or with https:// for TLS"#
            ]],
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "htp://user:s3cret@h/v1/traces?api-key=abc",
            expect![[
                r#"environment variable OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: the scheme of the endpoint is neither http nor https; write it as http://collector:4317, or with https:// for TLS"#
            ]],
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://user:s3cret@collector:port",
            expect![[
                r#"environment variable OTEL_EXPORTER_OTLP_ENDPOINT: the port of the endpoint is not a number from 1 to 65535; write it as http://collector:4317, or with https:// for TLS"#
            ]],
        ),
    ] {
        let error = Settings::load(None, variables(&[(variable, value)])).unwrap_err();
        message.assert_eq(&error.to_string());
    }
}

#[test]
fn environment_is_named_where_it_replaces_a_valid_option_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, "otlp:\n  timeout: 3s\n  compression: gzip\n").unwrap();
    let set = variables(&[("SPANLINK_OTLP__TIMEOUT", "soon")]);
    expect![[r#"environment variable SPANLINK_OTLP__TIMEOUT: "soon" is not a valid duration; write 500ms, 2s, 15m or 24h"#]].assert_eq(&Settings::load(Some(&path), set).unwrap_err().to_string());
    let set = variables(&[("SPANLINK_OTLP__TIMEOUT", "4s")]);
    let export = Settings::load(Some(&path), set).unwrap().export;
    assert_eq!(export.timeout, Duration::from_secs(4));
    assert_eq!(export.compression, spanlink::config::settings::Compression::Gzip);
}
