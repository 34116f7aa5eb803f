//! The forms in which annotations are written, absent or empty.

use super::{VALUE, check, check_with, plain, stamp};
use crate::stamp::{Annotations, Existing, Manifest, ObjectStamp, StampedKind};

#[test]
fn absent_annotations_are_inserted_first_in_the_metadata() {
    check(
        "# web\napiVersion: apps/v1\nkind: Deployment\nmetadata: # here\n  # the name\n  name: web\n",
        "# web\napiVersion: apps/v1\nkind: Deployment\nmetadata: # here\n  annotations:\n    \
         tracing.k8s.io/traceparent: \"T\"\n  # the name\n  name: web\n",
    );
}

#[test]
fn indentation_is_that_of_the_text() {
    check(
        "kind: Pod\napiVersion: v1\nmetadata:\n    name: a\n",
        "kind: Pod\napiVersion: v1\nmetadata:\n    annotations:\n        \
         tracing.k8s.io/traceparent: \"T\"\n    name: a\n",
    );
}

#[test]
fn block_annotations_get_a_first_entry_above_the_comment_of_the_next() {
    check(
        "kind: Pod\napiVersion: v1\nmetadata:\n  annotations:   # notes\n\n      # about a\n      a: |+\n        b\n\n  name: x\n",
        "kind: Pod\napiVersion: v1\nmetadata:\n  annotations:   # notes\n      \
         tracing.k8s.io/traceparent: \"T\"\n\n      # about a\n      a: |+\n        b\n\n  name: x\n",
    );
}

#[test]
fn empty_annotations_are_filled() {
    let text = |annotations: &str| {
        format!("kind: Pod\napiVersion: v1\nmetadata:\n  annotations:{annotations}\n  name: a\n")
    };
    let block = "\n    tracing.k8s.io/traceparent: \"T\"";
    let flow = " {\"tracing.k8s.io/traceparent\": \"T\"}";
    check(&text(""), &text(block));
    check(&text(" # none"), &text(&format!(" # none{block}")));
    for empty in [" {}", " null", " ~", " { }", "\n    null"] {
        let expected = match empty {
            " { }" => " {\"tracing.k8s.io/traceparent\": \"T\" }".to_owned(),
            "\n    null" => format!("\n   {flow}"),
            _ => flow.to_owned(),
        };
        check(&text(empty), &text(&expected));
    }
    check(&text(" {} # none"), &text(&format!("{flow} # none")));
}

#[test]
fn text_that_ends_with_an_empty_value_gets_a_line() {
    check(
        "kind: Pod\napiVersion: v1\nmetadata:\n  name: a\n  annotations:",
        "kind: Pod\napiVersion: v1\nmetadata:\n  name: a\n  annotations:\n    \
         tracing.k8s.io/traceparent: \"T\"",
    );
}

#[test]
fn flow_annotations_get_a_first_entry() {
    let text = |metadata: &str| format!("kind: Pod\napiVersion: v1\nmetadata: {metadata}\n");
    for (before, after) in [
        ("{name: a}", "{\"annotations\": {\"tracing.k8s.io/traceparent\": \"T\"}, name: a}"),
        ("{annotations: {a: b}}", "{annotations: {\"tracing.k8s.io/traceparent\": \"T\", a: b}}"),
        (
            "{annotations: { a: b }}",
            "{annotations: { \"tracing.k8s.io/traceparent\": \"T\", a: b }}",
        ),
        (
            "{annotations: , name: a}",
            "{annotations: {\"tracing.k8s.io/traceparent\": \"T\"} , name: a}",
        ),
        (
            "{ # x\n  name: a,\n }",
            "{ # x\n  \"annotations\": {\"tracing.k8s.io/traceparent\": \"T\"},\n  name: a,\n }",
        ),
    ] {
        check(&text(before), &text(after));
    }
}

#[test]
fn unusual_keys_are_kept() {
    check(
        "kind: Pod\napiVersion: v1\n? metadata\n: name: a\n",
        "kind: Pod\napiVersion: v1\n? metadata\n: annotations:\n    tracing.k8s.io/traceparent: \"T\"\n  name: a\n",
    );
    check(
        "kind: Pod\napiVersion: v1\n\"metadata\" : !!map\n  ? &n name\n  : a\n",
        "kind: Pod\napiVersion: v1\n\"metadata\" : !!map\n  annotations:\n    \
         tracing.k8s.io/traceparent: \"T\"\n  ? &n name\n  : a\n",
    );
    check(
        "kind: Pod\napiVersion: v1\nmetadata:\n  !!map\n  &n name: a\n",
        "kind: Pod\napiVersion: v1\nmetadata:\n  !!map\n  annotations:\n    \
         tracing.k8s.io/traceparent: \"T\"\n  &n name: a\n",
    );
}

