//! Asks the API server, and waits for no answer longer than it should.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::{state::Fault, stream::Reader};

/// Of an answer's head, and of the next bytes of a list.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Who should have said something by then is silent for no longer than this after it.
pub(super) const MUTE_AFTER: Duration = Duration::from_secs(5);
/// Of the answer of a server that refuses.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

impl Reader {
    pub(super) async fn send(&self, query: &str, compression: Compression) -> Result<Body, Fault> {
        let path = self.resolved.path(self.namespace.as_deref());
        let mut uri = format!("{path}?{query}");
        if let Some(selectors) = &self.selectors {
            uri.push('&');
            uri.push_str(selectors);
        }
        let mut request = http::Request::get(uri).header(http::header::ACCEPT, "application/json");
        if compression == Compression::None {
            request = request.header(http::header::ACCEPT_ENCODING, "identity");
        }
        let request = request.body(Body::empty()).map_err(|error| {
            warn!(%error, "A selector makes no request.");
            Fault::Broken
        })?;
        let answer = match timeout(ANSWER_TIMEOUT, self.client.send(request)).await {
            Err(_elapsed) => return Err(Fault::Mute),
            Ok(Err(error)) => {
                debug!(kind = self.counters.kind, %error, "No answer.");
                return Err(Fault::Broken);
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
        Err(Fault::Refused { code, message: message(answer.into_body()).await, retry_after })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Any,
    /// A compressed watch is one gzip member an event, which decoders read as silence.
    None,
}

pub(super) async fn next_chunk(body: &mut Body, limit: Instant) -> Result<Option<Bytes>, Fault> {
    loop {
        match timeout_at(limit, body.frame()).await {
            Err(_elapsed) => return Err(Fault::Mute),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                debug!(%error, "The connection broke.");
                return Err(Fault::Broken);
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(chunk) = frame.into_data() {
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

/// What a server says when it refuses; nothing where it does not say it soon and shortly.
async fn message(body: Body) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let body = http_body_util::Limited::new(body, REFUSAL_BYTES_MAX).collect();
    let Ok(Ok(body)) = timeout(MUTE_AFTER, body).await else { return String::new() };
    serde_json::from_slice(&body.to_bytes()).map_or_else(|_| String::new(), |s: Status| s.message)
}
