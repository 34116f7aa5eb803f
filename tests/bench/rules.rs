//! Measures what the rule of a kind costs: `cargo bench --bench rules` (`-- --quick` for fewer rounds).
//!
//! The same object, under different kinds, has one status update after the other. A status update is
//! the event for which a rule is evaluated: its status has changed. CPU time of the process, not wall
//! time, from the line of the watch to the spans, is divided by the number of events. The floor reads
//! the JSON of the same lines and keeps nothing. Rounds of the kinds alternate, and the least of all
//! rounds counts: noise only adds.

use std::{
    hint::black_box,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use spanlink::{
    config::settings::Settings,
    daemon::rules,
    health_rule::State,
    trace::{
        model::{
            object::GroupKind,
            observation::{Filter, WatchEvent, WatchId, WatchScope},
            time::Timestamp,
        },
        tracer::Tracer,
    },
    watch::decode::{Decoded, Decoder},
};

/// Objects of each kind, and status updates of each object in a round.
const OBJECTS: usize = 50;
const UPDATES: usize = 20;
const WATCH: WatchId = WatchId(0);
/// The kind with expressions in the configuration.
const IN_CEL: &str = "Gadgets002";

/// Every kind has a name of the same length, so that all lines have the same number of bytes.
const CONFIGURATION: &str = "watch:
  - kind: Deployment.apps
  - kind: Sprockets3.example.com
  - kind: Widgets001.example.com
    converges: {field: status.phase, current: [Running]}
  - kind: Gadgets002.example.com
    converges:
      cel:
        current: >-
          status.observedGeneration == metadata.generation &&
          status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')
        failed: status.conditions.exists(c, c.type == 'Ready' && c.reason.endsWith('Failed'))
        paused: has(spec.paused) && spec.paused
        reason: status.conditions.filter(c, c.type == 'Ready')[0].reason
        message: status.conditions.filter(c, c.type == 'Ready')[0].message
";

/// What is updated in each event, besides the resourceVersion.
#[derive(Clone, Copy)]
enum Update {
    Status,
    /// The rule is not evaluated again.
    Nothing,
}

const WORKLOADS: [(&str, &str, &str, Update); 5] = [
    ("built-in kind (Deployment)", "apps/v1", "Deployment", Update::Status),
    ("general rule", "example.com/v1", "Sprockets3", Update::Status),
    ("option converges: a field", "example.com/v1", "Widgets001", Update::Status),
    ("option converges: CEL", "example.com/v1", IN_CEL, Update::Status),
    ("CEL, nothing has changed", "example.com/v1", IN_CEL, Update::Nothing),
];

/// A watch of one kind, and what follows it.
struct Watched {
    decoder: Decoder,
    tracer: Tracer,
    now: Timestamp,
    resource_version: usize,
    api_version: &'static str,
    kind: &'static str,
    update: Update,
    /// What expressions decide about every object.
    expected: Option<State>,
}

impl Watched {
    fn new(
        settings: &Settings,
        (_, api_version, kind, update): (&str, &'static str, &'static str, Update),
    ) -> Result<Self> {
        let now = Timestamp::parse("2026-11-24T10:00:00Z").context("a valid time")?;
        let mut tracer = Tracer::new(rules(settings), "");
        let scope = WatchScope {
            kind: GroupKind::of(api_version, kind),
            namespace: None,
            filter: Filter::Everything,
            has_status: true,
        };
        tracer.open(WATCH, scope, now);
        let decoder = Decoder::new(&Arc::new(settings.watch.clone()));
        let expected = (kind == IN_CEL).then_some(State::Current);
        let resource_version = 1;
        let mut watched =
            Self { decoder, tracer, now, resource_version, api_version, kind, update, expected };
        watched.tracer.process(WATCH, WatchEvent::ListStarted { at: now });
        for line in watched.lines(0) {
            if let Decoded::Applied(item) = watched.decoder.decode_event(&line, now)? {
                watched.tracer.process(WATCH, WatchEvent::ListItem(item));
            }
        }
        watched.decoder.end_list();
        let resource_version = u64::try_from(watched.resource_version)?;
        watched.tracer.process(WATCH, WatchEvent::ListCompleted { at: now, resource_version });
        watched.tracer.process(WATCH, WatchEvent::Resumed { at: now });
        Ok(watched)
    }

    /// One line for each object.
    fn lines(&mut self, update: usize) -> Vec<Vec<u8>> {
        (0..OBJECTS)
            .map(|number| {
                self.resource_version += 1;
                let object = self.object(number, update);
                let kind = if update == 0 { "ADDED" } else { "MODIFIED" };
                json!({ "type": kind, "object": object }).to_string().into_bytes()
            })
            .collect()
    }

    fn object(&self, number: usize, update: usize) -> Value {
        let status = match self.update {
            Update::Status => update,
            Update::Nothing => 0,
        };
        let condition = |kind: &str, reason: &str| {
            json!({ "type": kind, "status": "True", "observedGeneration": 1, "reason": reason,
                "lastTransitionTime": "2026-11-24T09:00:00Z",
                "message": format!("All is as it shall be, as of update {status:08}.") })
        };
        json!({
            "apiVersion": self.api_version, "kind": self.kind,
            "metadata": {
                "name": format!("web-{number:04}"), "namespace": "shop", "generation": 1,
                "uid": format!("00000000-0000-4000-8000-{number:012}"),
                "resourceVersion": self.resource_version.to_string(),
                "creationTimestamp": "2026-11-24T09:00:00Z",
                "labels": { "app": "web", "team": "infra" },
                "managedFields": [{ "manager": "operator", "operation": "Update",
                    "apiVersion": self.api_version, "time": "2026-11-24T09:00:00Z",
                    "subresource": "status", "fieldsType": "FieldsV1",
                    "fieldsV1": { "f:status": { "f:conditions": {}, "f:phase": {} } } }],
            },
            "spec": { "replicas": 3, "template": { "spec": { "containers": [
                { "name": "web", "image": "web:1", "args": ["--listen", "0.0.0.0:8080"] },
                { "name": "proxy", "image": "proxy:1", "args": ["--upstream", "web:8080"] },
            ] } } },
            "status": {
                "observedGeneration": 1, "phase": "Running", "replicas": 3, "updatedReplicas": 3,
                "readyReplicas": 3, "availableReplicas": 3,
                "conditions": [condition("Available", "MinimumReplicasAvailable"),
                    condition("Progressing", "NewReplicaSetAvailable"), condition("Ready", "Ready")],
            },
        })
    }

    fn process(&mut self, lines: &[Vec<u8>]) -> Result<()> {
        for line in lines {
            self.now = self.now.plus(Duration::from_millis(1));
            let Decoded::Applied(observation) = self.decoder.decode_event(line, self.now)? else {
                bail!("an event of {} is not decoded", self.kind);
            };
            let state = observation.status.verdict.as_ref().map(|verdict| verdict.state);
            ensure!(state == self.expected, "{}: the rule decides {state:?}", self.kind);
            black_box(self.tracer.process(WATCH, WatchEvent::Applied(observation)));
        }
        Ok(())
    }
}

fn read_and_forget(lines: &[Vec<u8>]) -> Result<()> {
    for line in lines {
        black_box(serde_json::from_slice::<IgnoredAny>(line)?);
    }
    Ok(())
}

/// User and system time of this process, in microseconds.
fn cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |seconds: i64, micros: i64| {
        Duration::from_secs(seconds.unsigned_abs()) + Duration::from_micros(micros.unsigned_abs())
    };
    let (user, system) = (usage.user_time(), usage.system_time());
    let total = micros(user.tv_sec(), user.tv_usec()) + micros(system.tv_sec(), system.tv_usec());
    Ok(total.as_secs_f64() * 1e6)
}

