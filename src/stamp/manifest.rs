//! Manifests: a text, its objects, and the text with their annotations.

use std::{iter, ops::Range};

use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    annotations::Annotations,
    edit::{Edits, Existing},
    error::{Problem, StampError},
    objects::{Found, ObjectIdentity, objects, pod_template},
    tree::{self, Stream},
    value::value,
    verify::differs_only_in,
};

/// A text with YAML documents or JSON values.
#[derive(Debug)]
pub struct Manifest<'text> {
    text: &'text str,
    parts: Vec<Part>,
    objects: Vec<ManifestObject>,
}

/// A part of the text that is parsed at once: all YAML documents, or one of several JSON values.
#[derive(Debug)]
struct Part {
    range: Range<usize>,
    stream: Stream,
    /// Documents and lines before this part.
    documents_before: usize,
    lines_before: usize,
}

/// An object that can be stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestObject {
    pub identity: ObjectIdentity,
    pub has_pod_template: bool,
}

/// What to write into one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStamp {
    /// For the metadata of the object; `None`: it stays as it is.
    pub metadata: Option<Annotations>,
    /// For the template of its Pods, if it has one; `None`: it stays as it is.
    pub pod_template: Option<Annotations>,
    pub existing: Existing,
}

impl<'text> Manifest<'text> {
    /// Parses a text. An empty text, and documents that are not objects, are valid.
    ///
    /// # Errors
    /// When the text is neither YAML nor JSON.
    pub fn parse(text: &'text str) -> Result<Self, StampError> {
        let mut parts = Vec::new();
        let mut documents_before = 0;
        let ranges = json_values(text).unwrap_or_else(|| iter::once(0..text.len()).collect());
        for range in ranges {
            let lines_before = lines(text.get(..range.start).unwrap_or_default());
            let place = |error: StampError| StampError {
                document: error.document + documents_before,
                line: error.line + lines_before,
                ..error
            };
            let part = text.get(range.clone()).unwrap_or_default();
            let stream = tree::parse(part).map_err(place)?;
            let documents = stream.documents.len();
            parts.push(Part { range, stream, documents_before, lines_before });
            documents_before += documents;
        }
        let objects = parts.iter().flat_map(Part::objects).map(|found| describe(&found)).collect();
        Ok(Self { text, parts, objects })
    }

    /// The objects in the order of the text.
    pub fn objects(&self) -> &[ManifestObject] {
        &self.objects
    }

    /// The objects as JSON values, in the order of the text.
    pub fn values(&self) -> Vec<Value> {
        self.parts.iter().flat_map(Part::objects).map(|found| value(&found)).collect()
    }

    /// The text with a stamp for each object; `None`: the object stays as it is.
    ///
    /// # Errors
    /// When an object cannot be stamped without damage.
    pub fn stamp(&self, stamps: &[Option<ObjectStamp>]) -> Result<String, StampError> {
        let mut stamps = stamps.iter();
        let mut result = String::with_capacity(self.text.len() + 256 * self.objects.len());
        let mut done = 0;
        for part in &self.parts {
            result.push_str(self.text.get(done..part.range.start).unwrap_or_default());
            let text = self.text.get(part.range.clone()).unwrap_or_default();
            result.push_str(&part.stamp(text, &mut stamps)?);
            done = part.range.end;
        }
        result.push_str(self.text.get(done..).unwrap_or_default());
        Ok(result)
    }
}

impl Part {
    fn objects(&self) -> impl Iterator<Item = Found<'_>> {
        self.stream.documents.iter().flat_map(objects)
    }

    fn stamp<'stamps>(
        &self,
        text: &str,
        stamps: &mut impl Iterator<Item = &'stamps Option<ObjectStamp>>,
    ) -> Result<String, StampError> {
        let mut edits = Edits::new(text);
        let mut first = None;
        for found in self.objects() {
            let Some(Some(stamp)) = stamps.next() else { continue };
            let Found { document, node, path, .. } = &found;
            let ObjectStamp { metadata, pod_template: template, existing } = stamp;
            let places = [
                metadata.as_ref().map(|annotations| (&[][..], annotations)),
                template.as_ref().and_then(|annotations| Some((pod_template(node)?, annotations))),
            ];
            for (fields, annotations) in places.into_iter().flatten() {
                edits.annotate(document, node, path, fields, annotations, *existing).map_err(
                    |refusal| self.error(document.number, refusal.line, refusal.problem),
                )?;
            }
            first.get_or_insert((document.number, node.line));
        }
        if edits.is_empty() {
            return Ok(text.to_owned());
        }
        let stamped = edits.apply();
        let is_intact = tree::parse(&stamped)
            .is_ok_and(|after| differs_only_in(&self.stream, &after, &edits.changed, &edits.set));
        if is_intact {
            return Ok(stamped);
        }
        let (document, line) = first.unwrap_or((1, 1));
        Err(self.error(document, line, Problem::Damage))
    }

    fn error(&self, document: usize, line: usize, problem: Problem) -> StampError {
        StampError {
            document: document + self.documents_before,
            line: line + self.lines_before,
            problem,
        }
    }
}

fn describe(found: &Found<'_>) -> ManifestObject {
    let has_pod_template = pod_template(found.node).is_some();
    ManifestObject { identity: found.identity.clone(), has_pod_template }
}

/// The places of the values in a text of JSON, which may be several without a separator; `None` for
/// other texts.
fn json_values(text: &str) -> Option<Vec<Range<usize>>> {
    let start = text.len() - text.trim_start_matches('\u{feff}').len();
    let json = text.get(start..)?;
    if !json.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<IgnoredAny>();
    let mut ranges = Vec::new();
    let mut from = start;
    while let Some(value) = values.next() {
        value.ok()?;
        let to = start + values.byte_offset();
        let blanks = text.get(from..to)?;
        from += blanks.len() - blanks.trim_start().len();
        ranges.push(from..to);
        from = to;
    }
    Some(ranges)
}

/// The number of line breaks.
fn lines(text: &str) -> usize {
    text.matches('\n').count() + text.matches('\r').count() - text.matches("\r\n").count()
}
