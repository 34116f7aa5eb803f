//! The stages of the fake kubelet: kwok's documents and ours, in one configuration file.
//!
//! A Pod chooses by the label `spanlink.test/behaviour`; the documents in
//! `tests/control-plane/stages/` document each:
//!
//! | behaviour | states of the Pod |
//! | --- | --- |
//! | (no label) | Ready within a second; a Job's completes after half a second more |
//! | `general` | kwok's `pod/general`: every step takes 1 to 5 seconds, at random |
//! | `fast` | kwok's `pod/fast`: Running and Ready in one write, at once |
//! | `never-ready` | runs, and is never Ready |
//! | `image-pull-back-off` | `ErrImagePull`, `ImagePullBackOff`, and every ten seconds again |
//! | `crash-loop-back-off` | runs and exits with 1, restarts, `CrashLoopBackOff` |
//! | `pulls` | Ready like the others, once its image was pulled, which only Events show |
//! | `create-container-config-error` | `CreateContainerConfigError` |
//! | `failing-job` | a Job's: exits with 1, phase Failed |
//!
//! kwok's `pod/chaos` comes on top: a Pod with the label `pod-container-running-failed.stage.kwok.x-k8s.io:
//! "true"` fails a second or two after it ran.
//!
//! The annotation `spanlink.test/runs-for: 20s` sets how long a Job's Pod runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::binaries::SOURCES;

/// All stages as one file of YAML documents (each is JSON, which is YAML).
pub(crate) fn configuration(kwok_stages: &Path) -> Result<String> {
    let mut stages = Vec::new();
    for folder in ["node/fast", "node/heartbeat-with-lease"] {
        stages.extend(documents(&kwok_stages.join(folder))?);
    }
    stages.extend(documents(&Path::new(SOURCES).join("stages"))?);
    // Chosen by labels of their own.
    stages.extend(documents(&kwok_stages.join("pod/chaos"))?);
    for behaviour in ["general", "fast"] {
        for mut stage in documents(&kwok_stages.join("pod").join(behaviour))? {
            choose_by_label(&mut stage, behaviour);
            stages.push(stage);
        }
    }
    Ok(stages.iter().fold(String::new(), |text, stage| text + "---\n" + &stage.to_string() + "\n"))
}

/// Makes a stage that kwok ships for every Pod one for Pods that chose it.
fn choose_by_label(stage: &mut Value, behaviour: &str) {
    if let Some(expressions) =
        stage.pointer_mut("/spec/selector/matchExpressions").and_then(Value::as_array_mut)
    {
        expressions.push(json!({
            "key": r#".metadata.labels["spanlink.test/behaviour"]"#,
            "operator": "In",
            "values": [behaviour],
        }));
    }
    if let Some(name) = stage.pointer_mut("/metadata/name") {
        *name = json!(format!("{behaviour}-{}", name.as_str().unwrap_or_default()));
    }
}

/// The YAML documents of a folder, in the order of its file names.
fn documents(folder: &Path) -> Result<Vec<Value>> {
    let list = || format!("list the stage documents in {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        paths.push(entry.with_context(list)?.path());
    }
    paths.sort();
    let mut documents = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let found: Vec<Value> = serde_saphyr::from_multiple(&text)
            .with_context(|| format!("read {} as YAML", path.display()))?;
        documents.extend(found);
    }
    Ok(documents)
}
