//! Restores the state of an earlier run from its checkpoint, where the checkpoint can be used.

use tracing::{info, warn};

use super::{clock::now, reading, rules::rules};
use crate::{
    config::settings::Settings,
    error_chain::ErrorChain,
    outbox::Outbox,
    trace::tracer::{
        Tracer,
        checkpoint::{CheckpointReader, RestoreError},
    },
};

/// The tracer of an earlier run, or a new one. With an outbox on disk, it collects the entries of
/// the next checkpoint from then on. Reads the whole checkpoint: may block for seconds.
pub(super) fn restore_tracer(settings: &Settings, cluster: &str, outbox: &Outbox) -> Tracer {
    let rules = rules(settings);
    if !outbox.is_on_disk() {
        return Tracer::new(rules, cluster);
    }
    let reading = reading::fingerprint(&settings.watch);
    let mut reader = CheckpointReader::new(rules.clone(), cluster, reading);
    let restored = match outbox.read_checkpoint(|key, value| reader.entry(key, value)) {
        Ok(()) => reader.finish(now()),
        Err(error) => {
            warn!(error = %ErrorChain(&error), "Failed to read the checkpoint.");
            Err(RestoreError::Unreadable)
        }
    };
    let mut tracer = restored.unwrap_or_else(|reason| {
        if reason != RestoreError::Nothing {
            warn!(
                %reason,
                "Discarding the checkpoint and starting fresh; queued spans will still be sent."
            );
        }
        if let Err(error) = outbox.delete_checkpoint() {
            warn!(error = %ErrorChain(&error), "Failed to delete the checkpoint.");
        }
        Tracer::new(rules, cluster)
    });
    let objects: i64 = tracer.tracked_objects().values().sum();
    if objects > 0 {
        let open_convergences: i64 = tracer.open_convergences().values().sum();
        info!(objects, open_convergences, "Restored state from the checkpoint.");
    }
    tracer.start_checkpoints(reading);
    tracer
}
