//! Daemons that are killed and restarted, and the spans they export.

use std::{
    path::Path,
    sync::{Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use spanlink::trace::model::span::Span;

use crate::{
    alike,
    control_plane::{Account, ControlPlane, until},
    daemon::Daemon,
    otlp_json,
    scripted_receiver::Receiver,
    span_tree::{Generated, tree},
};

/// A daemon, and a receiver that collects all spans of its restarts.
pub(crate) struct KilledDaemon {
    pub(crate) daemon: Daemon,
    pub(crate) receiver: Receiver,
}

/// Whether the daemon has a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Lost,
    Kept,
}

impl KilledDaemon {
    pub(crate) async fn start(
        plane: &ControlPlane,
        configuration: &str,
        memory: Memory,
    ) -> Result<Self> {
        let receiver = Receiver::grpc([], None).await;
        let otlp = format!("http://{}", receiver.address);
        let kubeconfig = plane.kubeconfig(&Account::Admin);
        let daemon = Daemon::start_with(&kubeconfig, configuration, |command, folder| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp);
            // Relists are logged at debug level; a test may look for their reasons.
            command.args(["--log", "info,spanlink::watch::run=debug"]);
            if memory == Memory::Kept {
                command.env("SPANLINK_DATA_DIR", folder.join("data"));
            }
            Ok(())
        })?;
        daemon.ready().await?;
        Ok(Self { daemon, receiver })
    }

    /// The exported spans by id, and the number of repeats.
    pub(crate) fn spans(&self) -> Result<(alike::Spans, usize)> {
        let mut spans = Vec::new();
        for got in self.receiver.accepted() {
            spans.extend(otlp_json::spans(&serde_json::to_value(&got.request)?)?);
        }
        alike::by_id(spans)
    }

    /// Kills the daemon and restarts it at once.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.start_again()
    }
}

/// A daemon that is killed repeatedly while a test runs, until its spans are compared.
pub(crate) struct Killed {
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: mpsc::Sender<()>,
    killing: JoinHandle<Result<(KilledDaemon, usize)>>,
}

/// The number of events between kills, cyclic. Some kills hit a daemon that is still restoring.
const AFTER: [usize; 8] = [2, 5, 1, 9, 3, 14, 4, 7];
/// How often the recording is checked for new events.
const LOOK: Duration = Duration::from_millis(20);

impl Killed {
    /// `history` is the file of a recording; a new line in it is a new event.
    pub(crate) async fn begin(
        plane: &ControlPlane,
        configuration: &str,
        history: &Path,
    ) -> Result<Self> {
        let daemon = KilledDaemon::start(plane, configuration, Memory::Kept).await?;
        let history = history.to_owned();
        let seen = count(&history)?;
        let (stop, stopped) = mpsc::channel();
        let killing = thread::spawn(move || kill_again_and_again(daemon, &history, seen, &stopped));
        Ok(Self { running: Mutex::new(Some(Running { stop, killing })) })
    }

    /// Waits until the spans have the same changes, causes, links and outcomes as `expected`.
    pub(crate) async fn expect_tree(&self, expected: &str, generated: &Generated) -> Result<()> {
        let running = self.running.lock().unwrap().take();
        let Running { stop, killing } = running.context("the spans can be compared once only")?;
        stop.send(()).ok();
        let (daemon, kills) = killing.join().unwrap()?;
        ensure!(kills > 0, "the daemon was never killed");
        until("the killed daemon to export the same spans", Duration::from_mins(2), async || {
            let (spans, _) = daemon.spans()?;
            let spans: Vec<Span> = spans.into_values().collect();
            let actual = std::panic::catch_unwind(|| tree(&spans, generated)).ok();
            let actual = actual.context("a parent is missing")?;
            ensure!(
                actual == expected,
                "after {kills} kills the spans are\n{actual}\ninstead of\n{expected}\nIts log: {}",
                daemon.daemon.log()
            );
            Ok(())
        })
        .await
    }
}

/// The number of lines. Parsing each of them this often would keep a core busy.
fn count(history: &Path) -> Result<usize> {
    Ok(memchr::memchr_iter(b'\n', &std::fs::read(history)?).count())
}

/// Returns the daemon and the number of kills.
fn kill_again_and_again(
    mut daemon: KilledDaemon,
    history: &Path,
    mut seen: usize,
    stopped: &mpsc::Receiver<()>,
) -> Result<(KilledDaemon, usize)> {
    let mut kills = 0;
    // A test that ends early drops the sender, which ends the loop too.
    while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
        let lines = count(history)?;
        if lines >= seen + AFTER[kills % AFTER.len()] {
            seen = lines;
            daemon.interrupt()?;
            kills += 1;
        }
    }
    Ok((daemon, kills))
}
