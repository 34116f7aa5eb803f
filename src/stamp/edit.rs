//! Inserts annotations into the text of an object, and changes nothing else of it.

use std::ops::Range;

use granit_parser::{ScalarStyle, StructureStyle};

use super::{
    annotations::{Annotations, TRACEPARENT},
    error::Problem,
    tree::{Content, Document, Node},
};

/// How much deeper an inserted block is, where the text does not show it.
const INDENTATION: usize = 2;
/// The key that merges another mapping into its own: <https://yaml.org/type/merge.html>.
pub(super) const MERGE_KEY: &str = "<<";

/// What happens to a trace context that an object has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Keep,
    Replace,
}

/// A replaced part of the text.
#[derive(Debug)]
struct Edit {
    range: Range<usize>,
    text: String,
}

/// Why an object cannot be changed, and in which line.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) line: usize,
    pub(super) problem: Problem,
}

/// The edits of a text, and what they change in its tree.
#[derive(Debug)]
pub(super) struct Edits<'text> {
    text: &'text str,
    pending: Vec<Edit>,
    /// Paths that differ after the edits.
    pub(super) changed: Vec<String>,
    /// Paths of annotations, with the value that they have after the edits.
    pub(super) set: Vec<(String, String)>,
}

/// A mapping, and how it is reached.
struct Place<'tree> {
    document: &'tree Document,
    mapping: &'tree Node,
    /// The key whose value the mapping is; `None` for an object itself.
    key: Option<&'tree Node>,
    /// By how much the mapping is indented below its parent.
    step: usize,
    path: String,
}

