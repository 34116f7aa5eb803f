//! Claims about reading recordings: which lists are relists, line numbers in errors, and which files
//! can be read.

use std::{error::Error as _, fs, path::Path};

use expect_test::expect;
use serde_json::json;
use spanlink::{
    export::tree::{Style, render},
    trace::rules::Rules,
    watch::recording::{Recording, RecordingError},
};

use crate::{
    scenarios::{configured, replayed},
    written::{History, current, merged, object},
};

fn file_with(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn list_after_events_of_the_same_watch_is_a_relist() {
    let (kept, absent, new) = (
        merged(&object("Widget", "kept"), &current(1)),
        object("Widget", "absent"),
        object("Widget", "new"),
    );
    History::default()
        .added(&kept)
        .added(&absent)
        .later(5)
        .listed("Widget", &[&kept, &new])
        .later(1)
        .modified(&new, &current(1))
        .becomes(expect![[r#"
            create Widget shop/kept g1 -> converged
            create Widget shop/absent g1 -> superseded
            create Widget shop/new g1 -> converged
            delete Widget shop/absent g1 -> deleted  supersedes g1
        "#]]);
}

#[test]
fn list_before_any_event_of_its_watch_reports_no_existing_object() {
    let old = json!({"metadata": {"creationTimestamp": "2026-11-20T10:00:00Z"}});
    let widget = merged(&object("Widget", "old"), &old);
    History::default()
        .listed("Widget", &[&widget])
        .later(1)
        .modified(&widget, &current(1))
        .becomes(expect![[""]]);
}

#[test]
fn recording_that_grows_is_played_up_to_its_length_when_it_was_opened() {
    let history = History::default().added(&object("Widget", "a"));
    let file = file_with(&history.text());
    let recording = Recording::open(file.path()).unwrap();
    fs::write(file.path(), history.added(&object("Widget", "b")).text()).unwrap();
    let mut events = 0;
    let failed = |line, error| panic!("{line}: {error}");
    recording.play(&configured(""), |_, _| events += 1, failed).unwrap();
    assert_eq!(events, 1);
}

#[test]
fn errors_name_the_line_of_the_entry() {
    let json = "{\"at\":\"2026-11-24T10:00:00Z\",\"watch\":\"w\",\"type\":\"NOTE\"}\n\n{]\n";
    let yaml = "# By hand.\nat: 2026-11-24T10:00:00Z\nwatch: w\ntype: NOTE\n---\nat: [\n";
    for (text, line) in [(json, 3), (yaml, 5)] {
        match Recording::open(file_with(text).path()) {
            Err(
                RecordingError::InvalidEntry { line: found, .. }
                | RecordingError::InvalidYaml { line: found, .. },
            ) => assert_eq!(found, line, "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn yaml_documents_are_read_one_at_a_time() {
    let yaml = "---\nat: 2026-11-24T10:00:00Z\nwatch: widgets\nobject: &w\n  apiVersion: \
                example.com/v1\n  kind: Widget\n  metadata: {name: a, uid: a, resourceVersion: '1'}\n\
                type: ADDED\n--- # a second one\nat: 2026-11-24T10:00:01Z\nwatch: widgets\n\
                type: LIST_END\nresourceVersion: 7\n";
    let file = file_with(yaml);
    let recording = Recording::open(file.path()).unwrap();
    let (name, watch) = recording.watches().next().unwrap();
    assert_eq!((name, watch.watched.kind.to_string().as_str()), ("widgets", "Widget.example.com"));
    assert!(watch.starts_empty);
    let mut times = Vec::new();
    let failed = |line, error| panic!("{line}: {error}");
    recording.play(&configured(""), |_, event| times.push(event.at().to_string()), failed).unwrap();
    assert_eq!(times.len(), 2);
    assert!(times[0] < times[1]);
}

#[test]
fn events_with_opaque_resource_versions_are_ordered_by_their_lines() {
    let (widget, other) = (object("Widget", "w"), object("Widget", "other"));
    let history = History::default()
        .listed("Widget", &[])
        .added(&widget)
        .modified(&widget, &current(1))
        .later(20)
        .event(
            "MODIFIED",
            &merged(&widget, &json!({"metadata": {"generation": 2}, "spec": {"a": 1}})),
        )
        .modified(&merged(&widget, &json!({"spec": {"a": 1}})), &current(2))
        .listed("Widget", &[&merged(&other, &current(1))])
        .deleted(&other);
    let of = |text: &str| {
        let spans = replayed(file_with(text).path(), &Rules::default(), &configured(""));
        render(&spans, Style::STABLE)
    };
    let decimal = history.text();
    let opaque = decimal.replace("\"resourceVersion\":\"", "\"resourceVersion\":\"eyJydnMi");
    assert!(opaque != decimal);
    assert_eq!(of(&opaque), of(&decimal));
    expect![[r#"
        create Widget shop/other g1 -> converged
        create Widget shop/w g1 -> converged
        update Widget shop/w g2 -> converged  {spec.a}
        delete Widget shop/w g2 -> deleted
        delete Widget shop/other g1 -> deleted
    "#]]
    .assert_eq(&of(&opaque));
}

#[test]
fn file_that_cannot_be_read_twice_is_refused() {
    let error = Recording::open(Path::new("/dev/null")).unwrap_err();
    assert!(error.source().is_none());
    expect!["cannot replay /dev/null: a recording is read twice, so it has to be a regular file; save it to one first"]
        .assert_eq(&error.to_string());
}
