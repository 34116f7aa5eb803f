//! `spanlink exec`: runs a command within a span.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitCode, ExitStatus},
};

use anyhow::Context as _;
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tokio::{
    process::{Child, Command},
    runtime::Builder,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
};

use super::{
    caller::{CallerContext, TRACEPARENT, TRACESTATE},
    own_span::{Ended, OwnSpan},
    warning::warn,
};
use crate::{
    config::{ConfigError, settings::Settings},
    daemon,
    error_chain::ErrorChain,
    logging,
    trace::model::span::{Attribute, SpanStatus},
};

/// Exit codes of shells, for a command that is not found and for one that cannot be run:
/// <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_08_02>.
const EXIT_NOT_FOUND: u8 = 127;
const EXIT_NOT_RUN: u8 = 126;
/// Shells report a process that a signal ended as this plus the signal's number.
const EXIT_SIGNAL: u8 = 128;

/// Log level without `--log`: standard error is the command's.
const DEFAULT_LOG: &str = "off";

/// Attributes of the
/// [semantic conventions](https://opentelemetry.io/docs/specs/semconv/registry/attributes/process/).
const PROCESS_EXECUTABLE_NAME: &str = "process.executable.name";
const PROCESS_EXIT_CODE: &str = "process.exit.code";
const PROCESS_PID: &str = "process.pid";
const ERROR_TYPE: &str = "error.type";

/// The arguments of `spanlink exec`.
#[derive(Args, Clone, Debug)]
pub struct ExecArguments {
    /// Name of the span. Default: the name of the command.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// How the command ended.
#[derive(Debug)]
enum End {
    Exited { pid: Option<u32>, status: ExitStatus },
    NotRun(io::Error),
}

/// Runs the command in a span that is a child of `TRACEPARENT`, if that is set, and returns the
/// command's exit code. Neither invalid `settings` nor a failed export changes it.
///
/// # Errors
/// When signals cannot be passed on, so that the command was not started.
pub fn exec(
    settings: Result<Settings, ConfigError>,
    arguments: &ExecArguments,
    log: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Ok(ExitCode::from(EXIT_NOT_FOUND));
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime of the command")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::install().context("cannot install the signal handlers")?;
        let executable = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
        let caller = CallerContext::from_environment().unwrap_or_else(|invalid| {
            warn(format_args!("the variable TRACEPARENT is ignored: {invalid}"));
            None
        });
        let name = arguments.name.as_deref().unwrap_or(&executable);
        let span = OwnSpan::begin(name, caller.as_ref());
        let mut command = Command::new(program);
        command.args(rest).env(TRACEPARENT, span.traceparent());
        match span.tracestate() {
            Some(tracestate) => command.env(TRACESTATE, tracestate),
            // It would be of another trace.
            None => command.env_remove(TRACESTATE),
        };
        let end = run(command, &mut signals).await;
        let code = end.exit_code();
        if let End::NotRun(error) = &end {
            warn(format_args!("cannot run {}: {error}", program.display()));
        }
        let ended = end.into_ended(&executable);
        let exported = async {
            let log = log.or(Some(DEFAULT_LOG));
            logging::during(log, async { span.export(ended, &settings?).await }).await
        };
        tokio::select! {
            exported = exported => {
                if let Err(error) = exported {
                    warn(format_args!("the span of the command is lost: {}", ErrorChain(&*error)));
                }
            }
            // Who interrupts now waits for the export only.
            _ = signals.next() => {}
        }
        Ok(ExitCode::from(code))
    });
    // A name lookup of the export must not delay the end of the process.
    runtime.shutdown_background();
    result
}

/// Runs the command to its end, and passes signals on to it.
async fn run(mut command: Command, signals: &mut Signals) -> End {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return End::NotRun(error),
    };
    let pid = child.id();
    loop {
        tokio::select! {
            status = child.wait() => {
                return match status {
                    Ok(status) => End::Exited { pid, status },
                    Err(error) => End::NotRun(error),
                };
            }
            signal = signals.next() => pass_on(signal, &child),
        }
    }
}

/// Sends a signal to the command. The terminal sends its signals to every process in its foreground,
/// the command included: a second one could end what the first one asked to stop in order.
fn pass_on(signal: Signal, child: &Child) {
    let is_terminals = matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP);
    if is_terminals && is_in_foreground() {
        return;
    }
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    // Fails where the command has just ended.
    kill(Pid::from_raw(pid), signal).ok();
}

fn is_in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

impl End {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Exited { status, .. } => match (status.code(), status.signal()) {
                (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
                (None, signal) => {
                    let signal = signal.and_then(|signal| u8::try_from(signal).ok());
                    EXIT_SIGNAL.saturating_add(signal.unwrap_or_default())
                }
            },
            Self::NotRun(error) if error.kind() == io::ErrorKind::NotFound => EXIT_NOT_FOUND,
            Self::NotRun(_) => EXIT_NOT_RUN,
        }
    }

    fn into_ended(self, executable: &str) -> Ended {
        let code = self.exit_code();
        // Not the arguments: they often contain secrets.
        let mut attributes = vec![
            Attribute::text(PROCESS_EXECUTABLE_NAME, executable),
            Attribute::int(PROCESS_EXIT_CODE, code.into()),
        ];
        let failure = match &self {
            Self::Exited { pid, status } => {
                attributes.extend(pid.map(|pid| Attribute::int(PROCESS_PID, pid.into())));
                let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
                match signal {
                    Some(signal) => Some((signal.to_string(), format!("ended by {signal}"))),
                    None if code == 0 => None,
                    None => Some((code.to_string(), format!("exit code {code}"))),
                }
            }
            Self::NotRun(error) => Some((error.kind().to_string(), error.to_string())),
        };
        let status = match failure {
            Some((kind, message)) => {
                attributes.push(Attribute::text(ERROR_TYPE, &kind));
                SpanStatus::Error(message.into())
            }
            None => SpanStatus::Unset,
        };
        Ended { at: daemon::now(), attributes, status }
    }
}

/// The signals that are passed on.
struct Signals {
    hangup: SignalStream,
    interrupt: SignalStream,
    quit: SignalStream,
    terminate: SignalStream,
    user_1: SignalStream,
    user_2: SignalStream,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.user_1.recv() => Signal::SIGUSR1,
            _ = self.user_2.recv() => Signal::SIGUSR2,
        }
    }
}
