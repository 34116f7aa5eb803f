//! Builds the servers from Go modules into a cache outside the clone, once.

use std::env;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

/// The Go modules, and the stage documents of our own beside them.
pub(crate) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control-plane");

/// A folder below [`SOURCES`] with a go.mod and a go.sum, and the binaries built from it.
struct Module {
    folder: &'static str,
    /// Whose version in go.mod the servers are stamped with.
    stamp: Option<&'static str>,
    /// The name of the binary and the package that becomes it.
    binaries: &'static [(&'static str, &'static str)],
    /// How long a first build takes on two cores; part of the progress message.
    minutes: u8,
}

const MODULES: [Module; 3] = [
    Module {
        folder: "kubernetes",
        // Unstamped, the API server calls itself v0.0.0.
        stamp: Some("k8s.io/kubernetes"),
        binaries: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ("etcd", "go.etcd.io/etcd/server/v3"),
        ],
        minutes: 7,
    },
    Module {
        folder: "kwok",
        stamp: None,
        binaries: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
        minutes: 2,
    },
    Module {
        folder: "jaeger",
        stamp: None,
        binaries: &[("jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger")],
        minutes: 4,
    },
];

// No parts of the control plane: each is built when the first test asks for it.

/// Judges objects as kstatus does.
const KSTATUS: Module =
    Module { folder: "kstatus", stamp: None, binaries: &[("kstatus", ".")], minutes: 2 };

/// Carries contexts in annotations as OpenTelemetry for Go does; built only where it is asked, too.
const PROPAGATION: Module =
    Module { folder: "propagation", stamp: None, binaries: &[("propagation", ".")], minutes: 1 };
/// Evaluates health checks as Flux does.
const FLUX: Module = Module { folder: "flux", stamp: None, binaries: &[("flux", ".")], minutes: 4 };

/// An operator that nothing instrumented: its controller and, in its module, its definitions.
const ARGO_ROLLOUTS: Module = Module {
    folder: "argo-rollouts",
    stamp: None,
    binaries: &[(
        "rollouts-controller",
        "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
    )],
    minutes: 4,
};

/// Programs that run `spanlink stamp`; built only where a test asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Helm3,
    Helm4,
    Kustomize,
}

impl Tool {
    const fn module(self) -> Module {
        const HELM_3: &[(&str, &str)] = &[("helm", "helm.sh/helm/v3/cmd/helm")];
        const HELM_4: &[(&str, &str)] = &[("helm", "helm.sh/helm/v4/cmd/helm")];
        const KUSTOMIZE: &[(&str, &str)] = &[("kustomize", "sigs.k8s.io/kustomize/kustomize/v5")];
        let (folder, binaries, minutes) = match self {
            Self::Helm3 => ("helm3", HELM_3, 4),
            Self::Helm4 => ("helm4", HELM_4, 4),
            Self::Kustomize => ("kustomize", KUSTOMIZE, 1),
        };
        Module { folder, stamp: None, binaries, minutes }
    }

    /// Builds the program where it is missing, and returns its path.
    pub(crate) fn ready(self, progress: &dyn Fn(&str)) -> Result<PathBuf> {
        let module = self.module();
        let [(name, _)] = module.binaries else { bail!("a tool is one program") };
        Ok(ready(&module, progress)?.join(name))
    }
}

/// The binaries that envtest's convention, `KUBEBUILDER_ASSETS`, provides.
const KUBEBUILDER: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];

/// Stage documents that kwok's module ships, below its `kustomize/stage`.
const KWOK_STAGES: [&str; 5] =
    ["pod/chaos", "pod/general", "pod/fast", "node/fast", "node/heartbeat-with-lease"];

/// Part of the name of a binary that is being built.
const UNFINISHED: &str = ".unfinished-";

/// Where the servers are.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) kube_apiserver: PathBuf,
    pub(crate) kube_controller_manager: PathBuf,
    pub(crate) kube_scheduler: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) kwok: PathBuf,
    pub(crate) jaeger: PathBuf,
    /// kwok's own stage documents: `pod/general/*.yaml` and so on.
    pub(crate) kwok_stages: PathBuf,
}

