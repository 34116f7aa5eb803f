//! What holds for every object, whatever its status: a verdict within the limit of its cost, the same in
//! any order of keys, and never a better one for one more bad word.

use std::{
    fmt::Write as _,
    sync::{Arc, LazyLock},
    time::Duration,
};

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use spanlink::{config::settings::WatchSettings, trace::readiness::shipped::sources};
use tokio::time::Instant;

use crate::{
    health::{verdict, verdict_of_text},
    scenarios::configured,
};

/// With the shipped rules.
static SHIPPED: LazyLock<Arc<WatchSettings>> = LazyLock::new(|| configured(""));
/// The general rule alone, for every kind that is not built in.
static GENERAL: LazyLock<Arc<WatchSettings>> = LazyLock::new(|| configured("shipped_rules: false"));

/// Evaluations of the largest objects take milliseconds; a busy machine with a debug build is slower.
const LIMIT: Duration = Duration::from_secs(20);

/// `apiVersion` and kind: of every shipped rule, built-in ones, and one of no rule.
fn a_kind() -> impl Strategy<Value = (String, String)> {
    let shipped = sources().into_keys().map(|kind| {
        let (name, group) = kind.split_once('.').unwrap();
        (format!("{group}/v1"), name.to_owned())
    });
    let others = [("apps/v1", "Deployment"), ("v1", "Pod"), ("batch/v1", "Job"), ("v1", "Service")];
    let others = others.map(|(api_version, kind)| (api_version.to_owned(), kind.to_owned()));
    prop_oneof![
        2 => select(shipped.collect::<Vec<_>>()),
        1 => select(others.to_vec()),
        2 => Just(("example.com/v1".to_owned(), "Widget".to_owned())),
    ]
}

fn a_word() -> impl Strategy<Value = Value> {
    let words = [
        "Ready",
        "Running",
        "Healthy",
        "Active",
        "Synced",
        "Succeeded",
        "Complete",
        "True",
        "False",
        "Pending",
        "Creating",
        "Paused",
        "Suspended",
        "Degraded",
        "Failed",
        "Error",
        "Enchanted",
        "",
        "2",
        "green",
        "ACTIVE",
    ];
    select(words.to_vec()).prop_map(Value::from)
}

/// Any value: the likely ones, and any shape.
fn a_value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        8 => a_word(),
        3 => (-1..4_i64).prop_map(Value::from),
        2 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => select(vec![json!(1e300), json!(i64::MIN), json!(u64::MAX), json!(0.5)]),
        1 => "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(a_key(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

fn a_key() -> impl Strategy<Value = String> {
    let keys = [
        "phase",
        "state",
        "status",
        "health",
        "ready",
        "available",
        "observedGeneration",
        "replicas",
        "readyReplicas",
        "updatedReplicas",
        "desiredReplicas",
        "conditions",
        "reason",
        "message",
        "error",
        "startTime",
        "completionTime",
        "paused",
        "suspend",
        "sync",
        "type",
        "parents",
    ];
    select(keys.to_vec()).prop_map(str::to_owned)
}

fn a_condition() -> impl Strategy<Value = Value> {
    let kinds = [
        "Ready",
        "Available",
        "Synced",
        "Progressing",
        "Reconciling",
        "Stalled",
        "Degraded",
        "Succeeded",
        "Paused",
        "Failed",
        "AllReplicasReady",
        "Scheduled",
        "ACK.Terminal",
        "Enchanted",
    ];
    let status = select(vec!["True", "False", "Unknown"]);
    (select(kinds.to_vec()), status, a_word(), prop::option::of(0..4_i64)).prop_map(
        |(kind, status, reason, observed)| {
            let mut condition =
                json!({"type": kind, "status": status, "reason": reason, "message": "as it is"});
            if let Some(observed) = observed {
                condition["observedGeneration"] = json!(observed);
            }
            condition
        },
    )
}

fn a_status() -> impl Strategy<Value = Value> {
    let fields = prop::collection::btree_map(a_key(), a_value(), 0..6);
    let conditions = prop::option::of(prop::collection::vec(a_condition(), 0..4));
    (fields, conditions).prop_map(|(fields, conditions)| {
        let mut status = Value::Object(fields.into_iter().collect());
        if let Some(conditions) = conditions {
            status["conditions"] = json!(conditions);
        }
        status
    })
}

