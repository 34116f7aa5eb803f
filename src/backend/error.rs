//! Why a backend gave no answer.

use std::{io, path::PathBuf, time::Duration};

/// A request to a backend that failed.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Only the name: the value may be a credential.
    #[error("header {name:?} (--header) is not valid: write it as --header 'Name: value'")]
    Header { name: String },
    #[error("the tenant or the token contains characters that a header cannot have")]
    Credential,
    #[error("cannot read the certificates in {} (--ca-file)", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("{} (--ca-file) contains no PEM certificates", path.display())]
    Certificate { path: PathBuf, source: reqwest::Error },
    #[error("cannot set up the HTTP client")]
    Client { source: reqwest::Error },
    #[error("cannot reach {url}: is this its address (--url), and is it running?")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("{url} did not answer within {limit:?}")]
    TimedOut { url: String, limit: Duration },
    #[error(
        "{url} refused the request ({status}){}: check the tenant (--tenant), the token \
         (SPANLINK_TRACE_TOKEN) and the headers (--header)",
        said(message)
    )]
    Refused { url: String, status: u16, message: String },
    #[error(
        "{url} redirected to {location}: this is usually a login page, so a token \
         (SPANLINK_TRACE_TOKEN) or a header (--header) is needed"
    )]
    Redirected { url: String, location: String },
    #[error("{url} answered {status}{}", said(message))]
    Status { url: String, status: u16, message: String },
    #[error("the answer of {url} is longer than {max} bytes")]
    TooLong { url: String, max: usize },
    #[error("the connection to {url} ended before its answer was complete")]
    CutShort { url: String, source: reqwest::Error },
    #[error("the answer of {url} is not what {api} returns: is this its address (--url)?")]
    NotJson { url: String, api: &'static str, source: serde_json::Error },
    #[error("the answer of {url} is not what {api} returns: is this its address (--url)?")]
    NotProtobuf { url: String, api: &'static str, source: prost::DecodeError },
    #[error(
        "neither the API of Jaeger (/api/v3/services) nor that of Tempo (/api/echo) answers at {url}: \
         --url is the part before /api, for a data source of Grafana \
         https://GRAFANA/api/datasources/proxy/uid/UID"
    )]
    Unknown { url: String },
}

/// The message of an answer, if it has one.
fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
