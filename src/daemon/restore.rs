//! Goes on from where an earlier run was, if what it wrote down is of use.

use anyhow::Error;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::{clock, rules};
use crate::{
    config::settings::{Settings, WatchSettings},
    outbox::Outbox,
    trace::tracer::{
        Tracer,
        checkpoint::{CheckpointReader, RestoreError},
    },
};

/// As it was, or one that knows nothing. On disk, it remembers what is to be written down.
pub(super) fn tracer(settings: &Settings, cluster: &str, outbox: &Outbox) -> Tracer {
    let rules = rules(settings);
    if !outbox.is_on_disk() {
        return Tracer::new(rules, cluster);
    }
    let reading = reading(&settings.watch);
    let mut restoring = CheckpointReader::new(rules.clone(), cluster, reading);
    let is_read = outbox.read_checkpoint(|key, value| restoring.entry(key, value));
    let restored = match is_read {
        Ok(()) => restoring.finish(clock()),
        Err(error) => {
            warn!(error = format!("{:#}", Error::from(error)), "Cannot read the checkpoint.");
            Err(RestoreError::Unreadable)
        }
    };
    let mut tracer = restored.unwrap_or_else(|reason| {
        if reason != RestoreError::Nothing {
            warn!(%reason, "Starting anew: the checkpoint is of no use. Spans that wait are sent.");
        }
        if let Err(error) = outbox.delete_checkpoint() {
            warn!(error = format!("{:#}", Error::from(error)), "Cannot forget the checkpoint.");
        }
        Tracer::new(rules, cluster)
    });
    let objects: i64 = tracer.tracked_objects().values().sum();
    if objects > 0 {
        let open: i64 = tracer.open_convergences().values().sum();
        info!(objects, open, "Going on from the checkpoint.");
    }
    tracer.start_checkpoints(reading);
    tracer
}

/// Of what is read of objects, as far as options decide: what others have read cannot be compared.
fn reading(settings: &WatchSettings) -> u64 {
    let marks = settings.kinds.iter().filter_map(|entry| {
        let has_none = entry.include_labels.is_empty() && entry.include_annotations.is_empty();
        (!has_none).then_some((&entry.selector, &entry.include_labels, &entry.include_annotations))
    });
    let marks: Vec<_> = marks.collect();
    let options = (&settings.annotations, &settings.references, marks);
    xxh3_64(format!("{options:?}").as_bytes())
}
