//! A kind that is not built in: each namespace's own, so that tests side by side have nothing in
//! common.

use anyhow::Result;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

/// Returns when the API server serves `widgets.<namespace>.example.com`.
pub(crate) async fn define(plane: &ControlPlane, namespace: &str) -> Result<()> {
    define_kind(plane, namespace, "Widget", &json!({ "status": {} })).await
}

/// Returns when the API server serves `templates.<namespace>.example.com`, a kind without a status
/// subresource.
pub(crate) async fn define_templates(plane: &ControlPlane, namespace: &str) -> Result<()> {
    define_kind(plane, namespace, "Template", &json!({})).await
}

async fn define_kind(
    plane: &ControlPlane,
    namespace: &str,
    kind: &str,
    subresources: &Value,
) -> Result<()> {
    let plural = format!("{}s", kind.to_lowercase());
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{namespace}.example.com") },
        "spec": {
            "group": format!("{namespace}.example.com"),
            "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": subresources,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                } },
            }],
        },
    });
    plane.apply(&definition.to_string()).await?;
    let name = format!("crd/{plural}.{namespace}.example.com");
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=2m", &name]).await?;
    Ok(())
}
