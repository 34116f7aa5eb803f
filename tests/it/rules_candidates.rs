//! Which of several changes in flight a child follows from, by hand-written histories.

use expect_test::expect;
use serde_json::{Value, json};
use spanlink::trace::{model::span::Value as SpanValue, rules::Rules};

use crate::written::{History, annotated, merged, object, owned};

/// A workload of the group apps, with a template that runs `image`.
fn workload(kind: &str, generation: i64, image: &str) -> Value {
    let mut workload = object(kind, "web");
    workload["apiVersion"] = json!("apps/v1");
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": image}});
    merged(
        &workload,
        &json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": generation, "template": template},
        }),
    )
}

/// The template of a ReplicaSet: that of its Deployment with one more label.
fn replicaset(name: &str, of: &Value, image: &str) -> Value {
    let set = workload("ReplicaSet", 1, image);
    let template = json!({"metadata": {"labels": {"pod-template-hash": name}}});
    let named = json!({
        "metadata": {"name": name, "uid": name},
        "spec": {"replicas": 1, "template": template},
    });
    owned(&merged(&set, &named), &[(of, true)])
}

fn pod(name: &str, of: &Value, labels: &Value) -> Value {
    let mut pod = owned(&object("Pod", name), &[(of, true)]);
    pod["apiVersion"] = json!("v1");
    merged(&pod, &json!({"metadata": {"labels": labels}}))
}

#[test]
fn a_child_follows_from_the_change_whose_template_and_context_it_carries() {
    let web =
        |generation, image, digit| annotated(&workload("Deployment", generation, image), digit);
    let set = |name, image, digit| annotated(&replicaset(name, &web(1, "a", '1'), image), digit);
    History::default()
        .added(&web(1, "a", '1'))
        .event("MODIFIED", &web(2, "b", '2'))
        .event("MODIFIED", &web(3, "b", '3'))
        .event("MODIFIED", &web(4, "c", '4'))
        // Both agree in the template, one in the context too.
        .added(&set("both", "b", '2'))
        // The newest that agrees in the template.
        .added(&set("template", "b", '9'))
        // Nothing agrees: the newest.
        .added(&set("neither", "d", '9'))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded  [context 11111111…]
            update Deployment shop/web g2 -> superseded  [context 22222222…]  supersedes g1  {spec.replicas, spec.template.spec.image}
            └─ create ReplicaSet both g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g3 -> superseded  [context 33333333…]  supersedes g2  {spec.replicas}
            └─ create ReplicaSet template g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g4 -> timed_out  no verdict before the deadline  [context 44444444…]  supersedes g3  {spec.replicas, spec.template.spec.image}
            └─ create ReplicaSet neither g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn without_templates_a_child_follows_from_the_change_whose_context_it_carries() {
    let widget = object("Widget", "w");
    let step = |generation: i64, digit| {
        let size = json!({"metadata": {"generation": generation}, "spec": {"size": generation}});
        annotated(&merged(&widget, &size), digit)
    };
    let part = |name, digit| annotated(&owned(&object("Part", name), &[(&widget, true)]), digit);
    History::default()
        .added(&step(1, '1'))
        .event("MODIFIED", &step(2, '2'))
        .event("MODIFIED", &step(3, '3'))
        .added(&part("of-second", '2'))
        .added(&part("of-first", '1'))
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded  [context 11111111…]
            └─ create Part of-first g1 -> unknown
            update Widget shop/w g2 -> superseded  [context 22222222…]  supersedes g1  {spec.size}
            └─ create Part of-second g1 -> unknown
            update Widget shop/w g3 -> unknown  [context 33333333…]  supersedes g2  {spec.size}
        "#]]);
}

#[test]
fn scaled_up_replicaset_follows_from_the_change_that_created_it() {
    let web = |generation, image| workload("Deployment", generation, image);
    let set = replicaset("b", &web(1, "a"), "b");
    let scaled = |generation: i64, replicas: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"replicas": replicas}});
        merged(&set, &step)
    };
    History::default()
        .added(&web(1, "a"))
        .event("MODIFIED", &web(2, "b"))
        .added(&scaled(1, 1))
        .event("MODIFIED", &web(3, "c"))
        .event("MODIFIED", &scaled(2, 2))
        // The newest change scales it down.
        .event("MODIFIED", &scaled(3, 0))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            update Deployment shop/web g2 -> superseded  supersedes g1  {spec.replicas, spec.template.spec.image}
            ├─ create ReplicaSet b g1 -> superseded
            └─ update ReplicaSet b g2 -> superseded  supersedes g1  {spec.replicas}
            update Deployment shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas, spec.template.spec.image}
            └─ update ReplicaSet b g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas}
        "#]]);
}

