//! Tests of OpenTelemetry's environment variables: how the specification reads their values, and the
//! warnings about those that are ignored.

use std::{fs, time::Duration};

use expect_test::{Expect, expect};
use spanlink::config::settings::{Compression, ExportSettings, Protocol, Settings};

use crate::config_environment::variables;

const YEAR: Duration = Duration::from_hours(24 * 366);

fn load(file: &str, pairs: &[(&str, &str)]) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, file).unwrap();
    Settings::load(Some(&path), variables(pairs)).unwrap()
}

/// The settings that follow from variables that are all right.
fn export(pairs: &[(&str, &str)]) -> ExportSettings {
    let settings = load("", pairs);
    assert_eq!(settings.ignored_variables, [""; 0]);
    settings.export
}

fn is_ignored(variable: &str, value: &str, warning: &Expect) {
    let settings = load("", &[(variable, value)]);
    warning.assert_eq(&settings.ignored_variables.join("\n"));
    assert_eq!(settings.export, load("", &[]).export, "{variable}={value}");
}

#[test]
fn values_of_enumerations_have_no_case() {
    for (text, protocol) in [
        ("GRPC", Protocol::Grpc),
        ("HTTP/Protobuf", Protocol::HttpProtobuf),
        (" grpc ", Protocol::Grpc),
    ] {
        assert_eq!(export(&[("OTEL_EXPORTER_OTLP_PROTOCOL", text)]).protocol, protocol);
    }
    for (text, compression) in [("GZip", Compression::Gzip), ("NONE", Compression::None)] {
        assert_eq!(export(&[("OTEL_EXPORTER_OTLP_COMPRESSION", text)]).compression, compression);
    }
}

#[test]
fn timeout_of_zero_is_no_limit_and_a_long_one_does_not_overflow() {
    let timeout = |text| export(&[("OTEL_EXPORTER_OTLP_TIMEOUT", text)]).timeout;
    assert_eq!(timeout("1"), Duration::from_millis(1));
    assert_eq!(timeout("0"), YEAR);
    assert_eq!(timeout("9223372036854775807"), YEAR);
    assert_eq!(timeout("18446744073709551615"), YEAR);
    assert_eq!(load("otlp: {timeout: 0}\n", &[]).export.timeout, YEAR);
    assert_eq!(load("otlp: {timeout: 0s}\n", &[]).export.timeout, YEAR);
}

#[test]
fn empty_variable_counts_as_unset() {
    let names = [
        "ENDPOINT",
        "PROTOCOL",
        "HEADERS",
        "TIMEOUT",
        "COMPRESSION",
        "INSECURE",
        "CERTIFICATE",
        "CLIENT_CERTIFICATE",
        "CLIENT_KEY",
    ];
    let names: Vec<String> = names
        .iter()
        .flat_map(|name| {
            [format!("OTEL_EXPORTER_OTLP_{name}"), format!("OTEL_EXPORTER_OTLP_TRACES_{name}")]
        })
        .chain(["OTEL_RESOURCE_ATTRIBUTES".to_owned()])
        .collect();
    for value in ["", " "] {
        let set: Vec<(&str, &str)> = names.iter().map(|name| (&**name, value)).collect();
        assert_eq!(export(&set), load("", &[]).export);
    }
    let general = export(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
    ]);
    assert_eq!(general.endpoint, "http://all:4317");
}

#[test]
fn variable_for_traces_replaces_the_one_for_all_signals() {
    let settings = export(&[
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "b=2"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "5"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "6"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ]);
    assert_eq!(settings.endpoint, "http://localhost:4318/v1/traces");
    assert_eq!(settings.headers, [("a".to_owned(), "1".to_owned())].into());
    assert_eq!(settings.timeout, Duration::from_millis(5));
    assert_eq!(settings.compression, Compression::None);
}

