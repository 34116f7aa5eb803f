//! Rules of causes that recorded histories seldom show: small histories written by hand.

use std::{fmt::Write as _, fs, sync::Arc};

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use spanlink::{
    config::settings::Settings,
    export::tree::{Style, render},
    replay::replay,
    trace::{rules::Rules, span::Span},
};

/// What watches said, a step each, a tenth of a second apart.
#[derive(Default)]
struct History {
    lines: Vec<Value>,
    version: u64,
}

impl History {
    fn say(mut self, kind: &str, object: &Value) -> Self {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let watch = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
        let at = format!(
            "2026-11-24T10:{:02}:{:02}.{}Z",
            self.version / 600,
            self.version / 10 % 60,
            self.version % 10
        );
        self.lines.push(json!({"at": at, "watch": watch, "type": kind, "object": object}));
        self
    }

    fn added(self, object: &Value) -> Self {
        self.say("ADDED", object)
    }

    fn modified(self, object: &Value, changes: &Value) -> Self {
        self.say("MODIFIED", &merged(object, changes))
    }

    fn deleted(self, object: &Value) -> Self {
        self.say("DELETED", object)
    }

    fn spans(&self, rules: &Rules, configuration: &str) -> Vec<Span> {
        let mut text = String::new();
        for line in &self.lines {
            writeln!(text, "{line}").unwrap();
        }
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        let yaml = tempfile::NamedTempFile::new().unwrap();
        fs::write(yaml.path(), configuration).unwrap();
        let settings = Arc::new(Settings::load(Some(yaml.path()), []).unwrap().watch);
        let mut spans = Vec::new();
        replay(file.path(), rules.clone(), &settings, |_| true, |out| spans.extend(out.spans))
            .unwrap();
        spans
    }

    fn becomes(self, expected: Expect) {
        self.becomes_with("", expected);
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads as a sentence")]
    fn becomes_with(self, configuration: &str, expected: Expect) {
        let spans = self.spans(&Rules::default(), configuration);
        expected.assert_eq(&render(&spans, Style::STABLE));
    }
}

fn merged(object: &Value, changes: &Value) -> Value {
    let mut object = object.clone();
    merge(&mut object, changes);
    object
}

fn merge(object: &mut Value, changes: &Value) {
    match (object, changes) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from.clone(),
    }
}

/// A custom resource that nobody has dealt with.
fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": kind,
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("{kind}-{name}"), "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z",
        },
        "spec": {},
    })
}

fn owned(object: &Value, owners: &[(&Value, bool)]) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|(owner, controller)| {
            json!({
                "apiVersion": owner["apiVersion"], "kind": owner["kind"],
                "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
                "controller": controller,
            })
        })
        .collect();
    merged(object, &json!({"metadata": {"ownerReferences": references}}))
}

