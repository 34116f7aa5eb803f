//! What comes late counts as of when it was written.

use expect_test::expect;
use spanlink::trace::rules::Rules;

use crate::{
    late::{Daemon, current_widget, ready, written_in},
    written::{self, merged, object},
};

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
    assert_eq!(daemon.run.tracer.next_deadline(), None);
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
fn what_was_there_before_the_first_list_counts_as_seen_then() {
    let widget = written_in(&object("Widget", "w"), 100);
    let rules = Rules { report_existing: true, ..Rules::default() };
    let history = written::History::default().later(600).listed("Widget", &[&widget]);
    let mut daemon = Daemon::with(&rules, &history);
    daemon.hears(2);
    daemon.is_due_at(660.1);
}
