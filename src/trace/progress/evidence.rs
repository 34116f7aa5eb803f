//! Whether a status is evidence for a change, and whether it shows progress.

use serde::{Deserialize, Serialize};

use crate::trace::{
    model::time::Timestamp,
    readiness::{judgement::Judgement, status::Status},
};

/// Statuses remembered of one convergence, to tell progress from going to and fro.
const MAX_PROGRESS: usize = 16;

/// The status of an object before its change.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Before {
    /// Fingerprint of its text.
    pub status: u64,
    /// Fingerprint of the evidence that its verdict rested on; 0: there was none.
    pub evidence: u64,
}

/// The verdict about a status, as it counts for one change.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    pub judgement: &'a Judgement,
    /// Its evidence is not from before the change.
    pub stands: bool,
}

/// What moved since the last status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Counters; only a new highest value is progress.
    pub counters: [i64; 4],
    /// Fingerprint of what else can move, 0 for built-in kinds; only a new one is progress.
    pub status: u32,
}

/// What is known of the evidence for one change.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct EvidenceLog {
    before: Before,
    /// When the first status since the change was received.
    pub(super) written: Option<Timestamp>,
    /// The evidence of before the change is gone, or was for a while.
    is_fresh: bool,
}

impl EvidenceLog {
    pub(super) fn new(before: Before) -> Self {
        Self { before, ..Self::default() }
    }

    /// The first status after `fingerprint` counts as written since the change.
    pub(super) fn wait_since(&mut self, fingerprint: u64) {
        self.before.status = fingerprint;
    }

    /// Records a status. Returns whether one was written after the change.
    pub(super) fn record_status(&mut self, fingerprint: u64, seen: Timestamp) -> bool {
        if fingerprint != self.before.status {
            self.written.get_or_insert(seen);
        }
        self.written.is_some()
    }

    /// Whether a verdict counts for this change at once, or its evidence may be from before.
    pub(super) fn weigh(&mut self, judgement: &Judgement) -> bool {
        let Some(evidence) = judgement.evidence else { return true };
        self.is_fresh |= evidence != self.before.evidence;
        match judgement.status {
            Status::Current { .. } => {
                !judgement.is_thin && (self.is_fresh || judgement.is_observed)
            }
            // The failure of before can remain in a status that is otherwise of the new generation.
            Status::Failed { .. } => self.is_fresh,
            Status::InProgress | Status::Paused | Status::OnHold | Status::Unknown => true,
        }
    }
}

/// The progress of one convergence so far.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct ProgressLog {
    /// The highest value of each counter.
    best: [i64; 4],
    /// Fingerprints of statuses that were progress.
    statuses: Vec<u32>,
}

impl ProgressLog {
    /// Whether the status shows progress.
    pub(super) fn record(&mut self, progress: Progress) -> bool {
        let is_higher = progress.counters.iter().zip(self.best).any(|(now, best)| *now > best);
        for (best, now) in self.best.iter_mut().zip(progress.counters) {
            *best = now.max(*best);
        }
        let is_new = progress.status != 0 && !self.statuses.contains(&progress.status);
        if is_new {
            if self.statuses.len() >= MAX_PROGRESS {
                self.statuses.remove(0);
            }
            self.statuses.push(progress.status);
        }
        is_higher || is_new
    }
}
