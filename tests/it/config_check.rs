//! `spanlink config check` as a process: it refuses what `spanlink run` refuses, with the same text,
//! and warns about the rest.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use expect_test::{Expect, expect};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::config_file::refuses;

struct Checked {
    folder: tempfile::TempDir,
}

impl Checked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", &authority.pem());
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        write("cert.pem", &params.signed_by(&key, &authority).unwrap().pem());
        write("key.pem", &key.serialize_pem());
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command with this configuration, in which `FOLDER` is the folder of the certificates.
    fn run(&self, arguments: &[&str], otlp: &str, environment: &[(&str, &str)]) -> Output {
        let folder = self.path().display().to_string();
        let file = self.path().join("spanlink.yaml");
        fs::write(&file, format!("otlp: {}\n", otlp.replace("FOLDER", &folder))).unwrap();
        Command::new(env!("CARGO_BIN_EXE_spanlink"))
            .args(arguments)
            .arg("--config")
            .arg(&file)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value.replace("FOLDER", &folder))))
            .output()
            .unwrap()
    }

    /// The exit code and both outputs, with `FOLDER` for the folder.
    fn check(&self, otlp: &str, environment: &[(&str, &str)]) -> String {
        let output = self.run(&["config", "check"], otlp, environment);
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .unwrap()
                .replace(&*self.path().to_string_lossy(), "FOLDER")
        };
        let code = output.status.code().unwrap();
        format!("{code}\n{}{}", text(&output.stdout), text(&output.stderr))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads as a table")]
fn checks(otlp: &str, environment: &[(&str, &str)], outcome: Expect) {
    outcome.assert_eq(&Checked::new().check(otlp, environment));
}

