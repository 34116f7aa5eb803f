//! One row of a tree: what a change was, what came of it, and why it was.

use super::style::{Colour, Style};
use crate::trace::model::span::{Attribute, Link, Span, SpanStatus, Value};

/// Paths shown of a change; the span has them all.
const FIELDS_SHOWN: usize = 4;

/// Rows at the top of a tree say the namespace, those below do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Below,
}

/// A change and, if there is one, its reconcile span, which knows the outcome.
pub(super) fn change(
    change: &Span,
    reconcile: Option<&Span>,
    place: Place,
    style: Style,
) -> String {
    let end = reconcile.unwrap_or(change);
    let outcome = text(end, "spanlink.outcome").or_else(|| text(change, "spanlink.outcome"));
    let ended = outcome.map_or_else(
        || "…".to_owned(),
        |outcome| {
            let colour = match (&end.status, outcome) {
                (SpanStatus::Error(_), _) => Colour::Red,
                (SpanStatus::Unset, "converged" | "deleted") => Colour::Green,
                (SpanStatus::Unset, _) => Colour::Yellow,
            };
            let duration = style.duration(end.end.since(end.start));
            format!("-> {}{duration}", style.paint(colour, outcome))
        },
    );
    let mut parts = vec![format!("{} {ended}", subject(change, place))];
    // A disruption's reason is known at once, and stands on the change.
    parts.extend(problem(end, style).or_else(|| problem(change, style)));
    if place == Place::Top && style.durations {
        parts.extend(waited_for(end).map(|waited| style.paint(Colour::Dim, &waited)));
    }
    parts.extend(causes(change, reconcile).iter().map(|cause| style.paint(Colour::Dim, cause)));
    parts.extend(notes(change));
    parts.extend(fields(change).map(|fields| style.paint(Colour::Dim, &fields)));
    parts.join("  ")
}

/// `(longest: Pod web-1 start, ImagePullBackOff)`
fn waited_for(span: &Span) -> Option<String> {
    let of = |key| text(span, key).unwrap_or_default();
    let subject =
        format!("{} {}", text(span, "spanlink.slowest.kind")?, of("spanlink.slowest.name"));
    let step = [&*subject, of("spanlink.slowest.phase")].join(" ");
    match text(span, "spanlink.slowest.reason") {
        Some(reason) => Some(format!("(longest: {}, {reason})", step.trim_end())),
        None => Some(format!("(longest: {})", step.trim_end())),
    }
}

/// A known problem that has held for a while.
pub(super) fn stuck(span: &Span, place: Place, style: Style) -> String {
    let row = format!("stuck {} {}", span.object.kind.kind, name(span, place));
    match problem(span, Style { colour: false, ..style }) {
        Some(problem) => style.paint(Colour::Red, &format!("{row}  {problem}")),
        None => style.paint(Colour::Red, &row),
    }
}

/// A convergence after the verdict; `change`: what it belongs to.
pub(super) fn late(span: &Span, change: Option<&Span>, place: Place, style: Style) -> String {
    let after = change.map(|change| style.duration(span.start.since(change.start)));
    let outcome = match text(span, "spanlink.verb") {
        Some("delete") => "deleted",
        _ => "converged",
    };
    format!(
        "late {} {} -> {}{}",
        span.object.kind.kind,
        name(span, place),
        style.paint(Colour::Green, outcome),
        after.unwrap_or_default()
    )
}

/// `update Deployment shop/web g2`
pub(super) fn subject(span: &Span, place: Place) -> String {
    let verb =
        text(span, "spanlink.verb").or_else(|| span.name.split(' ').next()).unwrap_or_default();
    let generation = int(&span.attributes, "spanlink.generation");
    let generation = generation.map_or_else(String::new, |generation| format!(" g{generation}"));
    format!("{verb} {} {}{generation}", span.object.kind.kind, name(span, place))
}

fn name(span: &Span, place: Place) -> String {
    match (&span.object.namespace, place) {
        (Some(namespace), Place::Top) => format!("{namespace}/{}", span.object.name),
        (None, Place::Top) | (_, Place::Below) => (*span.object.name).to_owned(),
    }
}

