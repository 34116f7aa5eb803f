//! Distinguishes an object that was deleted from one that only left the selectors of its watch. The
//! server sends `DELETED` for both.

use std::collections::HashMap;

use super::{machine::WatchFailure, request::Session};
use crate::trace::model::{
    object::{ObjectRef, Uid},
    observation::{Observation, WatchEvent},
    time::Timestamp,
};

/// Objects absent from a relist that are read one by one; beyond it, absent objects count as
/// deleted.
pub(super) const ABSENT_READS_MAX: usize = 100;

/// The objects that match the selectors of one watch. Kept only for watches with selectors.
#[derive(Debug, Default)]
pub(super) struct Selection {
    objects: HashMap<Uid, Selected>,
    /// Number of the list under way; an object with another number was not in it.
    list: u64,
}

#[derive(Debug)]
struct Selected {
    namespace: Option<Box<str>>,
    name: Box<str>,
    list: u64,
}

impl Selection {
    /// The selection that an earlier run left. Objects that left the selectors since then are absent
    /// from the next list.
    pub(super) fn from_earlier_run(objects: &[ObjectRef]) -> Self {
        let mut selection = Self::default();
        for object in objects {
            selection.record(object);
        }
        selection
    }

    pub(super) fn begin_list(&mut self) {
        self.list += 1;
    }

    /// Records an object that matches the selectors.
    pub(super) fn record(&mut self, object: &ObjectRef) {
        let selected = Selected {
            namespace: object.namespace.as_deref().map(Into::into),
            name: (&*object.name).into(),
            list: self.list,
        };
        self.objects.insert(object.uid.clone(), selected);
    }

    pub(super) fn remove(&mut self, uid: &Uid) {
        self.objects.remove(uid);
    }

    /// Takes out the objects that the list under way did not contain.
    fn take_absent(&mut self) -> Vec<(Uid, Selected)> {
        let list = self.list;
        let mut absent: Vec<_> =
            self.objects.extract_if(|_, selected| selected.list != list).collect();
        absent.sort_by(|a, b| (&a.1.namespace, &a.1.name).cmp(&(&b.1.namespace, &b.1.name)));
        absent
    }
}

/// The objects that a relist under selectors did not contain: deleted, or still present outside them.
pub(super) struct Absent {
    /// One [`WatchEvent::LeftSelector`] for each object that still exists.
    pub(super) events: Vec<WatchEvent>,
    pub(super) uids: Vec<Uid>,
    /// Objects that count as deleted although their deletion was not verified.
    pub(super) unverified: usize,
}

impl Session {
    /// Whether an object that the selectors no longer match still exists under the same UID. A
    /// server that does not answer leaves it to the `DELETED` event.
    pub(super) async fn has_left_selector(&self, observation: &Observation) -> bool {
        let object = &observation.object;
        self.is_alive(&object.uid, object.namespace.as_deref(), &object.name).await == Ok(true)
    }

    /// Reads the objects that a relist did not contain, up to [`ABSENT_READS_MAX`]. Ends at the
    /// first answer that fails: the list must not wait for a server in trouble.
    pub(super) async fn find_exits(
        &self,
        selection: &mut Selection,
        at: Timestamp,
        resource_version: u64,
    ) -> Absent {
        let absent = selection.take_absent();
        let mut result = Absent { events: Vec::new(), uids: Vec::new(), unverified: 0 };
        for (index, (uid, selected)) in absent.iter().enumerate() {
            let is_alive = if index < ABSENT_READS_MAX {
                self.is_alive(uid, selected.namespace.as_deref(), &selected.name).await
            } else {
                Err(WatchFailure::Timeout)
            };
            match is_alive {
                Ok(true) => {
                    let uid = uid.clone();
                    result.uids.push(uid.clone());
                    result.events.push(WatchEvent::LeftSelector { at, uid, resource_version });
                }
                Ok(false) => {}
                Err(_) => {
                    result.unverified = absent.len() - index;
                    break;
                }
            }
        }
        result
    }

    async fn is_alive(
        &self,
        uid: &Uid,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<bool, WatchFailure> {
        let found = self.read_object(namespace, name).await?;
        Ok(found.is_some_and(|found| found.uid == uid.to_string()))
    }
}
