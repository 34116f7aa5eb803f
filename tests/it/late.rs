//! Replays one hand-written history with restarts, delays and disconnected watches.

use std::{fmt::Write as _, fs, time::Duration};

use expect_test::Expect;
use serde_json::{Value, json};
use spanlink::trace::{
    model::{
        observation::{WatchEvent, WatchId, WatchScope},
        span::Span,
        time::Timestamp,
    },
    rules::Rules,
};

use crate::{
    disorder::{self, received_at},
    restarted::Run,
    span_tree::attribute,
    written::{self, built_in, merged, object, owned, status},
};

/// The time `second` seconds after ten o'clock, when hand-written histories start.
pub(crate) fn at(second: f64) -> Timestamp {
    let begin = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
    begin.plus(Duration::from_secs_f64(second))
}

pub(crate) fn seconds(at: Timestamp) -> f64 {
    let begin = self::at(0.0);
    at.since(begin).as_secs_f64() - begin.since(at).as_secs_f64()
}

/// The object with managedFields that date its last write to `second`.
pub(crate) fn written_in(object: &Value, second: u32) -> Value {
    let time = format!("2026-11-24T10:{:02}:{:02}Z", second / 60, second % 60);
    let fields = json!([{"manager": "controller", "operation": "Update", "time": time}]);
    merged(object, &json!({"metadata": {"managedFields": fields}}))
}

pub(crate) fn ready(value: &str) -> Value {
    status(&json!({"conditions": [{"type": "Ready", "status": value}]}))
}

/// A tracer with its checkpoint. The test decides when its watches deliver the events of the
/// history.
pub(crate) struct Daemon {
    pub(crate) run: Run,
    pub(crate) history: disorder::History,
    pub(crate) processed: usize,
}

impl Daemon {
    pub(crate) fn of(history: &written::History) -> Self {
        Self::with(&Rules::default(), history)
    }

    pub(crate) fn with(rules: &Rules, history: &written::History) -> Self {
        Self::configured(rules, "", history)
    }

    pub(crate) fn configured(
        rules: &Rules,
        configuration: &str,
        history: &written::History,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("history.jsonl"), history.text()).unwrap();
        let history = disorder::read_with(folder.path(), configuration);
        Self { run: Run::begin(rules, &history), history, processed: 0 }
    }

    /// The watch of that kind.
    pub(crate) fn watch(&self, kind: &str) -> (WatchId, WatchScope) {
        let mut all = self.history.watches.iter();
        let (id, watched, _) = all.find(|(_, of, _)| *of.kind.kind == *kind).unwrap();
        (*id, watched.clone())
    }

    pub(crate) fn process(&mut self, id: WatchId, event: WatchEvent) {
        self.run.process(id, event);
        self.run.commit();
    }

    pub(crate) fn next(&mut self, count: usize) -> Vec<(WatchId, WatchEvent)> {
        self.processed += count;
        self.history.events[self.processed - count..self.processed].to_vec()
    }

    /// Delivers the next events of the history at their own time.
    pub(crate) fn process_next(&mut self, count: usize) {
        for (id, event) in self.next(count) {
            self.process(id, event);
        }
    }

    /// Delivers the next events of the history late, at `second`.
    pub(crate) fn catches_up(&mut self, count: usize, second: f64) {
        for (id, mut event) in self.next(count) {
            *received_at(&mut event) = at(second);
            self.process(id, event);
        }
    }

    pub(crate) fn is_not_there(&mut self, from: f64, to: f64) {
        self.is_at(from);
        self.run.restart(at(to));
        for (id, watched, _) in self.history.watches.clone() {
            self.run.tracer.open(id, watched, at(to));
        }
    }

    pub(crate) fn loses(&mut self, kind: &str, second: f64) {
        self.process(self.watch(kind).0, WatchEvent::Interrupted { at: at(second) });
    }

    pub(crate) fn resumes(&mut self, kind: &str, second: f64) {
        self.process(self.watch(kind).0, WatchEvent::Resumed { at: at(second) });
    }

    pub(crate) fn lists(&mut self, kind: &str, second: f64) {
        self.process(self.watch(kind).0, WatchEvent::ListStarted { at: at(second) });
    }

    /// Delivers a bookmark right before the next event of the history.
    pub(crate) fn bookmark(&mut self, kind: &str, second: f64) {
        let processed = self.history.events[..self.processed].iter().rev();
        let versions = processed.filter_map(|(_, event)| match event {
            WatchEvent::Applied(now) | WatchEvent::Deleted(now) | WatchEvent::ListItem(now) => {
                Some(now.resource_version)
            }
            WatchEvent::ListCompleted { resource_version, .. } => Some(*resource_version),
            _ => None,
        });
        let resource_version = versions.max().unwrap();
        self.process(self.watch(kind).0, WatchEvent::Bookmark { at: at(second), resource_version });
    }

    /// Lets time pass until `second` without events.
    pub(crate) fn is_at(&mut self, second: f64) {
        while let Some(due) = self.run.tracer.next_deadline().filter(|due| *due <= at(second)) {
            let output = self.run.tracer.expire(due);
            self.run.take(output);
        }
        self.run.commit();
    }

    /// Checks the time of the next deadline.
    pub(crate) fn is_due_at(&self, second: f64) {
        let due = self.run.tracer.next_deadline().map(seconds);
        assert!(due.is_some_and(|due| (due - second).abs() < 1e-6), "{due:?}, not {second}");
    }

    /// The spans since the last call, with start and end in seconds, without those of heads.
    pub(crate) fn lines(&mut self) -> String {
        let mut text = String::new();
        for span in std::mem::take(&mut self.run.spans) {
            if span.is_head() && span.name.starts_with("create") {
                continue;
            }
            let outcome = attribute(&span, "spanlink.outcome").unwrap_or_default();
            let (start, end, name) = (seconds(span.start), seconds(span.end), &span.object.name);
            writeln!(text, "{} {name} {outcome}: {start:.1} to {end:.1}", span.name).unwrap();
        }
        text
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers pass `expect![…]`")]
    pub(crate) fn expect_spans(&mut self, expected: Expect) {
        expected.assert_eq(&self.lines());
    }

    pub(crate) fn expect_no_spans(&mut self) {
        assert_eq!(self.lines(), "");
    }

    pub(crate) fn end(self) -> Vec<Span> {
        self.run.end()
    }
}

/// A Widget that is Current in second 2, and converges at 3.2 without further events.
pub(crate) fn current_widget() -> written::History {
    let widget = object("Widget", "w");
    written::History::default().added(&widget).later(1).modified(&widget, &ready("True"))
}

/// A Widget that converges at 3.2, and a watch of Parts.
pub(crate) fn with_parts() -> written::History {
    current_widget().added(&object("Part", "p"))
}

/// The same history, with a watch that started with a list.
pub(crate) fn listed_widget() -> written::History {
    let widget = object("Widget", "w");
    let empty = written::History::default().listed("Widget", &[]);
    empty.added(&widget).later(1).modified(&widget, &ready("True"))
}

pub(crate) fn replica_set() -> Value {
    built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1}))
}

pub(crate) fn pod_of(set: &Value, name: &str, second: u32) -> Value {
    let time = format!("2026-11-24T10:{:02}:{:02}Z", second / 60, second % 60);
    let metadata = json!({"name": name, "uid": format!("Pod-{name}"), "creationTimestamp": time});
    let pod = built_in("v1", "Pod", &json!({"containers": [{"name": "web"}]}));
    owned(&merged(&pod, &json!({ "metadata": metadata })), &[(set, true)])
}
