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
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{
        Method, Request, StatusCode,
        header::{CONTENT_TYPE, HOST},
    },
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

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
    NoResponse { path: PathBuf, source: io::Error },
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
}

impl ControlClient {
    /// A client for the daemon of this data directory, which need not run.
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join(SOCKET) }
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        uri: &'static str,
        body: Vec<u8>,
    ) -> Result<T, ControlError> {
        let (status, body) = timeout(COMMAND_TIMEOUT, self.exchange(method, uri, body))
            .await
            .map_err(|_elapsed| self.no_response(io::ErrorKind::TimedOut.into()))??;
        if !status.is_success() {
            return Err(ControlError::Failed(String::from_utf8_lossy(&body).into_owned()));
        }
        serde_json::from_slice(&body).map_err(|source| ControlError::Response { source })
    }

    /// Sends one request on a connection of its own.
    async fn exchange(
        &self,
        method: Method,
        uri: &'static str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ControlError> {
        let stream = self.connect().await?;
        let http_failed = |error: hyper::Error| self.no_response(io::Error::other(error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(http_failed)?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.no_response(io::Error::other(error)))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(http_failed)?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(http_failed)?;
            Ok((status, body.to_bytes()))
        };
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            result = exchange => result,
            // It ends without an error while the last bytes of the response are unread.
            Err(error) = &mut connection => Err(http_failed(error)),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ControlError> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            // A daemon that was killed leaves a socket on which no process listens.
            NotFound | ConnectionRefused => ControlError::NotRunning { path: self.path.clone() },
            _ => self.no_response(error),
        })
    }

    fn no_response(&self, source: io::Error) -> ControlError {
        ControlError::NoResponse { path: self.path.clone(), source }
    }
}

impl Quarantine for ControlClient {
    async fn list(&self) -> Result<Listing, ControlError> {
        self.request(Method::GET, "/quarantine", Vec::new()).await
    }

    async fn remove(&self, selection: Selection, action: Action) -> Result<Removed, ControlError> {
        let uri = match action {
            Action::Retry => "/quarantine/retry",
            Action::Drop => "/quarantine/drop",
        };
        let body = serde_json::to_vec(&selection)
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.request(Method::POST, uri, body).await
    }
}
