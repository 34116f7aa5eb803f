//! Settles which changes of the spec the object's own controller wrote: they are a part of the change
//! in flight and supersede nothing.

use crate::trace::{
    cause::own_write,
    model::{
        field_manager::{Managers, StatusWriter},
        id::ChangeKey,
        object::Uid,
        observation::Body,
    },
    object::change::{Change, OwnWrite},
    progress::{convergence::Convergence, outcome::Outcome},
    tracer::Tracer,
};

impl Tracer {
    /// The status of an object was written: its writer is the controller.
    pub(super) fn settle_own_write_by_status(&mut self, uid: &Uid, body: &Body) {
        let Some(key) = self.undetermined_write(uid) else { return };
        let writer = match Managers::parse(&body.managed_fields).status_writer() {
            StatusWriter::Nobody => return,
            StatusWriter::One(writer) => Some(writer),
            StatusWriter::Several => None,
        };
        let Some(change) = self.state.objects.change_mut(&key) else { return };
        let manager = change.report().and_then(|report| report.manager.as_ref());
        let is_own = manager.is_some_and(|manager| Some(&manager.name) == writer.as_ref());
        self.settle_own_write(&key, is_own);
    }

    /// Nothing else will show who the controller is: what it made decides.
    pub(super) fn settle_own_write_by_children(&mut self, uid: &Uid) {
        let Some(key) = self.undetermined_write(uid) else { return };
        let objects = &self.state.objects;
        let Some((object, change)) = objects.change(&key) else { return };
        let is_own = own_write::has_made_child(objects, object, change);
        self.settle_own_write(&key, is_own);
    }

    /// An object has at most one: a newer change settles it.
    fn undetermined_write(&self, uid: &Uid) -> Option<ChangeKey> {
        let changes = &self.state.objects.get(uid)?.changes;
        let is_undetermined = |change: &&Change| change.own_write == OwnWrite::Undetermined;
        changes.iter().rev().find(is_undetermined).map(|change| change.key.clone())
    }

    fn settle_own_write(&mut self, key: &ChangeKey, is_own: bool) {
        let Some(change) = self.state.objects.change_mut(key) else { return };
        if is_own {
            become_own_write(change);
        } else {
            change.own_write = OwnWrite::No;
            self.overtake_older(key);
        }
        self.reschedule(&key.uid);
    }
}

/// The change is a part of the one in flight: it waits for nothing itself.
pub(super) fn become_own_write(change: &mut Change) {
    change.own_write = OwnWrite::Yes;
    change.convergence = Convergence::over(Outcome::Converged, change.at);
    if let Some(report) = change.report_mut() {
        report.joins = true;
        report.phases = None;
    }
}
