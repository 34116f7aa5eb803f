//! Replays a recording: the watch events of a file go through the trace, without a cluster.

use std::{path::Path, sync::Arc};

use tracing::warn;

use crate::{
    config::settings::WatchSettings,
    trace::{
        model::{object::GroupKind, observation::WatchEvent, time::Timestamp},
        rules::Rules,
        spans::output::Output,
        tracer::Tracer,
    },
    watch::recording::{Recording, RecordingError},
};

/// Which part of a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayScope {
    /// All kinds and all Kubernetes Events.
    Everything,
    /// The configured kinds, and Kubernetes Events about the kinds whose Events are configured.
    Configured,
}

/// The output for an event of the recording, or for the time that passed before it.
#[derive(Debug)]
pub struct Replayed<'a> {
    /// The time in the recording.
    pub at: Timestamp,
    pub output: Output,
    /// The trace after the event.
    pub tracer: &'a Tracer,
}

impl ReplayScope {
    fn includes_kind(self, kind: &GroupKind, settings: &WatchSettings) -> bool {
        self == Self::Everything || settings.entry(&kind.group, &kind.kind).is_some()
    }

    fn includes_event(self, event: &WatchEvent, settings: &WatchSettings) -> bool {
        match event {
            WatchEvent::KubernetesEvent(event) => {
                self == Self::Everything
                    || settings.wants_events(&event.kind.group, &event.kind.kind)
            }
            // The tracer ignores the events of watches that are not open.
            _ => true,
        }
    }
}

/// Replays a recording and passes the output of each event to `on_replayed`, in order.
///
/// The `at` of the events is the clock. After the last event, time continues until every
/// convergence has ended. Memory grows with the objects of the recording, not with its length.
///
/// # Errors
/// When the file cannot be read, or is not a recording.
pub fn replay(
    path: &Path,
    rules: Rules,
    settings: &Arc<WatchSettings>,
    scope: ReplayScope,
    mut on_replayed: impl FnMut(Replayed<'_>),
) -> Result<(), RecordingError> {
    let recording = Recording::open(path)?;
    let Some(start) = recording.start() else { return Ok(()) };
    if recording.has_opaque_resource_versions() {
        warn!(
            recording = %path.display(),
            "The resourceVersions are not decimal numbers; events count as ordered by their lines."
        );
    }
    let mut tracer = Tracer::new(rules, "");
    for (_, watch) in recording.watches() {
        if !scope.includes_kind(&watch.watched.kind, settings) {
            continue;
        }
        if watch.starts_empty {
            tracer.open_empty(watch.id, watch.watched.clone(), start);
        } else {
            tracer.open(watch.id, watch.watched.clone(), start);
        }
    }
    recording.play(
        settings,
        |watch, event| {
            if !scope.includes_event(&event, settings) {
                return;
            }
            // Deadlines before the event expire first, as they did when it was recorded.
            while let Some(due) = tracer.next_deadline().filter(|due| *due < event.at()) {
                let output = tracer.expire(due);
                on_replayed(Replayed { at: due, output, tracer: &tracer });
            }
            let at = event.at();
            let output = tracer.process(watch, event);
            on_replayed(Replayed { at, output, tracer: &tracer });
        },
        |line, error| {
            warn!(recording = %path.display(), line, %error, "Skipping an undecodable event.");
        },
    )?;
    while !tracer.is_settled()
        && let Some(due) = tracer.next_deadline()
    {
        let output = tracer.expire(due);
        on_replayed(Replayed { at: due, output, tracer: &tracer });
    }
    Ok(())
}
