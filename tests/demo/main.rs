//! The first thing to run: a real control plane and Jaeger, spanlink beside them, and changes
//! to follow.
//!
//! `cargo run --example demo [-- --jaeger http://host:16686]`

use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

#[path = "../control_plane/mod.rs"]
mod control_plane;

use control_plane::{Account, ControlPlane, Options, PersonSpan, until};

const MINUTE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let jaeger = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => None,
        ["--jaeger", url] => Some((*url).to_owned()),
        _ => bail!("usage: cargo run --example demo [-- --jaeger http://host:16686]"),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        tokio::select! {
            result = demo(jaeger) => result,
            _ = tokio::signal::ctrl_c() => {
                print_line("");
                Ok(())
            }
        }
    })
}

fn print_line(text: &str) {
    // A closed terminal needs no progress.
    writeln!(io::stdout(), "{text}").ok();
}

const INTRODUCTION: &str = "
spanlink runs beside a real control plane, under its shipped RBAC. The demo now changes
objects; each change is made in a separate trace, as by a person or a pipeline: [context …].
A row that starts with … is still open; its tree follows when everything it caused
has ended.
";

const WITHOUT_PAGES: &str = "
This Jaeger was built without its web pages, so these addresses answer in JSON.
To see traces drawn, start the demo again with --jaeger http://HOST:16686 of a
Jaeger that has its pages and takes OTLP on ports 4317 and 4318.";

const NEXT_STEPS: &str = "
The image that cannot be pulled is reported as stuck after ten seconds and fails
after fifteen; the CronJob makes a Job every full minute. To change something
yourself, in another terminal:
";

async fn demo(other_jaeger: Option<String>) -> Result<()> {
    print_line(
        "Building spanlink and, the first time, a real control plane and Jaeger from Go modules.",
    );
    print_line("That takes about a quarter of an hour on two cores, and seconds from then on.");
    let spanlink = build()?;
    let plane = ControlPlane::start(&Options::default().with_jaeger(), &print_line).await?;
    let (ui, otlp) = match &other_jaeger {
        Some(url) => {
            let host = url.rsplit_once(':').map_or(url.as_str(), |(host, _)| host);
            (url.trim_end_matches('/').to_owned(), format!("{host}:4317"))
        }
        None => (plane.jaeger()?.url(), plane.jaeger()?.otlp_grpc()),
    };
    plane.apply(&fs::read_to_string(deploy("namespace.yaml"))?).await?;
    plane.apply(&fs::read_to_string(deploy("rbac.yaml"))?).await?;
    plane.apply(WIDGETS).await?;
    plane
        .kubectl(&["wait", "--for=condition=Established", "crd/widgets.demo.spanlink.dev"])
        .await?;
    plane.kubectl(&["create", "namespace", "shop"]).await?;

    let folder = plane.folder();
    let configuration = folder.join("spanlink.yaml");
    fs::write(&configuration, CONFIGURATION)?;
    let kubeconfig = plane.kubeconfig(&Account::spanlink());
    let run = |to: &str, admin: &str| -> Result<Running> {
        let mut command = Command::new(&spanlink);
        command.args(["run", "--to", to, "--log", "error", "--config"]).arg(&configuration);
        command.arg("--kubeconfig").arg(&kubeconfig);
        command.env("SPANLINK_OTLP__ENDPOINT", &otlp).env("SPANLINK_ADMIN__LISTEN", admin);
        Ok(Running(command.stdin(Stdio::null()).spawn().context("start spanlink")?))
    };
    let admin = format!("127.0.0.1:{}", free_port()?);
    let _exporting = run("otlp", &admin)?;
    let printing_admin = format!("127.0.0.1:{}", free_port()?);
    let _printing = run("tree", &printing_admin)?;
    for admin in [&admin, &printing_admin] {
        until("spanlink to be ready", MINUTE, async || {
            let answer = reqwest::get(format!("http://{admin}/readyz")).await?;
            ensure!(answer.status().is_success(), "{}", answer.text().await?);
            Ok(())
        })
        .await?;
    }
    let _controller = tokio::spawn(widget_controller(plane.client().await?));

    print_line(INTRODUCTION);
    let collector = otlp_http(&plane, other_jaeger.as_deref(), &otlp)?;
    let mut made = Vec::new();
    for (title, service, manifest) in CHANGES {
        let person = Person::begin();
        plane.apply(&manifest.replace("TRACEPARENT", &person.traceparent())).await?;
        person.end(&collector, title).await?;
        made.push((title, service, person));
    }
    plane.kubectl(&["-n", "shop", "rollout", "status", "deployment/web"]).await?;
    let person = Person::begin();
    let update = json!({
        "metadata": { "annotations": { "tracing.k8s.io/traceparent": person.traceparent() } },
        "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "web:2" }] } } },
    });
    plane.kubectl(&["-n", "shop", "patch", "deployment", "web", "-p", &update.to_string()]).await?;
    person.end(&collector, "update the shop's image").await?;
    made.push(("update the shop's image", "deployment-controller", person));

    print_traces(&made, &ui, other_jaeger.is_some());
    print_line(&format!(
        "{NEXT_STEPS}\n  export KUBECONFIG={}\n  {} -n shop scale deployment/web --replicas=5\n\n\
         Ctrl-C ends everything.\n",
        plane.kubeconfig(&Account::Admin).display(),
        plane.kubectl_path().display()
    ));
    std::future::pending().await
}

