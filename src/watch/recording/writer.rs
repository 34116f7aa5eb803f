//! Writes a recording, with secrets redacted.

use std::{
    io::{self, Write},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::redact::Redactor;
use crate::{config::settings::WatchSettings, trace::model::time::Timestamp};

/// Writes watch events as JSON lines.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    output: W,
    redactor: Redactor,
}

/// One line of a recording.
#[derive(Clone, Copy, Debug)]
pub enum Recorded<'a> {
    /// A watch event or list item, and its object as JSON.
    Event {
        /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR` or `LISTED`.
        kind: &'a str,
        object: &'a [u8],
    },
    /// The kind of the watch, when it is opened.
    Kind { api_version: &'a str, kind: &'a str, has_status: bool },
    /// The end of a list.
    ListEnd { resource_version: u64 },
}

impl<W: Write> RecordingWriter<W> {
    /// `settings` name the fields to redact.
    pub fn new(output: W, settings: &Arc<WatchSettings>) -> Self {
        Self { output, redactor: Redactor::new(settings) }
    }

    /// Writes one line for the watch named `watch`. An object that is not JSON is left out.
    ///
    /// # Errors
    /// When the line cannot be written to the output.
    pub fn write(
        &mut self,
        watch: &str,
        received_at: Timestamp,
        recorded: Recorded<'_>,
    ) -> io::Result<()> {
        let line = match recorded {
            Recorded::ListEnd { resource_version } => json!({
                "at": received_at.to_string(),
                "watch": watch,
                "type": "LIST_END",
                "resourceVersion": resource_version.to_string(),
            })
            .to_string(),
            Recorded::Kind { api_version, kind, has_status } => json!({
                "at": received_at.to_string(),
                "watch": watch,
                "type": "KIND",
                "object": {"apiVersion": api_version, "kind": kind},
                "hasStatus": has_status,
            })
            .to_string(),
            Recorded::Event { kind, object } => {
                let Ok(mut object) = serde_json::from_slice(object) else { return Ok(()) };
                self.redactor.redact(&mut object);
                // The decoder reads `type` before `object`, so the order of the keys matters.
                format!(
                    "{{\"at\":\"{received_at}\",\"watch\":{},\"type\":\"{kind}\",\"object\":{object}}}",
                    Value::from(watch)
                )
            }
        };
        self.output.write_all(line.as_bytes())?;
        self.output.write_all(b"\n")
    }

    /// Flushes the output.
    ///
    /// # Errors
    /// When the output cannot be flushed.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Receives what the watches receive: the name of the watch, the time of receipt and the event.
/// All watches share one.
pub type Tap = Arc<dyn Fn(&str, Timestamp, Recorded<'_>) + Send + Sync>;

#[derive(Deserialize)]
struct TypeAndObject<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Passes one line of a watch response to the tap. `in_list`: the line belongs to the list that the
/// watch starts with; the bookmark that completes it is recorded as [`Recorded::ListEnd`] instead.
pub(in crate::watch) fn record_line(
    tap: &Tap,
    watch: &str,
    line: &[u8],
    received_at: Timestamp,
    in_list: bool,
) {
    let Ok(event) = serde_json::from_slice::<TypeAndObject<'_>>(line) else { return };
    let kind = match event.kind {
        "ADDED" | "MODIFIED" if in_list => "LISTED",
        "BOOKMARK" if in_list => return,
        kind => kind,
    };
    tap(watch, received_at, Recorded::Event { kind, object: event.object.get().as_bytes() });
}

/// Passes one item of a list to the tap, completed by the apiVersion and kind that items of a typed
/// list omit. Where an item has its own, they come later in the text and take precedence.
pub(in crate::watch) fn record_item(
    tap: &Tap,
    watch: &str,
    (api_version, kind): (&str, &str),
    item: &[u8],
    received_at: Timestamp,
) {
    let Some(rest) = item.trim_ascii_start().strip_prefix(b"{") else { return };
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let head = format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\"{comma}");
    let object = [head.as_bytes(), rest].concat();
    tap(watch, received_at, Recorded::Event { kind: "LISTED", object: &object });
}
