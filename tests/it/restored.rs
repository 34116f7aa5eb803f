//! What a restart, or a time without news, does to one history written by hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    time::Duration,
};

use bytes::Bytes;
use expect_test::{Expect, expect, expect_file};
use serde_json::{Value, json};
use spanlink::{
    export::tree::{Style, render},
    trace::{
        checkpoint::{NotRestored, Restoring},
        observation::{Notice, WatchId, Watched},
        rules::{Layout, Rules},
        span::Span,
        time::Timestamp,
        tracer::Tracer,
    },
};

use crate::{
    disorder::{self, received_at},
    restarted::Run,
    scenarios::scenarios,
    told::attribute,
    written::{
        self, annotated, built_in, condition, going, is_true, merged, object, owned, status,
    },
};

/// Of a day of histories written by hand: ten o'clock, and so many seconds.
fn at(second: f64) -> Timestamp {
    let begin = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
    begin.plus(Duration::from_secs_f64(second))
}

fn seconds(at: Timestamp) -> f64 {
    let begin = self::at(0.0);
    at.since(begin).as_secs_f64() - begin.since(at).as_secs_f64()
}

/// Last written in that second, as its managedFields tell.
fn written_in(object: &Value, second: u32) -> Value {
    let time = format!("2026-11-24T10:{:02}:{:02}Z", second / 60, second % 60);
    let fields = json!([{"manager": "controller", "operation": "Update", "time": time}]);
    merged(object, &json!({"metadata": {"managedFields": fields}}))
}

fn ready(value: &str) -> Value {
    status(&json!({"conditions": [{"type": "Ready", "status": value}]}))
}

/// spanlink and its disk; its watches say what a history holds, when a test says so.
struct Daemon {
    run: Run,
    history: disorder::History,
    said: usize,
}

impl Daemon {
    fn of(history: &written::History) -> Self {
        Self::with(&Rules::default(), history)
    }

    fn with(rules: &Rules, history: &written::History) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("history.jsonl"), history.text()).unwrap();
        let history = disorder::read(folder.path());
        Self { run: Run::begin(rules, &history), history, said: 0 }
    }

    /// The watch of that kind.
    fn watch(&self, kind: &str) -> (WatchId, Watched) {
        let mut all = self.history.watches.iter();
        let (id, watched, _) = all.find(|(_, of, _)| *of.kind.kind == *kind).unwrap();
        (*id, watched.clone())
    }

    fn hear(&mut self, id: WatchId, notice: Notice) {
        self.run.hear(id, notice);
        self.run.commit();
    }

    fn next(&mut self, count: usize) -> Vec<(WatchId, Notice)> {
        self.said += count;
        self.history.said[self.said - count..self.said].to_vec()
    }

    /// The next that the history holds, when it happened.
    fn hears(&mut self, count: usize) {
        for (id, notice) in self.next(count) {
            self.hear(id, notice);
        }
    }

    /// The next that the history holds, late.
    fn catches_up(&mut self, count: usize, second: f64) {
        for (id, mut notice) in self.next(count) {
            *received_at(&mut notice) = at(second);
            self.hear(id, notice);
        }
    }

    fn is_not_there(&mut self, from: f64, to: f64) {
        self.is_at(from);
        self.run.restart(at(to));
        for (id, watched, _) in self.history.watches.clone() {
            self.run.tracer.open(id, watched, at(to));
        }
    }

    fn loses(&mut self, kind: &str, second: f64) {
        self.hear(self.watch(kind).0, Notice::Interrupted { at: at(second) });
    }

    fn resumes(&mut self, kind: &str, second: f64) {
        self.hear(self.watch(kind).0, Notice::Resumed { at: at(second) });
    }

    /// Everything up to what the history holds next.
    fn bookmark(&mut self, kind: &str, second: f64) {
        let said = self.history.said[..self.said].iter().rev();
        let versions = said.filter_map(|(_, notice)| match notice {
            Notice::Applied(now) | Notice::Deleted(now) | Notice::Listed(now) => {
                Some(now.resource_version)
            }
            Notice::Reset { resource_version, .. } => Some(*resource_version),
            _ => None,
        });
        let resource_version = versions.max().unwrap();
        self.hear(self.watch(kind).0, Notice::Bookmark { at: at(second), resource_version });
    }

    /// As much time has gone by, and nothing was said.
    fn is_at(&mut self, second: f64) {
        while let Some(due) = self.run.tracer.next().filter(|due| *due <= at(second)) {
            let output = self.run.tracer.expire(due);
            self.run.take(output);
        }
        self.run.commit();
    }

    /// When it has something to do next.
    fn is_due_at(&self, second: f64) {
        let due = self.run.tracer.next().map(seconds);
        assert!(due.is_some_and(|due| (due - second).abs() < 1e-6), "{due:?}, not {second}");
    }

    /// Spans since this was last asked, from when to when, in seconds. That of a head is no news.
    fn lines(&mut self) -> String {
        let mut text = String::new();
        for span in std::mem::take(&mut self.run.told) {
            if span.is_head() && span.name.starts_with("create") {
                continue;
            }
            let outcome = attribute(&span, "spanlink.outcome").unwrap_or_default();
            let (start, end, name) = (seconds(span.start), seconds(span.end), &span.object.name);
            writeln!(text, "{} {name} {outcome}: {start:.1} to {end:.1}", span.name).unwrap();
        }
        text
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads as a sentence")]
    fn tells(&mut self, expected: Expect) {
        expected.assert_eq(&self.lines());
    }

    fn tells_nothing(&mut self) {
        assert_eq!(self.lines(), "");
    }

    fn told(self) -> Vec<Span> {
        self.run.end()
    }
}

