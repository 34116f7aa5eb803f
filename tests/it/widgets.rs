//! A kind that is not built in: each namespace's own, so that tests side by side have nothing in
//! common.

use anyhow::Result;
use serde_json::json;

use crate::control_plane::ControlPlane;

/// Returns when the API server serves `widgets.<namespace>.example.com`.
pub(crate) async fn define(plane: &ControlPlane, namespace: &str) -> Result<()> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("widgets.{namespace}.example.com") },
        "spec": {
            "group": format!("{namespace}.example.com"),
            "scope": "Namespaced",
            "names": { "kind": "Widget", "plural": "widgets" },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                } },
            }],
        },
    });
    plane.apply(&definition.to_string()).await?;
    let name = format!("crd/widgets.{namespace}.example.com");
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=2m", &name]).await?;
    Ok(())
}
