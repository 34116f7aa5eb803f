//! `spanlink record` as a process beside a control plane, and what a replay of it says.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spanlink::{
    config::settings::Settings,
    export::tree::{Style, render},
    replay::replay,
    trace::{rules::Rules, span::Span},
};

use crate::control_plane::{Account, ControlPlane, until};

/// Of one namespace. Ends with the test, also when that fails.
pub(crate) struct Recorder<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    kinds: Vec<&'static str>,
    child: Child,
    folder: tempfile::TempDir,
}

impl<'a> Recorder<'a> {
    /// Returns when every kind has been listed.
    pub(crate) async fn begin(
        plane: &'a ControlPlane,
        namespace: &str,
        kinds: &[&'static str],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let entry = |kind| format!("  - {{kind: {kind}, namespaces: [{namespace}]}}\n");
        let entries = kinds.iter().map(entry).collect::<Vec<_>>().concat();
        fs::write(folder.path().join("spanlink.yaml"), format!("watch:\n{entries}"))?;
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
        let recorder = Self { plane, namespace, kinds: kinds.to_vec(), child, folder };
        until("every list", Duration::from_secs(30), async || {
            let lines = recorder.lines()?;
            let lists = lines.iter().filter(|line| line["type"] == "LIST_END").count();
            ensure!(lists == kinds.len(), "{lists} lists");
            Ok(())
        })
        .await?;
        Ok(recorder)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("history.jsonl")
    }

    /// Whole lines; the last may be half written.
    fn lines(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.path())?;
        Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
    }

    /// resourceVersions by name, as the recording has them.
    fn recorded(&self) -> Result<BTreeMap<String, String>> {
        let mut objects = BTreeMap::new();
        for line in self.lines()? {
            let object = &line["object"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let key = format!("{}/{}", text(&object["kind"]), text(&metadata["name"]));
            match line["type"].as_str() {
                Some("DELETED") => drop(objects.remove(&key)),
                Some("ADDED" | "MODIFIED" | "LISTED") => {
                    objects.insert(key, text(&metadata["resourceVersion"]));
                }
                _ => {}
            }
        }
        Ok(objects)
    }

    /// Returns when the recording holds everything the API server has to say of the namespace.
    async fn caught_up(&self) -> Result<()> {
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name} \
                    {.metadata.resourceVersion}{\"\\n\"}{end}";
        let kinds = self.kinds.join(",");
        until("the recording to be complete", Duration::from_secs(30), async || {
            let arguments = ["-n", &*self.namespace, "get", &*kinds, "-o", path];
            let there = self.plane.kubectl(&arguments).await?;
            let there: BTreeMap<String, String> = there
                .lines()
                .filter_map(|line| line.trim().split_once(' '))
                .map(|(key, version)| (key.to_owned(), version.to_owned()))
                .collect();
            let recorded = self.recorded()?;
            ensure!(recorded == there, "recorded {recorded:?}, there is {there:?}");
            Ok(())
        })
        .await
    }

    pub(crate) async fn spans(&self, rules: Rules) -> Result<Vec<Span>> {
        self.caught_up().await?;
        let settings = Arc::new(Settings::load(None, [])?.watch);
        let mut spans = Vec::new();
        replay(&self.path(), rules, &settings, |_| true, |out| spans.extend(out.spans))?;
        Ok(spans)
    }

    /// What a replay says, with names that are the same every time: those that a controller makes
    /// of `web` are numbered.
    pub(crate) async fn told(&self) -> Result<String> {
        let spans = self.spans(Rules::default()).await?;
        let text = render(&spans, Style::STABLE).replace(&format!("{}/", self.namespace), "");
        let mut names: Vec<String> = Vec::new();
        let words = text.split_inclusive(' ').map(|word| {
            let name = word.trim_end();
            if !name.starts_with("web-") {
                return word.to_owned();
            }
            let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            format!("web-{} ", at + 1)
        });
        Ok(words.collect())
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
