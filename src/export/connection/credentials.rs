//! The `authorization` header: from a file with a bearer token, or from the user and password of the
//! endpoint. A header that the settings set takes precedence.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderValue, header};
use tracing::{info, warn};

use crate::{
    config::settings::ExportSettings,
    export::{endpoint::Endpoint, error::ClientError},
};

/// Where the `authorization` header of a request comes from.
#[derive(Clone)]
pub(super) enum Credentials {
    /// Requests have no such header, or the one of `otlp.headers`.
    None,
    /// The user and password of the endpoint.
    Fixed(HeaderValue),
    TokenFile(Arc<TokenFile>),
}

impl Credentials {
    pub(super) fn new(settings: &ExportSettings, endpoint: &Endpoint) -> Result<Self, ClientError> {
        let is_authorization =
            |name: &String| name.eq_ignore_ascii_case(header::AUTHORIZATION.as_str());
        // The file is checked even if a header takes precedence: a header may come from a variable
        // that somebody else sets.
        let token_file = match &settings.bearer_token_file {
            Some(path) => Some(TokenFile::open(path)?),
            None => None,
        };
        if settings.headers.keys().any(is_authorization) {
            return Ok(Self::None);
        }
        Ok(match (token_file, endpoint.authorization()) {
            (Some(file), _) => Self::TokenFile(Arc::new(file)),
            (None, Some(value)) => Self::Fixed(value.clone()),
            (None, None) => Self::None,
        })
    }

    pub(super) async fn authorization(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Fixed(value) => Some(value.clone()),
            Self::TokenFile(file) => {
                let file = Arc::clone(file);
                tokio::task::spawn_blocking(move || file.authorization()).await.ok()
            }
        }
    }
}

/// A file with a bearer token. It is read for every request, because tokens expire: the kubelet
/// replaces the token of a service account in its volume.
/// <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<LastToken>,
}

#[derive(Debug)]
struct LastToken {
    value: HeaderValue,
    /// The file could not be read since, which is logged once.
    is_failing: bool,
}

impl TokenFile {
    fn open(path: &Path) -> Result<Self, ClientError> {
        let value = read(path)
            .map_err(|source| ClientError::TokenFile { path: path.to_owned(), source })?;
        let last = Mutex::new(LastToken { value, is_failing: false });
        Ok(Self { path: path.to_owned(), last })
    }

    /// The token of the file; the last one, if the file cannot be read.
    fn authorization(&self) -> HeaderValue {
        let read = read(&self.path);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        match read {
            Ok(value) => {
                last.value = value;
                if std::mem::take(&mut last.is_failing) {
                    info!(%path, "The bearer token file is readable again.");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut last.is_failing, true) {
                    warn!(%path, %error, "Cannot read the bearer token file; requests use the previous token.");
                }
            }
        }
        last.value.clone()
    }
}

fn read(path: &Path) -> io::Result<HeaderValue> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let text = fs::read_to_string(path)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(invalid("the file is empty"));
    }
    let not_a_token = |_invalid| invalid("the file has characters that no token has");
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(not_a_token)?;
    value.set_sensitive(true);
    Ok(value)
}
