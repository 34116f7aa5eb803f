//! `spanlink outbox`, and the daemon whose receiver refuses spans: each is queued, in quarantine or
//! delivered, whenever the daemon is killed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use spanlink::{
    config::settings::Protocol,
    export::description::Description,
    metrics::Metrics,
    outbox::{Commit, Limits, Outbox, Refusal, Refused},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    control_plane::until,
    daemon::Daemon,
    export_support::{encoder, names, settings, span},
    process::{answer_cluster_uid, kubeconfig},
    scripted_api_server::{POD, ScriptedApiServer},
    scripted_receiver::{Receiver, Reply},
};

const SOON: Duration = Duration::from_mins(1);
const LIMITS: Limits =
    Limits { records_max: usize::MAX, bytes_max: 1 << 30, quarantine_bytes_max: 1 << 30 };
const REFUSED: Reply = Reply::Grpc(tonic::Code::InvalidArgument, None);

fn open(directory: &Path) -> Outbox {
    Outbox::on_disk(directory, LIMITS, Metrics::new().unwrap()).unwrap()
}

fn record(name: &str) -> Bytes {
    encoder(&settings(Protocol::Grpc, String::new())).record(&span("web-controller", name))
}

/// Queues one span of each name.
async fn fill(directory: &Path, names: &[String]) {
    let outbox = open(directory);
    let records = names.iter().map(|name| record(name)).collect();
    outbox.commit(Commit { records, entries: Vec::new() });
    outbox.written().await;
}

/// Queues spans and moves them to quarantine.
async fn refuse(directory: &Path, names: &[&str], code: &str) {
    let outbox = open(directory);
    let records = names.iter().map(|name| record(name)).collect();
    outbox.commit(Commit { records, entries: Vec::new() });
    outbox.filled().await;
    let count = outbox.take(usize::MAX, usize::MAX).len();
    let refusal = Refusal::new(1_767_323_045_000, code, "");
    outbox.acknowledge_refused(count, vec![Refused { indices: (0..count).collect(), refusal }]);
    outbox.written().await;
}

/// The names of the spans in the queue and in quarantine of a file that no daemon has open.
fn stored(directory: &Path) -> (Vec<String>, Vec<String>) {
    let name = |record: &Bytes| Description::from_record(record).unwrap().span_name;
    let outbox = open(directory);
    let queued = outbox.take(usize::MAX, usize::MAX).iter().map(name).collect();
    let mut refused = Vec::new();
    let visit = |entry: spanlink::outbox::QuarantineEntry| {
        refused.extend(entry.samples.iter().map(name));
    };
    outbox.read_quarantine(usize::MAX, visit).unwrap();
    (queued, refused)
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:03}")).collect()
}

