//! Checks, after a watch without progress, that its resourceVersion still belongs to the history of
//! the server. After etcd was restored from a backup it may not: then the watch would miss changes
//! without an error.

use super::{
    machine::{WatchFailure, invalidates_resource_version},
    request::{ObjectState, Session},
};
use crate::trace::model::observation::Observation;

/// The object of a watch that was written last, as the watch received it. After a restore it is the
/// one most likely to differ.
#[derive(Debug)]
pub(super) struct LastWrite {
    namespace: Option<Box<str>>,
    name: Box<str>,
    uid: String,
    generation: i64,
    resource_version: u64,
    is_deleted: bool,
}

impl LastWrite {
    /// Replaces `last` where the observation is of a later write.
    pub(super) fn record(last: &mut Option<Self>, observation: &Observation, is_deleted: bool) {
        if last.as_ref().is_some_and(|last| last.resource_version > observation.resource_version) {
            return;
        }
        *last = Some(Self {
            namespace: observation.object.namespace.as_deref().map(Into::into),
            name: (&*observation.object.name).into(),
            uid: observation.object.uid.to_string(),
            generation: observation.generation.unwrap_or(0),
            resource_version: observation.resource_version,
            is_deleted,
        });
    }

    pub(super) fn is_of(&self, uid: &str) -> bool {
        self.uid == uid
    }

    /// Whether this state read from the server is the one that the watch received.
    fn matches(&self, found: Option<&ObjectState>) -> bool {
        let found = found.filter(|found| found.uid == self.uid);
        match found {
            None => self.is_deleted,
            Some(found) => {
                !self.is_deleted
                    && found.generation == self.generation
                    && found.resource_version.parse() == Ok(self.resource_version)
            }
        }
    }
}

/// The result of a probe: a value of the label `result` of `spanlink_watch_probes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeResult {
    /// The server still has the state that the watch received.
    Unchanged,
    /// The resourceVersion is older than the server's history; nothing contradicts it.
    Compacted,
    /// The account may not read single objects.
    Forbidden,
}

impl ProbeResult {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Compacted => "compacted",
            Self::Forbidden => "forbidden",
        }
    }
}

impl Session {
    /// Two reads of at most one object each. The first reads the current state from etcd, past every
    /// cache of the API server; the second reads the state at `resource_version`.
    ///
    /// # Errors
    /// [`WatchFailure::HistoryChanged`] where the state differs or the resourceVersion is in the
    /// future; any other failure proves nothing.
    pub(super) async fn probe(
        &self,
        last: Option<&LastWrite>,
        resource_version: u64,
    ) -> Result<ProbeResult, WatchFailure> {
        let Some(last) = last else {
            return match self.read_any_at(resource_version).await {
                Ok(()) => Ok(ProbeResult::Unchanged),
                Err(failure) => judge_refusal(failure),
            };
        };
        let namespace = last.namespace.as_deref();
        let differs = || Err(WatchFailure::HistoryChanged { reason: "object_differs" });
        let is_current = match self.read_object(namespace, &last.name).await {
            Ok(found) if last.matches(found.as_ref()) => true,
            // A newer write or a deletion that the watch has not delivered yet is not a
            // contradiction: the exact read decides.
            Ok(None) => false,
            Ok(found) if is_newer(found.as_ref(), resource_version) => false,
            Ok(_) => return differs(),
            Err(WatchFailure::Refused { code: 403, .. }) => true,
            Err(failure) => return Err(failure),
        };
        match self.read_object_at(namespace, &last.name, resource_version).await {
            Ok(found) if last.matches(found.as_ref()) => Ok(ProbeResult::Unchanged),
            Ok(_) => differs(),
            Err(failure) => match judge_refusal(failure)? {
                ProbeResult::Compacted if !is_current => differs(),
                result => Ok(result),
            },
        }
    }
}

fn is_newer(found: Option<&ObjectState>, resource_version: u64) -> bool {
    let version = found.and_then(|found| found.resource_version.parse::<u64>().ok());
    version.is_some_and(|version| version > resource_version)
}

fn judge_refusal(failure: WatchFailure) -> Result<ProbeResult, WatchFailure> {
    match &failure {
        // etcd keeps a few minutes of history, a quiet kind has an older resourceVersion. What is
        // compacted lies in the past of the server, so it is not of a lost future.
        WatchFailure::Refused { code: 410, .. } => Ok(ProbeResult::Compacted),
        WatchFailure::Refused { code: 403, .. } => Ok(ProbeResult::Forbidden),
        WatchFailure::Refused { code: code @ (500 | 504), message, .. }
            if invalidates_resource_version(*code, message) =>
        {
            Err(WatchFailure::HistoryChanged { reason: "future_resource_version" })
        }
        _ => Err(failure),
    }
}
