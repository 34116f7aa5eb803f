//! Tables that own their state and the indices into it.

pub(crate) mod checkpoint_writer;
mod children;
pub(crate) mod clock;
mod dependents;
pub(crate) mod dirty_map;
pub(crate) mod index_keys;
mod multi_map;
mod names;
pub(crate) mod objects;
pub(crate) mod pod_losses;
pub(crate) mod reported_problems;
pub(crate) mod unclaimed_events;
pub(crate) mod watches;

use self::{
    clock::DeadlineClock, objects::Objects, pod_losses::PodLosses,
    reported_problems::ReportedProblems, unclaimed_events::UnclaimedEvents, watches::Watches,
};
use crate::trace::model::object::Uid;

/// Everything that is remembered.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) watches: Watches,
    pub(crate) clock: DeadlineClock,
    pub(crate) losses: PodLosses,
    pub(crate) unclaimed_events: UnclaimedEvents,
    pub(crate) reported_problems: ReportedProblems,
}

impl State {
    pub(crate) fn forget(&mut self, uid: &Uid) {
        self.objects.forget(uid);
        self.losses.0.remove(uid);
    }
}
