//! The recorded histories with other options: layout, cascade limit, sampling, ignored changes.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use expect_test::expect_file;
use spanlink::{
    export::tree::{Style, render},
    trace::{
        model::{
            id::Layout,
            object::GroupKind,
            span::{Role, Span, Value},
        },
        rules::{Ignore, KindRules, OptionalLinks, Rules, sampling::Sampling},
    },
};

use crate::scenarios::{configured, replayed, scenarios, spans_of};

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(name)
}

/// Replays the recording after `edit` has changed its text.
fn played(scenario: &Path, rules: &Rules, edit: impl Fn(String) -> String) -> Vec<Span> {
    let text = fs::read_to_string(scenario.join("history.jsonl")).unwrap();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), edit(text)).unwrap();
    replayed(file.path(), rules, &configured(""))
}

/// Compares the spans with `spans.<variant>.txt` beside the history.
fn check(name: &str, variant: &str, rules: &Rules) {
    let scenario = scenario(name);
    let text = render(&spans_of(&scenario, rules), Style::STABLE);
    expect_file![scenario.join(format!("spans.{variant}.txt"))].assert_eq(&text);
}

fn layout(layout: Layout) -> Rules {
    Rules { layout, ..Rules::default() }
}

fn ignoring(group: &str, kind: &str, fields: &[&str], managers: &[&str]) -> Rules {
    let boxed = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
    let ignore = Ignore { fields: boxed(fields), managers: boxed(managers) };
    let of_kind = KindRules { ignore, ..KindRules::default() };
    Rules { kinds: [(GroupKind::new(group, kind), of_kind)].into(), ..Rules::default() }
}

#[test]
fn layout_linked_makes_every_change_a_root_with_links_to_origin_and_owner() {
    check("rolling-update", "linked", &layout(Layout::Linked));
    check("set-image-then-annotate", "linked", &layout(Layout::Linked));
    for scenario in scenarios() {
        for span in spans_of(&scenario, &layout(Layout::Linked)) {
            let joins =
                span.attribute("spanlink.change.scope") == Some(&Value::Text("metadata".into()));
            assert!(span.role != Role::Change || span.parent.is_none() || joins, "{span:?}");
        }
    }
}

#[test]
fn layout_joined_continues_the_trace_of_a_fresh_context_in_its_head() {
    check("rolling-update", "joined", &layout(Layout::Joined));
    let spans = spans_of(&scenario("rolling-update"), &layout(Layout::Joined));
    let heads: Vec<&Span> = spans.iter().filter(|span| span.parent_is_remote).collect();
    assert!(!heads.is_empty());
    for head in heads {
        let link = head.links.first().unwrap();
        assert_eq!((head.trace_id, head.parent), (link.trace_id, Some(link.span_id)));
    }
}

/// Samplers of the annotated trace keep their state in it:
/// <https://opentelemetry.io/docs/specs/otel/trace/tracestate-handling/>.
#[test]
fn spans_in_the_annotated_trace_have_its_tracestate_and_no_others_do() {
    let with_state = |text: String| {
        let traceparent = r#""tracing.k8s.io/traceparent":"#;
        let tracestate = r#""tracing.k8s.io/tracestate":"vendor=1","#;
        text.replace(traceparent, &format!("{tracestate}{traceparent}"))
    };
    let scenario = scenario("rolling-update");
    let annotated: HashSet<_> = spans_of(&scenario, &layout(Layout::Joined))
        .iter()
        .filter(|span| span.parent_is_remote)
        .map(|span| span.trace_id)
        .collect();
    let check = |rules: &Rules, expected: &[Role]| {
        let mut found = HashSet::new();
        for span in played(&scenario, rules, with_state) {
            let expected = annotated.contains(&span.trace_id).then_some("vendor=1");
            assert_eq!(span.trace_state.as_deref(), expected, "{span:?}");
            if expected.is_some() {
                found.insert(span.role);
            }
        }
        assert_eq!(found, expected.iter().copied().collect());
    };
    check(&layout(Layout::Joined), &[Role::Change, Role::Reconcile, Role::Phase]);
    check(&layout(Layout::Linked), &[]);
    check(&Rules { project: true, ..layout(Layout::Cascade) }, &[Role::Projection]);
}

#[test]
fn children_of_an_owner_over_the_cascade_limit_are_roots() {
    check("rolling-update", "cut", &Rules { cascade_max: 1, ..Rules::default() });
    check("namespace-deleted", "cut", &Rules { cascade_max: 1, ..Rules::default() });
}

#[test]
fn a_projected_span_is_in_the_annotated_trace_and_links_to_the_change() {
    let rules = Rules { project: true, ..Rules::default() };
    let spans = spans_of(&scenario("rolling-update"), &rules);
    let projections: Vec<&Span> =
        spans.iter().filter(|span| span.role == Role::Projection).collect();
    let heads: Vec<&Span> = spans
        .iter()
        .filter(|span| span.is_head() && span.links.first().is_some_and(|link| link.remote))
        .collect();
    assert!(!heads.is_empty());
    assert_eq!(projections.len(), heads.len());
    for (projection, head) in projections.iter().zip(heads) {
        let context = head.links.first().unwrap();
        assert_eq!(projection.trace_id, context.trace_id);
        assert_eq!(projection.parent, Some(context.span_id));
        let link = projection.links.first().unwrap();
        assert_eq!((link.trace_id, link.span_id), (head.trace_id, head.span_id));
        assert_eq!(projection.attribute("spanlink.origin.trace_id"), None);
    }
}

