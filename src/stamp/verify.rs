//! Compares the trees of two texts: what differs besides the annotations that were set?

use std::collections::HashSet;

use super::{
    edit::child_path,
    tree::{Content, Node, Stream},
};

/// A node without its children.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    path: String,
    /// Everything about the node except a scalar's text: kind, style, tag, anchor.
    form: String,
    text: Option<String>,
}

/// Whether `after` differs from `before` in the paths `changed` only, and has at each path of `set` the
/// value beside it. Comments count, as do styles, tags, anchors and the order of entries.
pub(super) fn differs_only_in(
    before: &Stream,
    after: &Stream,
    changed: &[String],
    set: &[(String, String)],
) -> bool {
    let changed: HashSet<&str> = changed.iter().map(String::as_str).collect();
    let (before_lines, after_lines) = (outline(before), outline(after));
    let is_unchanged = |line: &&Line| !changed.contains(line.path.as_str());
    let texts: HashSet<(&str, &str)> = after_lines
        .iter()
        .filter_map(|line| Some((line.path.as_str(), line.text.as_deref()?)))
        .collect();
    before.comments == after.comments
        && before.documents.len() == after.documents.len()
        && before_lines.iter().filter(is_unchanged).eq(after_lines.iter().filter(is_unchanged))
        && set.iter().all(|(path, value)| texts.contains(&(path.as_str(), value.as_str())))
}

fn outline(stream: &Stream) -> Vec<Line> {
    let mut lines = Vec::new();
    for document in &stream.documents {
        describe(&document.root, document.number.to_string(), &mut lines);
    }
    lines
}

/// Appends a line for a node and for each node below it.
fn describe(node: &Node, path: String, lines: &mut Vec<Line>) {
    let (tag, anchor) = (&node.tag, node.anchor);
    match &node.content {
        Content::Scalar { value, style } => {
            let form = format!("scalar {style:?} {tag:?} {anchor}");
            lines.push(Line { path, form, text: Some(value.clone()) });
        }
        Content::Alias(target) => {
            lines.push(Line { path, form: format!("alias {target}"), text: None });
        }
        Content::Sequence { items, style } => {
            let form = format!("sequence {style:?} {tag:?} {anchor}");
            lines.push(Line { path: path.clone(), form, text: None });
            for (index, item) in items.iter().enumerate() {
                describe(item, child_path(&path, &index.to_string()), lines);
            }
        }
        Content::Mapping { entries, style } => {
            let form = format!("mapping {style:?} {tag:?} {anchor}");
            lines.push(Line { path: path.clone(), form, text: None });
            let mut keys_without_text = 0;
            for (key, value) in entries {
                let name = if let Some(text) = key.text() {
                    child_path(&path, text)
                } else {
                    // A key may be a collection or an alias. An inserted key is neither.
                    keys_without_text += 1;
                    child_path(&path, &format!("? {keys_without_text}"))
                };
                // A key has the path of its value, so that an inserted one is ignored with it.
                describe(key, name.clone(), lines);
                describe(value, name, lines);
            }
        }
    }
}