/// Prints where the trace of each change is, and where the changes that it caused are.
fn print_traces(changes: &[(&str, &str, Person)], ui: &str, has_pages: bool) {
    print_line("\nThe traces those changes were made in, and where to look for what each caused:");
    // Only its API answers where there are no web pages.
    let (trace_page, search_page) =
        if has_pages { ("trace", "search") } else { ("api/traces", "api/traces") };
    for (title, service, person) in changes {
        let id = &person.trace_id;
        let tags = format!("%7B%22spanlink.origin.trace_id%22%3A%22{id}%22%7D");
        print_line(&format!("  {title}"));
        print_line(&format!("    its trace       {ui}/{trace_page}/{id}"));
        print_line(&format!(
            "    what it caused  {ui}/{search_page}?service={service}&tags={tags}"
        ));
    }
    if !has_pages {
        print_line(WITHOUT_PAGES);
    }
}

/// Beside the demo itself: cargo builds examples without the package's programs. Both are named, so
/// that nothing is built twice with other features.
fn build() -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "--quiet",
            "--bin",
            "spanlink",
            "--example",
            "demo",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "cargo build failed");
    let examples = std::env::current_exe()?;
    let target = examples.parent().and_then(Path::parent).context("no target folder")?;
    // Wherever the demo was built, programs are built by default as for development.
    let built = target.with_file_name("debug").join("spanlink");
    ensure!(built.exists(), "{} was not built", built.display());
    Ok(built)
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn otlp_http(plane: &ControlPlane, other: Option<&str>, otlp: &str) -> Result<String> {
    Ok(match other {
        Some(_) => otlp.replace(":4317", ":4318"),
        None => plane.jaeger()?.otlp_http(),
    })
}

/// Ends with the demo.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A client that changes the cluster within a separate trace.
struct Person {
    trace_id: String,
    span_id: String,
    started: i128,
}

impl Person {
    fn begin() -> Self {
        let word = || RandomState::new().build_hasher().finish() | 1;
        Self {
            trace_id: format!("{:016x}{:016x}", word(), word()),
            span_id: format!("{:016x}", word()),
            started: jiff::Timestamp::now().as_nanosecond(),
        }
    }

    fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    async fn end(&self, collector: &str, name: &str) -> Result<()> {
        let span = PersonSpan {
            trace_id: &self.trace_id,
            span_id: &self.span_id,
            name,
            started: self.started,
            ended: jiff::Timestamp::now().as_nanosecond(),
        };
        span.send(collector).await
    }
}

