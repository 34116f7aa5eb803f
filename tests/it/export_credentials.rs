//! Credentials of the connection to the collector: where they are sent, where they must not appear,
//! and how they are replaced while spans are exported.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use spanlink::{
    config::settings::{ExportSettings, Protocol},
    error_chain::ErrorChain,
    export::{client::Client, sender::Drain},
};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    export_proxied::all,
    export_support::{Export, missing_reason, names, send_once, settings},
    export_tls::{ACCEPTED, BOTH, Certificates, endpoint, receiver},
    scripted_proxy::{Kind, ScriptedProxy},
};

#[tokio::test]
async fn user_and_password_of_the_endpoint_become_an_authorization_header() {
    for protocol in BOTH {
        let receiver = receiver(protocol, None).await;
        let url = format!("http://us%65r:p%40ss@{}/v1/traces", receiver.address);
        let mut settings = settings(protocol, url);
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
        settings.headers.insert("Authorization".to_owned(), "Bearer mine".to_owned());
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
        let requests = receiver.requests(2).await;
        // user:p@ss
        assert_eq!(requests[0].headers["authorization"], "Basic dXNlcjpwQHNz");
        assert_eq!(requests[1].headers["authorization"], "Bearer mine");
        for request in requests {
            assert!(!format!("{:?}", request.headers).contains('@'));
        }
    }
}

/// A folder of files as the kubelet mounts a Secret: a link to the current version of all of them.
/// <https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter>
struct MountedSecret {
    folder: TempDir,
    versions: u32,
}

impl MountedSecret {
    fn new(files: &[(&str, String)]) -> Self {
        let mut secret = Self { folder: TempDir::new().unwrap(), versions: 0 };
        for (name, _) in files {
            symlink(Path::new("..data").join(name), secret.path(name)).unwrap();
        }
        secret.replace(files);
        secret
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn replace(&mut self, files: &[(&str, String)]) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        fs::create_dir(self.path(&version)).unwrap();
        for (name, text) in files {
            fs::write(self.path(&version).join(name), text).unwrap();
        }
        symlink(&version, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }
}

#[tokio::test]
async fn bearer_token_is_read_from_its_file_for_every_request() {
    for protocol in BOTH {
        let receiver = receiver(protocol, None).await;
        let mut secret = MountedSecret::new(&[("token", "one\n".to_owned())]);
        let mut settings = endpoint(protocol, "http", &receiver);
        settings.bearer_token_file = Some(secret.path("token"));
        let export = Export::start(&settings);
        let mut tokens = Vec::new();
        for (count, token) in ["one", "two", "", "three"].into_iter().enumerate() {
            secret.replace(&[("token", token.to_owned())]);
            export.push("s", &[token]).await;
            let requests = receiver.requests(count + 1).await;
            tokens.push(requests[count].headers["authorization"].clone());
        }
        // An empty file has no token, so the last one is still used.
        assert_eq!(tokens, ["Bearer one", "Bearer two", "Bearer two", "Bearer three"]);
        assert_eq!(export.stop(Drain::default()).await, 0);
    }
}

/// Sends spans all the while, and replaces the token twice.
#[tokio::test]
async fn token_replaced_under_load_loses_no_span_and_is_used_from_then_on() {
    for protocol in BOTH {
        let receiver = receiver(protocol, None).await;
        let mut secret = MountedSecret::new(&[("token", "one".to_owned())]);
        let mut settings = endpoint(protocol, "http", &receiver);
        settings.bearer_token_file = Some(secret.path("token"));
        let export = Export::start(&settings);
        let mut pushed = BTreeSet::new();
        for index in 0..100 {
            match index {
                30 => secret.replace(&[("token", "two".to_owned())]),
                60 => secret.replace(&[("token", "three".to_owned())]),
                _ => {}
            }
            let name = format!("{index}");
            export.push("s", &[&name]).await;
            pushed.insert(format!("s: {name}"));
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(export.stop(Drain::default()).await, 0);
        let accepted = receiver.accepted();
        let arrived: BTreeSet<String> = accepted.iter().flat_map(names).collect();
        assert_eq!(arrived, pushed, "{protocol:?}");
        let mut tokens: Vec<String> =
            accepted.iter().map(|request| request.headers["authorization"].clone()).collect();
        tokens.dedup();
        assert_eq!(tokens, ["Bearer one", "Bearer two", "Bearer three"], "{protocol:?}");
    }
}

/// Sends spans all the while, and replaces every certificate and key, and the server with them.
#[tokio::test]
async fn certificates_replaced_under_load_lose_no_span() {
    for protocol in BOTH {
        let before = Certificates::generate(&["collector.test"]);
        let after = Certificates::generate(&["collector.test"]);
        let files = |certificates: &Certificates| {
            ["ca", "cert", "key"]
                .map(|name| (name, fs::read_to_string(certificates.path(name)).unwrap()))
        };
        let mut secret = MountedSecret::new(&files(&before));
        let old = receiver(protocol, Some(before.server_that_requires_client_certificates())).await;
        let new = receiver(protocol, Some(after.server_that_requires_client_certificates())).await;
        let proxy = ScriptedProxy::start(Kind::Http, old.address).await;
        let mut settings = settings(protocol, "https://collector.test:4399/v1/traces".to_owned());
        settings.proxy = all(format!("http://{}", proxy.address));
        settings.tls.ca_file = Some(secret.path("ca"));
        settings.tls.cert_file = Some(secret.path("cert"));
        settings.tls.key_file = Some(secret.path("key"));
        let export = Export::start(&settings);
        let mut pushed = BTreeSet::new();
        for index in 0..100 {
            match index {
                // The server has new certificates before the client does.
                30 => proxy.switch_to(new.address),
                60 => secret.replace(&files(&after)),
                _ => {}
            }
            let name = format!("{index}");
            export.push("s", &[&name]).await;
            pushed.insert(format!("s: {name}"));
            sleep(Duration::from_millis(10)).await;
        }
        let drain = Duration::from_secs(20);
        assert_eq!(export.stop(Drain { responding: drain, unresponsive: drain }).await, 0);
        let (old, new) = (old.accepted(), new.accepted());
        assert!(!old.is_empty() && !new.is_empty(), "{protocol:?}");
        let arrived: BTreeSet<String> = old.iter().chain(&new).flat_map(names).collect();
        let missing: Vec<_> = pushed.difference(&arrived).collect();
        assert!(missing.is_empty(), "{protocol:?}: {missing:?}");
    }
}

const SECRETS: [&str; 4] = ["s3cret-user", "s3cret-password", "s3cret-query", "s3cret-header"];

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in: {text}");
    }
}

