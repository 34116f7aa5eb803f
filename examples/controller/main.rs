//! An instrumented controller with kube-rs: it makes a ConfigMap for each Widget, in a span that links to
//! the trace of whoever changed the Widget. The ConfigMap carries the context of that span.
//!
//! `kubectl apply -f examples/controller/widgets.yaml`, then `cargo run -p example-controller`; the spans
//! go to `OTEL_EXPORTER_OTLP_ENDPOINT`, by default `http://localhost:4317`.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{Controller, controller::Action, watcher},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Status, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use spanlink_propagation::{Propagation, ReconcileStart};
use tracing::{info, warn};

const NAME: &str = "widget-operator";

/// Everything that a reconciliation needs besides its Widget.
struct Operator {
    client: Client,
    widgets: ApiResource,
    propagation: Propagation,
    tracer: SdkTracer,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let provider = tracer_provider()?;
    let client = Client::try_default().await.context("cannot connect to the cluster")?;
    let widgets = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let operator = Operator {
        client: client.clone(),
        widgets: widgets.clone(),
        propagation: Propagation::new(NAME, "widget"),
        tracer: provider.tracer(NAME),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &widgets);
    Controller::new_with(api, watcher::Config::default(), widgets)
        .owns(Api::<ConfigMap>::all(client), watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile, retry, Arc::new(operator))
        .for_each(|result| async {
            match result {
                Ok((widget, _)) => info!(%widget, "Reconciled."),
                Err(error) => warn!(%error, "Reconciliation failed."),
            }
        })
        .await;
    provider.shutdown().context("cannot export the last spans")
}

fn tracer_provider() -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()
        .context("cannot create the exporter of spans")?;
    let resource = Resource::builder().with_service_name(NAME).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

async fn reconcile(
    widget: Arc<DynamicObject>,
    operator: Arc<Operator>,
) -> Result<Action, kube::Error> {
    let context = operator.propagation.start_reconcile_span(
        &Context::new(),
        &operator.tracer,
        "ReconcileWidget",
        "Widget",
        widget.annotations(),
        ReconcileStart::NewRoot,
    );
    let span = context.span();
    span.set_attribute(KeyValue::new("k8s.object.name", widget.name_any()));
    let result = write_config_map(&widget, &operator, &context).await;
    if let Err(error) = &result {
        span.set_status(Status::error(error.to_string()));
    }
    span.end();
    result.map(|()| Action::await_change())
}

/// Writes the ConfigMap where it differs from the Widget, and then as a decision of this reconciliation.
async fn write_config_map(
    widget: &DynamicObject,
    operator: &Operator,
    context: &Context,
) -> Result<(), kube::Error> {
    let namespace = widget.namespace().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(operator.client.clone(), &namespace);
    let size = widget.data["spec"]["size"].to_string();
    let existing = api.get_opt(&widget.name_any()).await?;
    // An unchanged object keeps the context that it carries: another one would be a change of its own,
    // which starts the next reconciliation.
    if existing.and_then(|map| map.data).is_some_and(|data| data.get("size") == Some(&size)) {
        return Ok(());
    }
    let mut map = ConfigMap::default();
    map.metadata.name = Some(widget.name_any());
    map.metadata.owner_references =
        widget_reference(widget, operator).map(|reference| vec![reference]);
    map.data = Some([("size".to_owned(), size)].into());
    operator.propagation.inject_context(context, "ConfigMap", map.annotations_mut());
    let parameters = PatchParams::apply(NAME);
    api.patch(&widget.name_any(), &parameters, &Patch::Apply(&map)).await?;
    Ok(())
}

fn widget_reference(
    widget: &DynamicObject,
    operator: &Operator,
) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    use kube::Resource as _;
    widget.controller_owner_ref(&operator.widgets)
}

fn retry(_: Arc<DynamicObject>, error: &kube::Error, _: Arc<Operator>) -> Action {
    warn!(%error, "Retrying in five seconds.");
    Action::requeue(Duration::from_secs(5))
}