impl<'text> Edits<'text> {
    pub(super) const fn new(text: &'text str) -> Self {
        Self { text, pending: Vec::new(), changed: Vec::new(), set: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The text after all edits.
    pub(super) fn apply(&self) -> String {
        let mut edits: Vec<&Edit> = self.pending.iter().collect();
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let mut result = String::with_capacity(self.text.len() + 128 * edits.len());
        let mut done = 0;
        for edit in edits {
            result.push_str(self.part(done..edit.range.start));
            result.push_str(&edit.text);
            done = edit.range.end;
        }
        result.push_str(self.part(done..self.text.len()));
        result
    }

    /// Sets the annotations of the object at `path`, whose metadata is below the fields `template` (none:
    /// its own metadata). An existing context is kept or replaced.
    pub(super) fn annotate(
        &mut self,
        document: &Document,
        object: &Node,
        path: &str,
        template: &[&str],
        annotations: &Annotations,
        existing: Existing,
    ) -> Result<(), Refusal> {
        let fields: Vec<&str> =
            template.iter().copied().chain(["metadata", "annotations"]).collect();
        let mut place = Place {
            document,
            mapping: object,
            key: None,
            step: INDENTATION,
            path: path.to_owned(),
        };
        for (depth, field) in fields.iter().enumerate() {
            check_unshared(&place, &fields[..depth])?;
            let rest = fields.get(depth..).unwrap_or_default();
            let Some((key, value)) = find(&place, field, &fields[..depth])? else {
                self.note(&place.path, rest, annotations);
                return self.insert(&place, rest, &annotations.present());
            };
            let field_name = fields[..=depth].join(".");
            place.path = child_path(&place.path, field);
            if value.is_null() {
                let rest = rest.get(1..).unwrap_or_default();
                self.changed.push(place.path.clone());
                self.note(&place.path, rest, annotations);
                return self.fill(&place, (key, value), rest, &annotations.present(), &field_name);
            }
            let problem = match &value.content {
                Content::Mapping { .. } => None,
                Content::Alias(_) => Some(Problem::Alias { field: field_name }),
                _ => Some(Problem::NotAMapping { field: field_name }),
            };
            if let Some(problem) = problem {
                return Err(Refusal { line: value.line, problem });
            }
            place.step = match value.column.checked_sub(key.column) {
                Some(step) if step > 0 && is_block(value) => step,
                _ => place.step,
            };
            place.key = Some(key);
            place.mapping = value;
        }
        check_unshared(&place, &fields)?;
        self.set_all(&place, annotations, existing)
    }

    /// Sets the annotations in the mapping `annotations`.
    fn set_all(
        &mut self,
        place: &Place<'_>,
        annotations: &Annotations,
        existing: Existing,
    ) -> Result<(), Refusal> {
        let parent = ["annotations"];
        let mut missing = Vec::new();
        let mut replaced = Vec::new();
        for (name, value) in annotations.all() {
            let entry = find(place, name, &parent)?;
            let has_value =
                entry.and_then(|(_, old)| old.text()).is_some_and(|old| !old.is_empty());
            let is_alias = entry.is_some_and(|(_, old)| matches!(old.content, Content::Alias(_)));
            if name == TRACEPARENT && (has_value || is_alias) && existing == Existing::Keep {
                return Ok(());
            }
            match (entry, value) {
                (Some((key, old)), value) => {
                    replaced.push((name, key, old, value.unwrap_or_default()));
                }
                (None, Some(value)) => missing.push((name, value)),
                (None, None) => {}
            }
        }
        for (name, key, old, value) in replaced {
            let path = child_path(&place.path, name);
            if old.text() != Some(value) {
                self.replace(place, key, old, value)?;
                self.changed.push(path.clone());
            }
            self.set.push((path, value.to_owned()));
        }
        if missing.is_empty() {
            return Ok(());
        }
        for (name, value) in &missing {
            let path = child_path(&place.path, name);
            self.changed.push(path.clone());
            self.set.push((path, (*value).to_owned()));
        }
        self.insert(place, &[], &missing)
    }

    /// Replaces the value of an annotation.
    fn replace(
        &mut self,
        place: &Place<'_>,
        key: &Node,
        old: &Node,
        value: &str,
    ) -> Result<(), Refusal> {
        let field = || key.text().unwrap_or_default().to_owned();
        let refuse = |problem| Err(Refusal { line: key.line, problem });
        if place.document.aliased.contains(&old.anchor) {
            return refuse(Problem::Anchor { field: field() });
        }
        match &old.content {
            Content::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. } => {
                return refuse(Problem::Form { field: field() });
            }
            Content::Scalar { .. } | Content::Alias(_) => {}
            _ => return refuse(Problem::NotAMapping { field: field() }),
        }
        if !old.range.is_empty() {
            self.pending.push(Edit { range: old.range.clone(), text: quoted(value) });
            return Ok(());
        }
        let Some(colon) = self.colon_after(key) else {
            return refuse(Problem::Form { field: field() });
        };
        self.pending.push(Edit { range: colon..colon, text: format!(" {}", quoted(value)) });
        Ok(())
    }

    /// Writes entries below the fields `rest` into the mapping of a place.
    fn insert(
        &mut self,
        place: &Place<'_>,
        rest: &[&str],
        entries: &[(&str, &str)],
    ) -> Result<(), Refusal> {
        let mapping = place.mapping;
        if !is_block(mapping) {
            let field =
                || Problem::Form { field: (*rest.first().unwrap_or(&"annotations")).to_owned() };
            let edit = self.flow_edit(mapping, rest, entries);
            let edit = edit.ok_or_else(|| Refusal { line: mapping.line, problem: field() })?;
            self.pending.push(edit);
            return Ok(());
        }
        let lines = block_lines(rest, entries, mapping.column, place.step);
        let at = place.key.and_then(|key| self.line_below(key, mapping.range.start));
        let edit = if let Some((at, end_of_line)) = at {
            Edit { range: at..at, text: with_breaks_after(&lines, end_of_line) }
        } else {
            let at = mapping.range.start;
            let end_of_line = self.end_of_line_near(at);
            let indentation = " ".repeat(mapping.column);
            let text = with_breaks_after(&lines, end_of_line);
            Edit { range: at..at, text: format!("{}{indentation}", text.trim_start()) }
        };
        self.pending.push(edit);
        Ok(())
    }

    /// Writes entries as the value of a key that has none.
    fn fill(
        &mut self,
        place: &Place<'_>,
        (key, value): (&Node, &Node),
        rest: &[&str],
        entries: &[(&str, &str)],
        field: &str,
    ) -> Result<(), Refusal> {
        let refusal =
            || Refusal { line: key.line, problem: Problem::Form { field: field.to_owned() } };
        if place.document.aliased.contains(&value.anchor) {
            return Err(refusal());
        }
        let is_compact = self.is_compact(key, value);
        let flow = format!("{{{}}}", flow_entries(rest, entries, is_compact));
        if !value.range.is_empty() {
            self.pending.push(Edit { range: value.range.clone(), text: flow });
            return Ok(());
        }
        let colon = self.colon_after(key).ok_or_else(&refusal)?;
        if !is_block(place.mapping) {
            self.pending.push(Edit { range: colon..colon, text: format!(" {flow}") });
            return Ok(());
        }
        let (content_end, next_line) = self.line_end(colon);
        if !is_blank_or_comment(self.part(colon..content_end)) {
            return Err(refusal());
        }
        let lines = block_lines(rest, entries, key.column + place.step, place.step);
        let end_of_line = self.end_of_line_near(colon);
        let text = if next_line == content_end {
            // The text ends without a line break, and does so afterwards.
            format!("{end_of_line}{}", lines.join(end_of_line))
        } else {
            with_breaks_after(&lines, end_of_line)
        };
        self.pending.push(Edit { range: next_line..next_line, text });
        Ok(())
    }

    /// Writes entries at the beginning of a flow mapping; `None` for one without a bracket.
    fn flow_edit(&self, mapping: &Node, rest: &[&str], entries: &[(&str, &str)]) -> Option<Edit> {
        if self.part(mapping.range.clone()) != "{" {
            return None;
        }
        let inside = mapping.range.end;
        let first = mapping.entries().first();
        let is_compact = first.is_some_and(|(key, value)| self.is_compact(key, value));
        let text = flow_entries(rest, entries, is_compact);
        let Some((first, _)) = first else {
            return Some(Edit { range: inside..inside, text });
        };
        let (content_end, next_line) = self.line_end(inside);
        let is_alone = is_blank_or_comment(self.part(inside..content_end));
        if is_alone && next_line <= first.range.start && next_line > content_end {
            let start = self.line_start(first.range.start);
            let line = self.part(start..first.range.start);
            let indentation =
                line.split(|c: char| c != ' ' && c != '\t').next().unwrap_or_default();
            let end_of_line = self.part(content_end..next_line);
            let text = format!("{indentation}{text},{end_of_line}");
            return Some(Edit { range: next_line..next_line, text });
        }
        let rest = self.part(inside..content_end);
        let at = inside + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
        let space = if is_compact { "" } else { " " };
        Some(Edit { range: at..at, text: format!("{text},{space}") })
    }

    /// The start of the line after that of a key, and its line break, if the entries of the key's
    /// mapping follow there and nothing but comments stands between. The comment above the first entry
    /// stays with it.
    fn line_below(&self, key: &Node, mapping_start: usize) -> Option<(usize, &'text str)> {
        let colon = self.colon_after(key)?;
        let (content_end, next_line) = self.line_end(colon);
        if next_line > mapping_start || next_line == content_end {
            return None;
        }
        let between = self.part(next_line..self.line_start(mapping_start).max(next_line));
        let is_clear = between.split(['\n', '\r']).all(is_blank_or_comment);
        is_clear.then(|| (next_line, self.part(content_end..next_line)))
    }

    /// The offset after the colon of an entry.
    fn colon_after(&self, key: &Node) -> Option<usize> {
        let rest = self.part(key.range.end..self.text.len());
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let has_colon = rest.get(blanks..).is_some_and(|rest| rest.starts_with(':'));
        has_colon.then_some(key.range.end + blanks + 1)
    }

    /// Whether an entry is written without spaces, as in compact JSON.
    fn is_compact(&self, key: &Node, value: &Node) -> bool {
        !key.range.is_empty() && self.part(key.range.end..value.range.start) == ":"
    }

    /// The end of the line without its break, and the start of the next line.
    fn line_end(&self, offset: usize) -> (usize, usize) {
        let rest = self.part(offset..self.text.len());
        // A List of compact JSON is one line, and each of its objects looks for the end.
        let Some(length) = memchr::memchr2(b'\n', b'\r', rest.as_bytes()) else {
            return (self.text.len(), self.text.len());
        };
        let end = offset + length;
        let is_pair = rest.get(length..).is_some_and(|rest| rest.starts_with("\r\n"));
        (end, end + if is_pair { 2 } else { 1 })
    }

    fn line_start(&self, offset: usize) -> usize {
        self.part(0..offset).rfind(['\n', '\r']).map_or(0, |at| at + 1)
    }

    /// The line break after `offset`, else the last one before it.
    fn end_of_line_near(&self, offset: usize) -> &'text str {
        let (end, next) = self.line_end(offset);
        if next > end {
            return self.part(end..next);
        }
        let before = self.part(0..offset);
        match before.rfind(['\n', '\r']) {
            Some(at) if before.get(..=at).is_some_and(|before| before.ends_with("\r\n")) => "\r\n",
            Some(at) => self.part(at..at + 1),
            None => "\n",
        }
    }

