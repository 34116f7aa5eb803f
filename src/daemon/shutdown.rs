//! SIGTERM and SIGINT: the first one stops the daemon in order, the second one ends it at once.

use std::{fmt, io, thread};

use anyhow::Context as _;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::info;

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopSignal {
    Interrupt,
    Terminate,
}

impl StopSignal {
    /// Shells report a process that was ended by a signal as 128 plus the signal's number.
    const fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 128 + 2,
            Self::Terminate => 128 + 15,
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The signal handlers of the process, from the moment they are installed.
#[derive(Clone, Debug)]
pub(super) struct ShutdownSignal {
    requested: watch::Receiver<bool>,
}

impl ShutdownSignal {
    /// Installs the handlers, before anything that may take long: as the first process of a
    /// container the daemon would otherwise ignore SIGTERM.
    ///
    /// The signals are received on a separate thread, so that the second one ends the process
    /// even while every other thread is blocked.
    pub(super) fn install() -> anyhow::Result<Self> {
        let (request, requested) = watch::channel(false);
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start the runtime that receives signals")?;
        let mut signals = {
            let _entered = runtime.enter();
            Signals::install().context("cannot install the handlers of SIGINT and SIGTERM")?
        };
        let receive = async move {
            let first = signals.next().await;
            info!(signal = %first, "Stopping. A second signal ends the process at once.");
            request.send_replace(true);
            end_process(signals.next().await);
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(receive))
            .context("cannot start the thread that receives signals")?;
        Ok(Self { requested })
    }

    /// Resolves once the first signal was received.
    pub(super) async fn requested(&mut self) {
        // The sender lives on the thread of the signals, which ends with the process only.
        if self.requested.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[expect(clippy::exit, reason = "a person who asks twice waits for no destructor")]
fn end_process(second: StopSignal) {
    info!(signal = %second, "Received a second signal; ending at once.");
    std::process::exit(second.exit_code());
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }
}
