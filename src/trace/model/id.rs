//! Computes ids from the identity of a change, so that every observer gets the same ids
//! (`docs/model.md`, Identity of spans).

use serde::{Deserialize, Serialize};

use sha2::{Digest as _, Sha256};

use crate::trace::model::{
    object::Uid,
    span::{Role, SpanId, TraceId},
};

/// Part of every id: ids of other rules never collide with stored ones.
const VERSION: &[u8] = b"spanlink-1";

/// The shape of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Layout {
    /// A head is a new root with a link to its context; everything it caused is below it.
    Cascade,
    /// Every change is the root of a separate trace.
    Linked,
    /// A head continues the annotated trace.
    Joined,
}

impl Layout {
    /// Part of every id: a span id is never used in two traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::Linked => "linked",
            Self::Joined => "joined",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Verb {
    Create,
    Update,
    Delete,
    /// Work that no change began: an episode.
    Reconcile,
}

impl Verb {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Reconcile => "reconcile",
        }
    }
}

/// The identity of a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct ChangeKey {
    pub uid: Uid,
    /// 0, or the resourceVersion of the first observation after a rewind.
    pub epoch: u64,
    pub verb: Verb,
    /// The generation; of kinds without one the resourceVersion at which the content was first
    /// observed; of an episode that of its first status. 0 for creations and deletions, which happen once per UID.
    pub step: u64,
}

impl ChangeKey {
    pub fn is_deletion(&self) -> bool {
        self.verb == Verb::Delete
    }
}

/// Ids for one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The UID of the cluster (of its `kube-system` Namespace); empty where it is not known.
    pub cluster: Box<str>,
    pub layout: Layout,
}

impl Ids {
    pub fn span(&self, change: &ChangeKey, role: Role, reason: &str) -> SpanId {
        let role: &[u8] = match role {
            Role::Change => b"change",
            Role::Reconcile => b"reconcile",
            Role::Stuck => b"stuck",
            Role::Late => b"late",
            Role::Projection => b"projection",
            Role::Phase => b"phase",
        };
        let [high, _] = self.hash(change, role, reason);
        SpanId(if high == 0 { 1 } else { high })
    }

    /// The trace that begins with this change.
    pub fn trace(&self, head: &ChangeKey) -> TraceId {
        let [high, low] = self.hash(head, b"trace", "");
        let id = u128::from(high) << 64 | u128::from(low);
        TraceId(if id == 0 { 1 } else { id })
    }

    fn hash(&self, change: &ChangeKey, role: &[u8], reason: &str) -> [u64; 2] {
        let mut hash = Sha256::new();
        let uid = change.uid.to_string();
        let parts: [&[u8]; 9] = [
            VERSION,
            self.cluster.as_bytes(),
            self.layout.name().as_bytes(),
            uid.as_bytes(),
            &change.epoch.to_be_bytes(),
            change.verb.name().as_bytes(),
            &change.step.to_be_bytes(),
            role,
            reason.as_bytes(),
        ];
        for part in parts {
            // As 64 bits, so that ids are the same on every platform.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let mut words = hash.finalize().into_iter();
        [(); 2].map(|()| words.by_ref().take(8).fold(0, |word, byte| word << 8 | u64::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(verb: Verb, step: u64) -> ChangeKey {
        ChangeKey { uid: Uid::new("7f0b1c9e-5b2c-4d5a-9a55-0c1f0b3ed0aa"), epoch: 0, verb, step }
    }

    #[test]
    fn ids_are_the_same_everywhere_and_for_ever() {
        let ids = Ids { cluster: "c".into(), layout: Layout::Cascade };
        let change = key(Verb::Update, 2);
        let text = format!("{} {}", ids.trace(&change), ids.span(&change, Role::Change, ""));
        expect_test::expect!["d7fd0131a5cb7c83f279c0b3e15d8059 bc9cd2713f89c8f9"].assert_eq(&text);
    }

    #[test]
    fn changes_that_differ_in_any_part_have_different_ids() {
        let ids = Ids { cluster: "".into(), layout: Layout::Cascade };
        let mut seen = std::collections::HashSet::new();
        for change in [key(Verb::Update, 2), key(Verb::Update, 3), key(Verb::Create, 0)] {
            for role in [Role::Change, Role::Reconcile, Role::Stuck, Role::Late] {
                assert!(seen.insert(ids.span(&change, role, "")));
                assert!(seen.insert(ids.span(&change, role, "ImagePullBackOff")));
            }
        }
        assert_ne!(
            ids.trace(&key(Verb::Update, 2)),
            Ids { cluster: "other".into(), ..ids }.trace(&key(Verb::Update, 2))
        );
    }
}