    fn part(&self, range: Range<usize>) -> &'text str {
        self.text.get(range).unwrap_or_default()
    }

    /// Records what entries below the fields `rest` change.
    fn note(&mut self, path: &str, rest: &[&str], annotations: &Annotations) {
        let mut path = path.to_owned();
        for field in rest {
            path = child_path(&path, field);
            self.changed.push(path.clone());
        }
        for (name, value) in annotations.present() {
            let path = child_path(&path, name);
            self.changed.push(path.clone());
            self.set.push((path, value.to_owned()));
        }
    }
}

/// An entry of the place's mapping; `None` where it has none.
fn find<'tree>(
    place: &Place<'tree>,
    name: &str,
    fields: &[&str],
) -> Result<Option<(&'tree Node, &'tree Node)>, Refusal> {
    let field = |last: Option<&str>| {
        let fields: Vec<&str> = fields.iter().copied().chain(last).collect();
        if fields.is_empty() { "the object".to_owned() } else { fields.join(".") }
    };
    let mut matching = place.mapping.entries().iter().filter(|(key, _)| key.text() == Some(name));
    let first = matching.next();
    if let Some((again, _)) = matching.next() {
        let problem = Problem::Duplicate { field: field(Some(name)) };
        return Err(Refusal { line: again.line, problem });
    }
    if first.is_none()
        && let Some((merge, _)) =
            place.mapping.entries().iter().find(|(key, _)| key.text() == Some(MERGE_KEY))
    {
        let problem = Problem::Merge { field: field(None), missing: name.to_owned() };
        return Err(Refusal { line: merge.line, problem });
    }
    Ok(first.map(|(key, value)| (key, value)))
}

