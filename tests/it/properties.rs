//! Invariants of any sequence of observations: garbage, disorder, impossible times.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use spanlink::{
    config::settings::{Settings, WatchSettings},
    trace::{
        model::{
            object::GroupKind,
            observation::{Filter, WatchEvent, WatchId, WatchScope},
            span::{Role, Span},
            time::Timestamp,
        },
        rules::Rules,
        spans::output::{Output, TraceMetric},
        tracer::Tracer,
    },
    watch::decode::{Decoded, Decoder},
};

const KINDS: [(&str, &str); 9] = [
    ("v1", "Pod"),
    ("v1", "Namespace"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("example.com/v1", "Widget"),
];

/// An event that a watch may deliver, after some time.
#[derive(Clone, Debug)]
struct Step {
    kind: usize,
    name: u8,
    verb: Verb,
    after_millis: u64,
    /// Pairs of fields that a status may have.
    status: Vec<(&'static str, Value)>,
    generation: i64,
    image: u8,
    owner: Option<usize>,
    finalizers: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Applied,
    Going,
    Deleted,
    Relisted,
    Interrupted,
}

/// A time as the API writes it, at most a day from the beginning, or nonsense.
fn a_time() -> impl Strategy<Value = Value> {
    let second = |second: i64| json!(at(second * 1_000).to_string());
    prop_oneof![
        8 => (-5..120_i64).prop_map(second),
        1 => (-86_400..86_400_i64).prop_map(second),
        1 => select(vec![json!("never"), json!(7), Value::Null]),
    ]
}

fn a_condition() -> impl Strategy<Value = Value> {
    let kinds = [
        "Ready",
        "PodScheduled",
        "Initialized",
        "PodReadyToStartContainers",
        "Available",
        "Progressing",
        "ReplicaFailure",
        "Complete",
        "Failed",
        "Stalled",
        "Reconciling",
        "Synced",
        "NamespaceFinalizersRemaining",
        "Suspended",
        "DisruptionTarget",
    ];
    let reasons = [
        "",
        "Unschedulable",
        "SchedulingGated",
        "ProgressDeadlineExceeded",
        "FailedCreate",
        "NewReplicaSetAvailable",
        "ReadinessGatesNotReady",
    ];
    let status = select(vec!["True", "False", "Unknown", "maybe"]);
    (select(kinds.to_vec()), status, select(reasons.to_vec()), a_time(), 0..6_i64).prop_map(
        |(kind, status, reason, since, observed)| {
            json!({"type": kind, "status": status, "reason": reason, "message": "because",
                "lastTransitionTime": since, "observedGeneration": observed})
        },
    )
}

fn a_container() -> impl Strategy<Value = Value> {
    let waiting = ["ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff", "ContainerCreating"];
    let run = || {
        (a_time(), a_time(), 0..3_i64).prop_map(|(started, finished, code)| {
        json!({"startedAt": started, "finishedAt": finished, "exitCode": code, "reason": "Error"})
    })
    };
    let state = prop_oneof![
        select(waiting.to_vec()).prop_map(|reason| json!({"waiting": {"reason": reason}})),
        a_time().prop_map(|at| json!({"running": {"startedAt": at}})),
        run().prop_map(|run| json!({"terminated": run})),
        Just(json!({})),
        Just(json!("nonsense")),
    ];
    let last = prop::option::of(run());
    (select(vec!["web", "side", "init"]), state, last, prop::bool::ANY).prop_map(
        |(name, state, last, ready)| {
            json!({"name": name, "state": state, "ready": ready,
                "lastState": {"terminated": last}})
        },
    )
}

fn a_field() -> impl Strategy<Value = (&'static str, Value)> {
    let counters = [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "failed",
        "succeeded",
        "desiredNumberScheduled",
        "updatedNumberScheduled",
        "numberReady",
        "numberAvailable",
        "currentNumberScheduled",
        "fullyLabeledReplicas",
        "observedGeneration",
    ];
    let phases =
        ["Pending", "Running", "Succeeded", "Failed", "Bound", "Lost", "Active", "Terminating"];
    prop_oneof![
        4 => prop::collection::vec(a_condition(), 0..4).prop_map(|all| ("conditions", json!(all))),
        2 => prop::collection::vec(a_container(), 0..3)
            .prop_map(|all| ("containerStatuses", json!(all))),
        1 => prop::collection::vec(a_container(), 0..3)
            .prop_map(|all| ("initContainerStatuses", json!(all))),
        4 => (select(counters.to_vec()), -1..6_i64).prop_map(|(key, count)| (key, json!(count))),
        2 => select(phases.to_vec()).prop_map(|phase| ("phase", json!(phase))),
        1 => a_time().prop_map(|at| ("startTime", at)),
        1 => Just(("conditions", json!({"not": "a list"}))),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![
        12 => Just(Verb::Applied),
        2 => Just(Verb::Going),
        2 => Just(Verb::Deleted),
        1 => Just(Verb::Relisted),
        1 => Just(Verb::Interrupted),
    ];
    let after = prop_oneof![8 => 0..900_u64, 3 => 900..15_000_u64, 1 => 0..1_200_000_u64];
    let finalizers =
        prop::collection::vec(select(vec!["a.io/x", "b.io/y", "foregroundDeletion"]), 0..3);
    (
        (0..KINDS.len(), 0..2_u8, verb, after),
        prop::collection::vec(a_field(), 0..6),
        (1..6_i64, 0..3_u8, prop::option::of(0..KINDS.len()), finalizers),
    )
        .prop_map(|((kind, name, verb, after_millis), status, rest)| {
            let (generation, image, owner, finalizers) = rest;
            Step { kind, name, verb, after_millis, status, generation, image, owner, finalizers }
        })
}

fn at(millis: i64) -> Timestamp {
    let begin = Timestamp::parse("2026-11-24T10:00:00.5Z").unwrap();
    Timestamp::from_nanos(begin.nanos() + millis * 1_000_000)
}

impl Step {
    /// `life`: no UID comes again once it is long gone.
    fn object(&self, version: u64, life: usize) -> Value {
        let (api_version, kind) = KINDS[self.kind];
        let status: serde_json::Map<String, Value> =
            self.status.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {
                "name": format!("it-{}", self.name), "namespace": "shop",
                "uid": format!("{kind}-{}-{life}", self.name),
                "generation": self.generation, "resourceVersion": version.to_string(),
                "creationTimestamp": "2026-11-24T10:00:00Z", "finalizers": self.finalizers,
            },
            "spec": {"replicas": 1, "template": {"spec": {"containers": [
                {"name": "web", "image": format!("web:{}", self.image)}]}}},
            "status": status,
        });
        if let Some(owner) = self.owner {
            let (api_version, kind) = KINDS[owner];
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": api_version,
                "kind": kind, "name": "it-0", "uid": format!("{kind}-0-0"), "controller": true}]);
        }
        if self.verb != Verb::Applied {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:05Z");
        }
        object
    }
}

