//! Why no connection was established.

use std::{error::Error, io, time::Duration};

use http::StatusCode;

/// How long establishing a connection may take. The timeout of the request includes it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(in crate::export) enum ConnectError {
    /// Neither the collector nor a proxy was reached.
    #[error("cannot connect")]
    Tcp { source: Box<dyn Error + Send + Sync> },
    #[error("cannot establish TLS")]
    Tls { source: io::Error },
    #[error("the {handshake} handshake took more than {CONNECT_TIMEOUT:?}")]
    TimedOut { handshake: &'static str },
    /// The server negotiated no HTTP/2, which gRPC needs.
    #[error("the server does not offer HTTP/2")]
    NoHttp2,
    #[error("cannot connect through the proxy {proxy} (environment variable {variable})")]
    Proxy {
        /// Its URL without user and password.
        proxy: String,
        variable: &'static str,
        source: ProxyError,
    },
}

/// Why there is no connection through a proxy.
#[derive(Debug, thiserror::Error)]
pub(in crate::export) enum ProxyError {
    /// The proxy itself was not reached.
    #[error("cannot reach it")]
    Connect(#[source] Box<ConnectError>),
    #[error("cannot establish TLS with it")]
    Tls(#[source] io::Error),
    /// It refused to open a tunnel.
    #[error("it answered CONNECT with the status {0}")]
    Refused(StatusCode),
    #[error("it did not answer CONNECT")]
    Http(#[source] hyper::Error),
    #[error("{0}")]
    Socks(String),
    #[error("it did not answer within {CONNECT_TIMEOUT:?}")]
    TimedOut,
}