#[test]
fn anchor_without_an_alias_is_no_obstacle() {
    check(
        "kind: Pod\napiVersion: v1\nmetadata: &m\n  annotations: &a\n    x: &x y\n    z: *x\n",
        "kind: Pod\napiVersion: v1\nmetadata: &m\n  annotations: &a\n    \
         tracing.k8s.io/traceparent: \"T\"\n    x: &x y\n    z: *x\n",
    );
}

#[test]
fn line_breaks_and_byte_order_mark_stay() {
    check(
        "\u{feff}kind: Pod\r\napiVersion: v1\r\nmetadata:\r\n  name: a\r\n",
        "\u{feff}kind: Pod\r\napiVersion: v1\r\nmetadata:\r\n  annotations:\r\n    \
         tracing.k8s.io/traceparent: \"T\"\r\n  name: a\r\n",
    );
}

#[test]
fn every_document_is_stamped_and_empty_ones_stay() {
    let pod = |annotations: &str| {
        format!("kind: Pod\napiVersion: v1\nmetadata:{annotations}\n  name: a\n")
    };
    let stamped = pod("\n  annotations:\n    tracing.k8s.io/traceparent: \"T\"");
    let text = |pod: &str| {
        format!(
            "%YAML 1.2\n---\n# empty\n---\n---\n{pod}...\n# between\n--- # x\n{pod}---\ntext\n---\n- a\n"
        )
    };
    check(&text(&pod("")), &text(&stamped));
    for text in ["", "\n", "# only a comment\n", "---\n", "---\n...\n"] {
        check(text, text);
    }
}

#[test]
fn items_of_lists_are_stamped() {
    check(
        "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nfunctionConfig:\n  apiVersion: example.com/v1\n  \
         kind: Config\n  metadata: {name: c}\nresults: []\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  \
         metadata:\n    name: a\n- apiVersion: v1\n  kind: List\n  items:\n  - {apiVersion: v1, kind: Pod, metadata: {name: a}}\n",
        "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nfunctionConfig:\n  apiVersion: example.com/v1\n  \
         kind: Config\n  metadata: {name: c}\nresults: []\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  \
         metadata:\n    annotations:\n      tracing.k8s.io/traceparent: \"T\"\n    name: a\n- apiVersion: v1\n  kind: \
         List\n  items:\n  - {apiVersion: v1, kind: Pod, metadata: {\"annotations\": \
         {\"tracing.k8s.io/traceparent\": \"T\"}, name: a}}\n",
    );
    check(
        "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n",
        "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {\"annotations\": \
         {\"tracing.k8s.io/traceparent\": \"T\"}, name: a}\n",
    );
}

#[test]
fn json_stays_json() {
    check(
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}\n{\"apiVersion\":\"v1\",\
         \"kind\":\"Pod\",\"metadata\":{\"annotations\":{},\"name\":\"b\"}}",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"annotations\":{\"tracing.k8s.io/traceparent\":\
         \"T\"},\"name\":\"a\"}}\n{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"annotations\":\
         {\"tracing.k8s.io/traceparent\": \"T\"},\"name\":\"b\"}}",
    );
    check(
        "{\r\n\t\"apiVersion\": \"v1\",\r\n\t\"kind\": \"Pod\",\r\n\t\"metadata\": {\r\n\t\t\"annotations\": \
         {\r\n\t\t\t\"a\": \"\\/\\u00e9\"\r\n\t\t}\r\n\t}\r\n}\r\n",
        "{\r\n\t\"apiVersion\": \"v1\",\r\n\t\"kind\": \"Pod\",\r\n\t\"metadata\": {\r\n\t\t\"annotations\": \
         {\r\n\t\t\t\"tracing.k8s.io/traceparent\": \"T\",\r\n\t\t\t\"a\": \"\\/\\u00e9\"\r\n\t\t}\r\n\t}\r\n}\r\n",
    );
}