impl Binaries {
    /// Builds missing binaries and reports slow steps to `progress`. Blocks for minutes the first time.
    pub(crate) fn ready(progress: &dyn Fn(&str)) -> Result<Self> {
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
        let lock = lock(&cache, progress)?;
        let mut folders = Vec::new();
        for module in &MODULES {
            folders.push(module.ready(&cache, progress)?);
        }
        let [kubernetes, kwok, jaeger] = folders.as_slice() else {
            bail!("there are {} Go modules, not three", folders.len());
        };
        let kwok_stages = kwok_stages_ready(kwok)?;
        drop(lock);
        let provided = |name| provided(name).unwrap_or_else(|| kubernetes.join(name));
        Ok(Self {
            kube_apiserver: provided("kube-apiserver"),
            kube_controller_manager: kubernetes.join("kube-controller-manager"),
            kube_scheduler: kubernetes.join("kube-scheduler"),
            kubectl: provided("kubectl"),
            etcd: provided("etcd"),
            kwok: kwok.join("kwok"),
            jaeger: jaeger.join("jaeger"),
            kwok_stages,
        })
    }
}

/// Builds the judge of `tests/control-plane/kstatus` where it is missing, and returns its path.
pub(crate) fn kstatus_ready(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    Ok(ready(&KSTATUS, progress)?.join("kstatus"))
}

/// Builds `tests/control-plane/propagation` where it is missing, and returns the path of the binary.
pub(crate) fn propagation_ready(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    Ok(ready(&PROPAGATION, progress)?.join("propagation"))
}

/// Builds the evaluator of `tests/control-plane/flux` where it is missing, and returns its path.
pub(crate) fn flux_ready(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    Ok(ready(&FLUX, progress)?.join("flux"))
}

/// The controller of argo-rollouts, and the folder of the definitions of its kinds.
pub(crate) struct ArgoRollouts {
    pub(crate) controller: PathBuf,
    pub(crate) definitions: PathBuf,
}

/// Builds argo-rollouts where it is missing.
pub(crate) fn argo_rollouts_ready(progress: &dyn Fn(&str)) -> Result<ArgoRollouts> {
    let folder = ready(&ARGO_ROLLOUTS, progress)?;
    let definitions = folder.join("crds");
    if !definitions.is_dir() {
        let module = ARGO_ROLLOUTS.source_of("github.com/argoproj/argo-rollouts")?;
        copy_documents(&module.join("manifests/crds"), &definitions)?;
    }
    Ok(ArgoRollouts { controller: folder.join("rollouts-controller"), definitions })
}

/// Builds what is missing of a module, and returns the folder of its binaries.
fn ready(module: &Module, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let _lock = lock(&cache, progress)?;
    module.ready(&cache, progress)
}

/// `$CONTROL_PLANE_CACHE`, or a folder of the user's cache: never the clone, which `git clean` empties.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CONTROL_PLANE_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let user = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or_else(|| {
            anyhow!(
                "no place for the test servers: set CONTROL_PLANE_CACHE, XDG_CACHE_HOME or HOME"
            )
        })?;
    Ok(user.join("spanlink/control-plane"))
}

/// Lets one process build while the others wait for the result.
fn lock(cache: &Path, progress: &dyn Fn(&str)) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    if file.try_lock().is_err() {
        progress("Another process builds the control plane; waiting for it.");
        file.lock().with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

/// The binaries in `KUBEBUILDER_ASSETS`, where it is set.
fn provided(name: &str) -> Option<PathBuf> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty())?;
    let path = Path::new(&assets).join(name);
    (KUBEBUILDER.contains(&name) && path.is_file()).then_some(path)
}

impl Module {
    fn source(&self) -> PathBuf {
        Path::new(SOURCES).join(self.folder)
    }

    /// Builds missing binaries, and returns their folder, which is named after its sources, so
    /// that clones at different versions do not overwrite each other's.
    fn ready(&self, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
        let target = cache.join(format!("{}-{}", self.folder, self.digest()?));
        let missing: Vec<_> = self
            .binaries
            .iter()
            .filter(|(name, _)| provided(name).is_none() && !target.join(name).is_file())
            .collect();
        if missing.is_empty() {
            return Ok(target);
        }
        fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
        remove_unfinished(&target)?;
        for (name, package) in missing {
            progress(&format!(
                "Building {name} in {} (once; all of {} takes up to {} minutes on two cores).",
                target.display(),
                self.folder,
                self.minutes
            ));
            self.build(name, package, &target)?;
        }
        Ok(target)
    }

