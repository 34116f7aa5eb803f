//! OTLP over TLS: authorities, client certificates, names, and the reasons when they do not match.

use std::{fs, path::PathBuf};

use expect_test::{Expect, expect};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use spanlink::{
    config::settings::{ExportSettings, Protocol},
    export::{
        client::Client,
        response::{Acceptance, Response},
    },
};
use tempfile::TempDir;

use crate::{
    export_support::{missing_reason, send_once, settings},
    scripted_receiver::{Receiver, ServerTls},
};

/// An authority, and a server's and a client's certificate from it, as files and as PEM.
pub(crate) struct Certificates {
    folder: TempDir,
    pub(crate) server: ServerTls,
    ca: String,
}

impl Certificates {
    pub(crate) fn generate(names: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let signed = |names: &[&str], usage| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let (cert, key) = signed(names, ExtendedKeyUsagePurpose::ServerAuth);
        let (client_cert, client_key) = signed(&["client"], ExtendedKeyUsagePurpose::ClientAuth);
        let folder = TempDir::new().unwrap();
        for (file, text) in [("ca", &ca), ("cert", &client_cert), ("key", &client_key)] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        Self { folder, server: ServerTls { cert, key, client_ca: None }, ca }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn server_that_requires_client_certificates(&self) -> ServerTls {
        ServerTls { client_ca: Some(self.ca.clone()), ..self.server.clone() }
    }
}

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

async fn receiver(protocol: Protocol, tls: Option<ServerTls>) -> Receiver {
    match protocol {
        Protocol::Grpc => Receiver::grpc([], tls).await,
        Protocol::HttpProtobuf => Receiver::http([], tls).await,
    }
}

fn endpoint(protocol: Protocol, scheme: &str, receiver: &Receiver) -> ExportSettings {
    let path = if protocol == Protocol::HttpProtobuf { "/v1/traces" } else { "" };
    settings(protocol, format!("{scheme}://{}{path}", receiver.address))
}

const ACCEPTED: Response =
    Response::Accepted(Acceptance { rejected: 0, message: None, foreign: None });

#[tokio::test]
async fn configured_authority_is_trusted() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(certificates.server.clone())).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(certificates.path("ca"));
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
}

#[tokio::test]
async fn client_certificate_is_sent() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    for protocol in BOTH {
        let tls = certificates.server_that_requires_client_certificates();
        let receiver = receiver(protocol, Some(tls)).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(certificates.path("ca"));
        settings.tls.cert_file = Some(certificates.path("cert"));
        settings.tls.key_file = Some(certificates.path("key"));
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
}

#[tokio::test]
async fn configured_server_name_is_expected_in_the_certificate() {
    let certificates = Certificates::generate(&["collector.test"]);
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(certificates.server.clone())).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(certificates.path("ca"));
        settings.tls.server_name = Some("collector.test".to_owned());
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
}

async fn check_reason(
    tls: Option<ServerTls>,
    change: impl Fn(&mut ExportSettings),
    scheme: &str,
    expected: Expect,
) {
    let mut lines = Vec::new();
    for protocol in BOTH {
        let receiver = receiver(protocol, tls.clone()).await;
        let mut settings = endpoint(protocol, scheme, &receiver);
        change(&mut settings);
        lines.push(missing_reason(send_once(&settings).await, receiver.address));
    }
    expected.assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn untrusted_certificate_is_named_in_the_reason() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    let other = Certificates::generate(&["127.0.0.1"]);
    let change = |settings: &mut ExportSettings| settings.tls.ca_file = Some(other.path("ca"));
    check_reason(Some(certificates.server.clone()), change, "https", expect![[r#"
        the certificate of https://127.0.0.1:PORT is not trusted (BadSignature): tls.ca_file should have the certificate of the authority that issued it
        the certificate of https://127.0.0.1:PORT is not trusted (BadSignature): tls.ca_file should have the certificate of the authority that issued it"#]]).await;
}

#[tokio::test]
async fn certificate_of_another_name_is_named_in_the_reason() {
    let certificates = Certificates::generate(&["collector.test"]);
    let change =
        |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
    check_reason(Some(certificates.server.clone()), change, "https", expect![[r#"
        the certificate of https://127.0.0.1:PORT is not trusted (certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("collector.test")): is the host of the endpoint right? If it is, set tls.server_name to a name that the certificate has
        the certificate of https://127.0.0.1:PORT is not trusted (certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("collector.test")): is the host of the endpoint right? If it is, set tls.server_name to a name that the certificate has"#]]).await;
}

/// Checks a part of the reason: which error the client receives first is a race, the hint is the same.
async fn check_hint(
    tls: ServerTls,
    configure: impl Fn(&mut ExportSettings),
    scheme: &str,
    hint: &str,
) {
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(tls.clone())).await;
        let mut settings = endpoint(protocol, scheme, &receiver);
        configure(&mut settings);
        let reason = missing_reason(send_once(&settings).await, receiver.address);
        assert!(reason.contains(hint), "{protocol:?}: {reason}");
    }
}

#[tokio::test]
async fn missing_client_certificate_is_suggested_in_the_reason() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    let ca = |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
    let tls = certificates.server_that_requires_client_certificates();
    check_hint(tls, ca, "https", "does it require a client certificate").await;
}

#[tokio::test]
async fn https_to_a_receiver_without_tls_suggests_http() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    let change =
        |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
    check_reason(
        None,
        change,
        "https",
        expect![[r#"
            the server at https://127.0.0.1:PORT does not use TLS: should the endpoint be http://?
            the server at https://127.0.0.1:PORT does not use TLS: should the endpoint be http://?"#]],
    )
    .await;
}

#[tokio::test]
async fn http_to_a_receiver_with_tls_suggests_https() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    check_hint(certificates.server, |_| (), "http", "does it require TLS (https://)").await;
}

#[tokio::test]
async fn invalid_tls_settings_are_rejected_at_the_start() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    for protocol in BOTH {
        let error = |change: &dyn Fn(&mut ExportSettings), scheme: &str| {
            let mut settings = settings(protocol, format!("{scheme}://collector:4317"));
            change(&mut settings);
            let text = Client::new(&settings).unwrap_err().to_string();
            text.replace(certificates.folder.path().to_str().unwrap(), "FOLDER")
        };
        let ca =
            |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
        let gone =
            |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("gone"));
        let half = |settings: &mut ExportSettings| {
            settings.tls.cert_file = Some(certificates.path("cert"));
        };
        assert_eq!(
            error(&ca, "http"),
            "TLS is configured (option otlp.tls), but http://collector:4317 is not encrypted: use https://"
        );
        assert_eq!(error(&gone, "https"), "cannot read FOLDER/gone (option otlp.tls.ca_file)");
        assert_eq!(
            error(&half, "https"),
            "a client certificate needs both otlp.tls.cert_file and otlp.tls.key_file: set the other one too"
        );
    }
}
