//! `spanlink explain`: the verdict about an object, by which rule, and on what evidence.

use expect_test::{Expect, expect};
use spanlink::{config::settings::Settings, daemon::explain};

use crate::scenarios::settings;

fn explains(settings: &Settings, object: &str, expected: &Expect) {
    expected.assert_eq(&explain(settings, object).unwrap());
}

const WIDGET: &str = r#"
apiVersion: example.com/v1
kind: Widget
metadata: {name: web, namespace: shop, generation: 3}
spec: {size: 2}
status:
  observedGeneration: 3
  phase: Provisioning
  conditions:
    - {type: Ready, status: "False", reason: QuotaExceeded, message: no room for 2}
    - {type: Synced, status: "True"}
"#;

#[test]
fn general_rule_names_every_piece_of_evidence_with_its_path() {
    explains(
        &settings(""),
        WIDGET,
        &expect![[r#"
        Widget.example.com shop/web: InProgress
          rule         the general rule
          reason       QuotaExceeded: no room for 2
          observed     generation 3 of 3
          in progress  status.conditions[Ready] is False, QuotaExceeded, no room for 2
          good         status.conditions[Synced] is True
          in progress  status.phase is Provisioning
    "#]],
    );
}

#[test]
fn rule_of_the_configuration_decides_and_is_named() {
    let configured = settings(
        "watch:
  - kind: Widget.example.com
    converges: {cel: {current: 'status.phase == \"Provisioning\"'}}
",
    );
    explains(
        &configured,
        WIDGET,
        &expect![[r#"
        Widget.example.com shop/web: Current
          rule         option converges: expressions
          observed     generation 3 of 3
          in progress  status.conditions[Ready] is False, QuotaExceeded, no room for 2
          good         status.conditions[Synced] is True
          in progress  status.phase is Provisioning
    "#]],
    );
}

#[test]
fn health_check_of_flux_decides_for_its_kind() {
    let configured = settings(
        "health_checks:
  - apiVersion: example.com/v1
    kind: '*'
    failed: status.conditions.exists(c, c.type == 'Ready' && c.status == 'False')
    current: status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')
",
    );
    explains(
        &configured,
        WIDGET,
        &expect![[r#"
            Widget.example.com shop/web: Failed
              rule         option health_checks
              reason       QuotaExceeded: no room for 2
              observed     generation 3 of 3
              in progress  status.conditions[Ready] is False, QuotaExceeded, no room for 2
              good         status.conditions[Synced] is True
              in progress  status.phase is Provisioning
        "#]],
    );
}

#[test]
fn every_object_of_a_list_is_explained() {
    let list = r#"
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
  - {apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: b, generation: 1},
     spec: {replicas: 1}, status: {observedGeneration: "1", phase: Healthy}}
"#;
    explains(
        &settings(""),
        list,
        &expect![[r#"
        ConfigMap a: Current
          rule         of the built-in kind

        Rollout.argoproj.io b: Current
          rule         shipped, after https://argo-rollouts.readthedocs.io/en/stable/features/specification/
          observed     generation 1 of 1
          good         status.phase is Healthy
    "#]],
    );
}

#[test]
fn object_without_a_known_word_lacks_a_rule() {
    let object = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: a, generation: 1},
        status: {flavour: sweet}}";
    explains(
        &settings(""),
        object,
        &expect![[r#"
        Widget.example.com a: Unknown
          rule         the general rule
          missing      nothing in the status has a meaning that is known; write a rule in the option converges
    "#]],
    );
}

#[test]
fn text_without_an_object_is_refused_with_an_example() {
    let refusal = |text: &str| format!("{:#}", explain(&settings(""), text).unwrap_err());
    assert!(refusal("").contains("kubectl get deployment web -o yaml | spanlink explain"));
    assert!(refusal("{kind: Widget}").contains("not a Kubernetes object"));
    assert!(refusal("a: [").contains("neither YAML nor JSON"));
}

#[test]
fn kinds_of_an_excepted_group_are_judged_by_the_general_rule() {
    let rule_of = |configuration: &str, api_version: &str, kind: &str| {
        let object = format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a, generation: 1}},
                spec: {{}}, status: {{observedGeneration: 1, phase: Healthy}}}}"
        );
        let explained = explain(&settings(configuration), &object).unwrap();
        let rule = explained.lines().find_map(|line| line.strip_prefix("  rule         ")).unwrap();
        rule.split(',').next().unwrap().to_owned()
    };
    let except = "shipped_rules_except: [argoproj.io]\n";
    let off = "shipped_rules: false\n";
    for (api_version, kind, rules) in [
        ("argoproj.io/v1alpha1", "Rollout", ["shipped", "the general rule", "the general rule"]),
        ("cert-manager.io/v1", "Certificate", ["shipped", "shipped", "the general rule"]),
    ] {
        let found =
            ["", except, off].map(|configuration| rule_of(configuration, api_version, kind));
        assert_eq!(found, rules, "{kind}");
    }
    let kinds = spanlink::daemon::kinds(&settings(except));
    assert!(
        kinds.contains("cert-manager.io\tshipped") && !kinds.contains(".argoproj.io\t"),
        "{kinds}"
    );
}
