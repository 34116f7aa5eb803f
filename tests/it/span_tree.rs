//! Renders spans as text that is the same in every run: each change below its parent, with its links
//! and their targets, in the order of resourceVersions, with generated names replaced by numbers.
//!
//! ```text
//! update Deployment web g2 -> converged  [context 2…]  {spec.template.spec.containers[web].image by kubectl-patch}
//!   create ReplicaSet web-2 g1 -> converged
//!     create Pod web-2-a g1 -> converged
//! create Pod web-2-b g1 -> converged  [owner, settled: update Deployment web g2]
//! ```

use std::collections::{BTreeMap, HashMap};

use spanlink::trace::model::span::{Attribute, Link, Role, Span, SpanId, Value};

/// Generated names, and their prefixes.
pub(crate) type Generated = BTreeMap<String, String>;

/// Renders every change of the spans, each below its parent.
///
/// # Panics
/// When two spans have the same id, or a parent is missing.
pub(crate) fn tree(spans: &[Span], generated: &Generated) -> String {
    let mut by_id = HashMap::new();
    for span in spans {
        assert!(by_id.insert(span.span_id, span).is_none(), "an id used twice: {span:?}");
    }
    let mut tree = TreeText { by_id, below: HashMap::new(), text: String::new() };
    let mut tops = Vec::new();
    for span in spans {
        let Some(parent) = span.parent else {
            tops.push(span);
            continue;
        };
        let above = tree.by_id.get(&parent).expect("every parent is there");
        assert_eq!(above.trace_id, span.trace_id, "in another trace than its parent: {span:?}");
        tree.below.entry(parent).or_default().push(span);
    }
    tree.below.values_mut().for_each(|spans| spans.sort_by_key(|span| order(span)));
    tops.sort_by_key(|span| order(span));
    for span in tops {
        tree.draw(span, 0);
    }
    number(&tree.text, generated)
}

struct TreeText<'a> {
    by_id: HashMap<SpanId, &'a Span>,
    below: HashMap<SpanId, Vec<&'a Span>>,
    text: String,
}

impl TreeText<'_> {
    fn draw(&mut self, span: &Span, depth: usize) {
        if matches!(span.role, Role::Reconcile | Role::Phase) {
            return;
        }
        self.text += &"  ".repeat(depth);
        self.text += &self.row(span);
        self.text.push('\n');
        for span in self.below.get(&span.span_id).cloned().unwrap_or_default() {
            self.draw(span, depth + 1);
        }
    }

    fn row(&self, span: &Span) -> String {
        let below = self.below.get(&span.span_id).map(Vec::as_slice).unwrap_or_default();
        let reconcile = below.iter().find(|span| span.role == Role::Reconcile);
        let find = |key: &str| {
            let on_change = find(&span.attributes, key);
            on_change.or_else(|| find(&reconcile?.attributes, key))
        };
        let outcome = match span.role {
            Role::Stuck => {
                let reason = find("error.type").unwrap_or_default();
                return format!("{} {}  {reason}", span.name, span.object.name);
            }
            Role::Late | Role::Projection | Role::Phase => {
                return format!("{} {}", span.name, span.object.name);
            }
            Role::Change | Role::Reconcile => find("spanlink.outcome").unwrap_or_default(),
        };
        let mut parts = vec![format!("{} -> {outcome}", subject(span))];
        parts.extend(find("spanlink.reason"));
        let late = reconcile.iter().flat_map(|span| &span.links);
        parts.extend(span.links.iter().chain(late).map(|link| self.link(link, span)));
        if span.parent.is_none()
            && find("spanlink.owner.name").is_some()
            && !parts.iter().any(|part| part.starts_with("[owner"))
        {
            parts.push(named_owner(span));
        }
        // Shown unless it is the parent's origin, or that of the span's own fresh context.
        let is_fresh = ["stale", "revived"]
            .iter()
            .all(|flag| find(&format!("spanlink.context.{flag}")).is_none())
            && !parts.iter().any(|part| part.starts_with("[inherited"));
        let above = span.parent.and_then(|parent| self.by_id.get(&parent));
        let own = find("spanlink.context.trace_id").filter(|_| is_fresh);
        if origin(span) != above.map_or(own, |it| origin(it)) {
            let origin = origin(span).map_or_else(|| "none".to_owned(), |origin| short(&origin));
            parts.push(format!("[origin {origin}]"));
        }
        if find("spanlink.change.scope").as_deref() == Some("metadata") {
            parts.push("(metadata)".to_owned());
        }
        parts.extend(fields(span));
        parts.join("  ")
    }

    /// The role and the target of a link.
    fn link(&self, link: &Link, of: &Span) -> String {
        let role = find(&link.attributes, "spanlink.link.role").unwrap_or_default();
        let flags = ["stale", "revived", "joined"];
        let flags = flags
            .iter()
            .filter(|flag| find(&link.attributes, &format!("spanlink.link.{flag}")).is_some())
            .map(|flag| format!(", {flag}"));
        let settled = Some(", settled".to_owned()).filter(|_| {
            role == "owner" && find(&of.attributes, "spanlink.owner.settled").is_some()
        });
        let flags: String = flags.chain(settled).collect();
        let target = match self.by_id.get(&link.span_id) {
            Some(span) if span.trace_id == link.trace_id => subject(span),
            _ => short(&link.trace_id.to_string()),
        };
        match role.as_str() {
            "context" | "inherited" => format!("[{role} {target}{flags}]"),
            _ => format!("[{role}{flags}: {target}]"),
        }
    }
}

