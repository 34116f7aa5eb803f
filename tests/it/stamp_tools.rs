//! `spanlink stamp` as the plugin or the function of other programs. Helm and kustomize are built from
//! their Go modules: `cargo test --test it stamp -- --ignored`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::{
    control_plane::{Binaries, Tool, to_stderr},
    stamp_command::{TRACEPARENT, pipe},
};

const SPANLINK: &str = env!("CARGO_BIN_EXE_spanlink");
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web # the name\nspec:\n  \
                          template:\n    spec:\n      containers: []\n";
const HOOK: &str = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: hook\n  annotations:\n    \
                    helm.sh/hook: pre-install\n";
const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec: {ports: [{port: 80}]}\n";

/// A program with the binary under two names in its PATH, and a home of its own.
pub(crate) fn program(path: &Path, folder: &Path) -> Command {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in ["spanlink", "kubectl-spanlink"] {
        let link = bin.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(SPANLINK, link).unwrap();
        }
    }
    let mut paths = vec![bin];
    paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(path);
    command
        .current_dir(folder)
        .env("PATH", env::join_paths(paths).unwrap())
        .env("HOME", folder)
        .env("TRACEPARENT", TRACEPARENT);
    command
}

pub(crate) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn chart(folder: &Path) -> PathBuf {
    let chart = folder.join("chart");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 0.1.0\n").unwrap();
    for (name, manifest) in [("web", DEPLOYMENT), ("hook", HOOK), ("service", SERVICE)] {
        fs::write(chart.join(format!("templates/{name}.yaml")), manifest).unwrap();
    }
    chart
}

/// The document of a kind in a rendered chart.
fn document<'text>(rendered: &'text str, kind: &str) -> &'text str {
    let kind = format!("kind: {kind}\n");
    rendered.split("---\n").find(|document| document.contains(&kind)).unwrap()
}

#[test]
fn kubectl_runs_the_stamp_as_its_plugin() {
    let binaries = Binaries::ready(&to_stderr).unwrap();
    let folder = TempDir::new().unwrap();
    let mut kubectl = program(&binaries.kubectl, folder.path());
    let output = pipe(kubectl.args(["spanlink", "stamp"]), DEPLOYMENT.as_bytes());
    let annotation = format!("  annotations:\n    tracing.k8s.io/traceparent: \"{TRACEPARENT}\"\n");
    let expected = DEPLOYMENT.replace("metadata:\n", &format!("metadata:\n{annotation}"));
    assert_eq!(text(&output), expected);
}

#[test]
#[ignore = "builds Helm 3 from its Go module"]
fn helm_3_runs_the_stamp_as_a_post_renderer() {
    let helm = Tool::Helm3.ready(&to_stderr).unwrap();
    let folder = TempDir::new().unwrap();
    let chart = chart(folder.path());
    let mut helm = program(&helm, folder.path());
    helm.args(["template", "shop"]).arg(chart);
    helm.args(["--post-renderer", "spanlink", "--post-renderer-args", "stamp"]);
    let rendered = text(&helm.output().unwrap());
    assert!(document(&rendered, "Deployment").contains(TRACEPARENT), "{rendered}");
    // Hooks do not pass through the post-renderer of Helm 3.
    assert_eq!(rendered.matches(TRACEPARENT).count(), 1, "{rendered}");
}

#[test]
#[ignore = "builds Helm 4 from its Go module"]
fn helm_4_runs_the_stamp_as_a_plugin() {
    let helm = Tool::Helm4.ready(&to_stderr).unwrap();
    let folder = TempDir::new().unwrap();
    let chart = chart(folder.path());
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm-plugin");
    let mut install = program(&helm, folder.path());
    text(&install.args(["plugin", "install"]).arg(plugin).output().unwrap());
    let mut template = program(&helm, folder.path());
    template.args(["template", "shop"]).arg(chart).args(["--post-renderer", "spanlink"]);
    let rendered = text(&template.output().unwrap());
    for kind in ["Deployment", "Job"] {
        let document = document(&rendered, kind);
        assert_eq!(document.matches(TRACEPARENT).count(), 1, "{rendered}");
    }
    assert!(!document(&rendered, "Service").contains(TRACEPARENT), "{rendered}");
}

#[test]
#[ignore = "builds kustomize from its Go module"]
fn kustomize_runs_the_stamp_as_a_function() {
    let kustomize = Tool::Kustomize.ready(&to_stderr).unwrap();
    let folder = TempDir::new().unwrap();
    let function = format!(
        "apiVersion: spanlink.io/v1\nkind: Stamp\nmetadata:\n  name: stamp\n  annotations:\n    \
         config.kubernetes.io/function: |\n      exec:\n        path: {SPANLINK}\n        args: [stamp]\n"
    );
    for (name, text) in [
        ("kustomization.yaml", "resources: [web.yaml, service.yaml]\ntransformers: [stamp.yaml]\n"),
        ("web.yaml", DEPLOYMENT),
        ("service.yaml", SERVICE),
        ("stamp.yaml", &function),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut kustomize = program(&kustomize, folder.path());
    kustomize.args(["build", "--enable-alpha-plugins", "--enable-exec", "."]);
    let built = text(&kustomize.output().unwrap());
    assert!(document(&built, "Deployment").contains(TRACEPARENT), "{built}");
    assert_eq!(built.matches(TRACEPARENT).count(), 1, "{built}");
}

#[test]
fn helm_plugin_has_the_version_of_the_package() {
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm-plugin/plugin.yaml");
    let plugin = fs::read_to_string(plugin).unwrap();
    assert!(plugin.contains(&format!("\nversion: {}\n", env!("CARGO_PKG_VERSION"))));
}
