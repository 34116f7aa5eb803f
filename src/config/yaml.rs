//! Reads a YAML file into a tree of values, with the line and column of each.
//!
//! A scalar stays the text that the file has, so a cluster named `1.10` keeps its name; which texts
//! are numbers is decided by the option that takes them.

use std::{collections::HashMap, fmt};

use config::{Map, Value, ValueKind};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Location, Spanned};

/// A place in the file; both numbers begin at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl From<&Location> for Position {
    fn from(location: &Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// Where an option stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionPosition {
    /// The position of its name, or of its value where the option is an item of a list.
    pub(super) name: Position,
    pub(super) value: Position,
}

/// Why a file is refused.
#[derive(Debug)]
pub(super) struct YamlError {
    pub(super) position: Position,
    pub(super) problem: String,
}

/// The content of a configuration file.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) options: Map<String, Value>,
    /// Keyed by the path of the option: `otlp.endpoint`, `watch[0].kind`.
    pub(super) positions: HashMap<String, OptionPosition>,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, YamlError> {
        // Without this, numbers beyond f64 are refused: they may be texts.
        let options = serde_saphyr::options! {
            non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        };
        let parsed = serde_saphyr::from_str_with_options(text, options);
        let root: Option<Spanned<Node>> = parsed.map_err(|error| {
            let error = error.without_snippet();
            let position = error.location().as_ref().map_or(START, Position::from);
            let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            // The position is printed before the message.
            let problem = message.split(" at line ").next().unwrap_or(&message).to_owned();
            YamlError { position, problem }
        })?;
        let mut document = Self::default();
        let Some(root) = root else { return Ok(document) };
        document.options = match root.value {
            Node::Null => Map::new(),
            Node::Table(entries) => {
                // A layer would take such a name for a path.
                let is_path = |name: &str| name.contains(['.', '[']);
                if let Some((name, _)) = entries.iter().find(|(name, _)| is_path(&name.value)) {
                    let problem = format!(
                        "unknown option {:?}; indent an option below the one it belongs to",
                        name.value
                    );
                    return Err(YamlError { position: Position::from(&name.referenced), problem });
                }
                document.table(text, "", entries)
            }
            Node::Text(_) | Node::Literal(_) | Node::List(_) => {
                let problem = "expected options and their values, as in `settle: 2s`".to_owned();
                return Err(YamlError { position: Position::from(&root.defined), problem });
            }
        };
        Ok(document)
    }

    fn table(
        &mut self,
        text: &str,
        parent: &str,
        entries: Vec<(Spanned<String>, Spanned<Node>)>,
    ) -> Map<String, Value> {
        let mut table = Map::new();
        for (name, node) in entries {
            let path = path_of_option(parent, &name.value);
            let position = OptionPosition {
                name: Position::from(&name.referenced),
                value: Position::from(&node.referenced),
            };
            self.positions.insert(path.clone(), position);
            table.insert(name.value, self.value(text, &path, node));
        }
        table
    }

    fn value(&mut self, text: &str, path: &str, node: Spanned<Node>) -> Value {
        let kind = match node.value {
            Node::Null => ValueKind::Nil,
            Node::Text(text) => ValueKind::String(text),
            Node::Literal(parsed) => {
                ValueKind::String(written(text, &node.defined).map_or(parsed, str::to_owned))
            }
            Node::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let position = Position::from(&item.referenced);
                    let position = OptionPosition { name: position, value: position };
                    self.positions.insert(path.clone(), position);
                    list.push(self.value(text, &path, item));
                }
                ValueKind::Array(list)
            }
            Node::Table(entries) => ValueKind::Table(self.table(text, path, entries)),
        };
        Value::new(None, kind)
    }
}

/// The position of errors that have none.
pub(super) const START: Position = Position { line: 1, column: 1 };

pub(super) fn path_of_option(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The text of a plain scalar. `None` for one that is quoted behind a tag (`!!int "5"`).
fn written<'t>(text: &'t str, location: &Location) -> Option<&'t str> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let written = text.get(start..start.checked_add(length)?)?.trim();
    (!written.starts_with(['"', '\'', '!', '&', '|', '>'])).then_some(written)
}

/// A node of the file.
#[derive(Debug)]
enum Node {
    Null,
    Text(String),
    /// A number or a boolean by YAML's rules, printed; the file may spell it otherwise.
    Literal(String),
    List(Vec<Spanned<Self>>),
    Table(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Literal(value.to_string()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Node::Table(table))
    }
}
