//! The phases between a change and its outcome: `tests/scenarios/<name>/phases.txt`.

use std::{collections::HashMap, path::Path};

use expect_test::expect_file;
use spanlink::trace::{
    model::{
        span::{Role, Span, SpanEvent, SpanStatus, Value},
        time::Timestamp,
    },
    rules::Rules,
};

use crate::scenarios::{scenarios, spans_of};

fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    match span.attribute(key) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// `Unschedulable (0/3 nodes are available)`
fn error_of(span: &Span) -> String {
    let reason = text(span, "error.type");
    match &span.status {
        SpanStatus::Error(message) if !message.is_empty() && **message != *reason => {
            format!("{reason} ({message})")
        }
        SpanStatus::Error(_) | SpanStatus::Unset => reason.to_owned(),
    }
}

fn words(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// `[finalizer removed example.com/hold]`
fn event(event: &SpanEvent) -> String {
    let values = event.attributes.iter().map(|attribute| match &attribute.value {
        Value::Text(text) => text.to_string(),
        Value::Int(int) => int.to_string(),
        other => format!("{other:?}"),
    });
    format!("[{}]", words(&[&event.name, &values.collect::<Vec<_>>().join(" ")]))
}

fn phases_text(scenario: &Path) -> String {
    phases_of(&spans_of(scenario, &Rules::default()), Times::Hidden)
}

/// Whether durations are part of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Shown,
    Hidden,
}

/// Phases with their actors and problems; for a change or a reconcile span, its longest wait.
pub(crate) fn phases_of(spans: &[Span], times: Times) -> String {
    let by_id: HashMap<_, &Span> = spans.iter().map(|span| (span.span_id, span)).collect();
    let mut lines = String::new();
    for span in spans {
        if !matches!(span.role, Role::Phase | Role::Change | Role::Reconcile) {
            continue;
        }
        let generation = match span.attribute("spanlink.generation") {
            Some(Value::Int(generation)) => format!("g{generation}"),
            _ => String::new(),
        };
        let subject = |span: &Span| words(&[&span.name, &span.object.name]);
        let events: Vec<String> = span
            .events
            .iter()
            .filter(|event| !matches!(&*event.name, "condition" | "waiting"))
            .map(event)
            .collect();
        let events = events.join(" ");
        let slowest = words(&[
            text(span, "spanlink.slowest.kind"),
            text(span, "spanlink.slowest.name"),
            text(span, "spanlink.slowest.phase"),
            text(span, "spanlink.slowest.reason"),
        ]);
        let line = if span.role == Role::Phase {
            let parent = by_id[&span.parent.unwrap()];
            let actor = text(span, "spanlink.phase.actor");
            let container = text(span, "k8s.container.name");
            let error = error_of(span);
            let took = match times {
                Times::Shown => format!("{:.1}s", span.end.since(span.start).as_secs_f64()),
                Times::Hidden => String::new(),
            };
            let step = words(&[&span.name, container, &took, "by", actor, &error, &events]);
            format!("  {} {step}", subject(parent))
        } else if slowest.is_empty() && events.is_empty() {
            continue;
        } else {
            let slowest =
                if slowest.is_empty() { slowest } else { format!("waited for {slowest}") };
            words(&[&subject(span), &generation, &slowest, &events])
        };
        lines += &line;
        lines.push('\n');
    }
    lines
}

#[test]
fn recorded_histories_have_the_expected_phases() {
    for scenario in scenarios() {
        expect_file![scenario.join("phases.txt")].assert_eq(&phases_text(&scenario));
    }
}

#[test]
fn phases_follow_each_other_within_their_change() {
    let mut seen = 0;
    for scenario in scenarios() {
        let spans = spans_of(&scenario, &Rules::default());
        let mut ends: HashMap<_, Timestamp> = HashMap::new();
        for phase in spans.iter().filter(|span| span.role == Role::Phase) {
            seen += 1;
            let parent = spans.iter().find(|span| Some(span.span_id) == phase.parent).unwrap();
            assert!(parent.start <= phase.start, "{phase:?} begins before {parent:?}");
            assert!(phase.end <= parent.end, "{phase:?} ends after {parent:?}");
            let before = ends.insert(phase.parent, phase.end);
            assert!(before.is_none_or(|before| before < phase.start), "{phase:?} overlaps");
        }
    }
    assert!(seen > 100, "{seen}");
}
