//! The binary as a process: signals, exit codes, the environment, a task that fails.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    control_plane::until,
    daemon::Daemon,
    scripted_api_server::{POD, ScriptedApiServer},
};

const SOON: Duration = Duration::from_mins(1);
/// Well below the five seconds for which a stopped daemon waits for a silent collector.
const AT_ONCE: Duration = Duration::from_secs(3);

fn config_check(name: OsString, value: OsString) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.args(["config", "check"]).env(name, value).output().unwrap()
}

fn not_unicode(prefix: &str) -> OsString {
    OsString::from_vec([prefix.as_bytes(), b"\xff"].concat())
}

#[test]
fn variables_of_other_programs_need_not_be_unicode() {
    for (name, value) in [("X".into(), not_unicode("")), (not_unicode("X"), "1".into())] {
        let output = config_check(name, value);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "The configuration is valid.\n");
    }
}

#[test]
fn option_in_a_variable_that_is_not_unicode_is_refused_by_name() {
    for name in ["SPANLINK_DATA_DIR", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        let output = config_check(name.into(), not_unicode("/tmp/"));
        let problem = "the value is not valid UTF-8; unset the variable or correct it";
        let error = format!("spanlink: environment variable {name}: {problem}\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), error);
        assert_eq!(output.status.code(), Some(2));
    }
}

pub(crate) fn kubeconfig(folder: &Path, server: &str) -> std::path::PathBuf {
    // The daemon's pages are fetched by reqwest, which has no TLS provider of its own.
    rustls::crypto::ring::default_provider().install_default().ok();
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"{server}\"}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
         users: [{{name: test, user: {{}}}}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

pub(crate) async fn answer_cluster_uid(api: &mut ScriptedApiServer) {
    let namespace = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "kube-system", "uid": "c"}});
    let request = api.request("/api/v1/namespaces/kube-system").await;
    request.answer(200, &namespace.to_string()).await;
}

#[tokio::test]
async fn second_signal_ends_the_process_at_once() -> Result<()> {
    for (second, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let folder = tempfile::tempdir()?;
        let mut api = ScriptedApiServer::start(&[POD]).await;
        // Accepts connections and never answers: the daemon drains its outbox in vain.
        let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
        let otlp = format!("http://{}", silent.local_addr()?);
        let kubeconfig = kubeconfig(folder.path(), &api.url);
        let mut daemon = Daemon::start(&kubeconfig, &otlp, "watch: [{kind: Pod}]")?;
        answer_cluster_uid(&mut api).await;
        let watch = api.list("/api/v1/pods", &[], 5).await;
        let mut lines = watch.stream().await;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web",
            "namespace": "shop", "uid": "p", "generation": 1, "resourceVersion": "6",
            "creationTimestamp": "2026-11-28T03:00:00Z"}, "spec": {}});
        lines.send_event("ADDED", &pod).await;
        let deleted = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web",
            "namespace": "shop", "uid": "p", "generation": 1, "resourceVersion": "7",
            "creationTimestamp": "2026-11-28T03:00:00Z"}, "spec": {}});
        lines.send_event("DELETED", &deleted).await;
        until("spans to be queued", SOON, async || {
            ensure!(daemon.metric("spanlink_outbox_spans").await? > 0.5, "{}", daemon.log());
            Ok(())
        })
        .await?;
        let process = Pid::from_raw(daemon.process_id().try_into()?);
        kill(process, Signal::SIGTERM)?;
        until("the daemon to stop", SOON, async || {
            ensure!(daemon.log().contains("A second signal ends the process at once."), "not yet");
            Ok(())
        })
        .await?;
        ensure!(daemon.try_wait()?.is_none(), "it has ended: {}", daemon.log());
        let started = Instant::now();
        kill(process, second)?;
        let status = daemon.wait().await?;
        assert_eq!(status.code(), Some(code), "{status}; {}", daemon.log());
        assert_eq!(status.signal(), None);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn failed_task_ends_the_process_with_one_error_in_the_log() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // The server has no such kind, and a built-in one is not installed later.
    let mut api = ScriptedApiServer::start(&[]).await;
    let kubeconfig = kubeconfig(folder.path(), &api.url);
    let mut daemon = Daemon::start(&kubeconfig, "http://127.0.0.1:9", "watch: [{kind: Gadget}]")?;
    answer_cluster_uid(&mut api).await;
    let status = daemon.wait().await?;
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    let log = daemon.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains("Stopping because a task failed."), "{log}");
    assert!(errors[0].contains("Gadget") && errors[0].contains("\"task\":\"watch\""), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    Ok(())
}

#[tokio::test]
async fn signal_during_the_start_stops_the_daemon() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut api = ScriptedApiServer::start(&[POD]).await;
    let kubeconfig = kubeconfig(folder.path(), &api.url);
    let mut daemon = Daemon::start(&kubeconfig, "http://127.0.0.1:9", "watch: [{kind: Pod}]")?;
    // The API server does not answer; the probes do.
    let _unanswered = api.request("/api/v1/namespaces/kube-system").await;
    assert_eq!(daemon.get("/livez").await?, (200, "starting\n".to_owned()));
    assert_eq!(daemon.get("/readyz").await?, (503, "not synced: discovery\n".to_owned()));
    let (status, took) = daemon.stop().await?;
    assert!(status.success() && took < AT_ONCE, "{status}, {took:?}: {}", daemon.log());
    Ok(())
}

#[test]
fn help_of_every_command_is_printed() {
    for arguments in [&["--help"][..], &["run", "--help"], &["config", "--help"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
