//! Asks the API server which objects an apply of the manifests would change (`--only-changed`).

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::Context as _;
use kube::{
    Api, Client, Config, Error,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    stamp::{Annotations, ContextPlace, ObjectIdentity, applied},
    trace::model::{kind::is_built_in, object::GroupKind},
};

/// How long the API server may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const NOT_FOUND: u16 = 404;
/// The field manager of a client-side `kubectl apply`.
const CLIENT_SIDE_MANAGER: &str = "kubectl-client-side-apply";

/// How the manifests will be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApplyMode {
    /// `kubectl apply`: a patch of the differences between the last manifest, this one and the object.
    ClientSide,
    /// `kubectl apply --server-side`, Helm 4.
    ServerSide { field_manager: String },
}

/// Which context a part of an object gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The part changes: a new one.
    Changed,
    /// The part stays as it is: the context that it has, if any.
    Unchanged(Option<Annotations>),
}

/// The verdicts about an object: a changed object may have an unchanged template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) metadata: Verdict,
    pub(super) pod_template: Verdict,
}

impl Verdicts {
    pub(super) const CHANGED: Self =
        Self { metadata: Verdict::Changed, pod_template: Verdict::Changed };
}

/// Reads live objects, and lets the API server try an apply.
pub(super) struct LiveObjects {
    client: Client,
    namespace: String,
    mode: ApplyMode,
    /// The resource of each kind; `None`: the API server does not have it (yet).
    resources: HashMap<GroupVersionKind, Option<(ApiResource, Scope)>>,
}

/// Creates a client from the kubeconfig and the context, as kubectl does.
async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<Client> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &options).await?
        }
        None if context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    config.connect_timeout = Some(ANSWER_TIME_MAX);
    Ok(Client::try_from(config)?)
}

impl LiveObjects {
    /// # Errors
    /// When there is no kubeconfig, or it is invalid.
    pub(super) async fn new(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        namespace: Option<&str>,
        mode: ApplyMode,
    ) -> anyhow::Result<Self> {
        let client = client(kubeconfig, context).await.context("there is no cluster to ask")?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        Ok(Self { client, namespace, mode, resources: HashMap::new() })
    }

    /// Whether an apply of the manifest would change the live object. An object that does not exist is
    /// changed.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses the request.
    pub(super) async fn verdicts(
        &mut self,
        object: &ObjectIdentity,
        manifest: &Value,
    ) -> anyhow::Result<Verdicts> {
        let Some(name) = &object.name else { return Ok(Verdicts::CHANGED) };
        let Some((resource, scope)) = self.resource(object).await? else {
            return Ok(Verdicts::CHANGED);
        };
        let namespace = object.namespace.as_deref().unwrap_or(&self.namespace);
        let api: Api<DynamicObject> = match scope {
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
        };
        let Some(live) = answered(api.get_opt(name)).await? else { return Ok(Verdicts::CHANGED) };
        let live = serde_json::to_value(live).context("cannot read the live object")?;
        let candidate = applied::as_applied(manifest, &live);
        let result = answered(self.try_apply(&api, object, name, &candidate)).await?;
        let result =
            serde_json::to_value(result).context("cannot read the result of the dry run")?;
        Ok(self.compare(manifest, &live, &result))
    }

    async fn resource(
        &mut self,
        object: &ObjectIdentity,
    ) -> anyhow::Result<Option<(ApiResource, Scope)>> {
        let (group, version) =
            object.api_version.rsplit_once('/').unwrap_or(("", &object.api_version));
        let kind = GroupVersionKind::gvk(group, version, &object.kind);
        if let Some(known) = self.resources.get(&kind) {
            return Ok(known.clone());
        }
        let found = match timeout(ANSWER_TIME_MAX, pinned_kind(&self.client, &kind)).await {
            Ok(Ok((resource, capabilities))) => Some((resource, capabilities.scope)),
            Ok(Err(error)) if is_unknown_kind(&error) => None,
            Ok(Err(error)) => return Err(error.into()),
            Err(elapsed) => return Err(elapsed.into()),
        };
        self.resources.insert(kind, found.clone());
        Ok(found)
    }

    /// A dry run of the apply.
    async fn try_apply(
        &self,
        api: &Api<DynamicObject>,
        object: &ObjectIdentity,
        name: &str,
        candidate: &Value,
    ) -> kube::Result<DynamicObject> {
        let mut parameters = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = match &self.mode {
            ApplyMode::ServerSide { field_manager } => {
                // A conflict is the business of the apply itself.
                parameters.force = true;
                parameters.field_manager = Some(field_manager.clone());
                Patch::Apply(candidate)
            }
            ApplyMode::ClientSide => {
                parameters.field_manager = Some(CLIENT_SIDE_MANAGER.to_owned());
                // As kubectl: custom resources have no strategic merge patch.
                if is_built_in(&GroupKind::new(object.group(), &object.kind)) {
                    Patch::Strategic(candidate)
                } else {
                    Patch::Merge(candidate)
                }
            }
        };
        api.patch(name, &parameters, &patch).await
    }

    fn compare(&self, manifest: &Value, live: &Value, result: &Value) -> Verdicts {
        // A field that the manifest no longer has is in no patch; the last manifest shows it. Objects
        // of Helm 3 have no such manifest.
        let is_applied_before = |is_equal: &dyn Fn(&Value, &Value) -> bool| match self.mode {
            ApplyMode::ServerSide { .. } => true,
            ApplyMode::ClientSide => match applied::last_applied(live) {
                Some(last) => is_equal(&last, &applied::without_contexts(manifest)),
                None => is_managed_by_helm(live),
            },
        };
        let place = ContextPlace::PodTemplate;
        let is_same_object = applied::without_bookkeeping(live)
            == applied::without_bookkeeping(result)
            && is_applied_before(&|last, manifest| last == manifest);
        let is_same_template = place.is_equal(live, result)
            && is_applied_before(&|last, manifest| place.is_equal(last, manifest));
        let verdict = |is_same: bool, place: ContextPlace| {
            if is_same { Verdict::Unchanged(place.context(live)) } else { Verdict::Changed }
        };
        Verdicts {
            metadata: verdict(is_same_object, ContextPlace::Metadata),
            pod_template: verdict(is_same_template, place),
        }
    }
}

/// Waits for an answer, but not for ever.
async fn answered<T>(answer: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    let answer = timeout(ANSWER_TIME_MAX, answer).await;
    Ok(answer.context("the API server does not answer")??)
}

/// Whether an error means that a kind is not installed.
fn is_unknown_kind(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code == NOT_FOUND,
        Error::Discovery(_) => true,
        _ => false,
    }
}

/// Whether an error is the API server's answer about one object; without any answer, the other objects
/// need not be asked for.
pub(super) fn is_answer(error: &anyhow::Error) -> bool {
    let is_api_error = |error: &Error| matches!(error, Error::Api(_) | Error::SerdeError(_));
    error.downcast_ref::<Error>().is_some_and(is_api_error)
}

fn is_managed_by_helm(live: &Value) -> bool {
    let label = live.pointer("/metadata/labels/app.kubernetes.io~1managed-by");
    label.and_then(Value::as_str) == Some("Helm")
}
