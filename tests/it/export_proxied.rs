//! OTLP through proxies, by both protocols.

use expect_test::{Expect, expect};
use spanlink::{
    config::settings::{ExportSettings, Protocol, ProxySettings, ProxyVariable},
    export::client::Client,
};

use crate::{
    export_support::{missing_reason, send_once, settings},
    export_tls::{ACCEPTED, BOTH, Certificates, receiver},
    scripted_proxy::{Kind, ScriptedProxy},
};

/// The proxy for every scheme, as from `ALL_PROXY`.
pub(crate) fn all(url: String) -> ProxySettings {
    let variable = ProxyVariable { name: "ALL_PROXY", url };
    ProxySettings {
        http: Some(variable.clone()),
        https: Some(variable),
        ..ProxySettings::default()
    }
}

/// Settings for a receiver that only the proxy reaches, under the name that its certificate has.
fn behind(proxy: String, protocol: Protocol, scheme: &str) -> ExportSettings {
    let mut settings = settings(protocol, format!("{scheme}://collector.test:4399/v1/traces"));
    settings.proxy = all(proxy);
    settings
}

#[tokio::test]
async fn tunnel_of_an_http_proxy_is_used_with_and_without_tls() {
    let certificates = Certificates::generate(&["collector.test"]);
    for protocol in BOTH {
        for scheme in ["https", "http"] {
            let tls = (scheme == "https").then(|| certificates.server.clone());
            let receiver = receiver(protocol, tls).await;
            let proxy = ScriptedProxy::start(Kind::Http, receiver.address).await;
            let url = format!("http://us%65r:p%40ss@{}", proxy.address);
            let mut settings = behind(url, protocol, scheme);
            if scheme == "https" {
                settings.tls.ca_file = Some(certificates.path("ca"));
            }
            assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?} {scheme}");
            let asked = proxy.asked().concat().to_ascii_lowercase();
            // HTTP without TLS is forwarded, so that a proxy that allows tunnels to port 443 only serves it.
            let expected = if protocol == Protocol::HttpProtobuf && scheme == "http" {
                "post http://collector.test:4399/v1/traces http/1.1\r\n"
            } else {
                "connect collector.test:4399 http/1.1\r\n"
            };
            assert!(asked.starts_with(expected), "{protocol:?} {scheme}: {asked}");
            // user:p@ss
            assert!(asked.contains("proxy-authorization: basic dxnlcjpwqhnz\r\n"), "{asked}");
            let headers = &receiver.requests(1).await[0].headers;
            let is_forwarded = expected.starts_with("post");
            assert_eq!(headers.contains_key("proxy-authorization"), is_forwarded);
        }
    }
}

#[tokio::test]
async fn socks_proxy_resolves_the_name_of_the_collector() {
    for protocol in BOTH {
        let receiver = receiver(protocol, None).await;
        let proxy = ScriptedProxy::start(Kind::Socks5, receiver.address).await;
        for (url, asked) in [
            (format!("socks5://{}", proxy.address), "collector.test:4399"),
            (format!("socks5h://u:p%40ss@{}", proxy.address), "collector.test:4399 u p@ss"),
        ] {
            assert_eq!(send_once(&behind(url, protocol, "http")).await, ACCEPTED, "{protocol:?}");
            assert_eq!(proxy.asked().last().unwrap(), asked);
        }
    }
}

#[tokio::test]
async fn server_name_changes_only_the_name_that_is_verified() {
    let certificates = Certificates::generate(&["other.test"]);
    for protocol in BOTH {
        let receiver = receiver(protocol, Some(certificates.server.clone())).await;
        let proxy = ScriptedProxy::start(Kind::Http, receiver.address).await;
        let mut settings = behind(format!("http://{}", proxy.address), protocol, "https");
        settings.tls.ca_file = Some(certificates.path("ca"));
        settings.tls.server_name = Some("other.test".to_owned());
        assert_eq!(send_once(&settings).await, ACCEPTED, "{protocol:?}");
        assert!(proxy.asked()[0].starts_with("CONNECT collector.test:4399 "));
        if protocol == Protocol::HttpProtobuf {
            assert_eq!(receiver.requests(1).await[0].headers["host"], "collector.test:4399");
        }
    }
}