/// A tracer that watches every kind, and its output.
struct Played {
    settings: Arc<WatchSettings>,
    tracer: Tracer,
    decoders: Vec<Decoder>,
    now: Timestamp,
    version: u64,
    /// When an object was seen to go, and how many of its name there were before.
    gone: HashMap<(usize, u8), Timestamp>,
    lives: HashMap<(usize, u8), usize>,
    spans: Vec<Span>,
    opened: usize,
    closed: usize,
}

impl Played {
    fn begin() -> Self {
        let settings = Arc::new(Settings::load(None, []).unwrap().watch);
        let mut tracer = Tracer::new(Rules::default(), "");
        for (id, (api_version, kind)) in KINDS.iter().enumerate() {
            let watched = WatchScope {
                kind: GroupKind::of(api_version, kind),
                namespace: None,
                filter: Filter::Everything,
                has_status: true,
            };
            tracer.open_empty(WatchId(u32::try_from(id).unwrap()), watched, at(0));
        }
        Self {
            decoders: KINDS.iter().map(|_| Decoder::new(&settings)).collect(),
            settings,
            tracer,
            now: at(0),
            version: 0,
            gone: HashMap::new(),
            lives: HashMap::new(),
            spans: Vec::new(),
            opened: 0,
            closed: 0,
        }
    }

    fn take(&mut self, output: Output) {
        self.spans.extend(output.spans);
        for note in output.metrics {
            self.opened += usize::from(note == TraceMetric::Opened);
            self.closed += usize::from(matches!(note, TraceMetric::Closed { .. }));
        }
    }

    fn run_until(&mut self, time: Timestamp) {
        while let Some(due) = self.tracer.next_deadline().filter(|due| *due < time) {
            let output = self.tracer.expire(due);
            self.take(output);
        }
        self.now = time;
    }

    fn step(&mut self, step: &Step) {
        self.run_until(self.now.plus(Duration::from_millis(step.after_millis)));
        self.version += 1;
        let id = WatchId(u32::try_from(step.kind).unwrap());
        let now = self.now;
        let life = self.lives.entry((step.kind, step.name)).or_default();
        match self.gone.get(&(step.kind, step.name)) {
            Some(gone) if now.since(*gone) > Duration::from_secs(50) => {
                *life += 1;
                self.gone.remove(&(step.kind, step.name));
            }
            Some(_) | None => {}
        }
        let object = step.object(self.version, *life);
        let names = match step.verb {
            Verb::Deleted => step.name..step.name + 1,
            Verb::Relisted => 0..2,
            Verb::Applied | Verb::Going | Verb::Interrupted => 0..0,
        };
        for name in names {
            self.gone.entry((step.kind, name)).or_insert(now);
        }
        let kind = if step.verb == Verb::Deleted { "DELETED" } else { "MODIFIED" };
        let event = json!({ "type": kind, "object": object }).to_string();
        let decoder = &mut self.decoders[step.kind];
        let events = match step.verb {
            Verb::Applied | Verb::Going | Verb::Deleted => {
                match decoder.decode_event(event.as_bytes(), now).unwrap() {
                    Decoded::Applied(seen) => vec![WatchEvent::Applied(seen)],
                    Decoded::Deleted(seen) => vec![WatchEvent::Deleted(seen)],
                    other => unreachable!("{other:?}"),
                }
            }
            // A list with nothing in it: all of the kind is gone.
            Verb::Relisted => {
                *decoder = Decoder::new(&self.settings);
                let end = WatchEvent::ListCompleted { at: now, resource_version: self.version };
                vec![WatchEvent::ListStarted { at: now }, end]
            }
            Verb::Interrupted => {
                vec![WatchEvent::Interrupted { at: now }, WatchEvent::Resumed { at: now }]
            }
        };
        for event in events {
            let output = self.tracer.process(id, event);
            self.take(output);
        }
    }

