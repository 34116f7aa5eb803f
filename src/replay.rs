//! Plays a recording through the trace: watch events in, spans out, no cluster.

use std::{path::Path, sync::Arc};

use tracing::warn;

use crate::{
    config::settings::WatchSettings,
    trace::{
        model::{object::GroupKind, observation::WatchEvent},
        rules::Rules,
        spans::output::Output,
        tracer::Tracer,
    },
    watch::recording::{Recording, RecordingError},
};

/// What of a recording is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    Everything,
    /// Kinds that are configured, and what Events say of those that want to hear it.
    Configured,
}

/// Plays the whole of a recording. `at` of its events is the clock; at the end of the file time runs
/// on until every convergence has ended.
///
/// # Errors
/// When the file cannot be read or is no recording.
pub fn replay(
    path: &Path,
    rules: Rules,
    settings: &Arc<WatchSettings>,
    take: Take,
    mut each: impl FnMut(Output),
) -> Result<(), RecordingError> {
    let wanted = |kind: &GroupKind| {
        take == Take::Everything || settings.entry(&kind.group, &kind.kind).is_some()
    };
    let hears = |notice: &WatchEvent| match notice {
        WatchEvent::KubernetesEvent(remark) => {
            let kind = &remark.kind;
            take == Take::Everything || settings.wants_events(&kind.group, &kind.kind)
        }
        _ => true,
    };
    let recording = Recording::read(path)?;
    let mut tracer = Tracer::new(rules, "");
    let Some(begin) = recording.begin() else { return Ok(()) };
    for (_, watch) in recording.watches().filter(|(_, watch)| wanted(&watch.watched.kind)) {
        if watch.starts_empty {
            tracer.open_empty(watch.id, watch.watched.clone(), begin);
        } else {
            tracer.open(watch.id, watch.watched.clone(), begin);
        }
    }
    recording.play(
        settings,
        |watch, notice| {
            if !hears(&notice) {
                return;
            }
            // Timers ring at their own time, as they would have rung then.
            while let Some(due) = tracer.next_deadline().filter(|due| *due < notice.at()) {
                each(tracer.expire(due));
            }
            each(tracer.process(watch, notice));
        },
        |line, error| warn!(line, %error, "Skipping undecodable event."),
    )?;
    while !tracer.is_settled()
        && let Some(due) = tracer.next_deadline()
    {
        each(tracer.expire(due));
    }
    Ok(())
}
