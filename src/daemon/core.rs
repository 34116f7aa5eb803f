//! The event loop: it owns the state of the trace and handles one input after the other.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tracing::warn;

use super::{clock::now, unsampled::ContextFlags};
use crate::{
    admin::Health,
    error_chain::ErrorChain,
    export::sink::Sink,
    metrics::{Metrics, replace_gauges},
    outbox::{Commit, Entry, Outbox},
    trace::{model::time::Timestamp, spans::output::Output, tracer::Tracer},
    trace_metrics,
    watch::WatchMessage,
};

/// How often the loop reports to `/livez` and updates the gauges.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How often the checkpoint is written while no spans are committed with it.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a sink that prints may print what is due.
const PRINT_INTERVAL: Duration = Duration::from_millis(250);
/// The name of the first checkpoint in `/readyz`.
const CHECKPOINT: &str = "checkpoint";
/// Records for which the outbox has no room. With as many pending the loop receives no more watch
/// events, and the watches block.
const PENDING_RECORDS_MAX: usize = 1024;

/// The state that the event loop owns, and the parts that it drives.
pub(super) struct Core {
    pub(super) tracer: Tracer,
    pub(super) sink: Sink,
    pub(super) outbox: Outbox,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// What the contexts of objects were so far.
    pub(super) context_flags: ContextFlags,
    /// Records that are not in the outbox yet. The checkpoint is committed together with them: a
    /// restart neither repeats a span nor misses one.
    pub(super) pending_records: Vec<Bytes>,
}

/// Everything that the loop reacts to.
enum Input {
    WatchMessage(WatchMessage),
    /// A timer of the trace has expired.
    TimerExpired,
    /// The outbox has room for the pending records.
    OutboxReady,
    WriteCheckpoint,
    Print,
    ReportHealth,
    Stop,
}

