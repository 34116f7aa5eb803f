//! The entries of the checkpoint: when they are written, removed and restored.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use expect_test::expect_file;
use serde_json::json;
use spanlink::trace::{
    model::{
        id::Layout,
        observation::{Filter, WatchEvent, WatchScope},
    },
    rules::Rules,
    tracer::{
        Tracer,
        checkpoint::{CheckpointReader, RestoreError},
    },
};

use crate::{
    disorder,
    late::{Daemon, at, current_widget, pod_of, replica_set, with_parts},
    restarted::Run,
    scenarios::scenarios,
    written::{self, annotated, built_in, condition, is_true, object, owned, status},
};

/// Every object of this history is deleted in the end.
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

/// A Deployment in progress, a lost Pod, and its replacement, which cannot pull its image.
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

/// The types of the entries in the checkpoint.
fn kept(daemon: &Daemon) -> String {
    const KEYS: [&str; 5] = ["origin", "watch", "object", "losses", "stuck"];
    let names = daemon.run.disk.keys().map(|key| KEYS[usize::from(key[0])]);
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn entries_of_forgotten_objects_are_removed_from_the_checkpoint() {
    let mut daemon = Daemon::of(&coming_and_going());
    daemon.process_next(4);
    daemon.is_at(12.0);
    assert_eq!(kept(&daemon), "origin watch watch object object losses");
    daemon.process_next(1);
    daemon.is_at(10_000.0);
    assert_eq!(kept(&daemon), "origin watch watch");
    daemon.run.tracer.close(daemon.watch("Pod").0, at(10_000.0));
    daemon.run.commit();
    assert_eq!(kept(&daemon), "origin watch");
    assert_eq!(daemon.run.tracer.checkpoint(), []);
}

/// If the kind is watched again later, its watch starts with a list.
#[test]
fn a_watch_closed_right_after_a_restart_is_removed_from_the_checkpoint() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.process_next(3);
    daemon.is_not_there(3.0, 5.0);
    daemon.run.tracer.close(daemon.watch("Part").0, at(5.0));
    daemon.run.commit();
    assert_eq!(kept(&daemon), "origin watch object");
}

