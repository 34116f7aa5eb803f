//! OTLP over TLS: authorities, client certificates, names, and the reasons when they do not match.

use std::{fs, path::PathBuf};

use expect_test::{Expect, expect};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
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

    pub(crate) fn server_that_requires_client_certificates(&self) -> ServerTls {
        ServerTls { client_ca: Some(self.ca.clone()), ..self.server.clone() }
    }
}

pub(crate) const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

pub(crate) async fn receiver(protocol: Protocol, tls: Option<ServerTls>) -> Receiver {
    match protocol {
        Protocol::Grpc => Receiver::grpc([], tls).await,
        Protocol::HttpProtobuf => Receiver::http([], tls).await,
    }
}

pub(crate) fn endpoint(protocol: Protocol, scheme: &str, receiver: &Receiver) -> ExportSettings {
    let path = if protocol == Protocol::HttpProtobuf { "/v1/traces" } else { "" };
    settings(protocol, format!("{scheme}://{}{path}", receiver.address))
}

pub(crate) const ACCEPTED: Response =
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

#[tokio::test]
async fn unusable_tls_files_are_refused_by_name_with_what_would_be_right() {
    let certificates = Certificates::generate(&["127.0.0.1"]);
    let read = |name: &str| fs::read_to_string(certificates.path(name)).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(certificates.path(name), bytes).unwrap();
    let cert = CertificateDer::from_pem_slice(read("cert").as_bytes()).unwrap();
    write("empty", b" \n");
    write("der", &cert);
    write("garbage", b"hello\n");
    let block = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    write("partly-broken", format!("{}{block}", read("ca")).as_bytes());
    write("cut", &read("cert").as_bytes()[..100]);
    write(
        "encrypted",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    write("version-1", VERSION_1.as_bytes());
    write("other-key", KeyPair::generate().unwrap().serialize_pem().as_bytes());
    let mut lines = Vec::new();
    for (ca, cert, key) in [
        ("empty", "cert", "key"),
        ("der", "cert", "key"),
        ("garbage", "cert", "key"),
        ("partly-broken", "cert", "key"),
        ("cut", "cert", "key"),
        ("key", "cert", "key"),
        ("ca", "empty", "key"),
        ("ca", "version-1", "key"),
        ("ca", "key", "key"),
        ("ca", "cert", "empty"),
        ("ca", "cert", "der"),
        ("ca", "cert", "cert"),
        ("ca", "cert", "encrypted"),
        ("ca", "cert", "other-key"),
    ] {
        let errors = BOTH.map(|protocol| {
            let mut settings = settings(protocol, "https://collector".to_owned());
            settings.tls.ca_file = Some(certificates.path(ca));
            settings.tls.cert_file = Some(certificates.path(cert));
            settings.tls.key_file = Some(certificates.path(key));
            let error = Client::new(&settings).unwrap_err().to_string();
            error.replace(certificates.folder.path().to_str().unwrap(), "FOLDER")
        });
        assert_eq!(errors[0], errors[1]);
        lines.push(errors[0].clone());
    }
    expect![[r#"
        cannot use FOLDER/empty (option otlp.tls.ca_file): the file is empty; it should have a certificate in PEM
        cannot use FOLDER/der (option otlp.tls.ca_file): it is in DER, not in PEM; convert it: openssl x509 -inform der -in FILE -out out.pem
        cannot use FOLDER/garbage (option otlp.tls.ca_file): it has no certificate in PEM (-----BEGIN …-----)
        cannot use FOLDER/partly-broken (option otlp.tls.ca_file): certificate 2 in it is damaged (TrailingData(SignedData)); write the file again
        cannot use FOLDER/cut (option otlp.tls.ca_file): a block of PEM in it has no end (-----END …-----); write the file again
        cannot use FOLDER/key (option otlp.tls.ca_file): it has no certificate in PEM (-----BEGIN …-----)
        cannot use FOLDER/empty (option otlp.tls.cert_file): the file is empty; it should have a certificate in PEM
        cannot use FOLDER/version-1 (option otlp.tls.cert_file): certificate 1 in it has X.509 version 1, and TLS needs version 3; issue it again with an extension: openssl x509 -req -extfile <(echo extendedKeyUsage=clientAuth) …
        cannot use FOLDER/key (option otlp.tls.cert_file): it has no certificate in PEM (-----BEGIN …-----)
        cannot use FOLDER/empty (option otlp.tls.key_file): the file is empty; it should have a private key in PEM
        cannot use FOLDER/der (option otlp.tls.key_file): it is in DER, not in PEM; convert it: openssl pkey -inform der -in FILE -out out.pem
        cannot use FOLDER/cert (option otlp.tls.key_file): it has a certificate and no private key; name the file of the key
        cannot use FOLDER/encrypted (option otlp.tls.key_file): the key is encrypted; decrypt it: openssl pkey -in FILE -out key.pem
        cannot use FOLDER/other-key (option otlp.tls.key_file): it is not the key of the certificate in FOLDER/cert (otlp.tls.cert_file)"#]].assert_eq(&lines.join("\n"));
}

/// A self-signed certificate for 127.0.0.1, as its own authority.
fn self_signed(change: impl Fn(&mut CertificateParams)) -> (TempDir, ServerTls) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap().pem();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("ca"), &cert).unwrap();
    (folder, ServerTls { cert, key: key.serialize_pem(), client_ca: None })
}

#[tokio::test]
async fn self_signed_certificate_is_trusted_unless_it_is_an_authority() {
    let (folder, tls) = self_signed(|_| ());
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(tls.clone())).await;
        let mut settings = endpoint(protocol, "https", &receiver);
        settings.tls.ca_file = Some(folder.path().join("ca"));
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
    }
    let (folder, tls) =
        self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let ca = |settings: &mut ExportSettings| settings.tls.ca_file = Some(folder.path().join("ca"));
    check_hint(tls, ca, "https", "it is an authority itself (CA:TRUE)").await;
}

#[tokio::test]
async fn expired_certificate_is_named_in_the_reason() {
    let (folder, tls) = self_signed(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let ca = |settings: &mut ExportSettings| settings.tls.ca_file = Some(folder.path().join("ca"));
    check_hint(tls, ca, "https", "renew it, or check the clock of this machine").await;
}

/// `openssl x509 -req` without extensions issues such certificates.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGzCBwQIUZXc2oqERkEzljmcSkXty/2evXbEwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwIBcNMjYxMTI4MTE1MTQ4WhgPMjEyNjExMDQxMTUxNDhaMBExDzAN
BgNVBAMMBmNsaWVudDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNlIzf1+pvGm
ih8KVc5tx11y5cjjhgo99y9eoMbsnqU6bvyfdNBIlTkpGvveiZADE6PnPgs8pEA7
zkqXwCbqqpcwCgYIKoZIzj0EAwIDSQAwRgIhAP958ygL3z6AyXcr338XP8HZcoCk
kQbSs5srz588m/r2AiEA++IBsjTr/3ruhiGHtwqh5X3f/l05WLEoyW52RaIRzIM=
-----END CERTIFICATE-----
";
