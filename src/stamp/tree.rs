//! Parses YAML and JSON into trees whose nodes have their place in the text.

use std::{collections::HashSet, ops::Range};

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle};

use super::error::{Problem, StampError};

/// Consecutive comment lines before an entry. The parser's default of 96 is less than a license.
const COMMENTS_MAX: usize = 1 << 20;
/// The length of a key. The rule of 1,024 characters is YAML's; JSON has none.
const KEY_LENGTH_MAX: usize = 1 << 16;

/// Every document of a text.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) documents: Vec<Document>,
    /// The text of all comments, in order.
    pub(super) comments: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Document {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) root: Node,
    /// The anchors that an alias in the document refers to.
    pub(super) aliased: HashSet<usize>,
}

/// A node, and where its text is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    /// As resolved by the parser.
    pub(super) tag: Option<String>,
    /// 0: none.
    pub(super) anchor: usize,
    /// Of a scalar its token, of a flow collection its opening bracket, of a block collection the
    /// empty range before its first entry. An empty scalar has an empty range.
    pub(super) range: Range<usize>,
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters from the beginning of the line.
    pub(super) column: usize,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar { value: String, style: ScalarStyle },
    Sequence { items: Vec<Node>, style: StructureStyle },
    Mapping { entries: Vec<(Node, Node)>, style: StructureStyle },
    Alias(usize),
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Whether it is an empty value, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        let is_null_text = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        match &self.content {
            Content::Scalar { value, style: ScalarStyle::Plain } => {
                self.tag.is_none() && is_null_text(value)
            }
            _ => false,
        }
    }

    pub(super) fn entries(&self) -> &[(Self, Self)] {
        match &self.content {
            Content::Mapping { entries, .. } => entries,
            _ => &[],
        }
    }

    /// The value of the first entry with this key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|(name, _)| name.text() == Some(key));
        entry.map(|(_, value)| value)
    }
}

/// Parses every document of a YAML text; a JSON text is one document.
///
/// # Errors
/// When the text is not valid YAML.
pub(super) fn parse(text: &str) -> Result<Stream, StampError> {
    let options: Options = granit_parser::options! {
        max_buffered_comment_events: COMMENTS_MAX,
        simple_key_max_lookahead: KEY_LENGTH_MAX,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder =
        Builder { parser, comments: Vec::new(), aliased: HashSet::new(), document: 0 };
    let mut documents = Vec::new();
    while let Some((event, _)) = builder.next_event()? {
        if let Event::DocumentStart(..) = event {
            builder.document += 1;
            let root = builder.next_node()?;
            let aliased = std::mem::take(&mut builder.aliased);
            documents.push(Document { number: builder.document, root, aliased });
        }
    }
    Ok(Stream { documents, comments: builder.comments })
}

struct Builder<'text> {
    parser: Parser<'text, StrInput<'text>>,
    comments: Vec<String>,
    /// Of the current document.
    aliased: HashSet<usize>,
    document: usize,
}

impl<'text> Builder<'text> {
    /// The next event that is not a comment.
    fn next_event(&mut self) -> Result<Option<(Event<'text>, Span)>, StampError> {
        for event in self.parser.by_ref() {
            match event {
                Ok((Event::Comment(text, _), _)) => self.comments.push(text.into_owned()),
                Ok(event) => return Ok(Some(event)),
                Err(error) => {
                    return Err(StampError {
                        document: self.document.max(1),
                        line: error.marker().line(),
                        problem: Problem::Syntax { reason: error.info().clone() },
                    });
                }
            }
        }
        Ok(None)
    }

    fn next_node(&mut self) -> Result<Node, StampError> {
        match self.next_event()? {
            Some((event, span)) => self.node(event, &span),
            None => Err(self.ended()),
        }
    }

    fn node(&mut self, event: Event<'text>, span: &Span) -> Result<Node, StampError> {
        let (content, anchor, tag) = match event {
            Event::Alias(anchor) => {
                self.aliased.insert(anchor);
                (Content::Alias(anchor), 0, None)
            }
            Event::Scalar(value, style, anchor, tag) => {
                // The parser represents an empty value as `~`.
                let is_empty = span.byte_range().is_some_and(|range| range.is_empty());
                let is_absent = is_empty && style == ScalarStyle::Plain;
                let value = if is_absent { String::new() } else { value.into_owned() };
                (Content::Scalar { value, style }, anchor, tag)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let mut items = Vec::new();
                while let Some(item) = self.child()? {
                    items.push(item);
                }
                (Content::Sequence { items, style }, anchor, tag)
            }
            Event::MappingStart(style, anchor, tag) => {
                let mut entries = Vec::new();
                while let Some(key) = self.child()? {
                    let value = self.next_node()?;
                    entries.push((key, value));
                }
                (Content::Mapping { entries, style }, anchor, tag)
            }
            _ => return Err(self.ended()),
        };
        Ok(Node {
            content,
            tag: tag.map(|tag| tag.to_string()),
            anchor,
            range: span.byte_range().unwrap_or_default(),
            line: span.start.line(),
            column: span.start.col(),
        })
    }

    /// The next item or key of a collection; `None` at its end.
    fn child(&mut self) -> Result<Option<Node>, StampError> {
        match self.next_event()? {
            Some((Event::SequenceEnd | Event::MappingEnd, _)) => Ok(None),
            Some((event, span)) => Ok(Some(self.node(event, &span)?)),
            None => Err(self.ended()),
        }
    }

    /// The parser ends every collection that it began, so this is an error of the text.
    fn ended(&self) -> StampError {
        StampError {
            document: self.document.max(1),
            line: 1,
            problem: Problem::Syntax { reason: "the text ends within a value".to_owned() },
        }
    }
}
