//! Recorded histories and their expected spans: `tests/scenarios/<name>/history.jsonl`, `spans.txt`.
//!
//! A reported wrong trace is a recording here. `UPDATE_EXPECT=1` rewrites the expected text; read
//! the difference before you believe it.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use expect_test::expect_file;
use spanlink::{
    config::settings::{Settings, WatchSettings},
    export::tree::{Style, render},
    replay::{ReplayScope, replay},
    trace::{
        model::span::{Role, Span},
        rules::Rules,
    },
};

/// Every recorded history's folder.
pub(crate) fn scenarios() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The settings of a configuration file with this text.
pub(crate) fn settings(yaml: &str) -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), yaml).unwrap();
    Settings::load(Some(file.path()), []).unwrap()
}

/// The part that watches and recordings are read by.
pub(crate) fn configured(yaml: &str) -> Arc<WatchSettings> {
    Arc::new(settings(yaml).watch)
}

/// All spans that a recording becomes.
pub(crate) fn replayed(history: &Path, rules: &Rules, settings: &Arc<WatchSettings>) -> Vec<Span> {
    let mut spans = Vec::new();
    replay(history, rules.clone(), settings, ReplayScope::Everything, |replayed| {
        spans.extend(replayed.output.spans);
    })
    .unwrap();
    spans
}

pub(crate) fn spans_of(scenario: &Path, rules: &Rules) -> Vec<Span> {
    replayed(&scenario.join("history.jsonl"), rules, &configured(""))
}

#[test]
fn recorded_histories_become_the_expected_spans() {
    for scenario in scenarios() {
        let text = render(&spans_of(&scenario, &Rules::default()), Style::STABLE);
        expect_file![scenario.join("spans.txt")].assert_eq(&text);
    }
}

#[test]
fn a_span_id_is_used_once_and_every_parent_is_there() {
    for scenario in scenarios() {
        let spans = spans_of(&scenario, &Rules::default());
        let ids: HashSet<_> = spans.iter().map(|span| span.span_id).collect();
        assert_eq!(ids.len(), spans.len(), "{}", scenario.display());
        let in_trace: HashSet<_> = spans.iter().map(|s| (s.trace_id, s.span_id)).collect();
        for span in &spans {
            if let Some(parent) = span.parent {
                assert!(
                    in_trace.contains(&(span.trace_id, parent)),
                    "{}: {span:?}",
                    scenario.display()
                );
            }
        }
    }
}

#[test]
fn no_span_starts_before_its_cause_or_is_empty() {
    for scenario in scenarios() {
        let spans = spans_of(&scenario, &Rules::default());
        for span in &spans {
            let is_moment = span.parent.is_none() && span.role == Role::Change;
            let shortest = if is_moment { 1_000 } else { 2_000 };
            assert!(span.end.nanos() - span.start.nanos() >= shortest, "{span:?}");
            let parent = spans.iter().find(|other| Some(other.span_id) == span.parent);
            assert!(parent.is_none_or(|parent| parent.start <= span.start), "{span:?}");
            for event in &span.events {
                assert!(span.start <= event.at && event.at <= span.end, "{span:?}");
            }
        }
    }
}

#[test]
fn every_exported_convergence_has_one_outcome() {
    for scenario in scenarios() {
        for span in spans_of(&scenario, &Rules::default()) {
            let outcomes = span.attributes.iter().filter(|a| a.key == "spanlink.outcome").count();
            let expected = match span.role {
                Role::Reconcile => 1..=1,
                Role::Change if span.parent.is_some() => 1..=1,
                // A head's has one where nothing is to wait for.
                Role::Change => 0..=1,
                Role::Stuck | Role::Late | Role::Projection | Role::Phase => 0..=0,
            };
            assert!(expected.contains(&outcomes), "{span:?}");
        }
    }
}
