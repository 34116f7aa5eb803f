//! Runs `spanlink record` beside a control plane, and replays its recording.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spanlink::trace::{model::span::Span, rules::Rules};

use crate::{
    control_plane::{Account, ControlPlane, until},
    daemon::OWNER_WAIT,
    killed::Killed,
    scenarios::{configured, replayed},
    settled,
    span_tree::{Generated, tree},
};

/// The environment variable with a folder for recordings: a new scenario starts as one of them.
const KEEP_IN: &str = "KEEP_RECORDINGS_IN";

const SOON: Duration = Duration::from_mins(2);

/// Objects by `Kind/name`.
pub(crate) type Objects = BTreeMap<String, Value>;

/// Records one namespace and the Namespace itself. Dropping it ends the process.
pub(crate) struct Recorder<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    kinds: Vec<String>,
    child: Child,
    folder: tempfile::TempDir,
}

impl<'a> Recorder<'a> {
    /// Starts the process, and returns when every kind has been listed.
    pub(crate) async fn begin(
        plane: &'a ControlPlane,
        namespace: &str,
        kinds: &[impl ToString],
    ) -> Result<Self> {
        let names = kinds.iter().map(ToString::to_string);
        let entry = |kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n");
        let entries = names.map(entry).collect::<Vec<_>>().concat();
        Self::begin_with(plane, namespace, kinds, &format!("watch:\n{entries}")).await
    }

