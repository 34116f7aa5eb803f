//! The deadline clock: no convergence ends while the watches are disconnected.

use expect_test::expect;
use serde_json::json;
use spanlink::trace::rules::Rules;

use crate::{
    late::{
        Daemon, at, current_widget, listed_widget, pod_of, ready, replica_set, with_parts,
        written_in,
    },
    written::{self, condition, merged, object, owned, status},
};

#[test]
fn convergences_end_at_their_own_time_after_all_watches_were_disconnected() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    daemon.loses("Widget", 2.0);
    daemon.is_at(200.0);
    daemon.resumes("Widget", 200.0);
    daemon.is_due_at(200.5);
    daemon.bookmark("Widget", 200.1);
    daemon.expect_no_spans();
    daemon.is_due_at(200.1);
    daemon.is_at(200.1);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_resumed_watch_without_events_has_caught_up_after_the_owner_wait() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    daemon.is_not_there(2.0, 200.0);
    daemon.resumes("Widget", 210.0);
    daemon.is_at(210.4);
    daemon.expect_no_spans();
    daemon.is_at(210.5);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_watch_that_delivers_old_events_has_not_caught_up() {
    let old = merged(&written_in(&object("Widget", "other"), 20), &ready("False"));
    let history = current_widget()
        .added(&object("Widget", "other"))
        .later(20)
        .event("MODIFIED", &old)
        .event("MODIFIED", &old);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(3);
    daemon.is_not_there(2.0, 1000.0);
    daemon.resumes("Widget", 1010.0);
    daemon.catches_up(1, 1010.4);
    daemon.is_at(1010.8);
    daemon.expect_no_spans();
    daemon.is_due_at(1010.9);
    daemon.catches_up(1, 1010.85);
    daemon.is_due_at(1011.35);
}

#[test]
fn disconnected_watch_delays_deadlines_for_five_minutes() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    daemon.loses("Widget", 2.0);
    daemon.is_due_at(302.0);
    daemon.is_at(301.9);
    daemon.expect_no_spans();
    daemon.is_at(302.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn a_restart_waits_as_long_as_a_disconnected_watch() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    daemon.is_not_there(2.0, 100.0);
    daemon.is_due_at(400.0);
}

#[test]
fn after_one_watch_is_live_the_others_are_awaited_for_half_a_minute() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.process_next(3);
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
    daemon.expect_no_spans();
    daemon.is_at(130.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
        reconcile Part p unknown: 1.0 to 61.3
    "#]]);
}

#[test]
fn a_watch_lost_while_catching_up_is_awaited_from_the_start() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    daemon.is_not_there(2.0, 10.0);
    daemon.resumes("Widget", 20.0);
    daemon.loses("Widget", 20.2);
    daemon.is_at(200.0);
    daemon.expect_no_spans();
    daemon.is_due_at(320.2);
    daemon.resumes("Widget", 200.0);
    daemon.bookmark("Widget", 200.1);
    daemon.is_at(201.0);
    daemon.expect_spans(expect![[r#"
        reconcile Widget w converged: 0.1 to 1.2
    "#]]);
}

#[test]
fn closing_the_last_connected_watch_pauses_the_clock() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.process_next(3);
    daemon.loses("Widget", 2.0);
    daemon.is_due_at(3.2);
    let output = daemon.run.tracer.close(daemon.watch("Part").0, at(2.5));
    daemon.run.take(output);
    daemon.run.spans.clear();
    daemon.is_due_at(302.5);
}

#[test]
fn a_watch_that_delivers_a_new_event_has_caught_up() {
    let other = object("Widget", "other");
    let news = merged(&written_in(&other, 20), &ready("False"));
    let history = current_widget().added(&other).later(19).event("MODIFIED", &news);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(3);
    daemon.is_not_there(2.0, 20.0);
    daemon.resumes("Widget", 20.0);
    daemon.catches_up(1, 20.2);
    daemon.is_due_at(20.2);
}

#[test]
fn after_a_restart_all_watches_are_disconnected_until_opened() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    daemon.run.restart(at(100.0));
    daemon.is_due_at(400.0);
}

#[test]
fn a_relisting_watch_counts_as_disconnected() {
    let history = listed_widget().later(1).listed("Widget", &[&object("Widget", "other")]);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(3);
    daemon.is_due_at(3.2);
    daemon.process_next(1);
    daemon.is_due_at(302.3);
}

#[test]
fn after_one_watch_has_relisted_the_others_are_awaited_for_half_a_minute() {
    let history = with_parts().later(90).listed("Widget", &[]);
    let mut daemon = Daemon::of(&history);
    daemon.process_next(3);
    daemon.loses("Part", 2.0);
    daemon.loses("Widget", 2.0);
    daemon.is_due_at(302.0);
    daemon.catches_up(1, 100.0);
    daemon.is_due_at(130.0);
}

/// A Part whose owner, a Widget, may have changed since its last event.
fn owned_part() -> written::History {
    let widget = object("Widget", "w");
    let part = owned(&object("Part", "p"), &[(&widget, true)]);
    listed_widget().later(4).added(&part).later(5).listed("Widget", &[&widget])
}

#[test]
fn the_watch_of_an_owner_is_awaited_for_half_a_minute_after_its_loss_even_while_it_lists() {
    let mut daemon = Daemon::of(&owned_part());
    daemon.process_next(3);
    daemon.is_at(4.0);
    daemon.loses("Widget", 4.5);
    daemon.process_next(1);
    daemon.is_due_at(34.5);
    daemon.process_next(1);
    daemon.is_due_at(34.5);
}

#[test]
fn the_watch_of_an_owner_is_awaited_for_half_a_minute_after_a_restart_opens_it() {
    let mut daemon = Daemon::of(&owned_part());
    daemon.process_next(4);
    daemon.run.restart(at(100.0));
    daemon.is_due_at(130.0);
    for (id, watched, _) in daemon.history.watches.clone() {
        daemon.run.tracer.open(id, watched, at(110.0));
    }
    daemon.is_due_at(140.0);
}

#[test]
fn at_the_start_the_other_lists_are_awaited_for_half_a_minute_after_the_first() {
    let unschedulable = condition("PodScheduled", "False", "Unschedulable", 0);
    let pod =
        merged(&pod_of(&replica_set(), "a", 0), &status(&json!({"conditions": [unschedulable]})));
    let rules = Rules { report_existing: true, ..Rules::default() };
    let history =
        written::History::default().listed("Pod", &[&pod]).listed("Part", &[&object("Part", "p")]);
    let mut daemon = Daemon::with(&rules, &history);
    daemon.process_next(2);
    daemon.is_due_at(30.1);
}