#[test]
fn malformed_variable_for_traces_counts_as_unset_so_the_one_for_all_signals_applies() {
    let settings = load(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ],
    );
    assert_eq!(settings.export.timeout, Duration::from_secs(2));
    assert_eq!(settings.export.protocol, Protocol::HttpProtobuf);
    expect![[r#"
        environment variable OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is ignored: unsupported protocol "http/json"; use grpc or http/protobuf
        environment variable OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is ignored: "10s" is not a number of milliseconds; write 10000 for ten seconds"#]]
    .assert_eq(&settings.ignored_variables.join("\n"));
}

#[test]
fn malformed_variables_are_ignored_with_a_warning() {
    is_ignored(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/json",
        &expect![[
            r#"environment variable OTEL_EXPORTER_OTLP_PROTOCOL is ignored: unsupported protocol "http/json"; use grpc or http/protobuf"#
        ]],
    );
    is_ignored(
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "zstd",
        &expect![[
            r#"environment variable OTEL_EXPORTER_OTLP_COMPRESSION is ignored: unsupported compression "zstd"; use gzip or none"#
        ]],
    );
    for value in ["-1", "+5", "1e4", "10.5", "18446744073709551616"] {
        let settings = load("", &[("OTEL_EXPORTER_OTLP_TIMEOUT", value)]);
        assert_eq!(settings.export.timeout, Duration::from_secs(10));
        assert!(settings.ignored_variables[0].contains(value), "{value}");
    }
    is_ignored(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer s3cret%",
        &expect![
            "environment variable OTEL_EXPORTER_OTLP_HEADERS is ignored: pair 1 has a % without two hexadecimal digits; write % as %25"
        ],
    );
    is_ignored(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "a=1,Bearer s3cret",
        &expect![
            "environment variable OTEL_EXPORTER_OTLP_HEADERS is ignored: pair 2 is not key=value"
        ],
    );
    is_ignored(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "x tenant=s3cret",
        &expect![
            "environment variable OTEL_EXPORTER_OTLP_HEADERS is ignored: the name of a header is not valid; write letters, digits and hyphens"
        ],
    );
    is_ignored(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "x-tenant=s3cret%0a",
        &expect![
            "environment variable OTEL_EXPORTER_OTLP_HEADERS is ignored: the value of the header x-tenant is not valid; remove line breaks and other control characters"
        ],
    );
    is_ignored(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "x-bin=1",
        &expect![
            "environment variable OTEL_EXPORTER_OTLP_HEADERS is ignored: the header x-bin would have a binary value over gRPC"
        ],
    );
    is_ignored(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "x=\u{fffd}",
        &expect![
            "environment variable OTEL_EXPORTER_OTLP_HEADERS is ignored: the value is not valid UTF-8; unset the variable or correct it"
        ],
    );
}

#[test]
fn malformed_resource_attributes_are_ignored_as_a_whole() {
    for (value, problem) in [
        ("team=infra,oops", "pair 2 is not key=value"),
        ("team=infra,=x", "pair 2 is not key=value"),
        ("team=in%zzfra", "pair 1 has a % without two hexadecimal digits; write % as %25"),
        ("team=infra,a=100%", "pair 2 has a % without two hexadecimal digits; write % as %25"),
        ("team=infra,a=%ff", "pair 2 is not UTF-8 once it is decoded"),
        ("te%4=infra", "pair 1 has a % without two hexadecimal digits; write % as %25"),
    ] {
        let settings = load("", &[("OTEL_RESOURCE_ATTRIBUTES", value)]);
        assert_eq!(settings.export.resource, [].into(), "{value}");
        let warning =
            format!("environment variable OTEL_RESOURCE_ATTRIBUTES is ignored: {problem}");
        assert_eq!(settings.warnings(), [warning]);
    }
    let value = " team = in%66ra , a%2Cb=c%3Dd%C3%A4 ,, e= , f=g=h, f=i ,";
    let resource = export(&[("OTEL_RESOURCE_ATTRIBUTES", value)]).resource;
    let expected = [("a,b", "c=dä"), ("e", ""), ("f", "i"), ("team", "infra")];
    assert!(resource.iter().map(|(key, value)| (&**key, &**value)).eq(expected), "{resource:?}");
}

#[test]
fn header_of_the_environment_replaces_the_one_of_the_file_in_any_case() {
    let file = "otlp: {headers: {X-Scope-OrgID: file, b: file}}\n";
    let settings =
        load(file, &[("OTEL_EXPORTER_OTLP_HEADERS", "x-scope-orgid=environment,C=%20d")]);
    let headers = |settings: &Settings| {
        let headers = settings.export.headers.iter();
        headers.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(headers(&settings), "b=file c= d x-scope-orgid=environment");
    let settings = load(file, &[("OTEL_EXPORTER_OTLP_HEADERS", "X-SCOPE-ORGID=environment")]);
    assert_eq!(headers(&settings), "b=file x-scope-orgid=environment");
    let file = "otlp: {headers: {Authorization: file}}\n";
    let settings = load(file, &[("SPANLINK_OTLP__HEADERS__AUTHORIZATION", "environment")]);
    assert_eq!(headers(&settings), "authorization=environment");
}

#[test]
fn header_that_the_protocol_sets_is_ignored_without_the_others() {
    let value = "Content-Type=application/json,authorization=Bearer x,grpc-timeout=1S";
    let settings = load("", &[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", value)]);
    let expected = ("authorization".to_owned(), "Bearer x".to_owned());
    assert_eq!(settings.export.headers, [expected].into());
    expect![[r#"
        environment variable OTEL_EXPORTER_OTLP_TRACES_HEADERS: the header content-type is set by the protocol and cannot be configured
        environment variable OTEL_EXPORTER_OTLP_TRACES_HEADERS: the header grpc-timeout is set by the protocol and cannot be configured"#]]
    .assert_eq(&settings.ignored_variables.join("\n"));
}

#[test]
fn insecure_decides_about_grpc_endpoints_without_a_scheme() {
    let endpoint = |endpoint: &str, insecure: &str| {
        export(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_INSECURE", insecure),
        ])
        .endpoint
    };
    assert_eq!(endpoint("collector:4317", ""), "https://collector:4317");
    assert_eq!(endpoint("collector:4317", "false"), "https://collector:4317");
    assert_eq!(endpoint("collector:4317", "TRUE"), "http://collector:4317");
    assert_eq!(endpoint("http://collector:4317", "false"), "http://collector:4317");
    assert_eq!(endpoint("https://collector:4317", "true"), "https://collector:4317");
    let settings = load(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
        ],
    );
    assert_eq!(settings.export.endpoint, "https://collector:4317");
    expect![[r#"environment variable OTEL_EXPORTER_OTLP_INSECURE is ignored: "yes" is neither true nor false"#]]
        .assert_eq(&settings.ignored_variables.join("\n"));
    let of_traces = export(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
    ]);
    assert_eq!(of_traces.endpoint, "http://collector:4317");
}

#[test]
fn endpoint_that_cannot_be_parsed_is_refused() {
    for (protocol, endpoint) in [
        ("http/protobuf", "collector:4318"),
        ("http/protobuf", "ftp://collector:4318"),
        ("http/protobuf", "http://"),
        ("grpc", "unix:/run/otlp.sock"),
        ("grpc", "dns:///collector:4317"),
        ("grpc", "collector:70000"),
        ("grpc", "a collector"),
        ("grpc", "http://collector\u{fffd}:4317"),
    ] {
        let set = variables(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ]);
        let refusal = Settings::load(None, set).unwrap_err().to_string();
        assert!(
            refusal.starts_with("environment variable OTEL_EXPORTER_OTLP_ENDPOINT: "),
            "{refusal}"
        );
    }
}

#[test]
fn protocol_of_the_environment_chooses_the_default_endpoint_only_where_none_is_set() {
    let protocol = &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    assert_eq!(export(protocol).endpoint, "http://localhost:4318/v1/traces");
    let settings = load("otlp: {endpoint: \"http://localhost:4317\"}\n", protocol);
    assert_eq!(settings.export.endpoint, "http://localhost:4317");
}

#[test]
fn certificates_are_ignored_beside_an_endpoint_without_encryption() {
    let settings = load(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/cert.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ],
    );
    assert_eq!(settings.export.tls, load("", &[]).export.tls);
    expect![[r#"
        environment variable OTEL_EXPORTER_OTLP_CERTIFICATE is ignored: the endpoint is not encrypted; write https:// for TLS
        environment variable OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE is ignored: the endpoint is not encrypted; write https:// for TLS
        environment variable OTEL_EXPORTER_OTLP_CLIENT_KEY is ignored: the endpoint is not encrypted; write https:// for TLS"#]]
    .assert_eq(&settings.ignored_variables.join("\n"));
}

#[test]
fn certificate_without_its_key_is_ignored_unless_the_file_has_the_key() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317");
    let cert = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/cert.pem");
    let settings = load("", &[endpoint, cert]);
    assert_eq!(settings.export.tls.cert_file, None);
    expect!["environment variable OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is ignored: the key of the certificate is not set"]
        .assert_eq(&settings.ignored_variables.join("\n"));
    let settings = load("", &[endpoint, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem")]);
    assert_eq!(settings.export.tls.key_file, None);
    expect!["environment variable OTEL_EXPORTER_OTLP_CLIENT_KEY is ignored: the certificate of the key is not set"]
        .assert_eq(&settings.ignored_variables.join("\n"));
    let settings = load("otlp: {tls: {key_file: /key.pem}}\n", &[endpoint, cert]);
    assert_eq!(settings.ignored_variables, [""; 0]);
    assert!(settings.export.tls.cert_file.is_some() && settings.export.tls.key_file.is_some());
}
