//! The control plane as a whole: starts components in order and waits until each does its work.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use super::accounts::Account;
use super::binaries::Binaries;
use super::folder::Folder;
use super::jaeger::{Jaeger, http_client};
use super::server::{Program, Server};
use super::servers::{Component, Layout};
use super::wait::until;

/// How long a component may take until it does its work, on a machine that is busy with other things.
const READY_TIME_MAX: Duration = Duration::from_mins(3);
/// How often other processes may take a port between our choice of it and the server's start.
const STARTS_MAX: usize = 3;

/// The options of a control plane.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The components to start; [`Options::default`] has all but Jaeger.
    pub(crate) components: Vec<Component>,
    /// Fake nodes, called node-0 and so on.
    pub(crate) nodes: usize,
    /// Whether the API server keeps an audit log of every request.
    pub(crate) audit: bool,
    /// Further flags for the API server, as `--name=value`.
    pub(crate) api_server_flags: Vec<String>,
    /// The accounts with a token, besides the administrator; none can be added later.
    pub(crate) accounts: Vec<Account>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            components: vec![
                Component::Etcd,
                Component::ApiServer,
                Component::ControllerManager,
                Component::Scheduler,
                Component::Kwok,
            ],
            nodes: 1,
            audit: false,
            api_server_flags: Vec::new(),
            accounts: vec![Account::spanlink(), Account::Unprivileged],
        }
    }
}

impl Options {
    pub(crate) fn with_jaeger(mut self) -> Self {
        self.components.push(Component::Jaeger);
        self
    }

    pub(crate) fn with_audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// An API server on its etcd without controllers: objects stay as written.
    pub(crate) fn api_server_only() -> Self {
        let components = vec![Component::Etcd, Component::ApiServer];
        Self { components, nodes: 0, ..Self::default() }
    }
}

/// A running control plane; ends, and leaves nothing behind, when it is dropped.
pub(crate) struct ControlPlane {
    /// Before `folder`, so that servers end before their data goes.
    servers: Mutex<BTreeMap<Component, Server>>,
    pub(super) layout: Layout,
    folder: Folder,
}

impl ControlPlane {
    /// Builds missing binaries, starts the components, and returns when they all work.
    pub(crate) async fn start(options: &Options, progress: &dyn Fn(&str)) -> Result<Self> {
        let binaries = Binaries::ready(progress)?;
        let mut starts = 1;
        loop {
            progress("Starting the control plane.");
            match Self::start_once(options, binaries.clone()).await {
                Err(error)
                    if starts < STARTS_MAX
                        && format!("{error:#}").contains("address already in use") =>
                {
                    starts += 1;
                }
                result => return result.context("start the control plane"),
            }
        }
    }

    async fn start_once(options: &Options, binaries: Binaries) -> Result<Self> {
        let folder = Folder::new()?;
        let mut accounts = vec![Account::Admin];
        accounts.extend(options.accounts.iter().cloned());
        let layout = Layout::new(
            folder.path(),
            binaries,
            &accounts,
            options.audit,
            &options.api_server_flags,
        )?;
        let plane = Self { servers: Mutex::default(), layout, folder };
        let mut components = options.components.clone();
        components.sort();
        // The last three do not wait for each other, so start them all before waiting.
        let (first, rest): (Vec<_>, Vec<_>) =
            components.into_iter().partition(|component| *component <= Component::ApiServer);
        for component in first {
            plane.launch(component)?;
            plane.ready(component).await?;
        }
        if options.components.contains(&Component::ControllerManager) {
            plane.layout.write_root_authority()?;
        }
        for component in &rest {
            plane.launch(*component)?;
        }
        for node in 0..options.nodes {
            plane.create_node(&format!("node-{node}")).await?;
        }
        for component in rest {
            plane.ready(component).await?;
        }
        for node in 0..options.nodes {
            plane.node_ready(&format!("node-{node}")).await?;
        }
        Ok(plane)
    }

    /// Starts another server beside the components, such as an operator. It ends when the returned
    /// value is dropped.
    pub(crate) fn start_beside(
        &self,
        name: &'static str,
        path: PathBuf,
        arguments: Vec<OsString>,
    ) -> Result<Server> {
        let log = self.layout.folder.join(format!("{name}.log"));
        Server::start(Program { name, path, arguments, log })
    }

    /// Ends a component at once, as a lost machine would.
    pub(crate) fn kill(&self, component: Component) {
        if let Some(server) = self.servers().get_mut(&component) {
            server.kill();
        }
    }

    /// Starts a component again, on the same port and data, and returns when it works.
    pub(crate) async fn restart(&self, component: Component) -> Result<()> {
        self.launch(component)?;
        self.ready(component).await
    }

    pub(crate) fn kill_api_server(&self) {
        self.kill(Component::ApiServer);
    }

    pub(crate) async fn restart_api_server(&self) -> Result<()> {
        self.restart(Component::ApiServer).await
    }

    /// Takes Jaeger away, with the traces it had; [`Self::resume_jaeger`] brings it back, empty.
    pub(crate) fn pause_jaeger(&self) {
        self.kill(Component::Jaeger);
    }

    pub(crate) async fn resume_jaeger(&self) -> Result<()> {
        self.restart(Component::Jaeger).await
    }

    /// The process of a running component: to stop and continue it, or to measure it.
    pub(crate) fn process_id(&self, component: Component) -> Option<u32> {
        self.servers().get(&component).and_then(Server::id)
    }

    /// The last lines that a component logged.
    pub(crate) fn log_tail(&self, component: Component) -> String {
        self.servers().get(&component).map(Server::log_tail).unwrap_or_default()
    }

    /// Everything this control plane writes lies below this folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<Component, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, component: Component) -> Result<()> {
        let mut servers = self.servers();
        if let Some(server) = servers.get_mut(&component) {
            return server.restart();
        }
        servers.insert(component, Server::start(self.layout.program(component))?);
        Ok(())
    }

    fn check(&self, component: Component) -> Result<()> {
        self.servers().get_mut(&component).context("it was never started")?.check()
    }

    /// Waits until a component works; a component that ended is not waited for.
    async fn ready(&self, component: Component) -> Result<()> {
        let what = format!("{component:?} to be ready");
        let outcome = until(&what, READY_TIME_MAX, async || {
            if let Err(ended) = self.check(component) {
                return Ok(Err(ended));
            }
            self.probe(component).await.map(Ok)
        });
        let outcome = outcome.await;
        outcome
            .with_context(|| format!("the end of its log:\n{}", self.log_tail(component)))
            .flatten()
    }

    /// Fails as long as a component does not do its work yet.
    async fn probe(&self, component: Component) -> Result<()> {
        match component {
            Component::Etcd => {
                let url = format!("{}/health", self.layout.etcd_url());
                let answer = http_client()?.get(url).send().await?;
                ensure!(answer.status().is_success(), "/health answers {}", answer.status());
            }
            Component::ApiServer => {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                self.client().await?.request_text(request).await?;
            }
            Component::ControllerManager => {
                let accounts: Api<ServiceAccount> =
                    Api::namespaced(self.client().await?, "default");
                accounts.get("default").await?;
            }
            Component::Jaeger => {
                Jaeger::new(self.layout.jaeger)?.services().await?;
            }
            // Their work shows in Pods and Nodes only.
            Component::Scheduler | Component::Kwok => {}
        }
        Ok(())
    }
}