fn an_object() -> impl Strategy<Value = Value> {
    let status = prop_oneof![8 => a_status(), 1 => a_value()];
    let spec = prop::collection::btree_map(a_key(), a_value(), 0..4);
    let spec = spec.prop_map(|fields| Value::Object(fields.into_iter().collect()));
    let spec = prop_oneof![4 => spec, 1 => a_value()];
    (a_kind(), spec, status, 1..4_i64).prop_map(
        |((api_version, kind), spec, status, generation)| {
            json!({"apiVersion": api_version, "kind": kind, "spec": spec, "status": status,
            "metadata": {"name": "one", "namespace": "shop", "uid": "u", "resourceVersion": "1",
                "generation": generation}})
        },
    )
}

/// JSON with the keys of every object in reverse order.
fn reversed(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .rev()
                .map(|(key, value)| format!("{}:{}", json!(key), reversed(value)))
                .collect();
            write!(text, "{{{}}}", fields.join(",")).unwrap();
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(reversed).collect();
            write!(text, "[{}]", items.join(",")).unwrap();
        }
        leaf => write!(text, "{leaf}").unwrap(),
    }
    text
}

/// How good a verdict is.
fn rank(verdict: &str) -> u8 {
    match verdict.split(':').next() {
        Some("Failed") => 0,
        Some("InProgress" | "Unknown") => 1,
        Some("OnHold" | "Paused") => 2,
        _ => 3,
    }
}

/// The verdict without its reason: where there are several, which one is named is open.
fn state(verdict: &str) -> &str {
    verdict.split(':').next().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_object_has_a_verdict_that_the_order_of_its_keys_does_not_change(object in an_object()) {
        let started = Instant::now();
        for settings in [&*SHIPPED, &*GENERAL] {
            let straight = verdict(settings, &object);
            let turned = verdict_of_text(settings, &reversed(&object));
            prop_assert_eq!(state(&straight), state(&turned));
        }
        prop_assert!(started.elapsed() < LIMIT);
    }

    #[test]
    fn bad_word_never_makes_a_verdict_better(
        status in a_status(),
        spec in a_value(),
        bad in select(vec!["Failed", "Error", "Invalid", "Degraded"]),
        is_condition in any::<bool>(),
    ) {
        let of = |status: &Value| {
            let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": spec,
                "status": status, "metadata": {"name": "one", "uid": "u", "resourceVersion": "1",
                    "generation": 1}});
            verdict(&GENERAL, &object)
        };
        let alone = of(&status);
        let mut worse = status.clone();
        if is_condition {
            let kind = if bad == "Degraded" { "Degraded" } else { "Stalled" };
            let condition = json!({"type": kind, "status": "True", "reason": bad, "message": ""});
            match worse["conditions"].as_array_mut() {
                Some(conditions) => conditions.push(condition),
                None => worse["conditions"] = json!([condition]),
            }
        } else {
            worse["reportState"] = json!(bad);
        }
        let both = of(&worse);
        prop_assert!(rank(&both) <= rank(&alone), "{} became {}", alone, both);
    }
}

#[test]
fn largest_objects_have_a_verdict_within_the_limit() {
    let rule = "
health_checks:
  - apiVersion: example.com/v1
    kind: Widget
    failed: status.list.exists(x, x.inner.exists(y, y.deep.exists(z, z == 'Failed')))
    current: status.list.all(x, x.inner.all(y, y.deep.all(z, z.matches('^(a+)+$'))))
";
    let settings = configured(rule);
    let text = "a".repeat(40);
    let deep: Vec<&str> = vec![&text; 50];
    let inner = vec![json!({"deep": deep}); 10];
    let of = |list: usize| {
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one",
            "uid": "u", "resourceVersion": "1", "generation": 1},
            "status": {"list": vec![json!({"inner": inner}); list]}})
    };
    let started = Instant::now();
    assert_eq!(verdict(&settings, &of(35)), "Current");
    // One that has too many values is not judged.
    assert_eq!(verdict(&settings, &of(80)), "Unknown");
    // Neither is one that is too deep to be read.
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let object = of(0).to_string().replace("\"list\":[]", &format!("\"list\":{deep}"));
    assert_ne!(verdict_of_text(&settings, &object), "Current");
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
}
