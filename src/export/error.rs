//! Why a client for the configured endpoint cannot be created.

use std::{io, path::PathBuf};

/// Settings that no client can be created from. Found at the start, before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is without user, password and query.
    #[error("invalid endpoint {endpoint:?} (option {option}): write it as http://collector:4317")]
    Endpoint { option: &'static str, endpoint: String },
    #[error("TLS is configured (option otlp.tls), but {endpoint} is not encrypted: use https://")]
    TlsWithoutHttps { endpoint: String },
    /// Only the name: the value may be a credential, and errors are logged.
    #[error(
        "header {name:?} (option otlp.headers) is not a valid header: check its name and value"
    )]
    Header { name: String },
    #[error(
        "a client certificate needs both otlp.tls.cert_file and otlp.tls.key_file: set the other one too"
    )]
    HalfIdentity,
    #[error("cannot read {} (option {option})", path.display())]
    ReadFile { option: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot use {} (option {option}): {problem}", path.display())]
    TlsFile { option: &'static str, path: PathBuf, problem: String },
    #[error("{name:?} (option otlp.tls.server_name) is neither a host name nor an IP address")]
    ServerName { name: String },
    #[error(
        "the system has no certificates of authorities: install them (ca-certificates), or set \
         otlp.tls.ca_file"
    )]
    NoAuthorities,
    #[error("cannot use {} (option otlp.bearer_token_file)", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    /// The URL of the proxy is without user and password.
    #[error(
        "cannot use the proxy {proxy:?} (environment variable {variable}): write it as \
         http://proxy:3128, https://proxy:3128 or socks5://proxy:1080, or add the collector to \
         NO_PROXY"
    )]
    Proxy { variable: &'static str, proxy: String },
}