impl Core {
    /// Handles inputs until `stop` is true, the watches have ended, or the outbox is closed; then
    /// commits the pending records and the checkpoint.
    ///
    /// # Errors
    /// When the sink cannot be written.
    pub(super) async fn run(
        &mut self,
        mut inputs: mpsc::Receiver<WatchMessage>,
        mut stop: signal::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut health_due = every(HEALTH_INTERVAL);
        let mut checkpoint_due = every(CHECKPOINT_INTERVAL);
        let mut print_due = every(PRINT_INTERVAL);
        let is_printing = !matches!(self.sink, Sink::Otlp(_));
        let has_checkpoint = self.outbox.is_on_disk();
        if has_checkpoint {
            self.health.set_synced(CHECKPOINT, false);
        }
        loop {
            let has_room = self.pending_records.len() < PENDING_RECORDS_MAX;
            let timer = self.tracer.next_deadline().filter(|_| has_room);
            let input = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Input::Stop,
                _ = health_due.tick() => Input::ReportHealth,
                ready = self.outbox.ready(), if !self.pending_records.is_empty() => {
                    ready.map_or(Input::Stop, |()| Input::OutboxReady)
                }
                message = inputs.recv(), if has_room => {
                    message.map_or(Input::Stop, Input::WatchMessage)
                }
                () = sleep_until(timer), if timer.is_some() => Input::TimerExpired,
                _ = checkpoint_due.tick(), if has_checkpoint => Input::WriteCheckpoint,
                _ = print_due.tick(), if is_printing => Input::Print,
            };
            match input {
                Input::WatchMessage(message) => self.process(message)?,
                Input::TimerExpired => {
                    let output = self.tracer.expire(now());
                    self.emit(output)?;
                }
                Input::OutboxReady => self.commit(),
                Input::WriteCheckpoint => self.write_checkpoint(),
                Input::Print => self.sink.tick(now(), || self.tracer.open_traces())?,
                Input::ReportHealth => self.report_health(),
                Input::Stop => break,
            }
        }
        self.sink.finish(now())?;
        // The last commit is accepted even if the outbox is full.
        self.outbox.written().await;
        self.commit();
        self.outbox.written().await;
        Ok(())
    }

    fn process(&mut self, message: WatchMessage) -> anyhow::Result<()> {
        match message {
            WatchMessage::Opened(id, watched) => self.tracer.open(id, watched, now()),
            WatchMessage::Closed(id) => {
                let output = self.tracer.close(id, now());
                self.emit(output)?;
            }
            WatchMessage::Events(id, events) => {
                for event in events {
                    let output = self.tracer.process(id, event);
                    self.emit(output)?;
                }
            }
        }
        Ok(())
    }

    fn emit(&mut self, output: Output) -> anyhow::Result<()> {
        for note in &output.metrics {
            trace_metrics::count(&self.metrics, note);
            self.context_flags.record(note);
        }
        self.pending_records.extend(self.sink.accept(output.spans, now())?);
        Ok(())
    }

    /// Commits the pending records and the changes of the checkpoint. Only when the outbox is ready,
    /// or at the end.
    fn commit(&mut self) {
        let entries = self.tracer.checkpoint().into_iter();
        let entries = entries.map(|entry| Entry { key: entry.key, value: entry.value }).collect();
        let commit = Commit { records: std::mem::take(&mut self.pending_records), entries };
        if commit != Commit::default() {
            self.outbox.commit(commit);
        }
    }

    /// Writes the changes of the checkpoint. The daemon is ready once the objects of the first lists
    /// are in it: if it is killed after that, the next run detects what has changed since.
    fn write_checkpoint(&mut self) {
        if !self.outbox.is_ready() {
            return;
        }
        if self.outbox.has_lost_checkpoint() {
            match self.outbox.delete_checkpoint() {
                Ok(()) => self.tracer.rewrite_checkpoint(),
                Err(error) => {
                    return warn!(error = %ErrorChain(&error), "Failed to reset the checkpoint.");
                }
            }
        }
        self.commit();
        if self.health.missing() == [CHECKPOINT] && self.tracer.has_listed() {
            let (outbox, health) = (self.outbox.clone(), self.health.clone());
            tokio::spawn(async move {
                outbox.written().await;
                health.set_synced(CHECKPOINT, true);
            });
        }
    }

    fn report_health(&mut self) {
        self.health.report_running(now());
        let open = self.tracer.open_convergences();
        let open = open.iter().map(|((kind, waiting_for), count)| {
            (vec![kind.to_string(), (*waiting_for).to_owned()], *count)
        });
        replace_gauges(&self.metrics.open_convergences, &open.collect());
        let tracked = self.tracer.tracked_objects().iter();
        let tracked = tracked.map(|(kind, count)| (vec![kind.to_string()], *count)).collect();
        replace_gauges(&self.metrics.tracked_objects, &tracked);
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn sleep_until(time: Option<Timestamp>) {
    if let Some(time) = time {
        sleep(time.since(now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::settings::Settings,
        export::encode::Encoder,
        outbox::Limits,
        trace::{model::observation::WatchId, rules::Rules},
    };

    /// Otherwise the liveness probe would restart the daemon whenever the collector is away.
    #[tokio::test(start_paused = true)]
    async fn loop_reports_health_but_receives_nothing_while_the_outbox_is_full() {
        let settings = Settings::load(None, []).unwrap();
        let metrics = Metrics::new().unwrap();
        let outbox = Outbox::in_memory(Limits::records(1), metrics.clone());
        let record = Bytes::from_static(b"waits");
        outbox.commit(Commit { records: vec![record.clone()], entries: Vec::new() });
        let mut core = Core {
            tracer: Tracer::new(Rules::default(), ""),
            sink: Sink::Otlp(Encoder::new(&settings.export, &settings.cluster, None)),
            outbox: outbox.clone(),
            metrics: metrics.clone(),
            health: Health::default(),
            context_flags: ContextFlags::new(&settings.trace.sampling),
            pending_records: vec![record; PENDING_RECORDS_MAX],
        };
        let (messages, inputs) = mpsc::channel(1);
        let (stop, stopped) = signal::channel(false);
        let running = tokio::spawn(async move { core.run(inputs, stopped).await });
        let message = WatchMessage::Events(WatchId(0), Vec::new());
        messages.send(message).await.unwrap();
        for _ in 0..3 {
            let objects = metrics.tracked_objects.with_label_values(&["left over"]);
            objects.set(1);
            sleep(HEALTH_INTERVAL).await;
            let text = String::from_utf8(metrics.text().unwrap()).unwrap();
            assert!(!text.contains("left over"), "the gauges were not updated");
        }
        assert_eq!(messages.capacity(), 0, "the loop received a message");
        outbox.acknowledge(outbox.take(1, 100).len());
        messages.reserve().await.unwrap();
        assert_eq!(outbox.len(), PENDING_RECORDS_MAX);
        stop.send_replace(true);
        running.await.unwrap().unwrap();
    }
}
