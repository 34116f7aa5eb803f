//! The machine decides on every failure: wait, probe or relist.

use std::time::Duration;

use super::machine::*;

fn watching() -> Machine {
    let mut machine = Machine::new();
    machine.complete_list(6);
    machine.advance(7);
    machine
}

fn ended(millis: u64, progress: Progress) -> WatchFailure {
    WatchFailure::Ended { lived: Duration::from_millis(millis), progress }
}

fn refused(code: u16, message: &str) -> WatchFailure {
    WatchFailure::Refused { code, message: message.to_owned(), retry_after: None }
}

#[test]
fn gone_in_stream_or_as_status_relists_at_once() {
    for fault in [
        WatchFailure::InStream { code: 410, message: String::new() },
        refused(410, ""),
        refused(400, ""),
        refused(500, "Invalid resource version"),
        refused(504, "Too large resource version: 9, current: 7"),
    ] {
        let mut machine = watching();
        let recovery = machine.fail(&fault, 1.0);
        assert!(recovery.relists && recovery.wait.is_zero(), "{fault:?}: {recovery:?}");
        assert_eq!(machine.next_request(), Request::StreamList);
    }
}

#[test]
fn list_always_followed_by_410_backs_off() {
    let mut machine = watching();
    let waits: Vec<u128> = (0..4)
        .map(|_| {
            let recovery = machine.fail(&refused(410, ""), 0.0);
            machine.complete_list(9);
            recovery.wait.as_millis()
        })
        .collect();
    assert_eq!(waits, [0, 1600, 3200, 6400]);
}

#[test]
fn transient_errors_keep_the_resource_version() {
    for code in [403, 404, 429, 500, 502, 503, 504] {
        let mut machine = watching();
        let recovery = machine.fail(&refused(code, "etcdserver: request timed out"), 0.0);
        assert_eq!((recovery.wait, recovery.relists), (BACKOFF_MIN, false), "{code}");
        assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
    }
}

#[test]
fn retry_after_extends_the_wait_up_to_its_bound() {
    let mut machine = watching();
    let mut asked = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        machine
            .fail(&WatchFailure::Refused { code: 429, message: String::new(), retry_after }, 0.0)
            .wait
    };
    assert_eq!(asked(7), Duration::from_secs(7));
    assert_eq!(asked(86_400), RETRY_AFTER_MAX);
    assert_eq!(asked(0), Duration::from_millis(3200));
    assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
}