#[test]
fn unchanged_entries_are_not_written_again() {
    let mut daemon = Daemon::of(&with_parts());
    daemon.process_next(3);
    assert_eq!(daemon.run.tracer.checkpoint(), []);
    daemon.bookmark("Part", 2.0);
    daemon.run.tracer.expire(at(2.0));
    assert_eq!(daemon.run.tracer.checkpoint(), []);
    daemon.is_not_there(2.0, 3.0);
    // Restoring makes no object dirty.
    let keys = daemon.run.tracer.checkpoint().into_iter().map(|entry| entry.key[0]);
    assert_eq!(keys.collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn a_lost_checkpoint_is_rewritten_identically() {
    let mut daemon = Daemon::of(&told_stuck());
    daemon.process_next(7);
    daemon.is_at(40.0);
    assert_eq!(kept(&daemon), "origin watch watch watch object object object object losses stuck");
    let before = std::mem::take(&mut daemon.run.disk);
    daemon.run.tracer.rewrite_checkpoint();
    daemon.run.commit();
    assert_eq!(daemon.run.disk, before);
}

#[test]
fn a_watch_resumes_after_its_newest_delivered_event_and_never_earlier() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    let (id, watched) = daemon.watch("Widget");
    let version = |daemon: &Daemon| {
        let resumable: Vec<_> = daemon.run.tracer.resume_points().collect();
        assert!(resumable.iter().all(|it| it.id == id && it.scope == watched));
        resumable.first().map(|it| it.resource_version)
    };
    assert_eq!(version(&daemon), Some(12));
    daemon.process(id, WatchEvent::Bookmark { at: at(2.0), resource_version: 5 });
    daemon.is_not_there(2.0, 3.0);
    assert_eq!(version(&daemon), Some(12));
    // A watch of the same id with another scope has received no event yet.
    let of_shop = WatchScope { namespace: Some("shop".into()), ..watched.clone() };
    daemon.run.tracer.open(id, of_shop, at(3.0));
    let resumable: Vec<_> = daemon.run.tracer.resume_points().collect();
    assert_eq!(resumable.iter().map(|it| it.resource_version).collect::<Vec<_>>(), [0]);
    assert!(!daemon.run.tracer.has_listed());
}

#[test]
fn resume_point_of_a_watch_with_selectors_has_its_existing_objects() {
    let (stays, gone) = (object("Widget", "stays"), object("Widget", "gone"));
    let history = written::History::default().added(&stays).added(&gone).later(1).deleted(&gone);
    let mut daemon = Daemon::of(&history);
    let (id, mut watched) = daemon.watch("Widget");
    watched.filter = Filter::Selectors("labelSelector=a%3Db".into());
    daemon.run.tracer.open_empty(id, watched, at(0.0));
    daemon.process_next(3);
    let selected: Vec<String> = daemon
        .run
        .tracer
        .resume_points()
        .flat_map(|watch| watch.selected)
        .map(|object| object.to_string())
        .collect();
    assert_eq!(selected, ["Widget.example.com shop/stays"]);
}

/// Restores the entries for a tracer with this cluster and layout.
fn restored(
    disk: &BTreeMap<Bytes, Bytes>,
    layout: Layout,
    cluster: &str,
    reading: u64,
) -> Result<Tracer, RestoreError> {
    let rules = Rules { layout, ..Rules::default() };
    let mut restoring = CheckpointReader::new(rules, cluster, reading);
    for (key, value) in disk {
        restoring.entry(key, value);
    }
    restoring.finish(at(10.0))
}

#[test]
fn an_incompatible_checkpoint_is_rejected_with_the_reason() {
    let mut daemon = Daemon::of(&current_widget());
    daemon.process_next(2);
    let disk = &mut daemon.run.disk;
    let reason =
        |disk: &_, layout, cluster, reading| restored(disk, layout, cluster, reading).err();
    assert_eq!(reason(disk, Layout::Cascade, "", 0), None);
    assert_eq!(reason(disk, Layout::Cascade, "other", 0), Some(RestoreError::Cluster));
    assert_eq!(reason(disk, Layout::Linked, "", 0), Some(RestoreError::Layout));
    assert_eq!(reason(disk, Layout::Cascade, "", 1), Some(RestoreError::Reading));
    assert_eq!(reason(&BTreeMap::new(), Layout::Cascade, "", 0), Some(RestoreError::Nothing));
    let whole = disk.clone();
    for cut in whole.keys() {
        // One unreadable entry is enough.
        disk.clone_from(&whole);
        disk.insert(cut.clone(), Bytes::new());
        assert_eq!(reason(disk, Layout::Cascade, "", 0), Some(RestoreError::Unreadable));
    }
    disk.clone_from(&whole);
    disk.insert(Bytes::from_static(&[99]), Bytes::new());
    assert_eq!(reason(disk, Layout::Cascade, "", 0), Some(RestoreError::Unreadable));
    // Another format version in the header takes precedence over unreadable entries.
    let origin = disk.get_mut(&[0][..]).unwrap();
    let mut another = origin.to_vec();
    another[0] += 1;
    *origin = another.into();
    assert_eq!(reason(disk, Layout::Cascade, "", 0), Some(RestoreError::Format));
}

#[test]
fn a_restored_checkpoint_is_rewritten_with_the_same_bytes() {
    for scenario in scenarios() {
        let history = disorder::read(&scenario);
        let middle = history.events.len() / 2;
        let mut run = Run::begin(&Rules::default(), &history);
        for (count, (id, event)) in (1..).zip(history.events.clone()) {
            let now = event.at();
            run.process(id, event);
            if count != middle && count != history.events.len() {
                continue;
            }
            run.commit();
            let before = run.disk.clone();
            run.restart(now);
            run.tracer.rewrite_checkpoint();
            run.disk.clear();
            run.commit();
            assert!(run.disk == before, "{}, after {count}", scenario.display());
        }
    }
}

/// If the expected text changes, the format has changed: increase `FORMAT` of the checkpoint.
#[test]
fn the_checkpoint_format_is_unchanged() {
    let mut daemon = Daemon::of(&told_stuck());
    daemon.process_next(7);
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
