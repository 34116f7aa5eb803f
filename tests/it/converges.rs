//! Kinds that converge by the words of a field which configuration names.

use anyhow::{Context as _, Result, ensure};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanlink::daemon::rules;

use crate::{
    control_plane::{ControlPlane, shared, until},
    daemon::Daemon,
    live::{SOON, beside, tag},
    scenarios::settings,
    span_tree::attribute,
    widgets,
    written::{History, merged, object},
};

const HEALTH: &str = "watch:
  - kind: Application.example.com
    converges: {field: status.health.status, current: [Healthy], failed: [Degraded, Lost]}
";

fn application(generation: i64, health: &str) -> Value {
    let health = json!({
        "metadata": {"generation": generation},
        "spec": {"size": generation},
        "status": {"health": {"status": health}},
    });
    merged(&object("Application", "shop"), &health)
}

/// How each change ended, after how long, and why.
fn ends(history: &History, configuration: &str, expected: &Expect) {
    let mut lines = String::new();
    for span in history.spans(&rules(&settings(configuration)), configuration) {
        let Some(outcome) = attribute(&span, "spanlink.outcome") else { continue };
        let took = span.end.since(span.start).as_secs_f64();
        let error = attribute(&span, "error.type").unwrap_or_default();
        lines.extend([format!("{}: {outcome} {took:.1}s {error}", span.name).trim_end(), "\n"]);
    }
    expected.assert_eq(&lines);
}

