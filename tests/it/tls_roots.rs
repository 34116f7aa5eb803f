//! Without `otlp.tls.ca_file` the daemon trusts the roots of the system, which `SSL_CERT_FILE` names.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{
    control_plane::{Account, ControlPlane, shared, until},
    daemon::Daemon,
    export_support::names,
    export_tls::Certificates,
    live::SOON,
    scripted_receiver::Receiver,
};

/// Starts a daemon. The authority of the API server is in its kubeconfig, so it does not depend on the
/// roots.
fn daemon(
    plane: &ControlPlane,
    namespace: &str,
    protocol: &str,
    receiver: &Receiver,
    roots: &Certificates,
) -> Result<Daemon> {
    let configuration = format!(
        "watch: [{{kind: ConfigMap, namespaces: [{namespace}], label_selector: ours=yes}}]\n\
         otlp: {{protocol: {protocol}}}\n"
    );
    let roots = roots.path("ca");
    Daemon::start_with(&plane.kubeconfig(&Account::Admin), &configuration, |command, _| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", receiver.address));
        command.env("SSL_CERT_FILE", roots);
        Ok(())
    })
}

#[tokio::test]
async fn only_the_roots_of_the_system_are_trusted_over_grpc_and_http() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("tls").await?;
    let certificates = Certificates::generate(&["127.0.0.1"]);
    let others = Certificates::generate(&["127.0.0.1"]);
    let grpc = Receiver::grpc([], Some(certificates.server.clone())).await;
    let http = Receiver::http([], Some(certificates.server.clone())).await;
    let both = [("grpc", &grpc), ("http/protobuf", &http)];
    let mut trusting = Vec::new();
    let mut distrusting = Vec::new();
    for (protocol, receiver) in both {
        trusting.push(daemon(plane, &namespace, protocol, receiver, &certificates)?);
        distrusting.push(daemon(plane, &namespace, protocol, receiver, &others)?);
    }
    for daemon in trusting.iter().chain(&distrusting) {
        daemon.ready().await?;
    }
    let settings = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "settings", "namespace": namespace, "labels": { "ours": "yes" } },
    });
    plane.apply(&settings.to_string()).await?;
    for daemon in &distrusting {
        until("the certificate to be refused", SOON, async || {
            let log = daemon.log();
            ensure!(log.contains("is not trusted"), "{log}");
            ensure!(daemon.metric("spanlink_outbox_spans").await? > 0.5, "no span is queued");
            Ok(())
        })
        .await?;
    }
    for (protocol, receiver) in both {
        until("the span", SOON, async || {
            let accepted = receiver.accepted();
            ensure!(
                names(accepted.first().context("no request")?) == ["spanlink: create ConfigMap"]
            );
            Ok(())
        })
        .await
        .with_context(|| protocol.to_owned())?;
        assert_eq!(receiver.accepted().len(), 1, "{protocol}");
    }
    Ok(())
}
