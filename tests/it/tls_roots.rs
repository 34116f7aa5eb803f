//! The system's roots, as `SSL_CERT_FILE` names them: what the daemon trusts unless it is told.

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

/// Beside the API server, whose own authority the kubeconfig names.
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
async fn the_systems_roots_are_trusted_and_no_others_over_grpc_and_http() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("tls").await?;
    let certificates = Certificates::make(&["127.0.0.1"]);
    let others = Certificates::make(&["127.0.0.1"]);
    let grpc = Receiver::grpc([], Some(certificates.server.clone())).await;
    let http = Receiver::http([], Some(certificates.server.clone())).await;
    let both = [("grpc", &grpc), ("http/protobuf", &http)];
    let mut trusting = Vec::new();
    let mut doubting = Vec::new();
    for (protocol, receiver) in both {
        trusting.push(daemon(plane, &namespace, protocol, receiver, &certificates)?);
        doubting.push(daemon(plane, &namespace, protocol, receiver, &others)?);
    }
    for daemon in trusting.iter().chain(&doubting) {
        daemon.ready().await?;
    }
    let settings = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "settings", "namespace": namespace, "labels": { "ours": "yes" } },
    });
    plane.apply(&settings.to_string()).await?;
    for daemon in &doubting {
        until("a certificate to be refused", SOON, async || {
            let log = daemon.log();
            ensure!(log.contains("is not trusted"), "{log}");
            ensure!(daemon.metric("spanlink_outbox_spans").await? > 0.5, "nothing waits");
            Ok(())
        })
        .await?;
    }
    for (protocol, receiver) in both {
        until("the span", SOON, async || {
            let got = receiver.accepted();
            ensure!(names(got.first().context("nothing came")?) == ["spanlink: create ConfigMap"]);
            Ok(())
        })
        .await
        .with_context(|| protocol.to_owned())?;
        assert_eq!(receiver.accepted().len(), 1, "{protocol}");
    }
    Ok(())
}
