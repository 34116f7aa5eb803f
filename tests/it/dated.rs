//! Late events are dated by when the object was written, not by when they were received.

use expect_test::expect;
use spanlink::trace::rules::Rules;

use crate::{
    late::{Daemon, current_widget, ready, written_in},
    written::{self, merged, object},
};

/// Reaches Current in second 2, and leaves it in `second`.
fn falls_back(second: u32) -> written::History {
    let widget = object("Widget", "w");
    let fallen = merged(&written_in(&widget, second), &ready("False"));
    current_widget().later(u64::from(second) - 1).event("MODIFIED", &fallen)
}

#[test]
fn a_settle_window_that_ended_during_a_downtime_stays_ended_if_the_object_regresses_later() {
    let mut daemon = Daemon::of(&falls_back(10));
    daemon.process_next(2);
    daemon.is_not_there(2.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.expect_no_spans();
    daemon.catches_up(1, 60.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
    // What followed is an episode.
    daemon.is_at(100.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w : 11.0 to 11.0
    "#]]);
}

#[test]
fn an_object_that_regresses_within_its_settle_window_during_a_downtime_has_not_converged() {
    let mut daemon = Daemon::of(&falls_back(3));
    daemon.process_next(2);
    daemon.is_not_there(2.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.catches_up(1, 60.0);
    daemon.bookmark("Widget", 60.0);
    daemon.is_at(300.0);
    daemon.expect_spans(expect![[""]]);
}

/// API times are whole seconds, so the regression may precede the end of the window.
#[test]
fn an_object_that_regresses_in_the_second_it_settled_has_not_converged() {
    let mut daemon = Daemon::of(&falls_back(2));
    daemon.process_next(2);
    daemon.is_not_there(2.0, 60.0);
    daemon.resumes("Widget", 60.0);
    daemon.catches_up(1, 60.0);
    daemon.expect_no_spans();
}

/// The deadline is less than a second old, but in an earlier whole second.
#[test]
fn a_deadline_before_the_second_of_a_new_event_fires_before_the_event() {
    let fallen = merged(&written_in(&object("Widget", "w"), 4), &ready("False"));
    let history = current_widget().later(2).event("MODIFIED", &fallen);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(2);
    daemon.is_not_there(2.0, 4.0);
    daemon.resumes("Widget", 4.0);
    daemon.catches_up(1, 4.1);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

/// The write time comes from a clock ahead of ours.
#[test]
fn a_new_event_with_a_future_write_time_fires_no_deadline_early() {
    let ahead = merged(&written_in(&object("Widget", "w"), 40), &ready("False"));
    let history = current_widget().later(1).event("MODIFIED", &ahead);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(2);
    daemon.is_not_there(2.0, 2.2);
    daemon.resumes("Widget", 2.2);
    daemon.process_next(1);
    daemon.is_at(10.0);
    daemon.expect_no_spans();
}

#[test]
fn a_new_event_is_dated_by_its_receipt_for_any_clock_of_the_api_server() {
    let (widget, ready) = (object("Widget", "w"), ready("True"));
    let ahead = merged(&written_in(&widget, 40), &ready);
    let history = written::History::default().added(&widget).later(20).event("MODIFIED", &ahead);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(1);
    daemon.is_not_there(2.0, 20.0);
    daemon.resumes("Widget", 20.0);
    daemon.process_next(1);
    daemon.is_due_at(22.2);
    daemon.is_at(22.2);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 20.2
    "#]]);
}

/// Two watches, one of which later delivers an object that was written much earlier.
fn old_looking() -> written::History {
    let widget = object("Widget", "w");
    let old = merged(&written_in(&widget, 10), &ready("True"));
    let history = written::History::default().added(&widget).added(&object("Part", "p"));
    history.later(18).event("MODIFIED", &old)
}

#[test]
fn events_of_a_caught_up_watch_are_new_even_with_old_write_times() {
    let mut daemon = Daemon::of(&old_looking());
    daemon.process_next(2);
    daemon.is_not_there(2.0, 18.0);
    daemon.resumes("Widget", 18.0);
    daemon.bookmark("Widget", 18.0);
    daemon.process_next(1);
    daemon.bookmark("Widget", 19.0);
    daemon.resumes("Part", 19.0);
    daemon.bookmark("Part", 19.0);
    daemon.is_due_at(20.3);
}

#[test]
fn events_missed_while_the_clock_was_running_are_dated_by_their_receipt() {
    let mut daemon = Daemon::of(&old_looking());
    daemon.process_next(2);
    daemon.loses("Widget", 5.0);
    daemon.resumes("Widget", 30.0);
    daemon.catches_up(1, 30.0);
    daemon.is_due_at(32.0);
}

/// Last changed in second 2, deleted in `second`.
fn deleted_in(second: u64) -> written::History {
    let widget = object("Widget", "w");
    let part = |second: u32| merged(&written_in(&object("Part", "p"), second), &ready("False"));
    let changed = merged(&written_in(&widget, 1), &ready("False"));
    written::History::default()
        .added(&widget)
        .added(&object("Part", "p"))
        .event("MODIFIED", &changed)
        .later(second - 10)
        .event("MODIFIED", &part(u32::try_from(second).unwrap() - 10))
        .later(10)
        .deleted(&changed)
}

#[test]
fn a_deletion_without_a_time_is_dated_no_earlier_than_the_events_before_it() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.process_next(3);
    daemon.bookmark("Widget", 100.0);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Widget", 600.0);
    daemon.processed += 1;
    daemon.catches_up(1, 600.0);
    daemon.expect_spans(expect![[r#"
        reconcile Part p unknown: 0.2 to 60.2
        reconcile Widget w superseded: 0.1 to 100.0
        delete Widget w deleted: 100.0 to 100.0
    "#]]);
}

#[test]
fn events_received_while_other_watches_are_awaited_keep_their_receipt_time() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.process_next(3);
    daemon.is_not_there(2.0, 90.0);
    daemon.resumes("Widget", 90.0);
    daemon.bookmark("Widget", 100.0);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Widget", 600.0);
    daemon.processed += 1;
    daemon.catches_up(1, 600.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w superseded: 0.1 to 100.0
        delete Widget w deleted: 100.0 to 100.0
    "#]]);
}

#[test]
fn a_deletion_is_dated_no_earlier_than_earlier_writes_from_other_watches() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.process_next(3);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Widget", 600.0);
    daemon.resumes("Part", 600.0);
    daemon.catches_up(2, 600.0);
    daemon.expect_spans(expect![[r#"
        reconcile Part p unknown: 0.2 to 60.2
        reconcile Widget w superseded: 0.1 to 121.0
        delete Widget w deleted: 121.0 to 121.0
    "#]]);
}

#[test]
fn write_times_of_missed_events_survive_another_restart() {
    let mut daemon = Daemon::of(&deleted_in(130));
    daemon.process_next(3);
    daemon.is_not_there(100.0, 600.0);
    daemon.resumes("Part", 600.0);
    daemon.catches_up(1, 600.0);
    daemon.is_not_there(600.1, 700.0);
    daemon.resumes("Widget", 700.0);
    daemon.catches_up(1, 700.0);
    daemon.expect_spans(expect![[r#"
        reconcile Part p unknown: 0.2 to 60.2
        reconcile Widget w superseded: 0.1 to 121.0
        delete Widget w deleted: 121.0 to 121.0
    "#]]);
}

#[test]
fn objects_of_the_first_list_are_dated_by_the_list() {
    let widget = written_in(&object("Widget", "w"), 100);
    let rules = Rules { report_existing: true, ..Rules::default() };
    let history = written::History::default().later(600).listed("Widget", &[&widget]);
    let mut daemon = Daemon::with(&rules, &history);
    daemon.process_next(2);
    daemon.is_due_at(660.1);
}
