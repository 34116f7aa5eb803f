//! Claims about generations, labels and content that count as changes, or do not.

use std::collections::HashSet;

use expect_test::expect;
use serde_json::json;
use spanlink::trace::rules::Rules;

use crate::written::{History, current, merged, object};

#[test]
fn included_labels_and_annotations_count_as_changes() {
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

#[test]
fn labels_alone_are_not_a_change_though_they_make_a_generation() {
    let slice =
        merged(&object("EndpointSlice", "s"), &json!({"apiVersion": "discovery.k8s.io/v1"}));
    let labelled = json!({"metadata": {"generation": 2, "labels": {"team": "a"}}});
    let changed = json!({"metadata": {"generation": 3}, "endpoints": [{"addresses": ["::1"]}]});
    History::default()
        .added(&slice)
        .modified(&slice, &labelled)
        .modified(&merged(&slice, &labelled), &changed)
        .becomes(expect![[r#"
            create EndpointSlice shop/s g1 -> converged
            update EndpointSlice shop/s g3 -> converged  {endpoints}
        "#]]);
}

#[test]
fn generation_that_went_back_is_a_change_in_a_new_epoch() {
    let widget = |generation: i64, size: i64| {
        merged(
            &object("Widget", "w"),
            &json!({"metadata": {"generation": generation}, "spec": {"size": size}}),
        )
    };
    let history = History::default()
        .added(&widget(1, 1))
        .event("MODIFIED", &widget(2, 2))
        .event("MODIFIED", &widget(3, 3))
        .event("MODIFIED", &widget(1, 1))
        .event("MODIFIED", &widget(2, 2));
    let spans = history.spans(&Rules::default(), "");
    let ids: HashSet<_> = spans.iter().map(|span| span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "the second g2 is not the first");
    history.becomes(expect![[r#"
        create Widget shop/w g1 -> superseded
        update Widget shop/w g2 -> superseded  supersedes g1  {spec.size}
        update Widget shop/w g3 -> superseded  supersedes g2  {spec.size}
        update Widget shop/w g1 -> superseded  supersedes g3  (rewound)  {spec.size}
        update Widget shop/w g2 -> unknown  supersedes g1  {spec.size}
    "#]]);
}

#[test]
fn other_content_in_the_same_generation_is_not_a_change() {
    let widget = object("Widget", "w");
    History::default()
        .added(&widget)
        .modified(&widget, &json!({"spec": {"defaulted": true}}))
        .modified(
            &widget,
            &json!({"metadata": {"generation": 2}, "spec": {"defaulted": true, "size": 2}}),
        )
        .becomes(expect![[r#"
            create Widget shop/w g1 -> superseded
            update Widget shop/w g2 -> unknown  supersedes g1  {spec.size}
        "#]]);
}
