//! Why a client for the configured endpoint cannot be created.

use std::{io, path::PathBuf};

/// Settings that no client can be created from. Found at the start, before anything is sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "invalid endpoint {endpoint:?} (option otlp.endpoint): write it as http://collector:4317"
    )]
    Endpoint { endpoint: String },
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
    #[error("cannot read {} (option otlp.tls)", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("cannot parse the PEM certificates in {} (option otlp.tls)", path.display())]
    Certificate { path: PathBuf, source: reqwest::Error },
    #[error("cannot set up TLS for gRPC (option otlp.tls)")]
    Grpc { source: tonic::transport::Error },
    #[error("cannot set up the HTTP client")]
    Http { source: reqwest::Error },
}
