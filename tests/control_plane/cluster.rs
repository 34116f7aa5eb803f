//! The tests' access to a control plane: clients, kubectl, namespaces, nodes, history.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ServiceAccount};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::accounts::Account;
use super::jaeger::{Jaeger, http_client};
use super::plane::ControlPlane;
use super::wait::until;

const STATE_TIME_MAX: Duration = Duration::from_mins(2);

impl ControlPlane {
    /// A new client that may everything. It belongs to the runtime it was made on, so each test makes
    /// its own.
    pub(crate) async fn client(&self) -> Result<Client> {
        self.client_of(&Account::Admin).await
    }

    pub(crate) async fn client_of(&self, account: &Account) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(account))?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Client::try_from(config).context("make a client of the API server")
    }

    /// The kubeconfig file of one of the accounts that the control plane was started with.
    pub(crate) fn kubeconfig(&self, account: &Account) -> PathBuf {
        account.kubeconfig_path(&self.layout.folder)
    }

    pub(crate) fn api_server_url(&self) -> String {
        self.layout.api_server_url()
    }

    /// Where Jaeger is, if it is one of the components.
    pub(crate) fn jaeger(&self) -> Result<Jaeger> {
        Jaeger::new(self.layout.jaeger)
    }

    /// The kubectl that was built with the servers; a machine may have none of its own.
    pub(crate) fn kubectl_path(&self) -> &Path {
        &self.layout.binaries.kubectl
    }

    /// The output of kubectl for the administrator.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "").await
    }

    /// `kubectl apply` of a text with one or many documents.
    pub(crate) async fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], yaml).await
    }

    pub(crate) async fn kubectl_with_input(
        &self,
        arguments: &[impl AsRef<OsStr>],
        input: &str,
    ) -> Result<String> {
        let mut command = Command::new(&self.layout.binaries.kubectl);
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig(&Account::Admin))
            // Where it caches discovery.
            .env("HOME", &self.layout.folder)
            .env("KUBECACHEDIR", self.layout.folder.join("kubectl"));
        let shown = format!("{command:?}");
        let input = input.to_owned();
        let running = tokio::task::spawn_blocking(move || run(command, &input));
        running.await.context("wait for kubectl")?.context(shown)
    }

    /// A namespace with a name of its own that begins with `prefix`, in which Pods can be made, and
    /// in which all is there that every namespace gets: none of it is what tests do.
    pub(crate) async fn namespace(&self, prefix: &str) -> Result<String> {
        let client = self.client().await?;
        let namespace: Namespace = serde_json::from_value(
            json!({ "metadata": { "generateName": format!("{prefix}-") } }),
        )?;
        let namespace = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        let name = namespace.metadata.name.context("a namespace without a name")?;
        // Pods are refused until it exists.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        let what = format!("the service account of namespace {name}");
        until(&what, STATE_TIME_MAX, async || Ok(accounts.get("default").await?)).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client, &name);
        let what = format!("the certificates of namespace {name}");
        until(&what, STATE_TIME_MAX, async || Ok(maps.get("kube-root-ca.crt").await?)).await?;
        Ok(name)
    }

    /// A further fake node; returns when it is Ready.
    pub(crate) async fn add_node(&self, name: &str) -> Result<()> {
        self.create_node(name).await?;
        self.node_ready(name).await
    }

    pub(super) async fn create_node(&self, name: &str) -> Result<()> {
        let room = json!({ "cpu": "32", "memory": "256Gi", "pods": "1000" });
        let node: Node = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                },
            },
            "status": {
                "capacity": room,
                "allocatable": room,
                // Becomes the hostIP of its Pods. No server listens there.
                "addresses": [
                    { "type": "InternalIP", "address": "192.0.2.1" },
                    { "type": "Hostname", "address": name },
                ],
            },
        }))?;
        let nodes: Api<Node> = Api::all(self.client().await?);
        nodes
            .create(&PostParams::default(), &node)
            .await
            .with_context(|| format!("create node {name}"))?;
        Ok(())
    }

    pub(super) async fn node_ready(&self, name: &str) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client().await?);
        until(&format!("node {name} to be Ready"), STATE_TIME_MAX, async || {
            let node = nodes.get(name).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            ensure!(
                conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
                "its conditions are {conditions:?}"
            );
            // The scheduler passes it by until the taint of a new node is gone.
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            ensure!(taints.is_empty(), "its taints are {taints:?}");
            Ok(())
        })
        .await
    }

    /// Drops etcd's history up to now, and returns the revision it ends at.
    ///
    /// Afterwards older versions cannot be read (a list with `resourceVersionMatch=Exact` or an old
    /// continue token: 410) unless the API server has them in its cache. Watches do not notice: they
    /// begin from that cache, which a restart of the API server empties; it alone makes them meet 410.
    pub(crate) async fn compact(&self) -> Result<i64> {
        let found = self.ask_etcd("range", &json!({ "key": "AA==" })).await?;
        let revision = found.pointer("/header/revision").and_then(Value::as_str);
        let revision: i64 = revision.context("etcd reports no revision")?.parse()?;
        let order = json!({ "revision": revision.to_string(), "physical": true });
        self.ask_etcd("compaction", &order).await?;
        Ok(revision)
    }

    /// etcd's data: copied and put back, while etcd is killed, it is a restored backup.
    pub(crate) fn etcd_data(&self) -> PathBuf {
        self.layout.etcd_data()
    }

    async fn ask_etcd(&self, operation: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/v3/kv/{operation}", self.layout.etcd_url());
        let answer = http_client()?.post(&url).body(body.to_string()).send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        let text = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "etcd answered POST {url} with {status}: {text}");
        serde_json::from_slice(&body).with_context(|| format!("read {text} as JSON"))
    }

    /// Every request the API server has answered so far ([`audit`](super::Options::audit)).
    pub(crate) fn audit_log(&self) -> Result<Vec<Value>> {
        let path = self.layout.audit_log();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("read {}: is Options::audit on?", path.display()))?;
        // A line that is being written has no end yet.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).context("read an audit event")).collect()
    }
}

fn run(mut command: Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start")?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end before it has read everything; then its own error is the useful one.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().context("wait for the end")?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("read the output")
}
