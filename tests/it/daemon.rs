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

use crate::control_plane::until;

/// Ends with the test, also when that fails.
pub(crate) struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
    admin: String,
}

impl Daemon {
    /// `spanlink run`; returns when every kind is synced. `configuration` is YAML, to which the
    /// address of the admin endpoint is added.
    pub(crate) async fn run(kubeconfig: &Path, otlp: &str, configuration: &str) -> Result<Self> {
        let daemon = Self::start(kubeconfig, otlp, configuration)?;
        daemon.ready().await?;
        Ok(daemon)
    }

    pub(crate) fn start(kubeconfig: &Path, otlp: &str, configuration: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let admin = format!("127.0.0.1:{port}");
        let path = folder.path().join("spanlink.yaml");
        fs::write(&path, format!("{configuration}\nadmin: {{listen: \"{admin}\"}}\n"))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_spanlink"))
            .args(["run", "--config"])
            .arg(&path)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start spanlink")?;
        Ok(Self { child, folder, admin })
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        until("spanlink to be ready", Duration::from_secs(30), async || {
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
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
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
