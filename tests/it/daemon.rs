//! The daemon as a process beside a control plane, as people run it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::control_plane::{free_port, until};

/// What two watches say of the same moment comes up to a tenth of a second apart here: the default
/// half a second is not enough for a machine that is slower, and busy.
pub(crate) const OWNER_WAIT: Duration = Duration::from_secs(2);

/// Ends with the test, also when that fails.
pub(crate) struct Daemon {
    command: Command,
    child: Child,
    folder: tempfile::TempDir,
    admin: String,
}

impl Daemon {
    /// `spanlink run`; returns when every kind is synced. `configuration` is YAML, to which the
    /// address of the admin endpoint is added, and patience with news of owners.
    pub(crate) async fn run(kubeconfig: &Path, otlp: &str, configuration: &str) -> Result<Self> {
        let daemon = Self::start(kubeconfig, otlp, configuration)?;
        daemon.ready().await?;
        Ok(daemon)
    }

    pub(crate) fn start(kubeconfig: &Path, otlp: &str, configuration: &str) -> Result<Self> {
        Self::start_with(kubeconfig, configuration, |command, _| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp);
            Ok(())
        })
    }

    /// With whatever else a person may say: arguments, environment, a file in its folder for what
    /// it prints.
    pub(crate) fn start_with(
        kubeconfig: &Path,
        configuration: &str,
        say: impl FnOnce(&mut Command, &Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Still its own after it was killed: one from the system would be anybody's meanwhile.
        let admin = format!("127.0.0.1:{}", free_port()?);
        let path = folder.path().join("spanlink.yaml");
        let ours = format!("admin: {{listen: \"{admin}\"}}\nowner_wait: {OWNER_WAIT:?}\n");
        fs::write(&path, format!("{configuration}\n{ours}"))?;
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
        command.args(["run", "--config"]).arg(&path).arg("--kubeconfig").arg(kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        say(&mut command, folder.path())?;
        let child = command.spawn().context("start spanlink")?;
        Ok(Self { command, child, folder, admin })
    }

    /// SIGKILL: nothing is said, nothing is tidied up.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Once more, after it has ended: the same command, the same files.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.child = self.command.spawn().context("start spanlink again")?;
        Ok(())
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        until("spanlink to be ready", Duration::from_mins(2), async || {
            let (status, body) = self.get("/readyz").await?;
            ensure!(status == 200, "{body}; its log: {}", self.log());
            Ok(())
        })
        .await
    }

    /// Status and body of one of its own pages.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = reqwest::get(format!("http://{}{path}", self.admin)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// A metric's value, labels included in the name; zero where there is none.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.map(str::parse).transpose()?.unwrap_or(0.0))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Of a file in its folder.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// All that it opened has ended, and nothing waits to leave.
    pub(crate) async fn is_at_rest(&self) -> Result<()> {
        let (_, text) = self.get("/metrics").await?;
        let sum = |name: &str| -> Result<f64> {
            let values = text.lines().filter(|line| line.starts_with(name));
            let values = values.filter_map(|line| line.rsplit_once(' '));
            Ok(values.map(|(_, value)| value.parse::<f64>()).sum::<Result<f64, _>>()?)
        };
        let opened = sum("spanlink_convergences_opened_total")?;
        let closed = sum("spanlink_convergences_closed_total")?;
        let waiting = sum("spanlink_outbox_spans")?;
        let is_at_rest = [opened - closed, waiting].iter().all(|count| count.abs() < 0.5);
        ensure!(is_at_rest, "{closed} of {opened} ended, {waiting} wait");
        Ok(())
    }

    /// SIGTERM; how it ended, and after how long.
    pub(crate) async fn stop(&mut self) -> Result<(ExitStatus, Duration)> {
        let begun = tokio::time::Instant::now();
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let status = until("spanlink to end", Duration::from_mins(1), async || {
            self.child.try_wait()?.context("it still runs")
        })
        .await?;
        Ok((status, begun.elapsed()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
