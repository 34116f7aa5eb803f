//! Reads from the status of a custom resource what commonly says how an object is doing.

use jiff::Timestamp as Instant;
use serde_json::{Map, Value, value::RawValue};
use xxhash_rust::xxh3::xxh3_64;

use super::json::truncate;
use crate::trace::model::signals::{StatusSignals, StatusWord};

/// A longer status is not read.
const MAX_STATUS: usize = 256 * 1024;
const MAX_WORDS: usize = 16;
const MAX_FLAGS: usize = 8;
const MAX_COUNTERS: usize = 16;
/// Longer messages are truncated to this many characters.
const MAX_MESSAGE: usize = 256;
/// Longer texts are explanations, and not words.
const MAX_WORD: usize = 64;

/// Names of status fields that contain a word, and endings of such names.
const WORDS: [&str; 6] = ["phase", "state", "status", "health", "condition", "result"];
/// Names that say that a field is not about now.
const NOT_NOW: [&str; 6] = ["last", "previous", "desired", "target", "old", "initial"];
/// Beginnings of the names of counters.
const COUNTERS: [&str; 10] = [
    "available",
    "desired",
    "expected",
    "healthy",
    "number",
    "ready",
    "running",
    "updated",
    "uptodate",
    "wanted",
];
const FLAGS: [&str; 6] = ["healthy", "ready", "readytouse", "available", "provisioned", "synced"];
const REASONS: [&str; 3] = ["reason", "failureReason", "errorReason"];
const MESSAGES: [&str; 7] = [
    "message",
    "error",
    "failureMessage",
    "errorMessage",
    "statusMessage",
    "failureReason",
    "stateDescription",
];
/// Parts of names whose values change although nothing progresses.
const NO_PROGRESS: [&str; 9] =
    ["time", "heartbeat", "retr", "attempt", "fail", "error", "resourceversion", "last", "message"];

pub(super) fn read(raw: &RawValue) -> StatusSignals {
    if raw.get().len() > MAX_STATUS {
        return StatusSignals::default();
    }
    let Ok(status) = serde_json::from_str::<Map<String, Value>>(raw.get()) else {
        return StatusSignals::default();
    };
    let mut signals = StatusSignals {
        reason: first_text(&status, &REASONS),
        message: first_text(&status, &MESSAGES),
        is_run: status.contains_key("startTime") || status.contains_key("startedAt"),
        has_finished: ["completionTime", "completedAt", "completionTimestamp", "finishedAt"]
            .iter()
            .any(|key| status.get(*key).is_some_and(|time| !time.is_null())),
        replicas: status.get("replicas").and_then(Value::as_i64),
        progress: progress(&status),
        ..StatusSignals::default()
    };
    signals.is_run |= signals.has_finished;
    // The order of the keys in the text must change nothing.
    for (key, value) in &status {
        read_field(&mut signals, key, value);
    }
    signals.words.truncate(MAX_WORDS);
    signals.flags.truncate(MAX_FLAGS);
    signals.counters.truncate(MAX_COUNTERS);
    signals
}

fn read_field(signals: &mut StatusSignals, key: &str, value: &Value) {
    let name = key.to_ascii_lowercase();
    match value {
        Value::Bool(flag) if FLAGS.contains(&&*name) => signals.flags.push((key.into(), *flag)),
        Value::Number(number) if is_counter(&name) => {
            signals.counters.extend(number.as_i64().map(|number| (key.into(), number)));
        }
        Value::String(text) if FLAGS.contains(&&*name) && is_bool(text) => {
            signals.flags.push((key.into(), text.eq_ignore_ascii_case("true")));
        }
        Value::String(text) if is_word(&name) => {
            push_word(&mut signals.words, key.into(), text, false);
        }
        Value::Object(fields) if is_word(&name) => {
            for (inner, value) in fields {
                if let Value::String(text) = value
                    && is_word(&inner.to_ascii_lowercase())
                {
                    push_word(&mut signals.words, format!("{key}.{inner}"), text, false);
                }
            }
        }
        Value::Array(items) => {
            for (inner, value) in items.iter().filter_map(Value::as_object).flatten() {
                if let Value::String(text) = value
                    && inner != "status"
                    && is_word(&inner.to_ascii_lowercase())
                    && signals.words.len() < MAX_WORDS
                {
                    push_word(&mut signals.words, format!("{key}[].{inner}"), text, true);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
    }
}

fn push_word(words: &mut Vec<StatusWord>, path: String, text: &str, is_part: bool) {
    if !text.is_empty() {
        words.push(StatusWord { path: path.into(), text: truncate(text, MAX_MESSAGE), is_part });
    }
}

fn is_bool(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

fn is_word(name: &str) -> bool {
    WORDS.iter().any(|word| name.ends_with(word))
        && !NOT_NOW.iter().any(|prefix| name.starts_with(prefix))
}

fn is_counter(name: &str) -> bool {
    COUNTERS.iter().any(|start| name.starts_with(start))
}

fn first_text(status: &Map<String, Value>, keys: &[&str]) -> Option<Box<str>> {
    keys.iter().find_map(|key| match status.get(*key)? {
        Value::String(text) if !text.is_empty() => Some(truncate(text, MAX_MESSAGE)),
        Value::Object(fields) => match fields.get("message")? {
            Value::String(text) => Some(truncate(text, MAX_MESSAGE)),
            _ => None,
        },
        _ => None,
    })
}

fn progress(status: &Map<String, Value>) -> u32 {
    let mut text = String::new();
    for (key, value) in status {
        add_progress(&mut text, key, value);
    }
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    let short = xxh3_64(text.as_bytes()) as u32;
    short
}

fn add_progress(text: &mut String, key: &str, value: &Value) {
    let name = key.to_ascii_lowercase();
    if NO_PROGRESS.iter().any(|part| name.contains(part)) {
        return;
    }
    let mut push = |value: &str| {
        text.push_str(key);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    };
    match value {
        Value::Bool(flag) => push(if *flag { "true" } else { "false" }),
        Value::Number(number) => push(&number.to_string()),
        Value::String(word) if word.len() <= MAX_WORD && word.parse::<Instant>().is_err() => {
            push(word);
        }
        Value::Null | Value::String(_) => {}
        Value::Array(items) => items.iter().for_each(|item| add_progress(text, key, item)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add_progress(text, key, value));
        }
    }
}