/// Runs `spanlink outbox` for a data directory.
fn outbox(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    command.arg("outbox").args(arguments).env("SPANLINK_DATA_DIR", directory).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A daemon with a data directory, and the servers around it.
struct Scene {
    daemon: Daemon,
    receiver: Receiver,
    answering: JoinHandle<()>,
    directory: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Starts a daemon whose outbox has one span of each name.
    async fn start(names: &[String], replies: impl IntoIterator<Item = Reply>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let directory = folder.path().join("data");
        fill(&directory, names).await;
        let receiver = Receiver::grpc(replies, None).await;
        let mut api = ScriptedApiServer::start(&[POD]).await;
        let kubeconfig = kubeconfig(folder.path(), &api.url);
        let endpoint = format!("http://{}", receiver.address);
        // Some spans fit into one request.
        let options = "watch: [{kind: Pod}]\notlp: {request_bytes_max: 4000}";
        let daemon = Daemon::start_with(&kubeconfig, options, |command, _| {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
            command.env("SPANLINK_DATA_DIR", &directory);
            Ok(())
        })?;
        let answering = tokio::spawn(async move {
            loop {
                answer_cluster_uid(&mut api).await;
            }
        });
        Ok(Self { daemon, receiver, answering, directory, _folder: folder })
    }

    async fn until_metric_is(&self, name: &str, expected: usize) -> Result<()> {
        until(&format!("{name} to be {expected}"), SOON, async || {
            let value = self.daemon.metric(name).await?;
            ensure!((value - f64::from(u32::try_from(expected)?)).abs() < 0.5, "it is {value}");
            Ok(())
        })
        .await
        .with_context(|| self.daemon.log())
    }

    /// How often each span was accepted.
    fn accepted(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for received in self.receiver.accepted() {
            for name in names(&received) {
                let name = name.strip_prefix("web-controller: ").unwrap_or(&name);
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

#[tokio::test]
async fn refused_spans_are_listed_and_delivered_once_after_a_retry() -> Result<()> {
    let all = numbered(30);
    let mut scene = Scene::start(&all, (0..1000).map(|_| REFUSED)).await?;
    scene.until_metric_is("spanlink_quarantine_spans", 30).await?;
    scene.until_metric_is("spanlink_outbox_spans", 0).await?;
    scene.until_metric_is("spanlink_spans_dropped_total{reason=\"refused\"}", 0).await?;
    let counted = "spanlink_quarantined_spans_total{code=\"INVALID_ARGUMENT\"}";
    scene.until_metric_is(counted, 30).await?;
    assert!(scene.daemon.log().contains("spanlink outbox retry"), "{}", scene.daemon.log());
    let mode = fs::metadata(scene.directory.join("spanlink.sock"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let listed: Value =
        serde_json::from_str(&stdout(&outbox(&scene.directory, &["list", "-o", "json"])))?;
    let entry = &listed["entries"][0];
    assert_eq!((&entry["id"], &entry["spans"]), (&json!(1), &json!(30)), "{listed}");
    assert_eq!(entry["services"], json!(["web-controller"]));
    assert_eq!(entry["code"], json!("INVALID_ARGUMENT"));
    assert_eq!(entry["message"], json!("secret"));
    let table = stdout(&outbox(&scene.directory, &["list"]));
    assert!(table.starts_with("ID   TIME "), "{table}");
    assert!(table.ends_with("web-controller   INVALID_ARGUMENT: secret\n"), "{table}");

    // The same list from the file, once the daemon is gone.
    scene.daemon.kill()?;
    assert_eq!(stdout(&outbox(&scene.directory, &["list"])), table);
    scene.receiver.reply_with([]);
    scene.daemon.start_again()?;
    scene.until_metric_is("spanlink_quarantine_spans", 30).await?;
    until("the control socket", SOON, async || {
        let output = outbox(&scene.directory, &["retry", "1"]);
        ensure!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output), "Moved to the end of the queue: 1 entry with 30 spans.\n");
        Ok(())
    })
    .await?;
    scene.until_metric_is("spanlink_spans_exported_total", 30).await?;
    scene.until_metric_is("spanlink_quarantine_removed_spans_total{action=\"retry\"}", 30).await?;
    let expected: BTreeMap<String, usize> = all.into_iter().map(|name| (name, 1)).collect();
    assert_eq!(scene.accepted(), expected);
    let empty = outbox(&scene.directory, &["list"]);
    assert_eq!(
        (stdout(&empty), stderr(&empty)),
        (String::new(), "No spans in quarantine.\n".into())
    );
    Ok(())
}

#[tokio::test]
async fn killed_daemon_keeps_each_refused_span_once() -> Result<()> {
    let all = numbered(150);
    let mut scene = Scene::start(&all, (0..10_000).map(|_| REFUSED)).await?;
    let mut partial = 0;
    for round in 0..12 {
        sleep(Duration::from_millis(250 + 97 * round)).await;
        scene.daemon.kill()?;
        let (queued, refused) = stored(&scene.directory);
        partial += usize::from(!queued.is_empty() && !refused.is_empty());
        let mut found = [queued, refused].concat();
        found.sort();
        assert_eq!(found, all, "round {round}");
        scene.daemon.start_again()?;
    }
    assert!(partial > 0, "no kill was in the middle");
    scene.until_metric_is("spanlink_quarantine_spans", 150).await?;
    scene.receiver.reply_with([]);
    for round in 0..6 {
        // The daemon may be starting; then a later round retries.
        outbox(&scene.directory, &["retry"]);
        sleep(Duration::from_millis(7 * round)).await;
        scene.daemon.kill()?;
        let (queued, refused) = stored(&scene.directory);
        let mut found = [queued, refused].concat();
        let count = found.len();
        found.extend(scene.accepted().into_keys());
        found.sort();
        found.dedup();
        assert_eq!(found, all, "retry {round}");
        assert!(count <= all.len());
        scene.daemon.start_again()?;
    }
    until("the last retry", SOON, async || {
        let output = outbox(&scene.directory, &["retry"]);
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok(())
    })
    .await?;
    // A daemon that is starting has the metric, too, before it knows its queue.
    until("every span to be accepted", SOON, async || {
        let accepted: Vec<String> = scene.accepted().into_keys().collect();
        ensure!(accepted == all, "{accepted:?}");
        Ok(())
    })
    .await?;
    scene.until_metric_is("spanlink_outbox_spans", 0).await?;
    scene.daemon.kill()?;
    assert_eq!(stored(&scene.directory), (Vec::new(), Vec::new()));
    Ok(())
}

#[tokio::test]
async fn commands_work_on_the_file_while_no_daemon_runs() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    for (name, code) in [("a", "400"), ("b", "401"), ("c", "402")] {
        refuse(directory, &[name], code).await;
    }
    let dropped = outbox(directory, &["drop", "2", "9"]);
    assert_eq!(dropped.status.code(), Some(1));
    let error = "spanlink: no entry in quarantine has the id 9; see spanlink outbox list\n";
    assert_eq!(stderr(&dropped), error);
    assert_eq!(String::from_utf8_lossy(&dropped.stdout), "Dropped: 1 entry with 1 span.\n");
    let table = stdout(&outbox(directory, &["list"]));
    let ids: Vec<&str> = table.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ids, ["ID", "1", "3"]);
    assert_eq!(outbox(directory, &["drop"]).status.code(), Some(2));
    assert_eq!(outbox(directory, &["drop", "--all", "1"]).status.code(), Some(2));
    let retried = stdout(&outbox(directory, &["retry", "3"]));
    assert_eq!(retried, "Moved to the end of the queue: 1 entry with 1 span.\n");
    assert_eq!(stored(directory), (vec!["c".to_owned()], vec!["a".to_owned()]));
    assert_eq!(stdout(&outbox(directory, &["drop", "--all"])), "Dropped: 1 entry with 1 span.\n");
    assert_eq!(stored(directory), (vec!["c".to_owned()], Vec::new()));
}

#[test]
fn missing_outbox_and_a_silent_daemon_are_errors_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let missing = outbox(folder.path(), &["list"]);
    let error = format!("spanlink: there is no outbox file in {path} (option data_dir)\n");
    assert_eq!((missing.status.code(), stderr(&missing)), (Some(1), error));
    let _daemon = open(folder.path());
    let silent = stderr(&outbox(folder.path(), &["retry", "--all"]));
    assert!(silent.contains("has no control socket there; it is starting or"), "{silent}");
    let mut without = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    let without =
        without.args(["outbox", "list"]).env_remove("SPANLINK_DATA_DIR").output().unwrap();
    assert!(stderr(&without).contains("the option data_dir is not set"), "{without:?}");
}