    /// Starts the process with a configuration that lists these kinds under `watch`, its last option.
    pub(crate) async fn begin_with(
        plane: &'a ControlPlane,
        namespace: &str,
        kinds: &[impl ToString],
        configuration: &str,
    ) -> Result<Self> {
        let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        let folder = tempfile::tempdir()?;
        // Other tests use other Namespaces of the same control plane.
        let only = selects(namespace);
        let itself = format!("  - {{kind: Namespace, label_selector: \"{only}\"}}\n");
        fs::write(folder.path().join("spanlink.yaml"), format!("{configuration}{itself}"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_spanlink"))
            .args(["record", "--config"])
            .arg(folder.path().join("spanlink.yaml"))
            .arg("--kubeconfig")
            .arg(plane.kubeconfig(&Account::Admin))
            .arg("--output")
            .arg(folder.path().join("history.jsonl"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log"))?)
            .spawn()
            .context("start spanlink")?;
        let namespace = namespace.to_owned();
        let recorder = Self { plane, namespace, kinds, child, folder };
        // The watch of Kubernetes Events adds a list.
        let lists_expected =
            recorder.kinds.len() + 1 + usize::from(configuration.contains("events: true"));
        until("every list", SOON, async || {
            let lines = recorder.lines().with_context(|| recorder.log())?;
            let lists = lines.iter().filter(|line| line["type"] == "LIST_END").count();
            ensure!(lists == lists_expected, "{lists} lists");
            Ok(())
        })
        .await?;
        Ok(recorder)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("history.jsonl")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn lines(&self) -> Result<Vec<Value>> {
        lines_of(&self.path())
    }

    /// Starts a daemon with the same configuration that is killed repeatedly.
    pub(crate) async fn killed(&self) -> Result<Killed> {
        let configuration = fs::read_to_string(self.folder.path().join("spanlink.yaml"))?;
        let patience = format!("stuck_after: {:?}\n", patient().limits.stuck_after);
        let configuration = patience + &configuration;
        Killed::begin(self.plane, &configuration, &self.path()).await
    }

    /// The latest state of every object in the recording.
    pub(crate) fn objects(&self) -> Result<Objects> {
        let mut objects = BTreeMap::new();
        for mut line in self.lines()? {
            let object = line["object"].take();
            let key = format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
            match line["type"].as_str() {
                Some("DELETED") => drop(objects.remove(&key)),
                Some("ADDED" | "MODIFIED" | "LISTED") => drop(objects.insert(key, object)),
                _ => {}
            }
        }
        Ok(objects)
    }

    /// Waits until the probe accepts the recorded objects.
    pub(crate) async fn when<T>(
        &self,
        what: &str,
        probe: impl Fn(&Objects) -> Result<T>,
    ) -> Result<T> {
        until(what, SOON, async || probe(&self.objects()?)).await
    }

    /// Fails unless the recorded objects have the resourceVersions of those on the API server.
    async fn caught_up(&self) -> Result<Objects> {
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name} \
                    {.metadata.resourceVersion}{\"\\n\"}{end}";
        let (kinds, only) = (self.kinds.join(","), selects(&self.namespace));
        let objects = ["-n", &*self.namespace, "get", &*kinds, "-o", path];
        let itself = ["get", "namespace", "-l", &*only, "-o", path];
        let there = self.plane.kubectl(&objects).await? + &self.plane.kubectl(&itself).await?;
        let there: BTreeSet<(&str, &str)> =
            there.lines().filter_map(|line| line.trim().split_once(' ')).collect();
        let recorded = self.objects()?;
        let has: BTreeSet<(&str, &str)> =
            recorded.iter().map(|(key, object)| (&**key, version(object))).collect();
        ensure!(has == there, "recorded {has:?}, there is {there:?}");
        Ok(recorded)
    }

    /// Waits until every object has converged and is recorded.
    pub(crate) async fn settled(&self) -> Result<()> {
        until("every object to converge", SOON, async || {
            // The recording alone is cheaper to check than the API server.
            settled::settled(&self.objects()?)?;
            settled::settled(&self.caught_up().await?)
        })
        .await
    }

    /// Waits until every object has converged and nothing has happened for the settle window. Two
    /// seconds more cover a reader of the backlog, whose times are whole seconds.
    pub(crate) async fn at_rest(&self) -> Result<()> {
        let held = Rules::default().limits.settle + Duration::from_secs(2);
        self.settled().await?;
        until("nothing to happen", SOON, async || {
            let written = fs::metadata(self.path())?.modified()?;
            let since = written.elapsed()?;
            ensure!(since > held, "something happened {since:?} ago");
            Ok(())
        })
        .await
    }

    /// The spans of a replay as text, once every object has converged.
    pub(crate) async fn tree(&self) -> Result<String> {
        self.settled().await?;
        if let Some(folder) = env::var_os(KEEP_IN) {
            let name = format!("{}.jsonl", self.namespace);
            fs::copy(self.path(), Path::new(&folder).join(name)).context("keep the recording")?;
        }
        Ok(tree(&self.spans(), &self.generated()?))
    }

    /// The spans of a replay of the recording so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        replayed(&self.path(), &patient(), &configured(""))
    }

    pub(crate) fn generated(&self) -> Result<Generated> {
        let mut generated = Generated::new();
        for line in self.lines()? {
            let metadata = &line["object"]["metadata"];
            let name = text(&metadata["name"]);
            let owner = settled::controller(&line["object"]);
            let begin = match (text(&line["object"]["kind"]), text(&owner["kind"])) {
                // The names of their Pods are stable.
                (_, "StatefulSet") => continue,
                ("Job", "CronJob") => text(&owner["name"]),
                ("ReplicaSet", _) => {
                    let hash = text(&metadata["labels"]["pod-template-hash"]);
                    name.strip_suffix(hash).unwrap_or_default()
                }
                _ => text(&metadata["generateName"]),
            };
            if !begin.is_empty() && begin != name {
                generated.insert(name.to_owned(), begin.trim_end_matches('-').to_owned());
            }
        }
        Ok(generated)
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits longer than the defaults, because a busy machine delays controllers.
fn patient() -> Rules {
    let mut rules = Rules { owner_wait: OWNER_WAIT, ..Rules::default() };
    rules.limits.stuck_after = Duration::from_mins(1);
    rules
}

/// Parses the complete lines; the last one may be half written.
fn lines_of(history: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(history)?;
    Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

/// A label selector for a Namespace: each carries its name as a label.
fn selects(namespace: &str) -> String {
    format!("kubernetes.io/metadata.name={namespace}")
}

fn version(object: &Value) -> &str {
    text(&object["metadata"]["resourceVersion"])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