/// `ImagePullBackOff: no such image`
fn problem(span: &Span, style: Style) -> Option<String> {
    let reason = text(span, "spanlink.reason").or_else(|| text(span, "error.type"));
    // The outcome has said that already.
    let reason = reason.filter(|reason| *reason != "timeout");
    match (&span.status, reason) {
        (SpanStatus::Unset, reason) => reason.map(|reason| style.paint(Colour::Yellow, reason)),
        (SpanStatus::Error(message), None) if message.is_empty() => None,
        (SpanStatus::Error(message), None) => Some(style.paint(Colour::Red, &one_line(message))),
        (SpanStatus::Error(message), Some(reason))
            if message.is_empty() || **message == *reason =>
        {
            Some(style.paint(Colour::Red, reason))
        }
        (SpanStatus::Error(message), Some(reason)) => {
            Some(style.paint(Colour::Red, &format!("{reason}: {}", one_line(message))))
        }
    }
}

fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What links say of why a change was; those known late are on the reconcile span.
fn causes(change: &Span, reconcile: Option<&Span>) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let settled = is_true(&change.attributes, "spanlink.owner.settled");
    for link in change.links.iter().chain(reconcile.iter().flat_map(|span| &span.links)) {
        if let Some(cause) = cause(link, settled).filter(|cause| !causes.contains(cause)) {
            causes.push(cause);
        }
    }
    // Also where the owner's link had no room, or the owner was named only.
    let said = "(owner settled)".to_owned();
    if settled && !causes.contains(&said) {
        causes.push(said);
    }
    causes.extend(text(change, "spanlink.replaced.name").map(|name| format!("replaces {name}")));
    causes
}

fn cause(link: &Link, settled: bool) -> Option<String> {
    let attribute = |key| find(&link.attributes, key);
    let peer = || {
        let of = |key| attribute(key).unwrap_or_default();
        let name = [of("spanlink.link.kind"), of("spanlink.link.name")].join(" ");
        match int(&link.attributes, "spanlink.link.generation") {
            Some(generation) => format!("{name} g{generation}"),
            None => name,
        }
    };
    Some(match attribute("spanlink.link.role")? {
        role @ ("context" | "inherited" | "origin") => {
            let id = link.trace_id.to_string();
            let mut cause = format!("[{role} {}…", id.get(..8).unwrap_or(&id));
            for (key, mark) in [
                ("spanlink.link.stale", " stale"),
                ("spanlink.link.revived", " revived"),
                ("spanlink.link.joined", " joined"),
            ] {
                if is_true(&link.attributes, key) {
                    cause += mark;
                }
            }
            cause + "]"
        }
        "owner" if settled => "(owner settled)".to_owned(),
        role @ ("owner" | "reference") => format!("[{role} {}]", peer().trim()),
        "supersedes" => match int(&link.attributes, "spanlink.link.generation") {
            Some(generation) => format!("supersedes g{generation}"),
            None => "supersedes".to_owned(),
        },
        // The same object's last change stands above anyway; other roles are not ours.
        _ => return None,
    })
}

/// What a reader must know to trust the row.
fn notes(change: &Span) -> Vec<String> {
    let mut notes = Vec::new();
    if text(change, "spanlink.change.scope") == Some("metadata") {
        notes.push("(metadata)".to_owned());
    }
    if text(change, "spanlink.cascade") == Some("cut") {
        notes.push("(cut)".to_owned());
    }
    for (key, note) in
        [("spanlink.change.rewound", "(rewound)"), ("spanlink.change.recovered", "(recovered)")]
    {
        if is_true(&change.attributes, key) {
            notes.push(note.to_owned());
        }
    }
    if let Some(missed) = int(&change.attributes, "spanlink.change.missed_generations") {
        notes.push(format!("missed {missed}"));
    }
    notes
}

/// `{spec.replicas by kubectl}`
fn fields(change: &Span) -> Option<String> {
    let Some(Value::Texts(paths)) = change.attribute("spanlink.change.fields") else {
        return None;
    };
    let shown: Vec<&str> = paths.iter().take(FIELDS_SHOWN).map(AsRef::as_ref).collect();
    let fields = shown.join(", ");
    let more = match paths.len() - shown.len() {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    let by = text(change, "spanlink.change.manager");
    let by = by.map_or_else(String::new, |manager| format!(" by {manager}"));
    Some(format!("{{{fields}{more}{by}}}"))
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    find(&span.attributes, key)
}

fn find<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    match attributes.iter().find(|each| each.key == key).map(|each| &each.value) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

pub(super) fn int(attributes: &[Attribute], key: &str) -> Option<i64> {
    match attributes.iter().find(|each| each.key == key).map(|each| &each.value) {
        Some(Value::Int(int)) => Some(*int),
        _ => None,
    }
}

fn is_true(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|each| each.key == key && each.value == Value::Bool(true))
}