/// A controller without instrumentation: a Deployment for each Widget, then its status.
async fn widget_controller(client: Client) -> Result<()> {
    let kind = GroupVersionKind::gvk("demo.spanlink.dev", "v1", "Widget");
    let resource = ApiResource::from_gvk_with_plural(&kind, "widgets");
    let widgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), "shop", &resource);
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client, "shop");
    let manager = PatchParams::apply("widget-operator").force();
    loop {
        for widget in widgets.list(&kube::api::ListParams::default()).await? {
            let name = widget.metadata.name.clone().unwrap_or_default();
            let size = widget.data.pointer("/spec/size").and_then(Value::as_i64).unwrap_or(1);
            let child = json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": { "name": format!("{name}-widget"), "ownerReferences": [{
                    "apiVersion": "demo.spanlink.dev/v1",
                    "kind": "Widget",
                    "name": name,
                    "uid": widget.metadata.uid,
                    "controller": true,
                }] },
                "spec": {
                    "replicas": size,
                    "selector": { "matchLabels": { "widget": name } },
                    "template": {
                        "metadata": { "labels": { "widget": name } },
                        "spec": { "containers": [{ "name": "widget", "image": "widget:1" }] },
                    },
                },
            });
            let child_name = format!("{name}-widget");
            let made = deployments.patch(&child_name, &manager, &Patch::Apply(&child)).await?;
            let ready = made.status.and_then(|status| status.ready_replicas).unwrap_or(0);
            let is_ready = if i64::from(ready) == size { "True" } else { "False" };
            let status = json!({
                "apiVersion": "demo.spanlink.dev/v1",
                "kind": "Widget",
                "metadata": { "name": name },
                "status": {
                    "observedGeneration": widget.metadata.generation,
                    "conditions": [{ "type": "Ready", "status": is_ready, "reason": "Children" }],
                },
            });
            widgets.patch_status(&name, &manager, &Patch::Apply(&status)).await?;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

const CONFIGURATION: &str = r#"
cluster: {name: demo}
watch:
  - {kind: Deployment.apps, namespaces: [shop]}
  - {kind: ReplicaSet.apps, namespaces: [shop]}
  - {kind: Job.batch, namespaces: [shop]}
  - {kind: CronJob.batch, namespaces: [shop]}
  - {kind: Pod, namespaces: [shop]}
  - {kind: "*.demo.spanlink.dev", service: widget-operator}
"#;

const WIDGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.demo.spanlink.dev}
spec:
  group: demo.spanlink.dev
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: spanlink-widgets}
rules:
  - {apiGroups: [demo.spanlink.dev], resources: [widgets], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: spanlink-widgets}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: spanlink-widgets}
subjects: [{kind: ServiceAccount, name: spanlink, namespace: spanlink-system}]
"#;

const CHANGES: [(&str, &str, &str); 4] = [
    (
        "open the shop",
        "deployment-controller",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, annotations: {tracing.k8s.io/traceparent: TRACEPARENT}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: "web:1"}]}
"#,
    ),
    (
        "ship an image that cannot be pulled",
        "deployment-controller",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: broken, namespace: shop, annotations: {tracing.k8s.io/traceparent: TRACEPARENT}}
spec:
  replicas: 2
  progressDeadlineSeconds: 15
  selector: {matchLabels: {app: broken}}
  template:
    metadata: {labels: {app: broken, spanlink.test/behaviour: image-pull-back-off}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: "no-such-image:1"}]}
"#,
    ),
    (
        "schedule a report every minute",
        "cronjob-controller",
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: shop, annotations: {tracing.k8s.io/traceparent: TRACEPARENT}}
spec:
  schedule: "* * * * *"
  jobTemplate:
    metadata: {annotations: {tracing.k8s.io/traceparent: TRACEPARENT}}
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: report, image: "report:1"}]}
"#,
    ),
    (
        "ask for a widget",
        "widget-operator",
        r#"
apiVersion: demo.spanlink.dev/v1
kind: Widget
metadata: {name: gear, namespace: shop, annotations: {tracing.k8s.io/traceparent: TRACEPARENT}}
spec: {size: 2}
"#,
    ),
];
