//! Sends requests for one kind to the API server, each with a time limit.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::{
    machine::WatchFailure,
    resolve::{Resolved, percent_encoded},
};
use crate::error_chain::ErrorChain;

/// Limit for the head of an answer, for the next bytes of a list, and for a whole answer about one
/// object.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than its time limit a watch may take to end.
pub(super) const MUTE_AFTER: Duration = Duration::from_secs(5);
/// Bytes read of an answer that is not a list or a watch.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The common parts of one watch's requests.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) resolved: Resolved,
    pub(super) namespace: Option<String>,
    /// Encoded query parameters, without the leading `&`.
    pub(super) selectors: Option<String>,
}

/// The metadata of an object that identifies its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ObjectState {
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) generation: i64,
    #[serde(default, rename = "resourceVersion")]
    pub(super) resource_version: String,
}

#[derive(Deserialize)]
struct Identified {
    metadata: ObjectState,
}

#[derive(Deserialize)]
struct ShortList {
    items: Vec<Identified>,
}

impl Session {
    /// Sends a list or watch request for everything that the watch covers.
    pub(super) async fn send(
        &self,
        query: &str,
        compression: Compression,
    ) -> Result<Body, WatchFailure> {
        let path = self.resolved.path(self.namespace.as_deref());
        let mut uri = format!("{path}?{query}");
        if let Some(selectors) = &self.selectors {
            uri.push('&');
            uri.push_str(selectors);
        }
        self.get(uri, compression).await
    }

    /// Reads one object by name; `None` where it does not exist.
    pub(super) async fn read_object(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<ObjectState>, WatchFailure> {
        let path = self.resolved.path(namespace);
        let uri = format!("{path}/{}", percent_encoded(name));
        match self.get_json::<Identified>(uri).await {
            Ok(found) => Ok(Some(found.metadata)),
            Err(WatchFailure::Refused { code: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Reads one object as it was at a resourceVersion. The namespace in the path makes it the read
    /// of a single key.
    pub(super) async fn read_object_at(
        &self,
        namespace: Option<&str>,
        name: &str,
        resource_version: u64,
    ) -> Result<Option<ObjectState>, WatchFailure> {
        let path = self.resolved.path(namespace);
        let selector = percent_encoded(&format!("metadata.name={name}"));
        let uri = format!(
            "{path}?resourceVersionMatch=Exact&resourceVersion={resource_version}\
             &fieldSelector={selector}&limit=1"
        );
        let list: ShortList = self.get_json(uri).await?;
        Ok(list.items.into_iter().next().map(|item| item.metadata))
    }

    /// Asks whether the server can read at this resourceVersion at all.
    pub(super) async fn read_any_at(&self, resource_version: u64) -> Result<(), WatchFailure> {
        let path = self.resolved.path(self.namespace.as_deref());
        let uri =
            format!("{path}?resourceVersionMatch=Exact&resourceVersion={resource_version}&limit=1");
        self.get_json::<ShortList>(uri).await.map(drop)
    }

    async fn get_json<T: for<'de> Deserialize<'de>>(&self, uri: String) -> Result<T, WatchFailure> {
        let body = self.get(uri, Compression::Any).await?;
        let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect();
        let body = match timeout(ANSWER_TIMEOUT, body).await {
            Err(_elapsed) => return Err(WatchFailure::Timeout),
            Ok(Err(error)) => {
                debug!(kind = %self.resolved.kind, error, "Reading an answer failed.");
                return Err(WatchFailure::Connection);
            }
            Ok(Ok(body)) => body.to_bytes(),
        };
        serde_json::from_slice(&body).map_err(|error| {
            debug!(kind = %self.resolved.kind, %error, "Decoding an answer failed.");
            WatchFailure::Connection
        })
    }

    async fn get(&self, uri: String, compression: Compression) -> Result<Body, WatchFailure> {
        let mut request = http::Request::get(uri).header(http::header::ACCEPT, "application/json");
        if compression == Compression::None {
            request = request.header(http::header::ACCEPT_ENCODING, "identity");
        }
        let request = request.body(Body::empty()).map_err(|error| {
            warn!(%error, "Failed to build the request URI from the selectors.");
            WatchFailure::Connection
        })?;
        let answer = match timeout(ANSWER_TIMEOUT, self.client.send(request)).await {
            Err(_elapsed) => return Err(WatchFailure::Timeout),
            Ok(Err(error)) => {
                debug!(kind = %self.resolved.kind, error = %ErrorChain(&error), "Request failed.");
                return Err(WatchFailure::Connection);
            }
            Ok(Ok(answer)) => answer,
        };
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let retry_after = answer
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let code = answer.status().as_u16();
        let message = read_message(answer.into_body()).await;
        Err(WatchFailure::Refused { code, message, retry_after })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Any,
    /// A server compresses a watch as one gzip member per event, which decoders hold back.
    None,
}

pub(super) async fn next_chunk(
    body: &mut Body,
    limit: Instant,
) -> Result<Option<Bytes>, WatchFailure> {
    loop {
        match timeout_at(limit, body.frame()).await {
            Err(_elapsed) => return Err(WatchFailure::Timeout),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                debug!(error = %ErrorChain(&error), "Connection lost.");
                return Err(WatchFailure::Connection);
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(chunk) = frame.into_data() {
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

/// Reads the message of a `Status`; empty where the server does not send one soon.
async fn read_message(body: Body) -> String {
    const STATUS_BYTES_MAX: usize = 64 << 10;
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let body = http_body_util::Limited::new(body, STATUS_BYTES_MAX).collect();
    let Ok(Ok(body)) = timeout(MUTE_AFTER, body).await else { return String::new() };
    serde_json::from_slice(&body.to_bytes())
        .map_or_else(|_| String::new(), |status: Status| status.message)
}
