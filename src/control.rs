//! The control socket: how `spanlink outbox` reaches the daemon that has the outbox file open.
//!
//! It is a Unix socket in the data directory that only the user of the daemon can connect to. The
//! address of `/metrics` is open to a whole cluster, and a service mesh makes remote requests look as if
//! they came from the loopback interface; the permissions of a file do not depend on either.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::UnixListener;

use crate::error_chain::ErrorChain;

/// The file name of the socket.
const SOCKET: &str = "spanlink.sock";
/// How long a command may take: a full quarantine is moved within seconds.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(5);

/// Spans that were refused for the same reason, as `spanlink outbox list -o json` prints them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: u64,
    /// When the first of the spans was refused, in RFC 3339.
    pub time: String,
    pub spans: usize,
    pub bytes: usize,
    /// Services of its first spans.
    pub services: Vec<String>,
    /// Names of its first spans.
    pub span_names: Vec<String>,
    /// The code of the response, such as `INVALID_ARGUMENT`, or `oversized`.
    pub code: String,
    /// The message of the receiver, or empty.
    pub message: String,
}

/// Every entry in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub entries: Vec<Entry>,
}

/// What a command does with entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Retry,
    Drop,
}

/// Which entries a command concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    All,
    Ids(Vec<u64>),
}

/// The result of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub entries: usize,
    pub spans: usize,
    /// Ids that no entry has.
    pub missing: Vec<u64>,
}

/// A command could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No daemon listens on the socket.
    #[error("no daemon listens on {}", path.display())]
    NotRunning { path: PathBuf },
    #[error("the daemon does not answer on {}", path.display())]
    NoResponse { path: PathBuf, source: reqwest::Error },
    #[error("the response of the daemon cannot be read; has it the same version?")]
    Response { source: serde_json::Error },
    /// The outbox reported an error.
    #[error("{0}")]
    Failed(String),
}

/// A quarantine, in this process or behind the socket.
pub trait Quarantine: Send + Sync + 'static {
    /// The entries, the oldest first.
    fn list(&self) -> impl Future<Output = Result<Listing, ControlError>> + Send;
    /// Retries or drops entries. They are durably removed on return.
    fn remove(
        &self,
        selection: Selection,
        action: Action,
    ) -> impl Future<Output = Result<Removed, ControlError>> + Send;
}

/// The socket of a daemon. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl ControlSocket {
    /// Creates the socket in the data directory, in place of one that a killed daemon left behind. The
    /// caller has locked the directory.
    ///
    /// # Errors
    /// If the file system has no sockets, or the path is longer than 107 bytes.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        // The socket gets its name when its permissions are set.
        let unnamed = directory.join(".sock");
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unnamed)?;
        fs::set_permissions(&unnamed, Permissions::from_mode(0o600))?;
        fs::rename(&unnamed, &path)?;
        Ok(Self { path, listener: Some(listener) })
    }

    /// Serves commands for as long as it is polled.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(mut self, quarantine: impl Quarantine) -> io::Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        axum::serve(listener, router(quarantine)).await
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The next daemon replaces a file that remains.
        fs::remove_file(&self.path).ok();
    }
}

fn router<Q: Quarantine>(quarantine: Q) -> Router {
    Router::new()
        .route("/quarantine", get(list::<Q>))
        .route("/quarantine/retry", post(retry::<Q>))
        .route("/quarantine/drop", post(discard::<Q>))
        .with_state(Arc::new(quarantine))
}

async fn list<Q: Quarantine>(State(quarantine): State<Arc<Q>>) -> Response {
    respond(quarantine.list().await)
}

async fn retry<Q: Quarantine>(State(quarantine): State<Arc<Q>>, body: Bytes) -> Response {
    remove(&*quarantine, &body, Action::Retry).await
}

async fn discard<Q: Quarantine>(State(quarantine): State<Arc<Q>>, body: Bytes) -> Response {
    remove(&*quarantine, &body, Action::Drop).await
}

async fn remove(quarantine: &impl Quarantine, body: &[u8], action: Action) -> Response {
    match serde_json::from_slice(body) {
        Ok(selection) => respond(quarantine.remove(selection, action).await),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn respond(result: Result<impl Serialize, ControlError>) -> Response {
    let failed = |text: String| (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    match result.map(|content| serde_json::to_vec(&content)) {
        Ok(Ok(json)) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(ErrorChain(&error).to_string()),
    }
}

/// The quarantine of the daemon that listens on a socket.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
    client: reqwest::Client,
}

impl ControlClient {
    /// A client for the daemon of this data directory, which need not run.
    ///
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub fn new(directory: &Path) -> Result<Self, ControlError> {
        let path = directory.join(SOCKET);
        let client = reqwest::Client::builder()
            .unix_socket(path.clone())
            .timeout(COMMAND_TIMEOUT)
            .build()
            .map_err(|source| ControlError::NoResponse { path: path.clone(), source })?;
        Ok(Self { path, client })
    }

    async fn request<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ControlError> {
        let no_response = |source| ControlError::NoResponse { path: self.path.clone(), source };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() && is_absent(&error) => {
                return Err(ControlError::NotRunning { path: self.path.clone() });
            }
            Err(error) => return Err(no_response(error)),
        };
        let is_success = response.status().is_success();
        let body = response.bytes().await.map_err(no_response)?;
        if !is_success {
            return Err(ControlError::Failed(String::from_utf8_lossy(&body).into_owned()));
        }
        serde_json::from_slice(&body).map_err(|source| ControlError::Response { source })
    }
}

/// Whether there is no socket, or none that a process listens on.
fn is_absent(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            );
        }
        cause = error.source();
    }
    false
}

impl Quarantine for ControlClient {
    async fn list(&self) -> Result<Listing, ControlError> {
        self.request(self.client.get("http://localhost/quarantine")).await
    }

    async fn remove(&self, selection: Selection, action: Action) -> Result<Removed, ControlError> {
        let url = match action {
            Action::Retry => "http://localhost/quarantine/retry",
            Action::Drop => "http://localhost/quarantine/drop",
        };
        let body = serde_json::to_vec(&selection)
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body);
        self.request(request).await
    }
}
