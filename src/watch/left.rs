//! Tells who is deleted from who only left a selector.

use serde::Deserialize;
use tokio::time::timeout;

use super::{request::ANSWER_TIMEOUT, resolve::percent_encoded, stream::Reader};
use crate::trace::model::observation::{Observation, WatchEvent};

impl Reader {
    /// Under a selector, leaving looks like being deleted. One GET by name decides: 404 or another
    /// UID is a deletion, and so is no answer.
    pub(super) async fn drop_those_that_only_left(&mut self, said: &mut Vec<WatchEvent>) {
        let mut kept = Vec::with_capacity(said.len());
        for notice in said.drain(..) {
            if let WatchEvent::Deleted(now) = &notice {
                if self.is_still_there(now).await {
                    continue;
                }
                self.decoder.forget(&now.object.uid);
            }
            kept.push(notice);
        }
        *said = kept;
    }

    async fn is_still_there(&self, now: &Observation) -> bool {
        let path = self.resolved.path(now.object.namespace.as_deref());
        let name = percent_encoded(&now.object.name);
        let Ok(request) = http::Request::get(format!("{path}/{name}")).body(Vec::new()) else {
            return false;
        };
        let asked = timeout(ANSWER_TIMEOUT, self.client.request::<Identified>(request)).await;
        matches!(asked, Ok(Ok(found)) if found.metadata.uid == now.object.uid.to_string())
    }
}

#[derive(Deserialize)]
struct Identified {
    metadata: IdentifiedMetadata,
}

#[derive(Deserialize)]
struct IdentifiedMetadata {
    #[serde(default)]
    uid: String,
}