#[tokio::test]
async fn loopback_addresses_and_exceptions_are_connected_to_without_a_proxy() {
    for protocol in BOTH {
        let receiver = receiver(protocol, None).await;
        let port = receiver.address.port();
        // Nothing listens at the address of the proxy.
        let proxied = |host: &str, exceptions: &str| {
            let mut settings = settings(protocol, format!("http://{host}:{port}/v1/traces"));
            settings.proxy = all("http://127.0.0.1:1".to_owned());
            exceptions.clone_into(&mut settings.proxy.exceptions);
            settings
        };
        assert_eq!(send_once(&proxied("127.0.0.1", "")).await, ACCEPTED);
        assert_eq!(send_once(&proxied("LOCALHOST", "")).await, ACCEPTED);
        let port_of_receiver = format!("0.0.0.0:{port}");
        for exceptions in ["*", "10.0.0.0/8, 0.0.0.0/8", &port_of_receiver] {
            assert_eq!(send_once(&proxied("0.0.0.0", exceptions)).await, ACCEPTED, "{exceptions}");
        }
        for exceptions in ["", "10.0.0.0/8", "0.0.0.0:1"] {
            let response = send_once(&proxied("0.0.0.0", exceptions)).await;
            let reason = missing_reason(response, receiver.address);
            assert!(reason.contains("the proxy http://127.0.0.1:1 "), "{exceptions}: {reason}");
        }
    }
}

async fn check_reason(kind: Kind, scheme: &str, expected: Expect) {
    let certificates = Certificates::generate(&["collector.test"]);
    let mut reasons = Vec::new();
    for protocol in BOTH {
        let receiver = receiver(protocol, None).await;
        let proxy = ScriptedProxy::start(kind, receiver.address).await;
        let url = format!("{scheme}://user:s3cret@{}", proxy.address);
        let mut settings = behind(url, protocol, "https");
        settings.tls.ca_file = Some(certificates.path("ca"));
        reasons.push(missing_reason(send_once(&settings).await, proxy.address));
    }
    assert_eq!(reasons[0], reasons[1]);
    expected.assert_eq(&reasons[0]);
}

#[tokio::test]
async fn proxy_that_opens_no_tunnel_is_named_in_the_reason() {
    check_reason(Kind::Refusing("403 Forbidden"), "http", expect![[r#"the proxy http://127.0.0.1:PORT (environment variable ALL_PROXY) opened no tunnel to https://collector.test:4399 (status 403): does it allow this host and port, and can it reach them?"#]]).await;
    check_reason(Kind::Refusing("407 Auth"), "http", expect![[r#"the proxy http://127.0.0.1:PORT (environment variable ALL_PROXY) requires other credentials (status 407): write them into its URL, as in http://user:password@proxy:3128"#]]).await;
}

#[tokio::test]
async fn proxy_without_a_valid_url_is_refused_at_the_start() {
    let errors: Vec<String> =
        ["socks4://user:s3cret@proxy", "http://", "ftp://proxy", "http://a b"]
            .into_iter()
            .map(|url| {
                let settings = behind(url.to_owned(), Protocol::Grpc, "http");
                Client::new(&settings).unwrap_err().to_string()
            })
            .collect();
    expect![[r#"
        cannot use the proxy "socks4://proxy" (environment variable ALL_PROXY): write it as http://proxy:3128, https://proxy:3128 or socks5://proxy:1080, or add the collector to NO_PROXY
        cannot use the proxy "http://" (environment variable ALL_PROXY): write it as http://proxy:3128, https://proxy:3128 or socks5://proxy:1080, or add the collector to NO_PROXY
        cannot use the proxy "ftp://proxy" (environment variable ALL_PROXY): write it as http://proxy:3128, https://proxy:3128 or socks5://proxy:1080, or add the collector to NO_PROXY
        cannot use the proxy "http://a b" (environment variable ALL_PROXY): write it as http://proxy:3128, https://proxy:3128 or socks5://proxy:1080, or add the collector to NO_PROXY"#]]
    .assert_eq(&errors.join("\n"));
}