#[test]
fn a_statefulsets_pod_follows_from_the_change_whose_revision_it_carries() {
    let web = |generation: i64, observed: i64, revision: &str| {
        let status =
            json!({"status": {"observedGeneration": observed, "updateRevision": revision}});
        merged(&workload("StatefulSet", generation, &format!("image-{generation}")), &status)
    };
    let of = |name: &str, revision: &str| {
        pod(name, &web(1, 1, "web-1"), &json!({"controller-revision-hash": revision}))
    };
    History::default()
        .added(&web(1, 1, "web-1"))
        .event("MODIFIED", &web(2, 1, "web-1"))
        .event("MODIFIED", &web(2, 2, "web-2"))
        .event("MODIFIED", &web(3, 2, "web-2"))
        .event("MODIFIED", &web(3, 3, "web-3"))
        .added(&of("second", "web-2"))
        .added(&of("third", "web-3"))
        .added(&of("first", "web-1"))
        .becomes(expect![[r#"
            create StatefulSet shop/web g1 -> superseded
            └─ create Pod first g1 -> timed_out  no verdict before the deadline
            update StatefulSet shop/web g2 -> superseded  supersedes g1  {spec.replicas, spec.template.spec.image}
            └─ create Pod second g1 -> timed_out  no verdict before the deadline
            update StatefulSet shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas, spec.template.spec.image}
            └─ create Pod third g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn pod_of_a_statefulset_follows_from_the_change_of_its_revision() {
    let web = |generation: i64, observed: i64, revision: &str| {
        let status =
            json!({"status": {"observedGeneration": observed, "updateRevision": revision}});
        merged(&workload("StatefulSet", generation, &format!("image-{generation}")), &status)
    };
    let of = |name: &str, revision: &str| {
        pod(name, &web(1, 1, "web-1"), &json!({"controller-revision-hash": revision}))
    };
    History::default()
        .added(&web(1, 1, "web-1"))
        .event("MODIFIED", &web(2, 1, "web-1"))
        .event("MODIFIED", &web(3, 1, "web-1"))
        .event("MODIFIED", &web(3, 2, "web-2"))
        .added(&of("second", "web-2"))
        .event("MODIFIED", &web(3, 3, "web-3"))
        .added(&of("third", "web-3"))
        .becomes(expect![[r#"
            create StatefulSet shop/web g1 -> superseded
            update StatefulSet shop/web g2 -> superseded  supersedes g1  {spec.replicas, spec.template.spec.image}
            └─ create Pod second g1 -> timed_out  no verdict before the deadline
            update StatefulSet shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas, spec.template.spec.image}
            └─ create Pod third g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn a_daemonsets_pod_follows_from_the_change_whose_template_generation_it_carries() {
    let agent = |generation: i64| {
        let annotation = json!({"metadata": {"annotations": {
            "deprecated.daemonset.template.generation": generation.to_string(),
        }}});
        merged(&workload("DaemonSet", generation, &format!("image-{generation}")), &annotation)
    };
    let of = |name: &str, generation: i64| {
        pod(name, &agent(1), &json!({"pod-template-generation": generation.to_string()}))
    };
    History::default()
        .added(&agent(1))
        .event("MODIFIED", &agent(2))
        .event("MODIFIED", &agent(3))
        .added(&of("second", 2))
        .added(&of("third", 3))
        .becomes(expect![[r#"
            create DaemonSet shop/web g1 -> superseded
            update DaemonSet shop/web g2 -> superseded  supersedes g1  {spec.replicas, spec.template.spec.image}
            └─ create Pod second g1 -> timed_out  no verdict before the deadline
            update DaemonSet shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas, spec.template.spec.image}
            └─ create Pod third g1 -> timed_out  no verdict before the deadline
        "#]]);
}

#[test]
fn pod_deleted_while_its_replicaset_scales_up_is_a_head() {
    let set = workload("ReplicaSet", 1, "a");
    let of_set = |name: &str| pod(name, &set, &json!({}));
    let scaled = |generation: i64, replicas: i64| {
        let step = json!({"metadata": {"generation": generation}, "spec": {"replicas": replicas}});
        merged(&set, &step)
    };
    History::default()
        .added(&scaled(1, 1))
        .added(&of_set("one"))
        .event("MODIFIED", &scaled(2, 2))
        .deleted(&of_set("one"))
        .added(&of_set("two"))
        .event("MODIFIED", &scaled(3, 1))
        .deleted(&of_set("two"))
        .becomes(expect![[r#"
            create ReplicaSet shop/web g1 -> superseded
            └─ create Pod one g1 -> superseded
            update ReplicaSet shop/web g2 -> superseded  supersedes g1  {spec.replicas}
            └─ create Pod two g1 -> superseded
            delete Pod shop/one g1 -> deleted  [owner ReplicaSet web g2]  supersedes g1
            update ReplicaSet shop/web g3 -> timed_out  no verdict before the deadline  supersedes g2  {spec.replicas}
            └─ delete Pod two g1 -> deleted  supersedes g1
        "#]]);
}

/// The scaling carries a context, and its template none: no controller copies it there.
fn scaled_up(of: &Value) -> Value {
    let scaled = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}});
    annotated(&merged(of, &scaled), '2')
}

#[test]
fn child_without_a_context_follows_from_the_newest_change() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    History::default().added(&owner).event("MODIFIED", &scaled_up(&owner)).added(&part).becomes(
        expect![[r#"
            create Widget shop/w g1 -> superseded
            update Widget shop/w g2 -> unknown  [context 22222222…]  supersedes g1  {spec.replicas}
            └─ create Part p g1 -> unknown
        "#]],
    );
}

#[test]
fn pod_of_a_scale_up_follows_from_the_scale_up_despite_its_template() {
    for kind in ["ReplicaSet", "StatefulSet", "Job"] {
        let mut set = workload(kind, 1, "a");
        if kind == "Job" {
            set["apiVersion"] = json!("batch/v1");
        }
        let revision = json!({"controller-revision-hash": "A"});
        let of = |name: &str| pod(name, &set, &revision);
        let status = |generation: i64| json!({"status": {"observedGeneration": generation, "updateRevision": "A"}});
        let check = |initial: &Value, first: &Value, next: &Value| {
            let spans = History::default()
                .added(initial)
                .modified(initial, &status(1))
                .added(first)
                .event("MODIFIED", &scaled_up(initial))
                .modified(&scaled_up(initial), &status(2))
                .added(next)
                .spans(&Rules::default(), "");
            let generation = |name: &str| {
                let mut made = spans.iter().filter(|span| &*span.name == "create Pod");
                let pod = made.find(|span| *span.object.name == *name).unwrap();
                pod.attribute("spanlink.owner.generation").cloned()
            };
            assert_eq!(generation("first"), Some(SpanValue::Int(1)), "{kind}");
            assert_eq!(generation("next"), Some(SpanValue::Int(2)), "{kind}");
        };
        check(&set, &of("first"), &of("next"));
        // It and its template were annotated alike, and now it alone.
        check(&annotated(&set, '1'), &annotated(&of("first"), '1'), &annotated(&of("next"), '1'));
    }
}
