//! Claims about the marks of operators that set no controller reference (`docs/causes.md`, Marks).

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::{
    daemon::rules,
    export::tree::{Style, render},
};

use crate::{
    late::Daemon,
    scenarios::settings,
    written::{History, annotated, current, going, merged, object, owned},
};

fn of_group(group: &str, kind: &str, name: &str) -> Value {
    merged(&object(kind, name), &json!({"apiVersion": format!("{group}/v1")}))
}

fn kustomization() -> Value {
    let kustomization = of_group("kustomize.toolkit.fluxcd.io", "Kustomization", "app");
    merged(&kustomization, &json!({"metadata": {"namespace": "flux-system"}}))
}

fn deployment() -> Value {
    of_group("apps", "Deployment", "web")
}

/// With the labels of kustomize-controller, written by `manager`, and the size by `writer`.
fn applied(object: &Value, generation: i64, manager: &str, writer: &str) -> Value {
    let labels = json!({
        "kustomize.toolkit.fluxcd.io/name": "app",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    let of_labels = json!({"f:metadata": {"f:labels": {
        "f:kustomize.toolkit.fluxcd.io/name": {}, "f:kustomize.toolkit.fluxcd.io/namespace": {}}}});
    let of_size = json!({"f:spec": {"f:size": {}}});
    let second = "2026-11-24T10:00:00Z";
    merged(
        object,
        &json!({
            "metadata": {"labels": labels, "generation": generation, "managedFields": [
                {"manager": manager, "operation": "Apply", "time": second, "fieldsV1": of_labels},
                {"manager": writer, "operation": "Apply", "time": second, "fieldsV1": of_size},
            ]},
            "spec": {"size": generation},
        }),
    )
}

const FLUX: &str = "kustomize-controller";

#[test]
fn object_with_the_labels_of_its_owner_is_below_it() {
    History::default()
        .added(&kustomization())
        .added(&applied(&deployment(), 1, FLUX, FLUX))
        .event("MODIFIED", &applied(&deployment(), 2, FLUX, FLUX))
        .becomes(expect![[r#"
            create Kustomization flux-system/app g1 -> timed_out  no verdict before the deadline
            ├─ create Deployment web g1 -> superseded
            └─ update Deployment web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.size by kustomize-controller}
        "#]]);
}

#[test]
fn change_by_a_person_of_an_object_with_a_mark_is_a_head() {
    History::default()
        .added(&kustomization())
        .added(&applied(&deployment(), 1, FLUX, FLUX))
        .event("MODIFIED", &applied(&deployment(), 2, FLUX, "kubectl-edit"))
        .becomes(expect![[r#"
            create Kustomization flux-system/app g1 -> timed_out  no verdict before the deadline
            └─ create Deployment web g1 -> superseded
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  [owner Kustomization app g1]  supersedes g1  {spec.size by kubectl-edit}
        "#]]);
}

#[test]
fn mark_that_a_person_wrote_is_none() {
    History::default()
        .added(&kustomization())
        .added(&applied(&deployment(), 1, "kubectl-client-side-apply", FLUX))
        .becomes(expect![[r#"
            create Kustomization flux-system/app g1 -> timed_out  no verdict before the deadline
            create Deployment shop/web g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn mark_of_an_owner_at_rest_is_a_link() {
    History::default()
        .added(&kustomization())
        .modified(&kustomization(), &current(1))
        .added(&applied(&deployment(), 1, FLUX, FLUX))
        .becomes(expect![[r#"
            create Kustomization flux-system/app g1 -> converged
            create Deployment shop/web g1 -> timed_out  no verdict before the deadline  (owner settled)
        "#]]);
}

#[test]
fn marked_object_that_carries_a_context_of_its_own_is_a_head() {
    History::default()
        .added(&annotated(&kustomization(), '1'))
        .added(&annotated(&applied(&deployment(), 1, FLUX, FLUX), '2'))
        .becomes(expect![[r#"
            create Kustomization flux-system/app g1 -> timed_out  no verdict before the deadline  [context 11111111…]
            create Deployment shop/web g1 -> timed_out  no verdict before the deadline  [context 22222222…]  [owner Kustomization app g1]
        "#]]);
}

#[test]
fn controller_reference_counts_more_than_a_mark() {
    let widget = object("Widget", "w");
    History::default()
        .added(&widget)
        .added(&kustomization())
        .added(&owned(&applied(&deployment(), 1, FLUX, FLUX), &[(&widget, true)]))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> unknown
            └─ create Deployment web g1 -> timed_out  no verdict before the deadline
            create Kustomization flux-system/app g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn marked_object_that_arrives_before_its_owner_waits_for_it() {
    History::default()
        .listed("Kustomization", &[])
        .listed("Deployment", &[])
        .late("ADDED", &applied(&deployment(), 1, FLUX, FLUX), 3)
        .late("ADDED", &kustomization(), 2)
        .becomes(expect![[r#"
            create Kustomization flux-system/app g1 -> timed_out  no verdict before the deadline
            └─ create Deployment web g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn deletions_of_marked_objects_follow_from_that_of_their_owner_while_it_exists() {
    let web = applied(&deployment(), 1, FLUX, FLUX);
    let other = merged(&web, &json!({"metadata": {"name": "other", "uid": "other"}}));
    History::default()
        .added(&kustomization())
        .added(&web)
        .added(&other)
        .modified(&kustomization(), &current(1))
        .later(60)
        .event(
            "MODIFIED",
            &going(&merged(&kustomization(), &current(1)), &["finalizers.fluxcd.io"]),
        )
        .deleted(&web)
        .deleted(&kustomization())
        .later(60)
        .deleted(&other)
        .becomes(expect![[r#"
            delete Kustomization flux-system/app g1 -> deleted
            └─ delete Deployment web g1 -> deleted  supersedes g1
            create Kustomization flux-system/app g1 -> converged
            ├─ create Deployment web g1 -> superseded
            └─ create Deployment other g1 -> superseded
            delete Deployment shop/other g1 -> deleted  supersedes g1
        "#]]);
}

#[test]
fn secret_with_the_annotation_of_its_certificate_is_below_it() {
    let mut secret = of_group("example.com", "Secret", "web-tls");
    secret["apiVersion"] = json!("v1");
    let by = json!({"metadata": {"annotations": {"cert-manager.io/certificate-name": "web"}}});
    History::default()
        .added(&of_group("cert-manager.io", "Certificate", "web"))
        .added(&merged(&secret, &by))
        .becomes(expect![[r#"
            create Certificate shop/web g1 -> timed_out  no verdict before the deadline
            └─ create Secret web-tls -> converged
        "#]]);
}

#[test]
fn reference_that_is_not_the_controllers_is_one_for_known_operators() {
    let kafka = of_group("kafka.strimzi.io", "Kafka", "k");
    let set = of_group("core.strimzi.io", "StrimziPodSet", "k-brokers");
    History::default().added(&kafka).added(&owned(&set, &[(&kafka, false)])).becomes(expect![[r#"
        create Kafka shop/k g1 -> timed_out  no verdict before the deadline
        ├─ create StrimziPodSet k-brokers g1 -> timed_out  PodsNotReady: no verdict before the deadline
        └─ stuck StrimziPodSet k-brokers  PodsNotReady
    "#]]);
}

fn scaled(generation: i64, manager: &str) -> Value {
    let by = json!([{"manager": manager, "operation": "Update", "time": "2026-11-24T10:00:00Z",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    merged(
        &deployment(),
        &json!({"metadata": {"generation": generation, "managedFields": by},
            "spec": {"replicas": generation}}),
    )
}

#[test]
fn object_that_a_field_of_its_owner_names_is_below_it_where_the_operator_wrote_it() {
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let rollout = merged(
        &of_group("argoproj.io", "Rollout", "web"),
        &json!({"spec": {"workloadRef": reference}}),
    );
    History::default()
        .added(&scaled(1, "kubectl-create"))
        .added(&rollout)
        .event("MODIFIED", &scaled(2, "rollouts-controller"))
        .event("MODIFIED", &scaled(3, "kubectl-scale"))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create Rollout shop/web g1 -> timed_out  no verdict before the deadline
            └─ update Deployment web g2 -> superseded  supersedes g1  {spec.replicas by rollouts-controller}
            update Deployment shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas by kubectl-scale}
        "#]]);
    // No longer named.
    History::default()
        .added(&rollout)
        .modified(&rollout, &json!({"metadata": {"generation": 2}, "spec": {"workloadRef": null}}))
        .added(&scaled(1, "rollouts-controller"))
        .becomes(expect![[r#"
            create Rollout shop/web g1 -> superseded
            update Rollout shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.workloadRef}
            create Deployment shop/web g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn tracking_id_of_argo_cd_names_the_application() {
    let application = of_group("argoproj.io", "Application", "shop");
    let application = merged(&application, &json!({"metadata": {"namespace": "argocd"}}));
    let other = merged(&application, &json!({"metadata": {"namespace": "team", "uid": "other"}}));
    let tracked = |id: &str, name: &str| {
        let annotations = json!({"argocd.argoproj.io/tracking-id": id});
        merged(
            &deployment(),
            &json!({"metadata": {"name": name, "uid": name, "annotations": annotations}}),
        )
    };
    History::default()
        .added(&application)
        .added(&other)
        .added(&tracked("shop:apps/Deployment:shop/web", "web"))
        .added(&tracked("team_shop:apps/Deployment:shop/of-team", "of-team"))
        .becomes(expect![[r#"
            create Application argocd/shop g1 -> timed_out  no verdict before the deadline
            └─ create Deployment web g1 -> timed_out  no verdict before the deadline
            create Application team/shop g1 -> timed_out  no verdict before the deadline
            └─ create Deployment of-team g1 -> timed_out  no verdict before the deadline
        "#]]);
}

const CONFIGURED: &str = "
causes:
  owners:
    - {owner: '*.example.com', name: 'metadata.labels[example.com/owner]',
       kind: 'metadata.labels[example.com/owner-kind]'}
    - {owner: Widget.example.com, child: ConfigMap, field: spec.settings}
";

fn labelled(name: &str, owner: &str, kind: &str) -> Value {
    let labels = json!({"example.com/owner": owner, "example.com/owner-kind": kind});
    merged(&object("Part", name), &json!({"metadata": {"labels": labels}}))
}

#[test]
fn configured_marks_name_owners() {
    let widget = merged(&object("Widget", "w"), &json!({"spec": {"settings": "of-w"}}));
    let mut map = object("ConfigMap", "of-w");
    map["apiVersion"] = json!("v1");
    History::default()
        .added(&widget)
        .added(&object("Gadget", "g"))
        .added(&labelled("of-w", "w", "Widget"))
        .added(&labelled("of-g", "g", "Gadget"))
        .added(&labelled("of-both", "gone, g", "Gadget"))
        .added(&labelled("of-nothing", "w", "Part"))
        .added(&map)
        .becomes_with(
            CONFIGURED,
            expect![[r#"
            create Widget shop/w g1 -> unknown
            ├─ create Part of-w g1 -> unknown
            └─ create ConfigMap of-w -> converged
            create Gadget shop/g g1 -> unknown
            ├─ create Part of-g g1 -> unknown
            └─ create Part of-both g1 -> unknown
            create Part shop/of-nothing g1 -> unknown
        "#]],
        );
}

/// The marks of an object that is deleted after a restart are those that were read before it.
#[test]
fn marks_are_known_after_a_restart() {
    let widget = object("Widget", "w");
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2}});
    let second = merged(&current(1), &second);
    let history = History::default()
        .added(&widget)
        .modified(&widget, &current(1))
        .added(&labelled("p", "w", "Widget"))
        .later(60)
        .modified(&widget, &second)
        .deleted(&labelled("p", "w", "Widget"));
    let rules = rules(&settings(CONFIGURED));
    let mut daemon = Daemon::configured(&rules, CONFIGURED, &history);
    daemon.process_next(3);
    daemon.is_not_there(30.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.resumes("Part", 60.0);
    daemon.run.spans.clear();
    daemon.process_next(2);
    daemon.is_at(2000.0);
    expect![[r#"
        create Part shop/p g1 -> superseded
        update Widget shop/w g2 -> timed_out  no verdict before the deadline  {spec.size}
        └─ delete Part p g1 -> deleted  supersedes g1
    "#]]
    .assert_eq(&render(&daemon.end(), Style::STABLE));
}