#[test]
fn every_change_that_a_fresh_context_caused_has_its_origin_in_every_layout() {
    let origins = |spans: &[Span]| -> HashSet<(String, String)> {
        spans
            .iter()
            .filter(|span| span.role == Role::Change)
            .filter_map(|span| match span.attribute("spanlink.origin.trace_id")? {
                Value::Text(origin) => {
                    let version = span.attribute("k8s.object.resource_version");
                    Some((origin.to_string(), format!("{} {version:?}", span.name)))
                }
                _ => None,
            })
            .collect()
    };
    let cut = Rules { cascade_max: 0, ..Rules::default() };
    for scenario in scenarios() {
        let cascade = origins(&spans_of(&scenario, &Rules::default()));
        for rules in [layout(Layout::Linked), layout(Layout::Joined), cut.clone()] {
            assert_eq!(origins(&spans_of(&scenario, &rules)), cascade, "{}", scenario.display());
        }
    }
}

#[test]
fn layouts_share_no_span_id_and_every_parent_exists() {
    let mut seen = HashSet::new();
    for scenario in scenarios() {
        for of in [Layout::Cascade, Layout::Linked, Layout::Joined] {
            let spans = spans_of(&scenario, &layout(of));
            let there: HashSet<_> = spans.iter().map(|s| (s.trace_id, s.span_id)).collect();
            for span in &spans {
                assert!(seen.insert((scenario.clone(), span.span_id)), "{span:?}");
                let is_there = span.parent.is_none_or(|parent| {
                    span.parent_is_remote || there.contains(&(span.trace_id, parent))
                });
                assert!(is_there, "{}: {span:?}", scenario.display());
            }
        }
    }
}

#[test]
fn an_unsampled_context_suppresses_exactly_the_spans_it_caused() {
    let unsampled = |text: String| text.replace("-01\"", "-00\"");
    let all = spans_of(&scenario("rolling-update"), &Rules::default());
    let rest = played(&scenario("rolling-update"), &Rules::default(), unsampled);
    let expected: Vec<&Span> =
        all.iter().filter(|s| s.attribute("spanlink.origin.trace_id").is_none()).collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(rest.iter().collect::<Vec<_>>(), expected);
    let ignore = Sampling { by_context: false, ratio: 1.0 };
    let rules = Rules { sampling: ignore, ..Rules::default() };
    let spans = played(&scenario("rolling-update"), &rules, unsampled);
    assert_eq!(spans.len(), all.len());
    let joined = Rules { layout: Layout::Joined, ..rules };
    let spans = played(&scenario("rolling-update"), &joined, unsampled);
    assert_eq!(spans.len(), expected.len(), "a suppressed parent suppresses its children");
}

#[test]
fn a_sampling_ratio_of_zero_keeps_only_spans_that_a_sampled_context_caused() {
    let sampling = Sampling { by_context: true, ratio: 0.0 };
    for scenario in scenarios() {
        for span in spans_of(&scenario, &Rules { sampling, ..Rules::default() }) {
            assert!(span.attribute("spanlink.origin.trace_id").is_some(), "{span:?}");
        }
    }
}

#[test]
fn an_ignored_change_supersedes_nothing_and_changes_it_alone_caused_are_ignored() {
    let scaling = ignoring("apps", "Deployment", &["spec.replicas"], &[]);
    check("scaled-during-a-rollout", "ignored", &scaling);
    let by = ignoring("apps", "Deployment", &[], &["kubectl-patch"]);
    check("rolling-update", "ignored", &by);
}

#[test]
fn ignored_metadata_changes_still_join() {
    let rules = Rules { ignores_metadata: true, ..Rules::default() };
    check("set-image-then-annotate", "ignored", &rules);
}

#[test]
fn previous_links_connect_all_changes_of_an_object() {
    let links = OptionalLinks { previous: true, ..OptionalLinks::default() };
    let spans = spans_of(&scenario("six-patches"), &Rules { links, ..Rules::default() });
    let of_deployment: Vec<&Span> = spans
        .iter()
        .filter(|span| span.role == Role::Change && &*span.object.kind.kind == "Deployment")
        .collect();
    assert!(of_deployment.len() > 6);
    for pair in of_deployment.windows(2) {
        let [older, newer] = pair else { continue };
        assert!(newer.links.iter().any(|link| link.span_id == older.span_id), "{newer:?}");
    }
}

#[test]
fn a_namespace_or_an_object_can_be_excluded() {
    let off = r#""annotations":{"spanlink.io/ignore":"true","#;
    let of_deployments = |text: String| {
        let lines = text.lines().map(|line| {
            let is_deployment = line.contains(r#""kind":"Deployment","metadata""#);
            if is_deployment {
                line.replacen(r#""annotations":{"#, off, 1)
            } else {
                line.to_owned()
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let left = played(&scenario("rolling-update"), &Rules::default(), of_deployments);
    let text = render(&left, Style::STABLE);
    assert_eq!(text.lines().count(), 1, "only the Namespace: {text}");
}

#[test]
fn without_propagation_no_span_has_a_context() {
    let settings = configured("propagation: {enabled: false}\n");
    for scenario in scenarios() {
        let spans = replayed(&scenario.join("history.jsonl"), &Rules::default(), &settings);
        assert!(!spans.is_empty());
        for span in &spans {
            assert!(span.links.iter().all(|link| !link.remote), "{span:?}");
            assert_eq!(span.attribute("spanlink.origin.trace_id"), None);
            assert_eq!(span.attribute("spanlink.context.trace_id"), None);
        }
        // The chains are the same, without origins.
        let with = spans_of(&scenario, &Rules::default());
        let chains = |spans: &[Span]| {
            spans.iter().map(|s| (s.trace_id, s.span_id, s.parent)).collect::<HashSet<_>>()
        };
        assert_eq!(chains(&spans), chains(&with), "{}", scenario.display());
    }
}