#[test]
fn valid_configuration_is_accepted() {
    let valid = || {
        expect![[r#"
        0
        The configuration is valid.
    "#]]
    };
    checks("{}", &[], valid());
    checks("{endpoint: 'http://collector:4317', headers: {a: b}}", &[], valid());
    checks(
        "{endpoint: 'https://collector:4317', tls: {ca_file: 'FOLDER/ca.pem', cert_file: 'FOLDER/cert.pem', key_file: 'FOLDER/key.pem'}}",
        &[],
        valid(),
    );
    checks(
        "{endpoint: 'https://collector:4318/v1/traces', protocol: http/protobuf, tls: {ca_file: 'FOLDER/ca.pem'}}",
        &[],
        valid(),
    );
}

#[test]
fn endpoint_is_refused_with_its_position() {
    refuses(
        "otlp:\n  endpoint: collector:4317\n",
        expect![
            "spanlink.yaml:2:13: the endpoint has no scheme; write it as http://collector:4317, or with https:// for TLS"
        ],
    );
    refuses(
        "otlp: {endpoint: 'http://user:s3cret@collector:431700/?key=s3cret'}\n",
        expect![
            "spanlink.yaml:1:18: the port of the endpoint is not a number from 1 to 65535; write it as http://collector:4317, or with https:// for TLS"
        ],
    );
    refuses(
        "own_traces: {endpoint: 'collector:4317'}\n",
        expect![
            "spanlink.yaml:1:24: the endpoint has no scheme; write it as http://collector:4317, or with https:// for TLS"
        ],
    );
}

#[test]
fn headers_are_refused_with_their_position_and_without_their_values() {
    refuses(
        "otlp:\n  headers:\n    X Tenant: s3cret\n",
        expect![
            "spanlink.yaml:3:15: the name of a header is not valid; write letters, digits and hyphens"
        ],
    );
    refuses(
        "otlp:\n  headers:\n    X-Tenant: \"s3cret\\n\"\n",
        expect![
            "spanlink.yaml:3:15: the value of the header x-tenant is not valid; remove line breaks and other control characters"
        ],
    );
    refuses(
        "otlp:\n  headers:\n    Content-Type: application/json\n",
        expect![
            "spanlink.yaml:3:19: the header content-type is set by the protocol and cannot be configured"
        ],
    );
    refuses(
        "otlp:\n  headers:\n    x-a: s3cret\n    X-A: s3cret\n",
        expect!["spanlink.yaml:4:5: the header x-a is set twice; names have no case"],
    );
    refuses(
        "otlp: {headers: authorization=s3cret}\n",
        expect![
            "spanlink.yaml:1:17: headers are a map, as in {authorization: Bearer …}, and not a text"
        ],
    );
    refuses(
        "otlp: http://user:s3cret@collector\n",
        expect!["spanlink.yaml:1:7: invalid type: text, expected a map of options"],
    );
}

#[test]
fn half_an_identity_and_tls_without_encryption_are_refused() {
    checks(
        "{endpoint: 'https://collector:4317', tls: {cert_file: 'FOLDER/cert.pem'}}",
        &[],
        expect![[r#"
            2
            spanlink: a client certificate needs both otlp.tls.cert_file and otlp.tls.key_file: set the other one too
        "#]],
    );
    checks(
        "{endpoint: 'http://collector:4317', tls: {ca_file: 'FOLDER/ca.pem'}}",
        &[],
        expect![[r#"
            2
            spanlink: TLS is configured (option otlp.tls), but http://collector:4317 is not encrypted: use https://
        "#]],
    );
}

#[test]
fn missing_files_are_refused_by_name() {
    let checked = Checked::new();
    for protocol in ["grpc", "http/protobuf"] {
        for tls in [
            "{ca_file: 'FOLDER/missing.pem'}",
            "{cert_file: 'FOLDER/missing.pem', key_file: 'FOLDER/key.pem'}",
            "{cert_file: 'FOLDER/cert.pem', key_file: 'FOLDER/missing.pem'}",
        ] {
            let otlp = format!(
                "{{protocol: {protocol}, endpoint: 'https://collector:4318/v1/traces', tls: {tls}}}"
            );
            let outcome = checked.check(&otlp, &[]);
            assert!(outcome.starts_with('2') && outcome.contains("missing.pem"), "{outcome}");
        }
    }
}

#[test]
fn endpoint_without_a_path_and_ignored_variables_are_warned_about() {
    checks(
        "{protocol: http/protobuf, endpoint: 'http://user:s3cret@collector:4318?key=s3cret'}",
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "FOLDER/missing.pem"),
        ],
        expect![[r#"
            0
            warning: environment variable OTEL_EXPORTER_OTLP_TIMEOUT is ignored: "10s" is not a number of milliseconds; write 10000 for ten seconds
            warning: environment variable OTEL_EXPORTER_OTLP_CERTIFICATE is ignored: the endpoint is not encrypted; write https:// for TLS
            warning: the endpoint has no path, so spans are sent to http://collector:4318/; a receiver of OTLP over HTTP usually accepts traces at http://collector:4318/v1/traces
            The configuration is valid.
        "#]],
    );
    checks(
        "{protocol: http/protobuf}",
        &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318")],
        expect![[r#"
            0
            warning: the endpoint has no path, so spans are sent to http://collector:4318/; a receiver of OTLP over HTTP usually accepts traces at http://collector:4318/v1/traces
            The configuration is valid.
        "#]],
    );
}

#[test]
fn run_refuses_with_the_same_text_before_it_looks_for_a_cluster() {
    let checked = Checked::new();
    let mistakes = [
        ("{endpoint: 'collector:4317'}", ("A", "")),
        ("{endpoint: 'https://collector:4317', tls: {ca_file: 'FOLDER/missing.pem'}}", ("A", "")),
        ("{endpoint: 'https://collector:4317', tls: {key_file: 'FOLDER/key.pem'}}", ("A", "")),
        ("{endpoint: 'http://collector:4317', tls: {ca_file: 'FOLDER/ca.pem'}}", ("A", "")),
        ("{}", ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector")),
        ("{}", ("SPANLINK_OTLP__PROTOCOL", "http/json")),
    ];
    for (otlp, variable) in mistakes {
        let check = checked.run(&["config", "check"], otlp, &[variable]);
        let run = checked.run(&["run", "--kubeconfig", "/missing"], otlp, &[variable]);
        assert_eq!(check.stderr, run.stderr, "{otlp}: {run:?}");
        assert_eq!((check.status.code(), run.status.code()), (Some(2), Some(2)), "{otlp}");
    }
}
