//! OTLP over TLS: authorities, client certificates, names, and what to say when they do not fit.

use std::{fs, path::PathBuf};

use expect_test::{Expect, expect};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use spanlink::{
    config::settings::{ExportSettings, Protocol},
    export::{client::Client, retry::Answer},
};
use tempfile::TempDir;

use crate::{
    export_support::{send_once, settings, silence},
    scripted_receiver::{Receiver, ServerTls},
};

/// An authority, a server's certificate for two names, and a client's, as files and as texts.
pub(crate) struct Certificates {
    folder: TempDir,
    pub(crate) server: ServerTls,
    ca: String,
}

impl Certificates {
    pub(crate) fn make(names: &[&str]) -> Self {
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

    fn server_that_wants_to_know_its_clients(&self) -> ServerTls {
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

const ACCEPTED: Answer = Answer::Accepted { rejected: 0 };

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted() {
    let certificates = Certificates::make(&["127.0.0.1"]);
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(certificates.server.clone())).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(certificates.path("ca"));
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let certificates = Certificates::make(&["127.0.0.1"]);
    for protocol in BOTH {
        let tls = certificates.server_that_wants_to_know_its_clients();
        let receiver = receiver(protocol, Some(tls)).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(certificates.path("ca"));
        settings.tls.cert_file = Some(certificates.path("cert"));
        settings.tls.key_file = Some(certificates.path("key"));
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
}

#[tokio::test]
async fn another_name_is_expected_where_one_is_given() {
    let certificates = Certificates::make(&["collector.test"]);
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(certificates.server.clone())).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(certificates.path("ca"));
        settings.tls.server_name = Some("collector.test".to_owned());
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
}

async fn check_silence(
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
        lines.push(silence(send_once(&settings).await, receiver.address));
    }
    expected.assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_certificate_nobody_trusts_is_said_so() {
    let certificates = Certificates::make(&["127.0.0.1"]);
    let other = Certificates::make(&["127.0.0.1"]);
    let change = |settings: &mut ExportSettings| settings.tls.ca_file = Some(other.path("ca"));
    check_silence(Some(certificates.server.clone()), change, "https", expect![[r#"
        the certificate of https://127.0.0.1:PORT is not trusted (BadSignature): does its authority have to be named (tls.ca_file), or the name in it (tls.server_name)?
        the certificate of https://127.0.0.1:PORT is not trusted (BadSignature): does its authority have to be named (tls.ca_file), or the name in it (tls.server_name)?"#]]).await;
}

#[tokio::test]
async fn a_certificate_of_another_name_is_said_so() {
    let certificates = Certificates::make(&["collector.test"]);
    let change =
        |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
    check_silence(Some(certificates.server.clone()), change, "https", expect![[r#"
        the certificate of https://127.0.0.1:PORT is not trusted (certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("collector.test")): does its authority have to be named (tls.ca_file), or the name in it (tls.server_name)?
        the certificate of https://127.0.0.1:PORT is not trusted (certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("collector.test")): does its authority have to be named (tls.ca_file), or the name in it (tls.server_name)?"#]]).await;
}

/// Where it is a race what the client gets to know first: the hint is the same.
async fn check_hint(
    tls: ServerTls,
    settings_of: impl Fn(&mut ExportSettings),
    scheme: &str,
    hint: &str,
) {
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(tls.clone())).await;
        let mut settings = endpoint(protocol, scheme, &receiver);
        settings_of(&mut settings);
        let why = silence(send_once(&settings).await, receiver.address);
        assert!(why.contains(hint), "{protocol:?}: {why}");
    }
}

#[tokio::test]
async fn a_missing_client_certificate_is_said_so() {
    let certificates = Certificates::make(&["127.0.0.1"]);
    let ca = |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
    let tls = certificates.server_that_wants_to_know_its_clients();
    check_hint(tls, ca, "https", "does it want a client certificate").await;
}

#[tokio::test]
async fn https_to_a_receiver_without_tls_is_said_so() {
    let certificates = Certificates::make(&["127.0.0.1"]);
    let change =
        |settings: &mut ExportSettings| settings.tls.ca_file = Some(certificates.path("ca"));
    check_silence(
        None,
        change,
        "https",
        expect![[r#"
        what listens at https://127.0.0.1:PORT does not speak TLS: should it be http://?
        what listens at https://127.0.0.1:PORT does not speak TLS: should it be http://?"#]],
    )
    .await;
}

#[tokio::test]
async fn http_to_a_receiver_with_tls_is_said_so() {
    let certificates = Certificates::make(&["127.0.0.1"]);
    check_hint(certificates.server, |_| (), "http", "does it want TLS (https://)").await;
}

#[tokio::test]
async fn tls_settings_that_cannot_be_followed_are_refused_at_the_start() {
    let certificates = Certificates::make(&["127.0.0.1"]);
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
            "TLS is configured, but http://collector:4317 is not encrypted: should it be https://?"
        );
        assert_eq!(error(&gone, "https"), "reading FOLDER/gone");
        assert_eq!(
            error(&half, "https"),
            "a client certificate takes both tls.cert_file and tls.key_file"
        );
    }
}