#[test]
fn a_kind_converges_or_fails_by_the_words_of_its_field() {
    let history = History::default()
        .added(&object("Application", "shop"))
        .event("MODIFIED", &application(1, "Progressing"))
        .later(90)
        .event("MODIFIED", &application(1, "Healthy"))
        .later(5)
        .event("MODIFIED", &application(2, "Progressing"))
        .event("MODIFIED", &application(2, "Degraded"));
    ends(
        &history,
        HEALTH,
        &expect![[r#"
            reconcile Application: converged 90.2s
            reconcile Application: failed 0.1s Degraded
        "#]],
    );
}

#[test]
fn value_from_before_the_change_ends_no_convergence() {
    let history = History::default()
        .added(&object("Application", "shop"))
        .event("MODIFIED", &application(1, "Healthy"))
        .later(5)
        // The controller has not observed it: the old value remains, and is not evidence.
        .event("MODIFIED", &application(2, "Healthy"))
        .later(90)
        .event("MODIFIED", &application(3, "Healthy"))
        .event("MODIFIED", &application(3, "Progressing"))
        .event("MODIFIED", &application(3, "Healthy"));
    ends(
        &history,
        HEALTH,
        &expect![[r#"
            reconcile Application: converged 0.1s
            reconcile Application: unknown 60.0s
            reconcile Application: converged 0.2s
        "#]],
    );
}

#[test]
fn observed_generation_decides_before_any_value() {
    let seen = |generation: i64, observed: i64, health: &str| {
        let observed = json!({"status": {"observedGeneration": observed}});
        merged(&application(generation, health), &observed)
    };
    let history = History::default()
        .added(&object("Application", "shop"))
        .event("MODIFIED", &seen(1, 1, "Healthy"))
        .later(5)
        .event("MODIFIED", &seen(2, 1, "Healthy"))
        .event("MODIFIED", &seen(2, 1, "Degraded"))
        .later(90)
        .event("MODIFIED", &seen(2, 2, "Healthy"));
    ends(
        &history,
        HEALTH,
        &expect![[r#"
            reconcile Application: converged 0.1s
            reconcile Application: converged 90.2s
        "#]],
    );
}

#[test]
fn absent_field_gives_no_verdict_and_conventions_do_not_apply() {
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let history = History::default()
        .added(&object("Application", "shop"))
        .modified(&object("Application", "shop"), &ready);
    ends(
        &history,
        HEALTH,
        &expect![[r#"
            reconcile Application: unknown 60.0s
        "#]],
    );
}

#[test]
fn rule_reads_list_items_and_applies_to_all_kinds_of_a_group() {
    let configuration = "watch:
  - kind: \"*.example.com\"
    converges: {field: 'status.conditions[Synced].status', current: [True], failed: [False]}
";
    let widget = |name: &str, synced: &str| {
        let others = [json!({"type": "Ready", "status": "False"}), json!({"type": 7}), json!(null)];
        let synced = json!([others[0], others[1], others[2], {"type": "Synced", "status": synced}]);
        merged(&object("Widget", name), &json!({"status": {"conditions": synced}}))
    };
    let mut history = History::default();
    for (name, synced) in [("a", "True"), ("b", "False"), ("c", "Unknown")] {
        history = history.added(&object("Widget", name)).event("MODIFIED", &widget(name, synced));
    }
    ends(
        &history,
        configuration,
        &expect![[r#"
            reconcile Widget: failed 0.1s Synced
            reconcile Widget: converged 0.1s
            reconcile Widget: timed_out 900.1s timeout
        "#]],
    );
}

#[test]
fn built_in_kinds_can_be_waited_for_too() {
    let configuration = "watch:
  - kind: CertificateSigningRequest.certificates.k8s.io
    converges: {field: 'status.conditions[Approved].status', current: [True]}
";
    let mut request = object("CertificateSigningRequest", "node");
    request["apiVersion"] = json!("certificates.k8s.io/v1");
    let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let history =
        History::default().added(&request).later(30).modified(&request, &approved).later(5);
    ends(
        &history,
        configuration,
        &expect![[r#"
            reconcile CertificateSigningRequest: converged 30.1s
        "#]],
    );
    ends(
        &history,
        "",
        &expect![[r#"
        create CertificateSigningRequest: converged 0.0s
    "#]],
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[HhDd]ealthy|Degraded|[a-z]{0,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = "status|health|type|conditions|name|[a-z]";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Only the configured values of a status end a convergence.
    #[test]
    fn only_configured_words_end_a_convergence(status in any_json()) {
        let word = status["health"]["status"].as_str().unwrap_or_default().to_lowercase();
        let changed = merged(&object("Application", "shop"), &json!({"status": status}));
        let spans = History::default()
            .added(&object("Application", "shop"))
            .event("MODIFIED", &changed)
            .spans(&rules(&settings(HEALTH)), HEALTH);
        let outcome = spans.iter().find_map(|span| span.attribute("spanlink.outcome").cloned());
        let outcome = format!("{outcome:?}");
        prop_assert_eq!(outcome.contains("converged"), word == "healthy", "{}", outcome);
        prop_assert_eq!(outcome.contains("failed"), word == "degraded", "{}", outcome);
    }
}

/// Writes a status as the kind's own controller would.
async fn write_status(plane: &ControlPlane, namespace: &str, health: &str) -> Result<()> {
    let resource = format!("widgets.{namespace}.example.com");
    let status = json!({ "status": { "health": { "status": health } } }).to_string();
    let patch = ["patch", &resource, "w", "--subresource=status", "--type=merge", "-p", &status];
    plane.kubectl(&[&["-n", namespace], &patch[..]].concat()).await?;
    Ok(())
}

#[tokio::test]
async fn a_custom_resource_converges_and_fails_by_configured_words_in_jaeger() -> Result<()> {
    let plane = shared().await?;
    let namespace = plane.namespace("words").await?;
    widgets::define(plane, &namespace).await?;
    let configuration = format!(
        "settle: 500ms\nwatch:\n  - kind: \"*.{namespace}.example.com\"\n    \
         service: widget-controller\n    \
         converges: {{field: status.health.status, current: [Healthy], failed: [Degraded]}}\n"
    );
    let daemon = beside(plane, &configuration).await?;
    is_watched(&daemon, &namespace).await?;
    let widget = |size: i64| {
        json!({
            "apiVersion": format!("{namespace}.example.com/v1"),
            "kind": "Widget",
            "metadata": { "name": "w", "namespace": namespace },
            "spec": { "size": size },
        })
        .to_string()
    };
    plane.apply(&widget(1)).await?;
    write_status(plane, &namespace, "Progressing").await?;
    write_status(plane, &namespace, "Healthy").await?;
    outcomes(plane, &namespace, &["converged "]).await?;
    plane.apply(&widget(2)).await?;
    write_status(plane, &namespace, "Degraded").await?;
    outcomes(plane, &namespace, &["converged ", "failed Degraded"]).await
}

/// Or an object would be known from the first list.
async fn is_watched(daemon: &Daemon, namespace: &str) -> Result<()> {
    let synced = format!("spanlink_watch_synced{{kind=\"Widget.{namespace}.example.com\"}}");
    until("the kind to be watched", SOON, async || {
        ensure!(daemon.metric(&synced).await? > 0.5, "not synced");
        Ok(())
    })
    .await
}

/// Waits until these are the outcomes, with their errors, that Jaeger has of the Widget.
async fn outcomes(plane: &ControlPlane, namespace: &str, expected: &[&str]) -> Result<()> {
    let jaeger = plane.jaeger()?;
    until("the outcomes", SOON, async || {
        let mine = [("k8s.namespace.name", namespace)];
        let mut found = Vec::new();
        for trace in jaeger.find("widget-controller", &mine).await? {
            for span in trace["spans"].as_array().context("no spans")? {
                if span["operationName"] == "reconcile Widget" {
                    let (outcome, error) = (tag(span, "spanlink.outcome"), tag(span, "error.type"));
                    found.push(format!("{outcome} {error}"));
                }
            }
        }
        found.sort();
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
}