    fn finish(&mut self) {
        while !self.tracer.is_settled()
            && let Some(due) = self.tracer.next_deadline()
        {
            let output = self.tracer.expire(due);
            self.take(output);
        }
    }
}

fn outcomes_of(span: &Span) -> usize {
    span.attributes.iter().filter(|attribute| attribute.key == "spanlink.outcome").count()
}

fn is_sound(played: &Played) -> Result<(), TestCaseError> {
    let spans = &played.spans;
    let by_id: HashMap<_, &Span> = spans.iter().map(|span| (span.span_id, span)).collect();
    prop_assert_eq!(by_id.len(), spans.len(), "a span id is used twice");
    let mut outcomes: HashMap<_, usize> = HashMap::new();
    for span in spans {
        prop_assert!(span.start < span.end, "{span:?}");
        prop_assert!(span.events.len() <= 32 && span.links.len() <= 16, "{span:?}");
        for event in &span.events {
            prop_assert!(span.start <= event.at && event.at <= span.end, "{span:?}");
        }
        let change = match span.role {
            Role::Change => Some(span.span_id),
            Role::Reconcile => span.parent,
            Role::Stuck | Role::Late | Role::Phase | Role::Projection => {
                prop_assert_eq!(outcomes_of(span), 0);
                None
            }
        };
        if let Some(change) = change {
            *outcomes.entry(change).or_default() += outcomes_of(span);
        }
        let Some(parent) = span.parent else { continue };
        prop_assert!(by_id.contains_key(&parent), "no parent of {span:?}");
        prop_assert!(by_id[&parent].start <= span.start, "{span:?} before {:?}", by_id[&parent]);
        if span.role == Role::Phase {
            prop_assert!(span.end <= by_id[&parent].end, "{span:?} after {:?}", by_id[&parent]);
        }
    }
    for (change, count) in outcomes {
        prop_assert_eq!(count, 1, "outcomes of {:?}", by_id.get(&change));
    }
    for one in spans.iter().filter(|span| span.role == Role::Phase) {
        let siblings = spans.iter().filter(|other| {
            other.role == Role::Phase && other.parent == one.parent && other.span_id != one.span_id
        });
        for other in siblings {
            prop_assert!(one.end < other.start || other.end < one.start, "{one:?} {other:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_closes_every_convergence_once_with_nested_phases(
        steps in prop::collection::vec(a_step(), 1..40),
    ) {
        let mut played = Played::begin();
        for step in &steps {
            played.step(step);
        }
        played.finish();
        is_sound(&played)?;
        let spans: HashSet<_> =
            played.spans.iter().filter(|s| s.role == Role::Change).map(|s| s.span_id).collect();
        prop_assert!(played.opened <= played.closed, "{} of {}", played.closed, played.opened);
        // Those that were over when they were seen were never open.
        prop_assert_eq!(played.closed, spans.len());
    }

    #[test]
    fn open_convergence_has_bounded_state(
        steps in prop::collection::vec(a_step(), 20..40),
        kind in 0..KINDS.len(),
    ) {
        let mut played = Played::begin();
        let mut kept = Vec::new();
        for round in 0..6_usize {
            for (number, step) in steps.iter().enumerate() {
                let mut status = step.status.clone();
                // Each with a new condition and a new container.
                status.push(("conditions", json!([{"type": format!("C{round}-{number}"),
                    "status": "False", "reason": "R", "message": "m".repeat(300)}])));
                status.push(("initContainerStatuses",
                    json!([{"name": format!("i{round}-{number}")}])));
                let same = Step { kind, name: 0, verb: Verb::Applied, generation: 1, image: 0,
                    after_millis: 10, owner: None, status, finalizers: Vec::new() };
                played.step(&same);
            }
            kept.push(format!("{:?}", played.tracer).len());
        }
        prop_assert!(kept[5] <= kept[3] + 64, "{kept:?}");
        prop_assert!(kept[5] <= 64 << 10, "{kept:?}");
    }
}