/// Of that generation, and Current.
fn current(generation: i64) -> Value {
    json!({
        "metadata": {"generation": generation},
        "status": {"observedGeneration": generation, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn traceparent(digit: char) -> String {
    let trace: String = std::iter::repeat_n(digit, 32).collect();
    format!("00-{trace}-00f067aa0ba902b7-01")
}

#[test]
fn an_owner_that_is_no_controller_is_linked_and_causes_nothing() {
    let owner = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&owner, false)]);
    History::default().added(&owner).added(&part).becomes(expect![[r#"
        create Widget shop/w g1 -> unknown
        create Part shop/p g1 -> unknown  [owner Widget w g1]
    "#]]);
}

#[test]
fn what_has_several_owners_is_garbage_with_the_last_of_them() {
    let (one, other) = (object("Widget", "one"), object("Widget", "other"));
    let part = owned(&object("Part", "p"), &[(&one, false), (&other, false)]);
    History::default()
        .added(&one)
        .added(&other)
        .added(&part)
        .deleted(&one)
        .deleted(&other)
        .deleted(&part)
        .becomes(expect![[r#"
            create Widget shop/one g1 -> superseded
            create Widget shop/other g1 -> superseded
            create Part shop/p g1 -> superseded  [owner Widget one g1]
            delete Widget shop/one g1 -> deleted  supersedes g1
            delete Widget shop/other g1 -> deleted  supersedes g1
            └─ delete Part p g1 -> deleted  supersedes g1
        "#]]);
    // One owner is left: it was not the garbage collector.
    History::default().added(&one).added(&other).added(&part).deleted(&one).deleted(&part).becomes(
        expect![[r#"
            create Widget shop/one g1 -> superseded
            create Widget shop/other g1 -> unknown
            create Part shop/p g1 -> superseded  [owner Widget one g1]
            delete Widget shop/one g1 -> deleted  supersedes g1
            delete Part shop/p g1 -> deleted  [owner Widget one g1]  supersedes g1
        "#]],
    );
}

#[test]
fn an_owner_of_a_kind_nobody_watches_is_named() {
    let part = owned(&object("Part", "p"), &[(&object("Unwatched", "u"), true)]);
    let spans = History::default().added(&part).spans(&Rules::default(), "");
    let head = spans.first().unwrap();
    assert!(head.is_head() && head.links.is_empty());
    let name = head.attribute("spanlink.owner.name");
    assert_eq!(name, Some(&spanlink::trace::span::Value::Text("u".into())));
    assert_eq!(head.attribute("spanlink.owner.span_id"), None);
}

#[test]
fn a_cluster_scoped_owner_causes_what_it_makes_in_namespaces() {
    let mut owner = object("Tenant", "t");
    owner["metadata"].as_object_mut().unwrap().remove("namespace");
    let part = owned(&object("Part", "p"), &[(&owner, true)]);
    History::default().added(&owner).added(&part).becomes(expect![[r#"
        create Tenant t g1 -> unknown
        └─ create Part p g1 -> unknown
    "#]]);
}

#[test]
fn an_owner_cycle_ends_in_heads() {
    let (a, b) = (object("Ring", "a"), object("Ring", "b"));
    let (a, b) = (owned(&a, &[(&b, true)]), owned(&b, &[(&a, true)]));
    let mut history = History::default().added(&a).added(&b);
    for generation in 2..=24 {
        for (one, of) in [(&a, "a"), (&b, "b")] {
            let step =
                json!({"metadata": {"generation": generation}, "spec": {"step": [of, generation]}});
            history = history.modified(one, &step);
        }
    }
    let spans = history.spans(&Rules::default(), "");
    let heads = spans.iter().filter(|span| span.is_head()).count();
    assert!(heads > 2, "no chain is deeper than sixteen: {heads}");
    let changes = spans.iter().filter(|span| span.role == spanlink::trace::span::Role::Change);
    assert_eq!(changes.count(), 48);
}

#[test]
fn an_object_adopted_later_follows_its_new_owner() {
    let owner = object("Widget", "w");
    let part = object("Part", "p");
    let adopted = owned(&part, &[(&owner, true)]);
    History::default()
        .added(&part)
        .modified(&part, &current(1))
        .added(&owner)
        .modified(&adopted, &current(1))
        .modified(
            &merged(&adopted, &current(1)),
            &json!({"metadata": {"generation": 2}, "spec": {"size": 2}}),
        )
        .becomes(expect![[r#"
            create Part shop/p g1 -> converged
            create Widget shop/w g1 -> unknown
            └─ update Part p g2 -> timed_out  no verdict before the deadline  {spec.size}
        "#]]);
}

#[test]
fn a_field_that_names_another_object_links_to_its_change_in_flight() {
    let cluster = object("Cluster", "c");
    let mut by_name = object("Machine", "by-name");
    by_name["spec"] = json!({"clusterName": "c"});
    let mut by_reference = object("Machine", "by-reference");
    by_reference["spec"] =
        json!({"clusterRef": {"apiVersion": "example.com/v1", "kind": "Cluster", "name": "c"}});
    let configuration = "
causes:
  references:
    - {kind: Machine.example.com, field: spec.clusterName, to: Cluster.example.com}
    - {kind: Machine.example.com, field: spec.clusterRef}
";
    let history = |steps: History| steps.added(&by_name).added(&by_reference);
    history(History::default().added(&cluster)).becomes_with(
        configuration,
        expect![[r#"
        create Cluster shop/c g1 -> unknown
        create Machine shop/by-name g1 -> unknown  [reference Cluster c g1]
        create Machine shop/by-reference g1 -> unknown  [reference Cluster c g1]
    "#]],
    );
    // Nothing in flight there any more.
    history(History::default().added(&cluster).modified(&cluster, &current(1))).becomes_with(
        configuration,
        expect![[r#"
            create Cluster shop/c g1 -> converged
            create Machine shop/by-name g1 -> unknown
            create Machine shop/by-reference g1 -> unknown
        "#]],
    );
}

fn deployment(replicas: i64, generation: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "web", "generation": generation,
            "creationTimestamp": "2026-11-24T10:00:00Z",
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "time": "2026-11-24T10:00:00Z",
                 "fieldsV1": {"f:spec": {"f:template": {}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
                 "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            ],
        },
        "spec": {"replicas": replicas, "template": {"spec": {}}},
    })
}

fn autoscaler(desired: i64) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "uid": "hpa", "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        "status": {"desiredReplicas": desired},
    })
}

#[test]
fn what_an_autoscaler_scaled_links_to_its_last_change_whichever_is_seen_first() {
    let begun = || History::default().added(&deployment(1, 1)).added(&autoscaler(1));
    begun()
        .say("MODIFIED", &deployment(3, 2))
        .say("MODIFIED", &autoscaler(3))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
        "#]]);
    begun()
        .say("MODIFIED", &autoscaler(3))
        .say("MODIFIED", &deployment(3, 2))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  [reference HorizontalPodAutoscaler web g1]  {spec.replicas by kube-controller-manager}
        "#]]);
    // Its status does not agree.
    begun()
        .say("MODIFIED", &deployment(5, 2))
        .say("MODIFIED", &autoscaler(3))
        .becomes(expect![[r#"
            create Deployment shop/web g1 -> superseded
            create HorizontalPodAutoscaler shop/web g1 -> timed_out  no verdict before the deadline
            update Deployment shop/web g2 -> timed_out  no verdict before the deadline  supersedes g1  {spec.replicas by kube-controller-manager}
        "#]]);
}

#[test]
fn a_context_is_found_under_every_configured_key_and_in_every_form() {
    let configuration = "
causes:
  annotations: [tracing.k8s.io/traceparent, {key: example.com/span-context, format: json}, other/traceparent]
  baggage: [tenant]
";
    let with = |name: &str, annotations: Value| {
        merged(&object("Widget", name), &json!({"metadata": {"annotations": annotations}}))
    };
    let json = json!({
        "traceparent": traceparent('2'), "tracestate": "vendor=2", "baggage": "tenant=b%20c,user=u",
    });
    let spans = History::default()
        .added(&with("a", json!({
            "tracing.k8s.io/traceparent": traceparent('1'), "tracing.k8s.io/tracestate": "vendor=1",
            "tracing.k8s.io/baggage": "tenant=a;secret=1,user=u", "other/traceparent": traceparent('9'),
        })))
        .added(&with("b", json!({"example.com/span-context": json.to_string()})))
        .added(&with("c", json!({"other/traceparent": traceparent('3'), "tracestate": "vendor=9"})))
        .added(&with("d", json!({"example.com/span-context": "{\"traceparent\": 7}"})))
        .added(&with("e", json!({"example.com/span-context": "no JSON"})))
        .spans(&Rules::default(), configuration);
    let mut told = String::new();
    for head in spans.iter().filter(|span| span.is_head()) {
        let link = head.links.first();
        let trace_id = link.map(|link| link.trace_id.to_string());
        let state = link.and_then(|link| link.trace_state.as_deref());
        let tenant = head.attribute("tenant");
        writeln!(told, "{} {trace_id:?} {state:?} {tenant:?}", head.object.name).unwrap();
        assert_eq!(head.attribute("user"), None);
    }
    expect![[r#"
        a Some("11111111111111111111111111111111") Some("vendor=1") Some(Text("a"))
        b Some("22222222222222222222222222222222") Some("vendor=2") Some(Text("b c"))
        c Some("33333333333333333333333333333333") None None
        d None None None
        e None None None
    "#]]
    .assert_eq(&told);
}

#[test]
fn labels_and_annotations_count_as_changes_where_they_are_included() {
    let configuration = "
watch:
  - {kind: Widget.example.com, include_labels: [team], include_annotations: [example.com/tier]}
  - {kind: ConfigMap, include_labels: [team]}
";
    let widget = merged(&object("Widget", "w"), &current(1));
    let mut map = object("ConfigMap", "m");
    map["apiVersion"] = json!("v1");
    let labels = |team: &str| json!({"metadata": {"labels": {"team": team, "other": team}}});
    History::default()
        .added(&object("Widget", "w"))
        .modified(&widget, &json!({}))
        .modified(&widget, &labels("a"))
        .modified(&merged(&widget, &labels("a")), &json!({"metadata": {"labels": {"other": "x"}}}))
        .modified(
            &merged(&widget, &labels("a")),
            &json!({"metadata": {"annotations": {"example.com/tier": "1"}}}),
        )
        .added(&map)
        .modified(&map, &labels("b"))
        .modified(&map, &json!({}))
        .becomes_with(configuration, expect![[r#"
            create Widget shop/w g1 -> converged
            update Widget shop/w g1 -> converged  (metadata)  {metadata.labels[team]}
            update Widget shop/w g1 -> converged  (metadata)  {metadata.annotations[example.com/tier]}
            create ConfigMap shop/m -> converged
            update ConfigMap shop/m -> converged  (metadata)  {metadata.labels[team]}
            update ConfigMap shop/m -> converged  (metadata)  {metadata.labels[team]}
        "#]]);
}

fn pod(name: &str, owner: &Value) -> Value {
    let mut pod = owned(&object("Pod", name), &[(owner, true)]);
    pod["apiVersion"] = json!("v1");
    pod
}

#[test]
fn each_loss_is_made_good_for_once_the_oldest_first() {
    let set = object("Set", "s");
    let ready = json!({
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let (a, b) = (&pod("a", &set), &pod("b", &set));
    // b fails first and is deleted last; c replaces it all the same.
    History::default()
        .added(&set)
        .added(a)
        .added(b)
        .modified(a, &ready)
        .modified(b, &ready)
        .modified(&set, &current(1))
        .modified(b, &json!({"status": {"phase": "Failed", "reason": "Evicted"}}))
        .deleted(a)
        .added(&pod("c", &set))
        .added(&pod("d", &set))
        .added(&pod("e", &set))
        .deleted(b)
        .becomes(expect![[r#"
            create Set shop/s g1 -> converged
            ├─ create Pod a g1 -> converged
            └─ create Pod b g1 -> failed  Evicted
            delete Pod shop/a g1 -> deleted  (owner settled)
            create Pod shop/c g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces b
            create Pod shop/d g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces a
            create Pod shop/e g1 -> timed_out  no verdict before the deadline  (owner settled)
            delete Pod shop/b g1 -> deleted  (owner settled)
        "#]]);
}