#[test]
fn failures_back_off_up_to_30_seconds_and_an_event_resets_them() {
    let mut machine = watching();
    let waits: Vec<u128> =
        (0..8).map(|_| machine.fail(&WatchFailure::Connection, 0.0).wait.as_millis()).collect();
    assert_eq!(waits, [800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    assert_eq!(machine.fail(&WatchFailure::Connection, 1.0).wait, BACKOFF_MAX);
    machine.advance(8);
    assert_eq!(machine.fail(&WatchFailure::Connection, 1.0).wait, Duration::from_secs(1));
}

#[test]
fn watch_that_ends_at_once_waits_a_second() {
    let mut machine = watching();
    assert_eq!(machine.fail(&ended(5, Progress::None), 0.0).wait, SHORT_LIFE);
    assert_eq!(machine.fail(&ended(5, Progress::Event), 0.0).wait, SHORT_LIFE);
    let later = machine.fail(&ended(50_000, Progress::Event), 0.0);
    assert!(later.wait.is_zero() && !later.is_interruption);
}

#[test]
fn two_watches_in_a_row_that_end_at_once_without_an_event_relist() {
    let mut machine = watching();
    for between in [ended(5, Progress::Event), ended(5_000, Progress::None)] {
        assert!(!machine.fail(&ended(5, Progress::None), 0.0).relists);
        assert!(!machine.fail(&between, 0.0).relists);
    }
    assert!(!machine.fail(&ended(5, Progress::None), 0.0).relists);
    machine.advance(8);
    assert!(!machine.fail(&ended(5, Progress::None), 0.0).relists);
    let recovery = machine.fail(&ended(5, Progress::None), 0.0);
    assert!(
        recovery.relists && recovery.reason == "no_events" && recovery.wait > SHORT_LIFE,
        "{recovery:?}"
    );
}

#[test]
fn resumed_watch_is_synced_by_its_first_event_or_by_staying_open() {
    let mut active = Machine::resumed(7);
    assert_eq!(active.next_request(), Request::Watch { resource_version: 7 });
    assert!(!active.is_synced());
    active.advance(8);
    assert!(active.is_synced());
    let mut quiet = Machine::resumed(7);
    quiet.record_life(Duration::from_millis(5));
    assert!(!quiet.is_synced());
    quiet.record_life(SHORT_LIFE);
    assert!(quiet.is_synced());
}

#[test]
fn refused_resumed_watch_is_synced_after_its_list() {
    for fault in [WatchFailure::InStream { code: 410, message: String::new() }, refused(410, "")] {
        let mut machine = Machine::resumed(7);
        let recovery = machine.fail(&fault, 1.0);
        assert!(
            recovery.relists && recovery.wait.is_zero() && recovery.reason == "410",
            "{recovery:?}"
        );
        assert_eq!(machine.next_request(), Request::StreamList);
        // The list, however long it takes.
        machine.record_life(LONG_LIFE);
        assert!(!machine.is_synced());
        machine.complete_list(99);
        assert!(machine.is_synced());
    }
}

#[test]
fn transient_errors_keep_the_resource_version_of_a_resumed_watch() {
    let mut machine = Machine::resumed(7);
    for fault in
        [refused(503, ""), refused(404, ""), WatchFailure::Connection, WatchFailure::Timeout]
    {
        assert!(!machine.fail(&fault, 0.0).relists);
        assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
        assert!(!machine.is_synced());
    }
}

#[test]
fn watch_without_progress_is_probed_before_the_next_watch() {
    for mut machine in [watching(), Machine::resumed(7)] {
        machine.record_life(Duration::from_secs(3));
        machine.fail(&ended(3_000, Progress::None), 0.0);
        assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
        let recovery = machine.fail(&ended(45_000, Progress::None), 0.0);
        assert!(!recovery.relists && recovery.wait.is_zero(), "{recovery:?}");
        assert_eq!(machine.next_request(), Request::Probe { resource_version: 7 });
        machine.pass_probe();
        assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
        machine.fail(&ended(45_000, Progress::Event), 0.0);
        assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
    }
}

#[test]
fn failed_probe_relists_only_where_the_history_changed() {
    for (failure, relists) in [
        (WatchFailure::HistoryChanged { reason: "rewound" }, true),
        (refused(503, ""), false),
        (WatchFailure::Connection, false),
        (WatchFailure::Timeout, false),
    ] {
        let mut machine = watching();
        machine.fail(&ended(45_000, Progress::None), 0.0);
        let recovery = machine.fail(&failure, 0.0);
        assert_eq!(recovery.relists, relists, "{failure:?}");
        let next = machine.next_request();
        let expected =
            if relists { Request::StreamList } else { Request::Watch { resource_version: 7 } };
        assert_eq!(next, expected, "{failure:?}");
    }
}

#[test]
fn opaque_resource_versions_are_tried_again_after_minutes() {
    let mut machine = watching();
    let recovery = machine.fail(&WatchFailure::OpaqueResourceVersion, 0.0);
    assert_eq!((recovery.wait, recovery.relists), (OPAQUE_WAIT, false));
    assert_eq!(machine.next_request(), Request::StreamList);
}

#[test]
fn server_without_streaming_lists_is_always_listed_in_pages() {
    let mut machine = Machine::new();
    let recovery = machine.fail(&refused(422, "sendInitialEvents is forbidden"), 0.0);
    assert!(recovery.wait.is_zero());
    assert_eq!(machine.next_request(), Request::Page { continue_token: None });
    machine.complete_list(7);
    machine.fail(&refused(410, ""), 0.0);
    assert_eq!(machine.next_request(), Request::Page { continue_token: None });
}

#[test]
fn incomplete_streaming_list_is_read_in_pages_once() {
    for fault in [
        WatchFailure::Ended { lived: SHORT_LIFE, progress: Progress::Event },
        WatchFailure::StreamingListUnsupported,
    ] {
        let mut machine = Machine::new();
        assert!(machine.fail(&fault, 0.0).wait.is_zero());
        assert_eq!(machine.next_request(), Request::Page { continue_token: None });
        machine.complete_list(7);
        machine.fail(&refused(410, ""), 0.0);
        assert_eq!(machine.next_request(), Request::StreamList);
    }
}

#[test]
fn expired_continue_token_restarts_the_list_and_transient_errors_do_not() {
    let mut machine = Machine::new();
    machine.fail(&refused(422, ""), 0.0);
    machine.continue_list("next".to_owned());
    let next_page = Request::Page { continue_token: Some("next".to_owned()) };
    for fault in
        [refused(503, ""), refused(429, ""), WatchFailure::Connection, WatchFailure::Timeout]
    {
        machine.fail(&fault, 0.0);
        assert_eq!(machine.next_request(), next_page);
    }
    let recovery = machine.fail(&refused(410, ""), 0.0);
    assert!(!recovery.wait.is_zero());
    assert_eq!(machine.next_request(), Request::Page { continue_token: None });
}

#[test]
fn forbidden_list_alternates_its_mode_and_backs_off() {
    let mut machine = Machine::new();
    let waits: Vec<bool> =
        (0..6).map(|_| machine.fail(&refused(403, ""), 0.5).wait.is_zero()).collect();
    assert_eq!(waits, [true, false, true, false, true, false]);
}

#[test]
fn missing_resource_version_is_never_watched_from() {
    let mut machine = watching();
    machine.advance(0);
    assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
}

#[test]
fn bookmarks_alone_do_not_spare_a_watch_its_probe() {
    let mut machine = watching();
    machine.fail(&ended(45_000, Progress::Bookmark), 0.0);
    assert_eq!(machine.next_request(), Request::Probe { resource_version: 7 });
    machine.pass_probe();
    machine.fail(&ended(45_000, Progress::Event), 0.0);
    assert_eq!(machine.next_request(), Request::Watch { resource_version: 7 });
}