fn print(text: &str) {
    writeln!(io::stdout(), "{text}").ok();
}

fn main() -> Result<()> {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 5 } else { 25 };
    let settings = configured()?;
    let mut watched: Vec<Watched> = WORKLOADS
        .into_iter()
        .map(|workload| Watched::new(&settings, workload))
        .collect::<Result<_>>()?;
    let events = f64::from(u32::try_from(OBJECTS * UPDATES)?);
    let mut floor = f64::INFINITY;
    let mut costs = [f64::INFINITY; WORKLOADS.len()];
    let mut bytes = 0;
    for round in 0..rounds {
        for (watched, cost) in watched.iter_mut().zip(&mut costs) {
            let updates =
                (0..UPDATES).flat_map(|update| watched.lines(1 + round * UPDATES + update));
            let lines: Vec<Vec<u8>> = updates.collect();
            bytes = lines.first().map_or(0, Vec::len);
            let before = cpu()?;
            read_and_forget(&lines)?;
            let read = cpu()?;
            watched.process(&lines)?;
            *cost = cost.min((cpu()? - read) / events);
            floor = floor.min((read - before) / events);
        }
    }
    print(&format!("CPU in µs per event of {bytes} bytes, from its line to its spans\n"));
    print(&format!("{:<28} {floor:>7.1}", "floor: the JSON is read"));
    for ((name, ..), cost) in WORKLOADS.iter().zip(costs) {
        print(&format!("{name:<28} {cost:>7.1}  {:>5.2} times the floor", cost / floor));
    }
    Ok(())
}

fn configured() -> Result<Settings> {
    let file = std::env::temp_dir().join(format!("spanlink-rules-{}.yaml", std::process::id()));
    std::fs::write(&file, CONFIGURATION)?;
    let settings = Settings::load(Some(&file), []);
    std::fs::remove_file(&file)?;
    Ok(settings?)
}
