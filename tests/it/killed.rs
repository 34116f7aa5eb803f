//! Daemons that are killed and come back, and all that they send.

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
    told::{Generated, told},
};

/// A daemon and all that it sends, whoever kills it.
pub(crate) struct Teller {
    pub(crate) daemon: Daemon,
    pub(crate) receiver: Receiver,
}

/// Whether it has a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Lost,
    Kept,
}

impl Teller {
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
            if memory == Memory::Kept {
                command.env("SPANLINK_DATA_DIR", folder.join("data"));
            }
            Ok(())
        })?;
        daemon.ready().await?;
        Ok(Self { daemon, receiver })
    }

    /// By id, and how many came again.
    pub(crate) fn told(&self) -> Result<(alike::Spans, usize)> {
        let mut spans = Vec::new();
        for got in self.receiver.accepted() {
            spans.extend(otlp_json::spans(&serde_json::to_value(&got.request)?)?);
        }
        alike::by_id(spans)
    }

    /// Killed, and at once there again.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.start_again()
    }
}

/// One that is killed again and again while things happen, until it is asked what it has to tell.
pub(crate) struct Killed {
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: mpsc::Sender<()>,
    killing: JoinHandle<Result<(Teller, usize)>>,
}

/// After how many events it is killed next, again and again: in the middle of something, and of being
/// back.
const AFTER: [usize; 8] = [2, 5, 1, 9, 3, 14, 4, 7];
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(20);

impl Killed {
    /// `history`: the file of a recording by which it is told that something happened.
    pub(crate) async fn begin(
        plane: &ControlPlane,
        configuration: &str,
        history: &Path,
    ) -> Result<Self> {
        let teller = Teller::start(plane, configuration, Memory::Kept).await?;
        let history = history.to_owned();
        let seen = count(&history)?;
        let (stop, stopped) = mpsc::channel();
        let killing = thread::spawn(move || kill_again_and_again(teller, &history, seen, &stopped));
        Ok(Self { running: Mutex::new(Some(Running { stop, killing })) })
    }

    /// Waits until it has told of the same changes, with the same causes, links and outcomes.
    pub(crate) async fn tells(&self, expected: &str, generated: &Generated) -> Result<()> {
        let running = self.running.lock().unwrap().take();
        let Running { stop, killing } = running.context("it is asked once")?;
        stop.send(()).ok();
        let (teller, kills) = killing.join().unwrap()?;
        ensure!(kills > 0, "it was never killed");
        until("the killed daemon to tell the same", Duration::from_mins(2), async || {
            let (spans, _) = teller.told()?;
            let spans: Vec<Span> = spans.into_values().collect();
            let told = std::panic::catch_unwind(|| told(&spans, generated)).ok();
            let told = told.context("a parent is missing")?;
            ensure!(
                told == expected,
                "killed {kills} times, it told\n{told}\ninstead of\n{expected}\nIts log: {}",
                teller.daemon.log()
            );
            Ok(())
        })
        .await
    }
}

/// So many lines. To read each of them so often would keep a core busy.
fn count(history: &Path) -> Result<usize> {
    Ok(memchr::memchr_iter(b'\n', &std::fs::read(history)?).count())
}

/// How many times, in the end.
fn kill_again_and_again(
    mut teller: Teller,
    history: &Path,
    mut seen: usize,
    stopped: &mpsc::Receiver<()>,
) -> Result<(Teller, usize)> {
    let mut kills = 0;
    // Also when the test is over and nobody asks.
    while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
        let lines = count(history)?;
        if lines >= seen + AFTER[kills % AFTER.len()] {
            seen = lines;
            teller.interrupt()?;
            kills += 1;
        }
    }
    Ok((teller, kills))
}