/// Refuses a mapping that an alias repeats elsewhere.
fn check_unshared(place: &Place<'_>, fields: &[&str]) -> Result<(), Refusal> {
    if !place.document.aliased.contains(&place.mapping.anchor) {
        return Ok(());
    }
    let field = if fields.is_empty() { "the object".to_owned() } else { fields.join(".") };
    Err(Refusal { line: place.mapping.line, problem: Problem::Anchor { field } })
}

/// The path of an entry below that of its mapping.
pub(super) fn child_path(path: &str, key: &str) -> String {
    // As a JSON pointer (RFC 6901).
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

const fn is_block(node: &Node) -> bool {
    matches!(node.content, Content::Mapping { style: StructureStyle::Block, .. })
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn block_lines(rest: &[&str], entries: &[(&str, &str)], column: usize, step: usize) -> Vec<String> {
    let mut column = column;
    let mut lines = Vec::new();
    for field in rest {
        lines.push(format!("{}{field}:", " ".repeat(column)));
        column += step;
    }
    let indentation = " ".repeat(column);
    lines.extend(
        entries.iter().map(|(name, value)| format!("{indentation}{name}: {}", quoted(value))),
    );
    lines
}

fn with_breaks_after(lines: &[String], end_of_line: &str) -> String {
    lines.join(end_of_line) + end_of_line
}

fn flow_entries(rest: &[&str], entries: &[(&str, &str)], is_compact: bool) -> String {
    let space = if is_compact { "" } else { " " };
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, value)| format!("{}:{space}{}", quoted(name), quoted(value)))
        .collect();
    let entries = entries.join(&format!(",{space}"));
    rest.iter().rev().fold(entries, |inner, field| format!("{}:{space}{{{inner}}}", quoted(field)))
}

/// A string of JSON, which is a double-quoted scalar of YAML, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
