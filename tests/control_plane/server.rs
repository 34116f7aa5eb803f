//! One server process, which ends with the process that started it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow};

/// A shell that becomes the server, after leaving behind a watcher: one that waits for the end of an
/// input which only our process holds open, and then kills the server.
///
/// The kernel closes that pipe whatever ends us, `kill -9` included. `PR_SET_PDEATHSIG` would need
/// unsafe code, and fires already when the *thread* ends that started the server: tests' threads do.
/// A line, and not the end of input, sends the watcher away: the server's id may be another's by then.
const BECOME_SERVER: &str = r#"
exec 3<&0
{ read -r _ <&3 || kill -KILL $$; } >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"#;

/// How much of a log an error shows.
const LOG_LINES_SHOWN: usize = 25;

/// The command, kept so that a killed server can be restarted.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) log: PathBuf,
}

pub(crate) struct Server {
    program: Program,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start(program: Program) -> Result<Self> {
        let mut server = Self { program, child: None };
        server.restart()?;
        Ok(server)
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill();
        let Program { name, path, arguments, log } = &self.program;
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log of {name}, {}", log.display()))?;
        let errors = log.try_clone().context("share a log between output and errors")?;
        let child = Command::new("sh")
            .args(["-c", BECOME_SERVER, "sh"])
            .arg(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C at the terminal is for us; the servers follow by the pipe.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({}) through `sh`", path.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends the server at once, as a lost machine would; does nothing where it is not running.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            dismiss_watcher(&mut child);
            child.wait().ok();
        }
    }

    /// The id of the server's process, which is the shell's that became it.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Fails once the server has ended by itself, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Err(anyhow!("{} was killed and not restarted", self.program.name));
        };
        let Some(status) = child.try_wait().context("ask whether a server still runs")? else {
            return Ok(());
        };
        dismiss_watcher(child);
        self.child = None;
        Err(self.ended(status))
    }

    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.program.log)
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let Program { name, log, .. } = &self.program;
        anyhow!("{name} ended by itself ({status}); its log:\n{}", log_tail(log))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn dismiss_watcher(child: &mut Child) {
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"\n").ok();
    }
}

fn log_tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_LINES_SHOWN))
        .fold(String::new(), |tail, line| tail + "  " + line + "\n")
}

/// `--name=value`, the way Kubernetes' servers and etcd take their options.
pub(crate) fn flag(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}