/// Current in its second second: over at 3.2, if nothing is said.
fn current_widget() -> written::History {
    let widget = object("Widget", "w");
    written::History::default().added(&widget).later(1).modified(&widget, &ready("True"))
}

#[test]
fn while_no_watch_is_heard_nothing_is_over_and_after_that_at_its_own_time() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    daemon.loses("Widget", 2.0);
    daemon.is_at(200.0);
    daemon.resumes("Widget", 200.0);
    daemon.is_due_at(200.5);
    daemon.bookmark("Widget", 200.1);
    daemon.tells_nothing();
    daemon.is_due_at(200.1);
    daemon.is_at(200.1);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_watch_that_says_nothing_has_caught_up_after_the_wait_for_owners() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    daemon.is_not_there(2.0, 200.0);
    daemon.resumes("Widget", 210.0);
    daemon.is_at(210.4);
    daemon.tells_nothing();
    daemon.is_at(210.5);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_watch_that_says_old_things_has_not_caught_up() {
    let old = merged(&written_in(&object("Widget", "other"), 20), &ready("False"));
    let history = current_widget()
        .added(&object("Widget", "other"))
        .later(20)
        .say("MODIFIED", &old)
        .say("MODIFIED", &old);
    let mut daemon = Daemon::of(&history);
    daemon.hears(3);
    daemon.is_not_there(2.0, 1000.0);
    daemon.resumes("Widget", 1010.0);
    daemon.catches_up(1, 1010.4);
    daemon.is_at(1010.8);
    daemon.tells_nothing();
    daemon.is_due_at(1010.9);
    daemon.catches_up(1, 1010.85);
    daemon.is_due_at(1011.35);
}

#[test]
fn what_an_api_server_has_forgotten_is_waited_for_no_longer() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    daemon.loses("Widget", 2.0);
    daemon.is_due_at(302.0);
    daemon.is_at(301.9);
    daemon.tells_nothing();
    daemon.is_at(302.0);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_restart_waits_as_long_from_its_own_beginning() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    daemon.is_not_there(2.0, 100.0);
    daemon.is_due_at(400.0);
}

/// A Widget that is over at 3.2, and a watch of Parts.
fn with_parts() -> written::History {
    current_widget().added(&object("Part", "p"))
}

#[test]
fn once_one_watch_is_heard_the_others_are_waited_for_half_a_minute() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.hears(3);
    daemon.loses("Part", 2.0);
    daemon.is_due_at(3.2);
    daemon.loses("Widget", 2.5);
    daemon.is_due_at(302.5);
    daemon.resumes("Widget", 100.0);
    daemon.bookmark("Widget", 100.0);
    daemon.is_due_at(130.0);
    daemon.loses("Part", 120.0);
    daemon.bookmark("Widget", 129.0);
    daemon.is_due_at(130.0);
    daemon.resumes("Part", 129.8);
    daemon.is_due_at(130.0);
    daemon.is_at(129.9);
    daemon.tells_nothing();
    daemon.is_at(130.0);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
        reconcile Part p unknown: 1.0 to 61.3
    "#]]);
}

#[test]
fn a_watch_that_is_lost_again_before_it_has_caught_up_is_waited_for_anew() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    daemon.is_not_there(2.0, 10.0);
    daemon.resumes("Widget", 20.0);
    daemon.loses("Widget", 20.2);
    daemon.is_at(200.0);
    daemon.tells_nothing();
    daemon.is_due_at(320.2);
    daemon.resumes("Widget", 200.0);
    daemon.bookmark("Widget", 200.1);
    daemon.is_at(201.0);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_kind_that_is_served_no_more_is_not_heard() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.hears(3);
    daemon.loses("Widget", 2.0);
    daemon.is_due_at(3.2);
    let output = daemon.run.tracer.close(daemon.watch("Part").0, at(2.5));
    daemon.run.take(output);
    daemon.run.told.clear();
    daemon.is_due_at(302.5);
}