/// An owner without a link.
fn named_owner(span: &Span) -> String {
    let find = |key: &str| find(&span.attributes, &format!("spanlink.owner.{key}"));
    let settled = find("settled").map_or("", |_| ", settled");
    let (kind, name) = (find("kind").unwrap_or_default(), find("name").unwrap_or_default());
    let generation = find("generation").map_or_else(String::new, |at| format!(" g{at}"));
    format!("[owner, named{settled}: {kind} {name}{generation}]")
}

/// `update Deployment web g2`
fn subject(span: &Span) -> String {
    let generation = find(&span.attributes, "spanlink.generation");
    let generation = generation.map_or_else(String::new, |generation| format!(" g{generation}"));
    format!("{} {}{generation}", span.name, span.object.name)
}

fn fields(span: &Span) -> Option<String> {
    let Some(Value::Texts(paths)) = span.attribute("spanlink.change.fields") else {
        return None;
    };
    let find = |key: &str| find(&span.attributes, &format!("spanlink.change.{key}"));
    let by = find("manager").map_or_else(String::new, |manager| format!(" by {manager}"));
    let on = find("subresource").map_or_else(String::new, |subresource| format!("/{subresource}"));
    Some(format!("{{{}{by}{on}}}", paths.join(", ")))
}

/// Sorts by resourceVersion. Times of receipt differ from run to run, because Pods and their owners
/// arrive through two watches. Spans other than changes come last.
fn order(span: &Span) -> (u64, Role) {
    let version = find(&span.attributes, "k8s.object.resource_version");
    (version.and_then(|version| version.parse().ok()).unwrap_or(u64::MAX), span.role)
}

/// The value of an attribute as text.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    find(&span.attributes, key)
}

fn origin(span: &Span) -> Option<String> {
    find(&span.attributes, "spanlink.origin.trace_id")
}

pub(crate) fn find(attributes: &[Attribute], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match &found.value {
        Value::Text(text) => (**text).to_owned(),
        Value::Int(int) => int.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Texts(texts) => texts.join(", "),
    })
}

/// The trace ids of these tests are one repeated digit.
fn short(trace_id: &str) -> String {
    format!("{}…", trace_id.chars().next().unwrap_or_default())
}

/// Replaces generated names in the order of the text: `web-7584b4688f-x2k9q` becomes `web-1-a`.
fn number(text: &str, generated: &Generated) -> String {
    let mut numbers = Numbers { generated, known: BTreeMap::new(), last: BTreeMap::new() };
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out += &numbers.of(word);
        let end = after.find(is_of_name).unwrap_or(after.len());
        let (between, after) = after.split_at(end);
        out += between;
        rest = after;
    }
    out
}

struct Numbers<'a> {
    generated: &'a Generated,
    known: BTreeMap<String, String>,
    /// The last number given out for each prefix.
    last: BTreeMap<String, u8>,
}

impl Numbers<'_> {
    fn of(&mut self, name: &str) -> String {
        let Some(begin) = self.generated.get(name) else { return name.to_owned() };
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let begin_is_generated = self.generated.contains_key(begin);
        let begin = self.of(begin);
        let last = self.last.entry(begin.clone()).or_default();
        *last += 1;
        let numbered = if begin_is_generated {
            format!("{begin}-{}", char::from(b'a' + *last - 1))
        } else {
            format!("{begin}-{last}")
        };
        self.known.insert(name.to_owned(), numbered.clone());
        numbered
    }
}