#[test]
fn existing_context_is_kept_or_replaced() {
    let text = |value: &str, state: &str| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata:\n  annotations:\n    a: b\n    \
                 tracing.k8s.io/traceparent: {value} # x\n    tracing.k8s.io/tracestate: {state}\n"
        )
    };
    let old = text("00-1-2-01", "old=1");
    check(&old, &old);
    let replace = plain(Existing::Replace);
    // The state of the other trace does not stay beside the new parent.
    check_with(&replace, &old, &text("\"T\"", "\"\""));
    for value in ["'00-1'", "\"00-1\"", "\"\""] {
        check_with(&replace, &text(value, "''"), &text("\"T\"", "''"));
    }
    // An empty value is no context.
    check(&text("", "''"), &text("\"T\" ", "''"));
    let annotations =
        Annotations::new(VALUE.to_owned(), Some("a=\"1\\".to_owned()), Some("k=v".to_owned()));
    let stamp = ObjectStamp {
        metadata: Some(annotations),
        pod_template: None,
        existing: Existing::Replace,
    };
    let quoted = "\"a=\\\"1\\\\\"";
    let expected = text("\"T\"", quoted)
        .replace("annotations:\n", "annotations:\n    tracing.k8s.io/baggage: \"k=v\"\n");
    check_with(&stamp, &old, &expected);
}

#[test]
fn workloads_and_custom_resources_are_stamped_by_default() {
    let is_stamped = |api_version: &str, kind: &str| {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: a\n");
        stamp(&text, &plain(Existing::Keep)).unwrap() != text
    };
    for (api_version, kind) in [
        ("v1", "Pod"),
        ("apps/v1", "StatefulSet"),
        ("batch/v1", "CronJob"),
        ("example.com/v1", "Widget"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
    ] {
        assert!(is_stamped(api_version, kind), "{kind}");
    }
    for (api_version, kind) in [
        ("v1", "Service"),
        ("v1", "Secret"),
        ("v1", "ConfigMap"),
        ("v1", "Namespace"),
        ("apps/v1", "ControllerRevision"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
    ] {
        assert!(!is_stamped(api_version, kind), "{kind}");
    }
}

#[test]
fn object_that_is_not_applied_is_not_stamped() {
    for text in [
        "apiVersion: example.com/v1\nkind: Config\n",
        "apiVersion: example.com/v1\nkind: Config\nmetadata:\n",
        "apiVersion: a.b/v1\nkind: C\nmetadata:\n  annotations: {config.kubernetes.io/local-config: \"true\"}\n",
        "kind: Pod\nmetadata: {name: a}\n",
    ] {
        check(text, text);
    }
}

#[test]
fn kinds_are_read_and_select() {
    let includes = |text: &str, api_version: &str, kind: &str| {
        let text = text.parse::<StampedKind>().unwrap();
        let object = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        text.includes(&Manifest::parse(&object).unwrap().objects()[0].identity)
    };
    assert!(includes("Service", "v1", "Service"));
    assert!(includes("Service", "serving.knative.dev/v1", "Service"));
    assert!(!includes("Service.serving.knative.dev", "v1", "Service"));
    assert!(includes("*.example.com", "example.com/v1", "Widget"));
    assert!(!includes("*.example.com", "v1", "Pod"));
    assert!(includes("*", "v1", "Secret"));
    assert!(includes("default", "v1", "Pod"));
    for wrong in ["service", "", "Service.", "a b", "Deploy*"] {
        assert!(wrong.parse::<StampedKind>().is_err(), "{wrong}");
    }
}

#[test]
fn pod_template_is_stamped_too_where_the_caller_wants_it() {
    let plain = plain(Existing::Keep);
    let stamp = ObjectStamp { pod_template: plain.metadata.clone(), ..plain };
    check_with(
        &stamp,
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec:\n  jobTemplate:\n    spec:\n      \
         template:\n        spec:\n          containers: []\n",
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {\"annotations\": {\"tracing.k8s.io/traceparent\": \"T\"}, \
         name: a}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        metadata:\n          annotations:\n            \
         tracing.k8s.io/traceparent: \"T\"\n        spec:\n          containers: []\n",
    );
    check_with(
        &stamp,
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a, annotations: {}}\nspec:\n  template: {spec: text}\n",
        "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a, annotations: \
         {\"tracing.k8s.io/traceparent\": \"T\"}}\nspec:\n  template: {spec: text}\n",
    );
}
