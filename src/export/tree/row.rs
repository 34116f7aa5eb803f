//! One row of a tree: a change, its outcome, and its cause.

use super::style::{Colour, Style};
use crate::trace::model::span::{Attribute, Link, Span, SpanStatus, Value};

/// Changed fields in a row. The span has all of them.
const FIELDS_SHOWN: usize = 4;

/// Where a row is in its tree. Only rows at the top show their namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowPosition {
    Top,
    Below,
}

/// The row of a change, with its outcome. That of a head is in its reconcile span.
pub(crate) fn change(
    change: &Span,
    reconcile: Option<&Span>,
    position: RowPosition,
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
    let mut parts = vec![format!("{} {ended}", subject(change, position))];
    // The reason of a disruption is in the change span, because it is known at once.
    parts.extend(problem(end, style).or_else(|| problem(change, style)));
    if position == RowPosition::Top && style.durations {
        parts.extend(waited_for(end).map(|waited| style.paint(Colour::Dim, &waited)));
    }
    parts.extend(causes(change, reconcile).iter().map(|cause| style.paint(Colour::Dim, cause)));
    parts.extend(notes(change));
    parts.extend(fields(change).map(|fields| style.paint(Colour::Dim, &fields)));
    parts.join("  ")
}

/// `(longest: Pod web-1 start, ImagePullBackOff)`
fn waited_for(span: &Span) -> Option<String> {
    let kind = text(span, "spanlink.slowest.kind")?;
    let rest = ["spanlink.slowest.name", "spanlink.slowest.phase"];
    let rest = rest.iter().filter_map(|key| text(span, key));
    let longest = [kind].into_iter().chain(rest).collect::<Vec<_>>().join(" ");
    match text(span, "spanlink.slowest.reason") {
        Some(reason) => Some(format!("(longest: {longest}, {reason})")),
        None => Some(format!("(longest: {longest})")),
    }
}

/// The row of a problem that has lasted.
pub(crate) fn stuck(span: &Span, position: RowPosition, style: Style) -> String {
    let row = format!("stuck {} {}", span.object.kind.kind, name(span, position));
    match problem(span, Style { colour: false, ..style }) {
        Some(problem) => style.paint(Colour::Red, &format!("{row}  {problem}")),
        None => style.paint(Colour::Red, &row),
    }
}

/// The row of a convergence after the outcome. `change` is the change that converged.
pub(crate) fn late(
    span: &Span,
    change: Option<&Span>,
    position: RowPosition,
    style: Style,
) -> String {
    let after = change.map(|change| style.duration(span.start.since(change.start)));
    let outcome = match text(span, "spanlink.verb") {
        Some("delete") => "deleted",
        _ => "converged",
    };
    format!(
        "late {} {} -> {}{}",
        span.object.kind.kind,
        name(span, position),
        style.paint(Colour::Green, outcome),
        after.unwrap_or_default()
    )
}

/// `(update Deployment shop/web g2)`: the head above a row that is printed without it.
pub(super) fn below_head(head: &str, style: Style) -> String {
    style.paint(Colour::Dim, &format!("({head})"))
}

/// `update Deployment shop/web g2`
pub(super) fn subject(span: &Span, position: RowPosition) -> String {
    let verb =
        text(span, "spanlink.verb").or_else(|| span.name.split(' ').next()).unwrap_or_default();
    let generation = Attribute::find_int(&span.attributes, "spanlink.generation");
    let generation = generation.map_or_else(String::new, |generation| format!(" g{generation}"));
    format!("{verb} {} {}{generation}", span.object.kind.kind, name(span, position))
}

fn name(span: &Span, position: RowPosition) -> String {
    match (&span.object.namespace, position) {
        (Some(namespace), RowPosition::Top) => format!("{namespace}/{}", span.object.name),
        (None, RowPosition::Top) | (_, RowPosition::Below) => (*span.object.name).to_owned(),
    }
}

/// `ImagePullBackOff: no such image`
fn problem(span: &Span, style: Style) -> Option<String> {
    let reason = text(span, "spanlink.reason").or_else(|| text(span, "error.type"));
    // The row has it already, as the outcome.
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

/// The text without line feeds and other control characters.
pub(crate) fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The causes of a change, from its links. Links that became known later are on the reconcile span.
fn causes(change: &Span, reconcile: Option<&Span>) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let settled = Attribute::is_set(&change.attributes, "spanlink.owner.settled");
    for link in change.links.iter().chain(reconcile.iter().flat_map(|span| &span.links)) {
        if let Some(cause) = cause(link, settled).filter(|cause| !causes.contains(cause)) {
            causes.push(cause);
        }
    }
    // The link of the owner may be missing: dropped for its limit, or the owner has no span.
    let owner_settled = "(owner settled)".to_owned();
    if settled && !causes.contains(&owner_settled) {
        causes.push(owner_settled);
    }
    causes.extend(text(change, "spanlink.replaced.name").map(|name| format!("replaces {name}")));
    causes
}

fn cause(link: &Link, settled: bool) -> Option<String> {
    let attribute = |key| Attribute::find_text(&link.attributes, key);
    let peer = || {
        let of = |key| attribute(key).unwrap_or_default();
        let name = [of("spanlink.link.kind"), of("spanlink.link.name")].join(" ");
        match Attribute::find_int(&link.attributes, "spanlink.link.generation") {
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
                ("spanlink.link.by_controller", " by controller"),
                ("spanlink.link.revived", " revived"),
                ("spanlink.link.joined", " joined"),
            ] {
                if Attribute::is_set(&link.attributes, key) {
                    cause += mark;
                }
            }
            cause + "]"
        }
        "owner" if settled => "(owner settled)".to_owned(),
        role @ ("owner" | "reference") => format!("[{role} {}]", peer().trim()),
        "supersedes" => match Attribute::find_int(&link.attributes, "spanlink.link.generation") {
            Some(generation) => format!("supersedes g{generation}"),
            None => "supersedes".to_owned(),
        },
        // The link `previous` repeats what is above in the output.
        _ => return None,
    })
}

/// The notes that limit the meaning of a row.
fn notes(change: &Span) -> Vec<String> {
    let mut notes = Vec::new();
    if text(change, "spanlink.change.scope") == Some("metadata") {
        notes.push("(metadata)".to_owned());
    }
    if text(change, "spanlink.cascade") == Some("cut") {
        notes.push("(cut)".to_owned());
    }
    if Attribute::is_set(&change.attributes, "spanlink.change.rewound") {
        notes.push("(rewound)".to_owned());
    }
    if let Some(missed) =
        Attribute::find_int(&change.attributes, "spanlink.change.missed_generations")
    {
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
    Attribute::find_text(&span.attributes, key)
}
