//! The loop that owns the state: whatever happens comes in here, one thing after the other.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tracing::warn;

use super::clock;
use crate::{
    admin::Health,
    export::sink::Sink,
    metrics::Metrics,
    outbox::{Commit, Entry, Outbox},
    trace::{model::time::Timestamp, spans::output::Output, tracer::Tracer},
    trace_metrics,
    watch::WatchMessage,
};

/// How often the loop shows that it turns, and gauges are brought up to date.
const PULSE: Duration = Duration::from_secs(5);
/// How often what is known is written down where there is nothing to send with it.
const KEEP: Duration = Duration::from_secs(1);
/// How often a sink that prints is asked what is due.
const TICK: Duration = Duration::from_millis(250);
/// What is not synced, besides kinds.
const CHECKPOINT: &str = "checkpoint";
/// Records the outbox has no room for. With as many in hand the loop takes nothing in, and behind it
/// the watches wait.
const IN_HAND_MAX: usize = 1024;

/// What the loop owns.
pub(super) struct Core {
    pub(super) tracer: Tracer,
    pub(super) sink: Sink,
    pub(super) outbox: Outbox,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Records that are not in the outbox yet. What is known is written down with them or not at all.
    pub(super) in_hand: Vec<Bytes>,
}

/// Everything that can happen to it.
enum Input {
    WatchMessage(WatchMessage),
    Due,
    /// The outbox takes what is in hand.
    Ready,
    Keep,
    Tick,
    Pulse,
    Stop,
}

impl Core {
    pub(super) async fn turn(
        &mut self,
        mut inputs: mpsc::Receiver<WatchMessage>,
        mut stop: signal::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut pulse = every(PULSE);
        let mut keep = every(KEEP);
        let mut tick = every(TICK);
        let prints = !matches!(self.sink, Sink::Otlp(_));
        let keeps = self.outbox.is_on_disk();
        if keeps {
            self.health.synced(CHECKPOINT, false);
        }
        loop {
            let has_room = self.in_hand.len() < IN_HAND_MAX;
            let due = self.tracer.next_deadline().filter(|_| has_room);
            let input = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Input::Stop,
                _ = pulse.tick() => Input::Pulse,
                ready = self.outbox.ready(), if !self.in_hand.is_empty() => {
                    ready.map_or(Input::Stop, |()| Input::Ready)
                }
                from = inputs.recv(), if has_room => from.map_or(Input::Stop, Input::WatchMessage),
                () = until(due), if due.is_some() => Input::Due,
                _ = keep.tick(), if keeps => Input::Keep,
                _ = tick.tick(), if prints => Input::Tick,
            };
            match input {
                Input::WatchMessage(said) => self.hear(said)?,
                Input::Due => {
                    let output = self.tracer.expire(clock());
                    self.take(output)?;
                }
                Input::Ready => self.commit(),
                Input::Keep => self.keep(),
                Input::Tick => self.sink.tick(clock())?,
                Input::Pulse => self.pulse(),
                Input::Stop => break,
            }
        }
        self.sink.finish()?;
        // Whether there is room or not: it is the last.
        self.outbox.written().await;
        self.commit();
        self.outbox.written().await;
        Ok(())
    }

    fn hear(&mut self, said: WatchMessage) -> anyhow::Result<()> {
        match said {
            WatchMessage::Opened(id, watched) => self.tracer.open(id, watched, clock()),
            WatchMessage::Closed(id) => {
                let output = self.tracer.close(id, clock());
                self.take(output)?;
            }
            WatchMessage::Events(id, notices) => {
                for notice in notices {
                    let output = self.tracer.process(id, notice);
                    self.take(output)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, output: Output) -> anyhow::Result<()> {
        for note in &output.metrics {
            trace_metrics::count(&self.metrics, note);
        }
        self.in_hand.extend(self.sink.accept(output.spans, clock())?);
        Ok(())
    }

    /// Once the outbox is ready, or nothing more will come.
    fn commit(&mut self) {
        let entries = self.tracer.checkpoint().into_iter();
        let entries = entries.map(|entry| Entry { key: entry.key, value: entry.value }).collect();
        let commit = Commit { records: std::mem::take(&mut self.in_hand), entries };
        if commit != Commit::default() {
            self.outbox.commit(commit);
        }
    }

    /// It is ready once what there was at the start is written down: killed after that, it knows
    /// what has changed since.
    fn keep(&mut self) {
        if !self.outbox.is_ready() {
            return;
        }
        if self.outbox.has_lost_checkpoint() {
            match self.outbox.delete_checkpoint() {
                Ok(()) => self.tracer.rewrite_checkpoint(),
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    return warn!(error, "Cannot begin another checkpoint.");
                }
            }
        }
        self.commit();
        if self.health.missing() == [CHECKPOINT] && self.tracer.has_listed() {
            let (outbox, health) = (self.outbox.clone(), self.health.clone());
            tokio::spawn(async move {
                outbox.written().await;
                health.synced(CHECKPOINT, true);
            });
        }
    }

    fn pulse(&mut self) {
        self.health.beat(clock());
        self.metrics.open_convergences.reset();
        for ((kind, waiting_for), count) in self.tracer.open_convergences() {
            let labels = [&*kind.to_string(), waiting_for];
            self.metrics.open_convergences.with_label_values(&labels).set(count);
        }
        self.metrics.tracked_objects.reset();
        for (kind, count) in self.tracer.tracked_objects() {
            self.metrics.tracked_objects.with_label_values(&[&kind.to_string()]).set(*count);
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

async fn until(due: Option<Timestamp>) {
    if let Some(due) = due {
        sleep(due.since(clock())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::settings::Settings, export::encode::Encoder, outbox::Limits, trace::rules::Rules,
    };

    /// As liveness probes ask: a collector that is away must not end it.
    #[tokio::test(start_paused = true)]
    async fn while_the_outbox_is_full_the_loop_turns_and_takes_nothing_in() {
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
            in_hand: vec![record; IN_HAND_MAX],
        };
        let (said, inputs) = mpsc::channel(1);
        let (stop, stopped) = signal::channel(false);
        let turning = tokio::spawn(async move { core.turn(inputs, stopped).await });
        said.send(WatchMessage::Events(crate::trace::model::observation::WatchId(0), Vec::new()))
            .await
            .unwrap();
        for _ in 0..3 {
            let objects = metrics.tracked_objects.with_label_values(&["left over"]);
            objects.set(1);
            sleep(PULSE).await;
            let text = String::from_utf8(metrics.text().unwrap()).unwrap();
            assert!(!text.contains("left over"), "it has not turned");
        }
        assert_eq!(said.capacity(), 0, "it has taken something in");
        outbox.acknowledge(outbox.take(1, 100).len());
        said.reserve().await.unwrap();
        assert_eq!(outbox.len(), IN_HAND_MAX);
        stop.send_replace(true);
        turning.await.unwrap().unwrap();
    }
}