    fn digest(&self) -> Result<String> {
        let mut digest = Sha256::new();
        // Some modules have a main package beside their requirements.
        for name in ["go.mod", "go.sum", "main.go"] {
            let path = self.source().join(name);
            if name == "main.go" && !path.is_file() {
                continue;
            }
            digest.update(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
        // Six bytes are enough to distinguish versions.
        let digest = digest.finalize();
        let digest = digest.iter().take(6);
        Ok(digest.fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
    }

    fn build(&self, name: &str, package: &str, target: &Path) -> Result<()> {
        // Under its own name a binary is complete. A `go` whose test was killed may still be writing,
        // so no two processes write to the same file.
        let unfinished = target.join(format!("{name}{UNFINISHED}{}", std::process::id()));
        self.go(&[
            "build".as_ref(),
            "-trimpath".as_ref(),
            // A clone without its history builds too.
            "-buildvcs=false".as_ref(),
            "-ldflags".as_ref(),
            self.linker_flags()?.as_ref(),
            "-o".as_ref(),
            unfinished.as_os_str(),
            package.as_ref(),
        ])
        .with_context(|| format!("build {name} from {package}"))?;
        fs::rename(&unfinished, target.join(name)).with_context(|| format!("put {name} in place"))
    }

    fn linker_flags(&self) -> Result<String> {
        let Some(stamp) = self.stamp else { return Ok("-s -w".to_owned()) };
        let version = self.version(stamp)?;
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let variable = "-X k8s.io/component-base/version.git";
        Ok(format!(
            "-s -w {variable}Version={version} {variable}Major={major} {variable}Minor={minor}"
        ))
    }

    /// The version that go.mod requires, so that it is written in one place.
    fn version(&self, module: &str) -> Result<String> {
        let version = self.go(&["list", "-m", "-f", "{{.Version}}", module].map(AsRef::as_ref))?;
        Ok(version.trim().to_owned())
    }

    /// Where Go keeps the source of a module that this one requires.
    fn source_of(&self, module: &str) -> Result<PathBuf> {
        let folder = self.go(&["list", "-m", "-f", "{{.Dir}}", module].map(AsRef::as_ref))?;
        Ok(PathBuf::from(folder.trim()))
    }

    /// Runs the go command in the module's folder, and returns its output.
    fn go(&self, arguments: &[&std::ffi::OsStr]) -> Result<String> {
        let output = Command::new("go")
            .args(arguments)
            .current_dir(self.source())
            .env("CGO_ENABLED", "0")
            // The committed go.mod and go.sum decide, whatever the user's own settings are.
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off")
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(anyhow!(error).context(
                    "the tests build a real control plane and need Go for it: install Go 1.26 or \
                     newer (https://go.dev/dl/) and have `go` in PATH",
                ));
            }
            Err(error) => return Err(anyhow!(error).context("run `go`")),
        };
        ensure!(
            output.status.success(),
            "`go` in {} ended with {}:\n{}",
            self.source().display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).context("read the output of `go`")
    }
}

/// Removes what interrupted builds left behind.
fn remove_unfinished(target: &Path) -> Result<()> {
    let list = || format!("list {}", target.display());
    for entry in fs::read_dir(target).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.is_file() && path.to_string_lossy().contains(UNFINISHED) {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Copies the stage documents out of kwok's module, which lies in Go's module cache since the build.
fn kwok_stages_ready(kwok: &Path) -> Result<PathBuf> {
    let target = kwok.join("stages");
    let missing: Vec<&str> =
        KWOK_STAGES.into_iter().filter(|name| !target.join(name).is_dir()).collect();
    if missing.is_empty() {
        return Ok(target);
    }
    let [_, module, _] = &MODULES;
    let source = module.source_of("sigs.k8s.io/kwok")?.join("kustomize/stage");
    for name in missing {
        copy_documents(&source.join(name), &target.join(name))?;
    }
    Ok(target)
}

/// Copies the YAML documents of a folder, but for the list of kustomize.
fn copy_documents(from: &Path, to: &Path) -> Result<()> {
    let unfinished = to.with_extension("unfinished");
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry.with_context(|| format!("list {}", from.display()))?.path();
        let Some(file) = path.file_name() else { continue };
        if path.extension().is_some_and(|extension| extension == "yaml")
            && file != "kustomization.yaml"
        {
            // Read and written, not copied: Go's module cache is read-only, copies would be too.
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            fs::write(unfinished.join(file), text)
                .with_context(|| format!("write into {}", unfinished.display()))?;
        }
    }
    fs::rename(&unfinished, to).with_context(|| format!("put {} in place", to.display()))
}
