//! Histories written by hand: watch events, and the spans that follow from them.

use std::{fmt::Write as _, fs};

use expect_test::Expect;
use serde_json::{Value, json};
use spanlink::{
    daemon::rules,
    export::tree::{Style, render},
    trace::{model::span::Span, rules::Rules},
};

use crate::{
    phases::{Times, phases_of},
    scenarios::{configured, replayed, settings},
};

/// A sequence of watch events, a tenth of a second apart.
#[derive(Default)]
pub(crate) struct History {
    lines: Vec<Value>,
    version: u64,
}

impl History {
    pub(crate) fn event(mut self, kind: &str, object: &Value) -> Self {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let watch = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
        let at = self.now();
        self.lines.push(json!({"at": at, "watch": watch, "type": kind, "object": object}));
        self
    }

    /// Adds an event that arrives late: the object was written at resourceVersion `version`.
    pub(crate) fn late(mut self, kind: &str, object: &Value, version: u64) -> Self {
        let now = self.version + 1;
        self.version = version - 1;
        let at = Self { version: now, ..Self::default() }.now();
        let mut history = self.event(kind, object);
        if let Some(line) = history.lines.last_mut() {
            line["at"] = json!(at);
        }
        history.version = now;
        history
    }

    /// The current time: the resourceVersion increases every tenth of a second.
    fn now(&self) -> String {
        let (tenths, seconds) = (self.version % 10, self.version / 10);
        let (minutes, hours) = (seconds / 60, 10 + seconds / 3600);
        let (day, hour, minute) = (24 + hours / 24, hours % 24, minutes % 60);
        format!("2026-11-{day}T{hour:02}:{minute:02}:{:02}.{tenths}Z", seconds % 60)
    }

    pub(crate) fn added(self, object: &Value) -> Self {
        self.event("ADDED", object)
    }

    pub(crate) fn modified(self, object: &Value, changes: &Value) -> Self {
        self.event("MODIFIED", &merged(object, changes))
    }

    pub(crate) fn deleted(self, object: &Value) -> Self {
        self.event("DELETED", object)
    }

    /// Adds a complete list of the watch of `kind`.
    pub(crate) fn listed(mut self, kind: &str, objects: &[&Value]) -> Self {
        let watch = format!("{}s", kind.to_lowercase());
        for object in objects {
            self = self.event("LISTED", object);
        }
        let (at, version) = (self.now(), self.version.to_string());
        let end = json!({"at": at, "watch": watch, "type": "LIST_END", "resourceVersion": version});
        self.lines.push(end);
        self
    }

    /// Records that `kind` of `example.com/v1` has no status subresource.
    pub(crate) fn without_status(mut self, kind: &str) -> Self {
        let (at, watch) = (self.now(), format!("{}s", kind.to_lowercase()));
        let object = json!({"apiVersion": "example.com/v1", "kind": kind});
        self.lines.push(
            json!({"at": at, "watch": watch, "type": "KIND", "object": object, "hasStatus": false}),
        );
        self
    }

    /// The last event came by the watch of this name.
    pub(crate) fn by_watch(mut self, watch: &str) -> Self {
        if let Some(line) = self.lines.last_mut() {
            line["watch"] = json!(watch);
        }
        self
    }

    pub(crate) fn later(mut self, seconds: u64) -> Self {
        self.version += seconds * 10;
        self
    }

    /// The history as a recording.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            writeln!(text, "{line}").unwrap();
        }
        text
    }

    pub(crate) fn spans(&self, rules: &Rules, configuration: &str) -> Vec<Span> {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        fs::write(file.path(), self.text()).unwrap();
        replayed(file.path(), rules, &configured(configuration))
    }

    pub(crate) fn becomes(self, expected: Expect) {
        self.becomes_with("", expected);
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers pass `expect![…]`")]
    pub(crate) fn has_phases(self, expected: Expect) {
        let spans = self.spans(&Rules::default(), "");
        expected.assert_eq(&phases_of(&spans, Times::Shown));
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers pass `expect![…]`")]
    pub(crate) fn becomes_with(self, configuration: &str, expected: Expect) {
        let spans = self.spans(&rules(&settings(configuration)), configuration);
        expected.assert_eq(&render(&spans, Style::STABLE));
    }
}

pub(crate) fn merged(object: &Value, changes: &Value) -> Value {
    let mut object = object.clone();
    merge(&mut object, changes);
    object
}

pub(crate) fn merge(object: &mut Value, changes: &Value) {
    match (object, changes) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from.clone(),
    }
}

/// A custom resource without a status.
pub(crate) fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": kind,
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("{kind}-{name}"), "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z",
        },
        "spec": {},
    })
}

pub(crate) fn owned(object: &Value, owners: &[(&Value, bool)]) -> Value {
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

/// The changes that make a custom resource Current at a generation.
pub(crate) fn current(generation: i64) -> Value {
    json!({
        "metadata": {"generation": generation},
        "status": {"observedGeneration": generation, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

pub(crate) fn traceparent(digit: char) -> String {
    let trace: String = std::iter::repeat_n(digit, 32).collect();
    format!("00-{trace}-00f067aa0ba902b7-01")
}

pub(crate) fn annotated(object: &Value, digit: char) -> Value {
    let annotations = json!({"tracing.k8s.io/traceparent": traceparent(digit)});
    merged(object, &json!({"metadata": {"annotations": annotations}}))
}

/// An object of a built-in kind without a status.
pub(crate) fn built_in(api_version: &str, kind: &str, spec: &Value) -> Value {
    merged(&object(kind, "it"), &json!({"apiVersion": api_version, "spec": spec}))
}

pub(crate) fn pod() -> Value {
    built_in("v1", "Pod", &json!({"containers": [{"name": "web"}]}))
}

pub(crate) fn status(status: &Value) -> Value {
    json!({ "status": status })
}

/// A condition with its last transition at a second after 10:00.
pub(crate) fn condition(kind: &str, value: &str, reason: &str, second: u32) -> Value {
    let at = format!("2026-11-24T10:00:{second:02}Z");
    json!({"type": kind, "status": value, "reason": reason, "message": format!("{reason}!"),
        "lastTransitionTime": at})
}

pub(crate) fn is_true(kind: &str, second: u32) -> Value {
    condition(kind, "True", "", second)
}

pub(crate) fn going(object: &Value, finalizers: &[&str]) -> Value {
    let metadata = json!({
        "deletionTimestamp": "2026-11-24T10:00:00Z", "deletionGracePeriodSeconds": 0,
        "finalizers": finalizers,
    });
    merged(object, &json!({ "metadata": metadata }))
}

/// A Kubernetes Event of the kubelet about a container in `list`.
pub(crate) fn kubelet_event(reason: &str, list: &str, container: &str, second: u32) -> Value {
    let time = format!("2026-11-24T10:00:{second:02}Z");
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{reason}-{container}"), "namespace": "shop",
            "uid": format!("{reason}-{container}")},
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "it", "uid": "Pod-it",
            "fieldPath": format!("spec.{list}{{{container}}}")},
        "reason": reason, "type": "Normal", "reportingController": "kubelet",
        "deprecatedFirstTimestamp": time, "deprecatedLastTimestamp": time, "deprecatedCount": 1,
    })
}