#[tokio::test]
async fn secrets_are_in_no_error_about_the_settings() {
    for protocol in BOTH {
        let change_endpoint = |prefix: &str, suffix: &str| {
            let url = format!("{prefix}s3cret-user:s3cret-password@host{suffix}?key=s3cret-query");
            settings(protocol, url)
        };
        let mut cases = vec![
            change_endpoint("htp://", ""),
            change_endpoint("", ":4317"),
            change_endpoint("http://", ":port"),
            change_endpoint("http:// ", ""),
        ];
        let valid = || change_endpoint("https://", "");
        let mut header = valid();
        header.headers.insert("x-key".to_owned(), "s3cret-header\n".to_owned());
        let mut proxy = valid();
        proxy.proxy = all("socks4://s3cret-user:s3cret-password@proxy".to_owned());
        let mut file = valid();
        file.tls.ca_file = Some("/nowhere".into());
        let mut plain = change_endpoint("http://", "");
        plain.tls.ca_file = Some("/nowhere".into());
        cases.extend([header, proxy, file, plain]);
        for settings in cases {
            let error = Client::new(&settings).unwrap_err();
            assert_no_secret(&format!("{} {error:?}", ErrorChain(&error)));
        }
        let client = Client::new(&change_endpoint("http://", "")).unwrap();
        assert_no_secret(&format!("{client:?}"));
    }
}

#[tokio::test]
async fn secrets_are_in_no_reason_for_a_missing_response() {
    let plain = receiver(Protocol::Grpc, None).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for protocol in BOTH {
        let to = |scheme: &str, address: &str| -> ExportSettings {
            let user = "s3cret-user:s3cret-password";
            let url = format!("{scheme}://{user}@{address}/v1/traces?key=s3cret-query");
            let mut settings = settings(protocol, url);
            settings.headers.insert("x-key".to_owned(), "s3cret-header".to_owned());
            settings.timeout = Duration::from_secs(2);
            settings
        };
        let mut proxied = to("http", "collector.test");
        proxied.proxy = all(format!("http://s3cret-user:s3cret-password@{free}"));
        let mut cases =
            vec![to("http", &free.to_string()), to("http", "collector.invalid"), proxied];
        let certificates = Certificates::generate(&["collector.test"]);
        let mut encrypted = to("https", &plain.address.to_string());
        encrypted.tls.ca_file = Some(certificates.path("ca"));
        cases.push(encrypted);
        for settings in cases {
            let reason = missing_reason(send_once(&settings).await, free);
            assert!(!reason.is_empty());
            assert_no_secret(&reason);
        }
    }
}
