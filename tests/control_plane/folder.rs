//! A folder for one control plane's data, removed however the process ends.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Statics are not dropped when a test binary exits, and nothing is when it is killed. So a shell
/// waits for the end of its input, which this process holds open, and removes the folder then.
/// Servers may still be ending, hence the second and third attempt.
const REMOVE_WHEN_INPUT_ENDS: &str = r#"
read -r _ && exit
for attempt in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 1; done
"#;

pub(crate) struct Folder {
    folder: TempDir,
    remover: Child,
}

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("spanlink-control-plane-")
            .tempdir()
            .context("make a folder for the control plane's data")?;
        let remover = Command::new("sh")
            .args(["-c", REMOVE_WHEN_INPUT_ENDS, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of a Ctrl-C at the terminal, which would end it too early.
            .process_group(0)
            .spawn()
            .context("start `sh`, which removes the control plane's data at the end")?;
        Ok(Self { folder, remover })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A line, and not the end of input, means: it is removed without you.
        if let Some(mut input) = self.remover.stdin.take() {
            input.write_all(b"\n").ok();
        }
        self.remover.wait().ok();
    }
}
