//! Runs the daemon as a process, as people run it.

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

/// Two watches report the same moment up to a tenth of a second apart here; the default of half a
/// second is not enough on a slow and busy machine.
pub(crate) const OWNER_WAIT: Duration = Duration::from_secs(2);

/// A `spanlink run` process. Killed when it is dropped, also when the test fails.
pub(crate) struct Daemon {
    command: Command,
    child: Child,
    folder: tempfile::TempDir,
    admin: String,
}

impl Daemon {
    /// Starts the daemon and returns when it is ready. `configuration` is YAML, to which the address
    /// of the admin server and [`OWNER_WAIT`] are added.
    pub(crate) async fn run(kubeconfig: &Path, otlp: &str, configuration: &str) -> Result<Self> {
        let daemon = Self::start(kubeconfig, otlp, configuration)?;
        daemon.ready().await?;
        Ok(daemon)
    }

    /// Starts the daemon and returns at once.
    pub(crate) fn start(kubeconfig: &Path, otlp: &str, configuration: &str) -> Result<Self> {
        Self::start_with(kubeconfig, configuration, |command, _| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp);
            Ok(())
        })
    }

    /// Starts the daemon with further arguments or variables. `prepare` gets the command and the
    /// folder of the daemon.
    pub(crate) fn start_with(
        kubeconfig: &Path,
        configuration: &str,
        prepare: impl FnOnce(&mut Command, &Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // The port stays reserved for this daemon while it is killed and started again.
        let admin = format!("127.0.0.1:{}", free_port()?);
        let path = folder.path().join("spanlink.yaml");
        let own = format!("admin: {{listen: \"{admin}\"}}\nowner_wait: {OWNER_WAIT:?}\n");
        fs::write(&path, format!("{configuration}\n{own}"))?;
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
        command.args(["run", "--config"]).arg(&path).arg("--kubeconfig").arg(kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        prepare(&mut command, folder.path())?;
        let child = command.spawn().context("start spanlink")?;
        Ok(Self { command, child, folder, admin })
    }

    /// Sends SIGKILL: the daemon cannot log or store anything.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a daemon that has ended again, with the same command and files.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.child = self.command.spawn().context("start spanlink again")?;
        Ok(())
    }

    /// Waits until `/readyz` succeeds.
    pub(crate) async fn ready(&self) -> Result<()> {
        until("spanlink to be ready", Duration::from_mins(2), async || {
            let (status, body) = self.get("/readyz").await?;
            ensure!(status == 200, "{body}; its log: {}", self.log());
            Ok(())
        })
        .await
    }

    /// Status and body of a path of the admin server.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String)> {
        let response = reqwest::get(format!("http://{}{path}", self.admin)).await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// The value of a metric, whose labels are part of `name`; zero if it does not exist.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?.unwrap_or(0.0))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The path of a file in the folder of the daemon.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Succeeds when every convergence has ended and no span waits for export.
    pub(crate) async fn is_at_rest(&self) -> Result<()> {
        let (_, text) = self.get("/metrics").await?;
        let sum = |name: &str| -> Result<f64> {
            let lines = text.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit_once(' '));
            Ok(values.map(|(_, value)| value.parse::<f64>()).sum::<Result<f64, _>>()?)
        };
        let opened = sum("spanlink_convergences_opened_total")?;
        let closed = sum("spanlink_convergences_closed_total")?;
        let queued = sum("spanlink_outbox_spans")?;
        let is_at_rest = [opened - closed, queued].iter().all(|count| count.abs() < 0.5);
        ensure!(is_at_rest, "{closed} of {opened} ended, {queued} spans are queued");
        Ok(())
    }

    /// Sends SIGTERM and waits for the end: the exit status, and how long it took.
    pub(crate) async fn stop(&mut self) -> Result<(ExitStatus, Duration)> {
        let started = tokio::time::Instant::now();
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let status = self.wait().await?;
        Ok((status, started.elapsed()))
    }

    /// Waits for the end of the process.
    pub(crate) async fn wait(&mut self) -> Result<ExitStatus> {
        until("spanlink to end", Duration::from_mins(1), async || {
            self.child.try_wait()?.context("it still runs")
        })
        .await
    }

    /// The exit status, if the process has ended.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
