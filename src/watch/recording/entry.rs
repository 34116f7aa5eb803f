//! The entries of a recording, read one at a time so that memory does not grow with the file.

use std::{
    fmt::Write as _,
    io::{self, BufRead},
};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// One watch event of a recording.
#[derive(Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(default)]
    pub(super) at: String,
    #[serde(default)]
    pub(super) watch: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(borrow, default)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(default, rename = "resourceVersion")]
    pub(super) resource_version: Option<Value>,
    #[serde(default, rename = "hasStatus")]
    pub(super) has_status: Option<bool>,
}

impl Entry<'_> {
    pub(super) fn is_part_of_list(&self) -> bool {
        matches!(self.kind.as_str(), "LISTED" | "LIST_END")
    }

    pub(super) fn is_event(&self) -> bool {
        matches!(self.kind.as_str(), "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK")
    }

    /// The `resourceVersion` of a `LIST_END` entry, which hand-written recordings may write as a
    /// number.
    pub(super) fn resource_version(&self) -> Option<u64> {
        match self.resource_version.as_ref()? {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        }
    }
}

/// Why the text of a recording cannot be split into entries.
#[derive(Debug)]
pub(super) enum EntryError {
    Read(io::Error),
    /// The YAML document that starts at this line is invalid.
    Yaml {
        line: usize,
        source: Box<serde_saphyr::Error>,
    },
}

#[derive(Clone, Copy)]
enum Format {
    JsonLines,
    Yaml,
}

/// Yields the text of each entry as JSON, with the number of the line at which it starts.
pub(super) struct Entries<R> {
    lines: R,
    /// `None` until the first line that is not blank: a JSON line starts with a brace.
    format: Option<Format>,
    /// Lines read so far.
    line: usize,
    /// The YAML document that is being read, and the line at which it starts.
    document: String,
    document_line: usize,
    is_at_end: bool,
}

impl<R: BufRead> Entries<R> {
    pub(super) fn new(lines: R) -> Self {
        Self {
            lines,
            format: None,
            line: 0,
            document: String::new(),
            document_line: 1,
            is_at_end: false,
        }
    }

    /// The next entry, or `None` at the end of the recording.
    pub(super) fn next(&mut self) -> Result<Option<(usize, String)>, EntryError> {
        let mut text = String::new();
        while !self.is_at_end {
            text.clear();
            self.is_at_end = self.lines.read_line(&mut text).map_err(EntryError::Read)? == 0;
            self.line += 1;
            let format = match self.format {
                Some(format) => format,
                None if text.trim().is_empty() => continue,
                None if text.trim_start().starts_with('{') => Format::JsonLines,
                None => Format::Yaml,
            };
            self.format = Some(format);
            match format {
                Format::JsonLines if text.trim().is_empty() => {}
                Format::JsonLines => return Ok(Some((self.line, text))),
                Format::Yaml => {
                    if let Some(entry) = self.add_yaml_line(&text)? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns the previous document when `text` starts a new one or is empty, at the end.
    fn add_yaml_line(&mut self, text: &str) -> Result<Option<(usize, String)>, EntryError> {
        if !text.is_empty() && !text.starts_with("---") {
            self.document.push_str(text);
            return Ok(None);
        }
        let document = std::mem::replace(&mut self.document, text.to_owned());
        let line = std::mem::replace(&mut self.document_line, self.line);
        let values: Vec<Value> = serde_saphyr::from_multiple(&document)
            .map_err(|source| EntryError::Yaml { line, source: Box::new(source) })?;
        Ok(values.into_iter().next().map(|value| (line, to_json(value))))
    }
}

/// Writes `object` last, as the API server does: the decoder needs `type` before it.
fn to_json(document: Value) -> String {
    let Value::Object(mut fields) = document else { return document.to_string() };
    let object = fields.remove("object");
    let mut text = Value::Object(fields).to_string();
    if let Some(object) = object {
        text.pop();
        write!(text, ",\"object\":{object}}}").ok();
    }
    text
}