/// Current in its second second, and no more in that one.
fn falls_back(second: u32) -> written::History {
    let widget = object("Widget", "w");
    let fallen = merged(&written_in(&widget, second), &ready("False"));
    current_widget().later(u64::from(second) - 1).say("MODIFIED", &fallen)
}

#[test]
fn a_settle_window_that_ended_while_it_was_down_ended_then_though_the_object_fell_back_later() {
    let mut daemon = Daemon::of(&falls_back(10));
    daemon.hears(2);
    daemon.is_not_there(2.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.tells_nothing();
    daemon.catches_up(1, 60.0);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
    assert_eq!(daemon.run.tracer.next(), None);
}

/// What lasted while it was down lasted until then, and not until now.
#[test]
fn what_was_stuck_while_it_was_down_and_came_right_is_told_as_of_then() {
    let set = replica_set();
    let pod = pod_of(&set, "a", 0);
    let unschedulable =
        status(&json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", 1)]}));
    let runs = status(&json!({"phase": "Running", "conditions": [is_true("Ready", 40)]}));
    let history = written::History::default()
        .added(&set)
        .added(&pod)
        .later(1)
        .modified(&pod, &unschedulable)
        .later(40)
        .say("MODIFIED", &merged(&written_in(&pod, 40), &runs));
    let mut daemon = Daemon::of(&history);
    daemon.hears(3);
    daemon.is_not_there(5.0, 2000.0);
    daemon.tells_nothing();
    daemon.resumes("Pod", 2000.0);
    daemon.catches_up(1, 2000.0);
    daemon.bookmark("Pod", 2000.0);
    daemon.resumes("ReplicaSet", 2000.0);
    daemon.bookmark("ReplicaSet", 2000.0);
    daemon.is_at(2000.0);
    daemon.tells(expect![[r#"
        stuck Pod a : 11.3 to 11.3
        ready a : 0.2 to 41.0
        create Pod a converged: 0.2 to 41.0
        observe it : 0.1 to 900.2
        reconcile ReplicaSet it timed_out: 0.1 to 900.2
    "#]]);
}

#[test]
fn a_watch_that_says_news_has_caught_up() {
    let other = object("Widget", "other");
    let news = merged(&written_in(&other, 20), &ready("False"));
    let history = current_widget().added(&other).later(19).say("MODIFIED", &news);
    let mut daemon = Daemon::of(&history);
    daemon.hears(3);
    daemon.is_not_there(2.0, 20.0);
    daemon.resumes("Widget", 20.0);
    daemon.catches_up(1, 20.2);
    daemon.is_due_at(20.2);
}

#[test]
fn a_restart_knows_that_nothing_is_heard_before_its_watches_are_opened() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    daemon.run.restart(at(100.0));
    daemon.is_due_at(400.0);
}

#[test]
fn a_watch_that_lists_anew_is_not_heard() {
    let history = listed_widget().later(1).listed("Widget", &[&object("Widget", "other")]);
    let mut daemon = Daemon::of(&history);
    daemon.hears(3);
    daemon.is_due_at(3.2);
    daemon.hears(1);
    daemon.is_due_at(302.3);
}

#[test]
fn a_watch_that_has_listed_anew_is_heard_and_the_others_are_waited_for_half_a_minute() {
    let history = with_parts().later(90).listed("Widget", &[]);
    let mut daemon = Daemon::of(&history);
    daemon.hears(3);
    daemon.loses("Part", 2.0);
    daemon.loses("Widget", 2.0);
    daemon.is_due_at(302.0);
    daemon.catches_up(1, 100.0);
    daemon.is_due_at(130.0);
}

/// The same, of a watch that has begun with a list.
fn listed_widget() -> written::History {
    let widget = object("Widget", "w");
    let empty = written::History::default().listed("Widget", &[]);
    empty.added(&widget).later(1).modified(&widget, &ready("True"))
}

/// A Part of a Widget, of which more may have been written.
fn owned_part() -> written::History {
    let widget = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    listed_widget().later(4).added(&part).later(5).listed("Widget", &[&widget])
}

#[test]
fn an_owners_watch_is_waited_for_half_a_minute_since_it_was_lost_whatever_it_lists() {
    let mut daemon = Daemon::of(&owned_part());
    daemon.hears(3);
    daemon.is_at(4.0);
    daemon.loses("Widget", 4.5);
    daemon.hears(1);
    daemon.is_due_at(34.5);
    daemon.hears(1);
    daemon.is_due_at(34.5);
}

#[test]
fn an_owners_watch_is_waited_for_half_a_minute_since_it_was_opened_after_a_restart() {
    let mut daemon = Daemon::of(&owned_part());
    daemon.hears(4);
    daemon.run.restart(at(100.0));
    daemon.is_due_at(130.0);
    for (id, watched, _) in daemon.history.watches.clone() {
        daemon.run.tracer.open(id, watched, at(110.0));
    }
    daemon.is_due_at(140.0);
}

#[test]
fn what_fell_back_within_its_settle_window_while_it_was_down_is_not_over() {
    let mut daemon = Daemon::of(&falls_back(3));
    daemon.hears(2);
    daemon.is_not_there(2.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.catches_up(1, 60.0);
    daemon.bookmark("Widget", 60.0);
    daemon.is_at(300.0);
    daemon.tells(expect![[""]]);
}

/// The API server names seconds: within that second, it may have been before.
#[test]
fn what_fell_back_in_the_second_in_which_it_settled_is_not_over() {
    let mut daemon = Daemon::of(&falls_back(2));
    daemon.hears(2);
    daemon.is_not_there(2.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.catches_up(1, 60.0);
    daemon.tells_nothing();
}

/// Less than a second ago, and yet in the second before.
#[test]
fn what_was_due_before_the_second_of_some_news_has_happened_before() {
    let fallen = merged(&written_in(&object("Widget", "w"), 4), &ready("False"));
    let history = current_widget().later(2).say("MODIFIED", &fallen);
    let mut daemon = Daemon::of(&history);
    daemon.hears(2);
    daemon.is_not_there(2.0, 4.0);
    daemon.resumes("Widget", 4.0);
    daemon.catches_up(1, 4.1);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

/// Written just now, by a clock that is ahead of ours.
#[test]
fn what_is_news_settles_nothing_ahead_of_its_time() {
    let ahead = merged(&written_in(&object("Widget", "w"), 40), &ready("False"));
    let history = current_widget().later(1).say("MODIFIED", &ahead);
    let mut daemon = Daemon::of(&history);
    daemon.hears(2);
    daemon.is_not_there(2.0, 2.2);
    daemon.resumes("Widget", 2.2);
    daemon.hears(1);
    daemon.is_at(10.0);
    daemon.tells_nothing();
}

#[test]
fn what_is_news_was_written_when_it_was_received_whatever_the_api_servers_clock_says() {
    let (widget, ready) = (object("Widget", "w"), ready("True"));
    let ahead = merged(&written_in(&widget, 40), &ready);
    let history = written::History::default().added(&widget).later(20).say("MODIFIED", &ahead);
    let mut daemon = Daemon::of(&history);
    daemon.hears(1);
    daemon.is_not_there(2.0, 20.0);
    daemon.resumes("Widget", 20.0);
    daemon.hears(1);
    daemon.is_due_at(22.2);
    daemon.is_at(22.2);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 20.2
    "#]]);
}

/// Two watches, and one that says later on what was written much earlier.
fn old_looking() -> written::History {
    let widget = object("Widget", "w");
    let old = merged(&written_in(&widget, 10), &ready("True"));
    let history = written::History::default().added(&widget).added(&object("Part", "p"));
    history.later(18).say("MODIFIED", &old)
}

#[test]
fn what_a_watch_says_after_it_has_caught_up_is_news_however_old_it_looks() {
    let mut daemon = Daemon::of(&old_looking());
    daemon.hears(2);
    daemon.is_not_there(2.0, 18.0);
    daemon.resumes("Widget", 18.0);
    daemon.bookmark("Widget", 18.0);
    daemon.hears(1);
    daemon.bookmark("Widget", 19.0);
    daemon.resumes("Part", 19.0);
    daemon.bookmark("Part", 19.0);
    daemon.is_due_at(20.3);
}

#[test]
fn where_time_went_on_a_backlog_counts_as_received() {
    let mut daemon = Daemon::of(&old_looking());
    daemon.hears(2);
    daemon.loses("Widget", 5.0);
    daemon.resumes("Widget", 30.0);
    daemon.catches_up(1, 30.0);
    daemon.is_due_at(32.0);
}

/// Changed last in its second second, deleted in that one.
fn deleted_in(second: u64) -> written::History {
    let widget = object("Widget", "w");
    let part = |second: u32| merged(&written_in(&object("Part", "p"), second), &ready("False"));
    let changed = merged(&written_in(&widget, 1), &ready("False"));
    written::History::default()
        .added(&widget)
        .added(&object("Part", "p"))
        .say("MODIFIED", &changed)
        .later(second - 10)
        .say("MODIFIED", &part(u32::try_from(second).unwrap() - 10))
        .later(10)
        .deleted(&changed)
}

#[test]
fn a_deletion_tells_no_time_and_was_no_earlier_than_what_was_heard_before_it() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.hears(3);
    daemon.bookmark("Widget", 100.0);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Widget", 600.0);
    daemon.said += 1;
    daemon.catches_up(1, 600.0);
    daemon.tells(expect![[r#"
        reconcile Part p unknown: 0.2 to 60.2
        reconcile Widget w superseded: 0.1 to 100.0
        delete Widget w deleted: 100.0 to 100.0
    "#]]);
}

#[test]
fn what_was_heard_while_others_were_waited_for_was_heard_then() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.hears(3);
    daemon.is_not_there(2.0, 90.0);
    daemon.resumes("Widget", 90.0);
    daemon.bookmark("Widget", 100.0);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Widget", 600.0);
    daemon.said += 1;
    daemon.catches_up(1, 600.0);
    daemon.tells(expect![[r#"
        reconcile Widget w superseded: 0.1 to 100.0
        delete Widget w deleted: 100.0 to 100.0
    "#]]);
}

#[test]
fn a_deletion_was_no_earlier_than_what_another_watch_says_was_written_before_it() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.hears(3);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Widget", 600.0);
    daemon.resumes("Part", 600.0);
    daemon.catches_up(2, 600.0);
    daemon.tells(expect![[r#"
        reconcile Part p unknown: 0.2 to 60.2
        reconcile Widget w superseded: 0.1 to 121.0
        delete Widget w deleted: 121.0 to 121.0
    "#]]);
}

#[test]
fn what_was_said_of_a_backlog_is_known_after_another_restart() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.hears(3);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Part", 600.0);
    daemon.catches_up(1, 600.0);
    daemon.is_not_there(600.1, 700.0);
    daemon.resumes("Widget", 700.0);
    daemon.catches_up(1, 700.0);
    daemon.tells(expect![[r#"
        reconcile Part p unknown: 0.2 to 60.2
        reconcile Widget w superseded: 0.1 to 121.0
        delete Widget w deleted: 121.0 to 121.0
    "#]]);
}

#[test]
fn a_watch_that_lists_anew_after_a_restart_dates_what_has_changed_and_tells_what_is_gone() {
    let (widget, gone) = (object("Widget", "w"), object("Widget", "gone"));
    let changed = merged(&written_in(&widget, 100), &ready("False"));
    let created = json!({"metadata": {"creationTimestamp": "2026-11-24T10:10:00Z"}});
    let fresh = merged(&written_in(&object("Widget", "new"), 600), &created);
    let history = written::History::default()
        .listed("Widget", &[])
        .added(&widget)
        .added(&gone)
        .later(1)
        .modified(&widget, &ready("True"))
        .modified(&gone, &ready("True"))
        .later(598)
        .listed("Widget", &[&fresh, &changed]);
    let mut daemon = Daemon::of(&history);
    daemon.hears(5);
    daemon.is_not_there(2.0, 590.0);
    assert!(daemon.run.tracer.has_listed());
    daemon.resumes("Widget", 599.9);
    daemon.catches_up(1, 600.0);
    // A list that is being read says nothing of what is not in it yet.
    daemon.is_at(620.0);
    daemon.tells_nothing();
    daemon.catches_up(1, 620.0);
    daemon.tells(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.3
    "#]]);
    daemon.catches_up(1, 630.0);
    daemon.is_at(630.0);
    daemon.tells(expect![[r#"
        reconcile Widget gone converged: 0.2 to 1.4
        delete Widget gone deleted: 630.0 to 630.0
    "#]]);
}

#[test]
fn what_was_there_before_the_first_list_counts_as_seen_then() {
    let widget = written_in(&object("Widget", "w"), 100);
    let rules = Rules { report_existing: true, ..Rules::default() };
    let history = written::History::default().later(600).listed("Widget", &[&widget]);
    let mut daemon = Daemon::with(&rules, &history);
    daemon.hears(2);
    daemon.is_due_at(660.1);
}

#[test]
fn at_the_start_the_other_lists_are_waited_for_half_a_minute_after_the_first() {
    let unschedulable = condition("PodScheduled", "False", "Unschedulable", 0);
    let pod =
        merged(&pod_of(&replica_set(), "a", 0), &status(&json!({"conditions": [unschedulable]})));
    let rules = Rules { report_existing: true, ..Rules::default() };
    let history =
        written::History::default().listed("Pod", &[&pod]).listed("Part", &[&object("Part", "p")]);
    let mut daemon = Daemon::with(&rules, &history);
    daemon.hears(2);
    daemon.is_due_at(30.1);
}

#[test]
fn ready_is_who_has_every_list() {
    let history = written::History::default()
        .listed("Widget", &[&object("Widget", "w")])
        .listed("Part", &[&object("Part", "p")]);
    let mut daemon = Daemon::of(&history);
    daemon.hears(2);
    assert!(!daemon.run.tracer.has_listed());
    daemon.hears(2);
    assert!(daemon.run.tracer.has_listed());
    assert!(!Tracer::new(Rules::default(), "").has_listed());
}

fn replica_set() -> Value {
    built_in("apps/v1", "ReplicaSet", &json!({"replicas": 1}))
}

fn pod_of(set: &Value, name: &str, second: u32) -> Value {
    let time = format!("2026-11-24T10:{:02}:{:02}Z", second / 60, second % 60);
    let metadata = json!({"name": name, "uid": format!("Pod-{name}"), "creationTimestamp": time});
    let pod = built_in("v1", "Pod", &json!({"containers": [{"name": "web"}]}));
    owned(&merged(&pod, &json!({ "metadata": metadata })), &[(set, true)])
}

#[test]
fn a_loss_is_replaced_after_a_restart() {
    let set = replica_set();
    let done = status(&json!({"observedGeneration": 1, "replicas": 1, "fullyLabeledReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1}));
    let history = written::History::default()
        .added(&set)
        .added(&pod_of(&set, "a", 0))
        .modified(&set, &done)
        .later(60)
        .deleted(&pod_of(&set, "a", 0))
        .later(10)
        .added(&pod_of(&set, "b", 70));
    let mut daemon = Daemon::of(&history);
    daemon.hears(4);
    daemon.is_not_there(62.0, 70.0);
    daemon.resumes("ReplicaSet", 70.0);
    daemon.resumes("Pod", 70.0);
    daemon.hears(1);
    expect![[r#"
        create ReplicaSet shop/it g1 -> converged
        └─ create Pod a g1 -> superseded
        delete Pod shop/a g1 -> deleted  (owner settled)  supersedes g1
        create Pod shop/b g1 -> timed_out  no verdict before the deadline  (owner settled)  replaces a
    "#]].assert_eq(&render(&daemon.told(), Style::STABLE));
}

#[test]
fn what_is_stuck_is_told_once_across_a_restart() {
    let set = built_in("apps/v1", "ReplicaSet", &json!({"replicas": 2}));
    let unschedulable =
        status(&json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", 1)]}));
    let history = written::History::default()
        .added(&set)
        .added(&pod_of(&set, "a", 0))
        .added(&pod_of(&set, "b", 0))
        .later(1)
        .modified(&pod_of(&set, "a", 0), &unschedulable)
        .later(60)
        .modified(&pod_of(&set, "b", 0), &unschedulable);
    let mut daemon = Daemon::of(&history);
    daemon.hears(4);
    daemon.is_not_there(20.0, 30.0);
    daemon.tells(expect![[r#"
        stuck Pod a : 11.4 to 11.4
    "#]]);
    daemon.resumes("ReplicaSet", 30.0);
    daemon.resumes("Pod", 30.0);
    daemon.hears(1);
    daemon.is_at(200.0);
    daemon.tells_nothing();
}

#[test]
fn what_goes_with_its_namespace_after_a_restart_is_caused_by_that() {
    let namespace = |uid: &str| {
        let metadata = json!({"name": "shop", "namespace": null, "uid": uid});
        merged(&built_in("v1", "Namespace", &json!({})), &json!({ "metadata": metadata }))
    };
    let widget = object("Widget", "w");
    let going_namespace = merged(&namespace("second"), &status(&json!({"phase": "Terminating"})));
    let active = status(&json!({"phase": "Active"}));
    // The name has come again: the first one is known as gone.
    let history = written::History::default()
        .added(&namespace("first"))
        .deleted(&namespace("first"))
        .say("ADDED", &merged(&namespace("second"), &active))
        .added(&widget)
        .modified(&widget, &ready("True"))
        .added(&object("Widget", "shop"))
        .later(60)
        .say("MODIFIED", &going(&going_namespace, &["kubernetes"]))
        .deleted(&widget)
        .deleted(&going_namespace);
    // What is kept is kept in no order.
    let told: BTreeSet<String> = std::iter::repeat_with(|| {
        let mut daemon = Daemon::of(&history);
        daemon.hears(6);
        daemon.is_not_there(30.0, 40.0);
        daemon.resumes("Namespace", 40.0);
        daemon.resumes("Widget", 40.0);
        daemon.is_at(50.0);
        daemon.run.told.clear();
        daemon.hears(3);
        render(&daemon.told(), Style::STABLE)
    })
    .take(8)
    .collect();
    expect![[r#"
        delete Namespace shop -> deleted
        └─ delete Widget w g1 -> deleted
        create Widget shop/shop g1 -> unknown
    "#]]
    .assert_eq(&told.into_iter().collect::<String>());
}

#[test]
fn an_object_whose_owner_was_not_heard_of_finds_it_after_a_restart() {
    let widget = object("Widget", "w");
    let second = json!({"metadata": {"generation": 2}, "spec": {"size": 2},
        "status": {"observedGeneration": 1}});
    let second = merged(&annotated(&widget, '2'), &second);
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    let part = merged(&part, &json!({"metadata": {"creationTimestamp": "2026-11-24T10:01:00Z"}}));
    let history = written::History::default()
        .added(&widget)
        .modified(&widget, &merged(&ready("True"), &status(&json!({"observedGeneration": 1}))))
        .later(60)
        .added(&part)
        .late("MODIFIED", &written_in(&second, 60), 600);
    let mut daemon = Daemon::of(&history);
    daemon.hears(3);
    daemon.is_not_there(60.4, 90.0);
    daemon.tells(expect![[r#"
        observe w : 0.1 to 0.2
        reconcile Widget w converged: 0.1 to 0.2
    "#]]);
    daemon.resumes("Part", 90.0);
    daemon.resumes("Widget", 90.0);
    daemon.catches_up(1, 90.0);
    expect![[r#"
        update Widget shop/w g2 -> timed_out  no verdict before the deadline  [context 22222222…]  {spec.size}
        └─ create Part p g1 -> unknown
    "#]].assert_eq(&render(&daemon.told(), Style::STABLE));
}

/// Everything that is there has gone.
fn coming_and_going() -> written::History {
    let set = replica_set();
    let done = status(&json!({"observedGeneration": 1, "replicas": 1, "fullyLabeledReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1}));
    written::History::default()
        .added(&set)
        .added(&pod_of(&set, "a", 0))
        .modified(&set, &done)
        .later(10)
        .deleted(&pod_of(&set, "a", 0))
        .later(10)
        .deleted(&set)
}

/// A Deployment on its way, a Pod that was lost, and the one in its place that cannot run.
fn told_stuck() -> written::History {
    let deployment = built_in("apps/v1", "Deployment", &json!({"replicas": 1}));
    let set = owned(&replica_set(), &[(&deployment, true)]);
    let done = status(&json!({"observedGeneration": 1, "replicas": 1, "fullyLabeledReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1}));
    let stuck = status(&json!({"conditions": [
        is_true("PodScheduled", 21), condition("Ready", "False", "ContainersNotReady", 20)],
        "containerStatuses": [{"name": "web", "state": {"waiting":
            {"reason": "ImagePullBackOff", "message": "no such image"}}}]}));
    written::History::default()
        .added(&annotated(&deployment, '1'))
        .added(&set)
        .added(&pod_of(&set, "a", 0))
        .modified(&set, &done)
        .later(10)
        .deleted(&pod_of(&set, "a", 0))
        .later(10)
        .added(&pod_of(&set, "b", 20))
        .later(1)
        .modified(&pod_of(&set, "b", 20), &stuck)
}

/// What a disk holds, by what it is of.
fn kept(daemon: &Daemon) -> String {
    const KEYS: [&str; 5] = ["origin", "watch", "object", "losses", "stuck"];
    let names = daemon.run.disk.keys().map(|key| KEYS[usize::from(key[0])]);
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_forgotten_is_on_the_disk_no_more() {
    let mut daemon = Daemon::of(&coming_and_going());
    daemon.hears(4);
    daemon.is_at(12.0);
    assert_eq!(kept(&daemon), "origin watch watch object object losses");
    daemon.hears(1);
    daemon.is_at(10_000.0);
    assert_eq!(kept(&daemon), "origin watch watch");
    daemon.run.tracer.close(daemon.watch("Pod").0, at(10_000.0));
    daemon.run.commit();
    assert_eq!(kept(&daemon), "origin watch");
    assert_eq!(daemon.run.tracer.checkpoint(), []);
}

/// Should its kind be watched again one day, it begins with a list.
#[test]
fn a_watch_that_is_closed_right_after_a_restart_is_on_the_disk_no_more() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.hears(3);
    daemon.is_not_there(3.0, 5.0);
    daemon.run.tracer.close(daemon.watch("Part").0, at(5.0));
    daemon.run.commit();
    assert_eq!(kept(&daemon), "origin watch object");
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.hears(3);
    assert_eq!(daemon.run.tracer.checkpoint(), []);
    daemon.bookmark("Part", 2.0);
    daemon.run.tracer.expire(at(2.0));
    assert_eq!(daemon.run.tracer.checkpoint(), []);
    daemon.is_not_there(2.0, 3.0);
    // Not one object, though all were read.
    let keys = daemon.run.tracer.checkpoint().into_iter().map(|entry| entry.key[0]);
    assert_eq!(keys.collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn a_disk_that_is_lost_is_written_anew_as_it_was() {
    let mut daemon = Daemon::of(&told_stuck());
    daemon.hears(7);
    daemon.is_at(40.0);
    assert_eq!(kept(&daemon), "origin watch watch watch object object object object losses stuck");
    let before = std::mem::take(&mut daemon.run.disk);
    daemon.run.tracer.remember_all();
    daemon.run.commit();
    assert_eq!(daemon.run.disk, before);
}

#[test]
fn a_watch_goes_on_after_the_last_that_it_said_and_never_before() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    let (id, watched) = daemon.watch("Widget");
    let version = |daemon: &Daemon| {
        let resumable: Vec<_> = daemon.run.tracer.resumable().collect();
        assert!(resumable.iter().all(|it| it.id == id && it.watched == watched));
        resumable.first().map(|it| it.resource_version)
    };
    assert_eq!(version(&daemon), Some(12));
    daemon.hear(id, Notice::Bookmark { at: at(2.0), resource_version: 5 });
    daemon.is_not_there(2.0, 3.0);
    assert_eq!(version(&daemon), Some(12));
    // Another selection of the same id has seen nothing yet.
    let of_shop = Watched { namespace: Some("shop".into()), ..watched.clone() };
    daemon.run.tracer.open(id, of_shop, at(3.0));
    let resumable: Vec<_> = daemon.run.tracer.resumable().collect();
    assert_eq!(resumable.iter().map(|it| it.resource_version).collect::<Vec<_>>(), [0]);
    assert!(!daemon.run.tracer.has_listed());
}

/// What comes of the entries of a disk, for a tracer of that cluster and layout.
fn restored(
    disk: &BTreeMap<Bytes, Bytes>,
    layout: Layout,
    cluster: &str,
    reading: u64,
) -> Result<Tracer, NotRestored> {
    let rules = Rules { layout, ..Rules::default() };
    let mut restoring = Restoring::new(rules, cluster, reading);
    for (key, value) in disk {
        restoring.entry(key, value);
    }
    restoring.finish(at(10.0))
}

#[test]
fn a_checkpoint_of_something_else_is_not_restored_and_says_of_what() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.hears(2);
    let disk = &mut daemon.run.disk;
    let reason =
        |disk: &_, layout, cluster, reading| restored(disk, layout, cluster, reading).err();
    assert_eq!(reason(disk, Layout::Cascade, "", 0), None);
    assert_eq!(reason(disk, Layout::Cascade, "other", 0), Some(NotRestored::Cluster));
    assert_eq!(reason(disk, Layout::Linked, "", 0), Some(NotRestored::Layout));
    assert_eq!(reason(disk, Layout::Cascade, "", 1), Some(NotRestored::Reading));
    assert_eq!(reason(&BTreeMap::new(), Layout::Cascade, "", 0), Some(NotRestored::Nothing));
    let whole = disk.clone();
    for cut in whole.keys() {
        // What comes after it can be read.
        disk.clone_from(&whole);
        disk.insert(cut.clone(), Bytes::new());
        assert_eq!(reason(disk, Layout::Cascade, "", 0), Some(NotRestored::Unreadable));
    }
    disk.clone_from(&whole);
    disk.insert(Bytes::from_static(&[99]), Bytes::new());
    assert_eq!(reason(disk, Layout::Cascade, "", 0), Some(NotRestored::Unreadable));
    // What cannot be read is what another version wrote, where that says so.
    let origin = disk.get_mut(&[0][..]).unwrap();
    let mut another = origin.to_vec();
    another[0] += 1;
    *origin = another.into();
    assert_eq!(reason(disk, Layout::Cascade, "", 0), Some(NotRestored::Format));
}

#[test]
fn what_was_read_back_is_written_again_with_the_same_bytes() {
    for scenario in scenarios() {
        let history = disorder::read(&scenario);
        let middle = history.said.len() / 2;
        let mut run = Run::begin(&Rules::default(), &history);
        for (said, (id, notice)) in (1..).zip(history.said.clone()) {
            let now = notice.at();
            run.hear(id, notice);
            if said != middle && said != history.said.len() {
                continue;
            }
            run.commit();
            let before = run.disk.clone();
            run.restart(now);
            run.tracer.remember_all();
            run.disk.clear();
            run.commit();
            assert!(run.disk == before, "{}, after {said}", scenario.display());
        }
    }
}

/// Another text here is another format: `FORMAT` in `src/trace/checkpoint.rs` has to be increased.
#[test]
fn the_format_of_a_checkpoint_stays_as_it_is() {
    let mut daemon = Daemon::of(&told_stuck());
    daemon.hears(7);
    daemon.is_at(40.0);
    let mut text = String::new();
    for (key, value) in &daemon.run.disk {
        writeln!(text, "{}", hex(key)).unwrap();
        for line in value.chunks(32) {
            writeln!(text, "  {}", hex(line)).unwrap();
        }
    }
    expect_file!["../checkpoint-format.txt"].assert_eq(&text);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
