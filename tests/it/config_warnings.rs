//! Tests of the warnings about valid configurations: options without effect, gaps between owners.

use std::fs;

use expect_test::{Expect, expect};
use spanlink::config::settings::Settings;

#[test]
fn options_without_effect_are_warned_about() {
    warns(
        "{kind: Pod, namespaces: [a], settle: 1s}, {kind: v1/Pod, ignore: {fields: [spec]}}",
        expect![
            "v1/Pod has several entries with different values of ignore, settle; the values of the first entry apply to all of them"
        ],
    );
    warns("{kind: Pod, namespaces: [a]}, {kind: Pod, redact: [spec], events: true}", expect![[""]]);
    warns(
        "{kind: Secret, values: [data]}",
        expect!["values of Secrets are never exported; the option values has no effect on them"],
    );
    // Each of these entries is watched, with its own selector.
    warns("{kind: Pod, label_selector: app=a}, {kind: Pod, label_selector: app=b}", expect![[""]]);
}

#[expect(clippy::needless_pass_by_value, reason = "reads as a table")]
fn warns(watch: &str, of: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spanlink.yaml");
    fs::write(&path, format!("watch: [{watch}]\n")).unwrap();
    of.assert_eq(&Settings::load(Some(&path), []).unwrap().warnings().join("\n"));
}

#[test]
fn unwatched_kinds_between_owners_are_warned_about() {
    warns(
        "{kind: Deployment.apps}, {kind: Pod}",
        expect![
            "Deployments and Pods are watched, but not the ReplicaSets between them: changes of Pods are not traced to Deployments"
        ],
    );
    warns(
        "{kind: CronJob.batch, namespaces: [a]}, {kind: v1/Pod}",
        expect![
            "CronJobs and Pods are watched in a, but not the Jobs between them: changes of Pods are not traced to CronJobs"
        ],
    );
    let deployments = "{kind: Deployment.apps, namespaces: [a, b]}";
    warns(
        &format!("{deployments}, {{kind: ReplicaSet.apps, namespaces: [a]}}, {{kind: Pod}}"),
        expect![
            "Deployments and Pods are watched in b, but not the ReplicaSets between them: changes of Pods are not traced to Deployments"
        ],
    );
    warns(
        "{kind: Deployment.apps}, {kind: ReplicaSet.apps, namespaces: [a, b]}, {kind: Pod}",
        expect![
            "Deployments and Pods are watched outside a, b, but not the ReplicaSets between them: changes of Pods are not traced to Deployments"
        ],
    );
    // Chains without a gap.
    warns(&format!("{deployments}, {{kind: ReplicaSet.apps}}, {{kind: Pod}}"), expect![[""]]);
    warns("{kind: '*.apps'}, {kind: Pod}", expect![[""]]);
    // One end only, ends in different namespaces, a kind of the same name in another group.
    warns("{kind: Deployment.apps}, {kind: ReplicaSet.apps}", expect![[""]]);
    warns(&format!("{deployments}, {{kind: Pod, namespaces: [c]}}"), expect![[""]]);
    warns("{kind: Deployment.example.com}, {kind: Pod}", expect![[""]]);
}
