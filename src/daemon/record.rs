//! `spanlink record`: writes watch events to a file.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc, watch as signal};

use super::{
    clock::now,
    runtime::{WATCH_BATCHES_MAX, block_on},
    shutdown::ShutdownSignal,
    tasks::join_failure,
};
use crate::{
    config::settings::Settings,
    logging,
    metrics::Metrics,
    watch::{
        self, Watches,
        recording::{RecordingWriter, Tap},
    },
};

/// `spanlink record`: writes raw watch events to `output`, or to standard output without it, with
/// secrets redacted. Ends at SIGTERM or SIGINT.
///
/// # Errors
/// When the cluster cannot be watched, or the recording cannot be written.
pub fn record(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    output: Option<&Path>,
    log: Option<&str>,
) -> anyhow::Result<()> {
    block_on(logging::during(log, async {
        let mut shutdown = ShutdownSignal::install()?;
        let recording = Recording::create(settings, output)?;
        let (write_failed, mut write_failure) = mpsc::channel(1);
        let (stop, stopped) = signal::channel(false);
        let (out, mut batches) = mpsc::channel(WATCH_BATCHES_MAX);
        let watches = Watches {
            client: watch::client(kubeconfig).await?,
            settings: Arc::new(settings.watch.clone()),
            metrics: Metrics::new().context("cannot register metrics")?,
            clock: now,
            out,
            stop: stopped,
            synced: Arc::new(|_, _| {}),
            resume: Vec::new(),
            tap: Some(recording.tap(write_failed)),
        };
        let mut watching = tokio::spawn(watches.run());
        let discard = async { while batches.recv().await.is_some() {} };
        let result = tokio::select! {
            () = shutdown.requested() => Ok(()),
            Some(error) = write_failure.recv() => Err(error).context("cannot write the recording"),
            error = recording.flush_when_idle() => Err(error).context("cannot write the recording"),
            ended = &mut watching => match ended {
                Ok(result) => result.map_err(Into::into),
                Err(error) => Err(anyhow::anyhow!("the watches {}", join_failure(error))),
            },
            () = discard => Ok(()),
        };
        stop.send_replace(true);
        recording.flush().context("cannot write the recording")?;
        result
    }))
}

/// The output, shared by all watches.
struct Recording {
    writer: Arc<Mutex<RecordingWriter<Box<dyn io::Write + Send>>>>,
    /// Notified of each line that is written.
    written: Arc<Notify>,
}

impl Recording {
    fn create(settings: &Settings, output: Option<&Path>) -> anyhow::Result<Self> {
        let out: Box<dyn io::Write + Send> = match output {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot create the recording {}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(BufWriter::new(io::stdout())),
        };
        let writer = RecordingWriter::new(out, &Arc::new(settings.watch.clone()));
        Ok(Self { writer: Arc::new(Mutex::new(writer)), written: Arc::default() })
    }

    fn tap(&self, write_failed: mpsc::Sender<io::Error>) -> Tap {
        let (writer, written) = (Arc::clone(&self.writer), Arc::clone(&self.written));
        Arc::new(move |watch, at, line| {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            match writer.write(watch, at, line) {
                Ok(()) => written.notify_one(),
                // One failure ends the recording; a second one has nothing to add.
                Err(error) => drop(write_failed.try_send(error)),
            }
        })
    }

    /// Flushes whenever no watch has another line at once: all of them run on this thread, and each
    /// writes every line it has received before it yields.
    async fn flush_when_idle(&self) -> io::Error {
        loop {
            self.written.notified().await;
            if let Err(error) = self.flush() {
                return error;
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
