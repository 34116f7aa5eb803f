//! Measures whether the cost of an event grows with the number of objects: `cargo bench --bench growth`.
//!
//! The same work is replayed among 1,000, 10,000 and 100,000 objects (`-- --objects 1000,50000` for
//! other sizes, `-- --quick` for fewer repetitions). CPU time of the process, not wall time, is
//! divided by the number of events; decoding the JSON of an event is not part of it. Rounds of the
//! sizes alternate, and the least of all rounds counts: noise only adds.

mod growth_objects;

use std::{
    collections::HashMap,
    fs,
    hint::black_box,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use spanlink::{
    config::settings::Settings,
    trace::{
        model::{
            object::GroupKind,
            observation::{Filter, WatchEvent, WatchId, WatchScope},
            span::{Attribute, Role, Span},
            time::Timestamp,
        },
        rules::Rules,
        spans::{attributes::LINK_ROLE, output::Output},
        tracer::Tracer,
    },
    watch::decode::{Decoded, Decoder},
};

use growth_objects::{
    AUTOSCALER, DEPLOYMENT, KINDS, NAMESPACE, POD, REPLICA_SET, WIDGET, deployment, object, pod,
    replica_set, running_pod, settled,
};

/// Objects in the namespace that is deleted, at every size.
const DELETED: usize = 60;
/// The bar: how much more than plain status updates a workload may grow.
const ALLOWED: f64 = 1.2;

/// Each with a span that shows that the code path was taken; a plain status update emits none.
const WORKLOADS: [(&str, Workload, IsExpected); 5] = [
    ("plain status update", update_statuses, |_| false),
    ("stamped image update", update_images, |span| {
        &*span.name == "update Deployment" && span.attribute("spanlink.context.trace_id").is_some()
    }),
    ("stuck rollout", get_stuck, |span| span.role == Role::Stuck),
    ("autoscaler's status", autoscale, |span| {
        let role = Attribute::text(LINK_ROLE, "reference");
        span.links.iter().any(|link| link.attributes.contains(&role))
    }),
    ("namespace deletion", delete_namespace, |span| {
        &*span.name == "delete Widget" && span.attribute("spanlink.owner.kind").is_some()
    }),
];

/// Returns the events to measure. The deletion of a namespace creates its objects before, outside of
/// the measured time.
type Workload = fn(&mut Cluster, usize) -> Result<Vec<Step>>;
/// Whether only the code path of a workload emits the span.
type IsExpected = fn(&Span) -> bool;

enum Step {
    Event(usize, Box<WatchEvent>),
    /// Time passes, and every timer that is due fires.
    Pass(Duration),
}

/// A tracer with its bystanders.
struct Cluster {
    tracer: Tracer,
    decoders: Vec<Decoder>,
    now: Timestamp,
    /// The time that the next generated event carries; runs ahead of `now` while steps are built.
    next: Timestamp,
    version: u64,
    /// By workload: spans that only its code path emits.
    expected: [usize; WORKLOADS.len()],
}

impl Cluster {
    /// Every watch is open and has listed nothing yet.
    fn new() -> Result<Self> {
        let settings = Arc::new(Settings::load(None, [])?.watch);
        let now = Timestamp::parse("2026-11-24T10:00:00Z").context("a valid time")?;
        let mut tracer = Tracer::new(Rules::default(), "");
        for (id, (api_version, kind)) in KINDS.iter().enumerate() {
            let kind = GroupKind::of(api_version, kind);
            tracer.open(
                watch(id),
                WatchScope { kind, namespace: None, filter: Filter::Everything, has_status: true },
                now,
            );
        }
        let decoders = KINDS.iter().map(|_| Decoder::new(&settings)).collect();
        Ok(Self { tracer, decoders, now, next: now, version: 1, expected: [0; WORKLOADS.len()] })
    }

    fn with_objects(count: usize) -> Result<Self> {
        let mut cluster = Self::new()?;
        let mut lists: HashMap<usize, Vec<Value>> = HashMap::new();
        // Of ten objects: one Deployment, two ReplicaSets, six Pods, one custom resource.
        for number in 0..count / 10 {
            let namespace = format!("team-{}", number / 10);
            if number % 10 == 0 {
                lists.entry(NAMESPACE).or_default().push(object(NAMESPACE, "", &namespace, None));
            }
            let web = format!("web-{number}");
            lists.entry(DEPLOYMENT).or_default().push(settled(deployment(&namespace, &web, 1)));
            for revision in 0..2 {
                let set =
                    replica_set(&namespace, &web, revision, if revision == 1 { 6 } else { 0 });
                lists.entry(REPLICA_SET).or_default().push(set);
            }
            for index in 0..6 {
                let running = running_pod(&namespace, &web, 1, index);
                lists.entry(POD).or_default().push(running);
            }
            lists.entry(WIDGET).or_default().push(object(WIDGET, &namespace, &web, None));
        }
        for id in 0..KINDS.len() {
            cluster.list(id, lists.remove(&id).unwrap_or_default())?;
        }
        cluster.pass(Duration::from_mins(30));
        Ok(cluster)
    }

    fn list(&mut self, id: usize, objects: Vec<Value>) -> Result<()> {
        self.process(id, WatchEvent::ListStarted { at: self.now });
        for object in objects {
            self.list_item(id, object)?;
        }
        self.complete_list(id);
        Ok(())
    }

    fn complete_list(&mut self, id: usize) {
        self.decoders[id].end_list();
        let resource_version = self.version;
        self.process(id, WatchEvent::ListCompleted { at: self.now, resource_version });
        self.process(id, WatchEvent::Resumed { at: self.now });
        self.process(id, WatchEvent::Bookmark { at: self.now, resource_version });
    }

    fn list_item(&mut self, id: usize, object: Value) -> Result<()> {
        if let Step::Event(id, event) = self.event(id, "ADDED", object)?
            && let WatchEvent::Applied(item) = *event
        {
            self.process(id, WatchEvent::ListItem(item));
        }
        Ok(())
    }

    fn event(&mut self, id: usize, verb: &str, mut object: Value) -> Result<Step> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let line = json!({ "type": verb, "object": object }).to_string();
        let event = match self.decoders[id].decode_event(line.as_bytes(), self.next)? {
            Decoded::Applied(observation) => WatchEvent::Applied(observation),
            Decoded::Deleted(observation) => WatchEvent::Deleted(observation),
            other => bail!("cannot use {other:?} decoded from {line}"),
        };
        Ok(Step::Event(id, Box::new(event)))
    }

    /// An event ten milliseconds after the one before.
    fn push(&mut self, steps: &mut Vec<Step>, id: usize, verb: &str, object: Value) -> Result<()> {
        self.next = self.next.plus(Duration::from_millis(10));
        steps.push(self.event(id, verb, object)?);
        Ok(())
    }

    fn wait(&mut self, steps: &mut Vec<Step>, duration: Duration) {
        self.next = self.next.plus(duration);
        steps.push(Step::Pass(duration));
    }

    fn run(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Event(id, event) => self.process(id, *event),
                Step::Pass(duration) => self.pass(duration),
            }
        }
    }

    /// The only place where an event enters the tracer.
    fn process(&mut self, id: usize, event: WatchEvent) {
        self.fire_timers(event.at());
        let output = self.tracer.process(watch(id), event);
        self.record(&output);
    }

    fn record(&mut self, output: &Output) {
        for (index, (_, _, is_expected)) in WORKLOADS.iter().enumerate() {
            self.expected[index] += output.spans.iter().filter(|span| is_expected(span)).count();
        }
    }

    fn pass(&mut self, duration: Duration) {
        self.fire_timers(self.now.plus(duration));
        // As a printed tree does every second: it waits for the spans of open traces.
        black_box(self.tracer.open_traces());
        self.next = self.next.max(self.now);
    }

    fn fire_timers(&mut self, until: Timestamp) {
        while let Some(due) = self.tracer.next_deadline().filter(|due| *due <= until) {
            let output = self.tracer.expire(due);
            self.record(&output);
        }
        self.now = self.now.max(until);
    }
}

fn watch(id: usize) -> WatchId {
    WatchId(u32::try_from(id).unwrap_or(u32::MAX))
}

fn update_statuses(cluster: &mut Cluster, round: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for number in 0..500 {
        // Spread over the bystanders that exist at every size.
        // Deployments whose number ends with 0 are updated by another workload.
        let web = number % 10 * 10 + 1 + number / 10 % 9;
        let mut object =
            running_pod(&format!("team-{}", web / 10), &format!("web-{web}"), 1, number % 6);
        object["status"]["message"] = json!(format!("message {round} {number}"));
        cluster.push(&mut steps, POD, "MODIFIED", object)?;
    }
    Ok(steps)
}

fn update_images(cluster: &mut Cluster, round: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for number in 0..10 {
        let (namespace, web) = (format!("team-{number}"), format!("web-{}", number * 10));
        let image = round + 2;
        let mut stamped = deployment(&namespace, &web, image);
        stamped["metadata"]["annotations"] = json!({ "tracing.k8s.io/traceparent":
            format!("00-{:032x}-{:016x}-01", round * 100 + number + 1, number + 1) });
        cluster.push(&mut steps, DEPLOYMENT, "MODIFIED", stamped.clone())?;
        for index in 0..6 {
            let up = replica_set(&namespace, &web, image, index + 1);
            let down = replica_set(&namespace, &web, image - 1, 5 - index);
            let verb = if index == 0 { "ADDED" } else { "MODIFIED" };
            cluster.push(&mut steps, REPLICA_SET, verb, up)?;
            cluster.push(&mut steps, POD, "ADDED", pod(&namespace, &web, image, index))?;
            cluster.push(
                &mut steps,
                POD,
                "MODIFIED",
                running_pod(&namespace, &web, image, index),
            )?;
            cluster.push(&mut steps, REPLICA_SET, "MODIFIED", down)?;
            let old = running_pod(&namespace, &web, image - 1, index);
            cluster.push(&mut steps, POD, "DELETED", old)?;
        }
        cluster.push(&mut steps, DEPLOYMENT, "MODIFIED", settled(stamped))?;
    }
    cluster.wait(&mut steps, Duration::from_mins(15));
    Ok(steps)
}

fn get_stuck(cluster: &mut Cluster, round: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for number in 0..5 {
        let (namespace, web) = (format!("stuck-{round}"), format!("web-{number}"));
        let mut object = deployment(&namespace, &web, 1);
        cluster.push(&mut steps, DEPLOYMENT, "ADDED", object.clone())?;
        cluster.push(&mut steps, REPLICA_SET, "ADDED", replica_set(&namespace, &web, 1, 6))?;
        for index in 0..6 {
            let mut pod = pod(&namespace, &web, 1, index);
            cluster.push(&mut steps, POD, "ADDED", pod.clone())?;
            pod["status"]["containerStatuses"] = json!([{ "name": "web", "ready": false,
                "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } }]);
            cluster.push(&mut steps, POD, "MODIFIED", pod)?;
        }
        object["status"] = json!({ "observedGeneration": 1, "replicas": 6, "updatedReplicas": 6,
            "unavailableReplicas": 6, "conditions": [{ "type": "Progressing", "status": "False",
                "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing" }] });
        cluster.push(&mut steps, DEPLOYMENT, "MODIFIED", object)?;
    }
    cluster.wait(&mut steps, Duration::from_mins(30));
    Ok(steps)
}

fn autoscale(cluster: &mut Cluster, round: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for number in 0..10 {
        let (namespace, web) = (format!("scaled-{round}"), format!("web-{number}"));
        let mut target = settled(deployment(&namespace, &web, 1));
        let mut autoscaler = object(AUTOSCALER, &namespace, &web, None);
        autoscaler["spec"] = json!({ "maxReplicas": 99, "scaleTargetRef":
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": web } });
        cluster.push(&mut steps, DEPLOYMENT, "ADDED", target.clone())?;
        cluster.push(&mut steps, AUTOSCALER, "ADDED", autoscaler.clone())?;
        // As its controller writes: the subresource, then its own status. The Deployment follows.
        target["metadata"]["managedFields"] = json!([{ "manager": "kube-controller-manager",
            "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale",
            "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:replicas": {} } } }]);
        for scale in 1..10 {
            target["spec"]["replicas"] = json!(6 + scale);
            target["metadata"]["generation"] = json!(1 + scale);
            cluster.push(&mut steps, DEPLOYMENT, "MODIFIED", target.clone())?;
            cluster.wait(&mut steps, Duration::from_secs(1));
            autoscaler["status"] = json!({ "desiredReplicas": 6 + scale, "currentReplicas": 5 + scale,
                "lastScaleTime": cluster.next.to_string() });
            cluster.push(&mut steps, AUTOSCALER, "MODIFIED", autoscaler.clone())?;
            cluster.push(&mut steps, DEPLOYMENT, "MODIFIED", settled(target.clone()))?;
        }
    }
    cluster.wait(&mut steps, Duration::from_mins(15));
    Ok(steps)
}

fn delete_namespace(cluster: &mut Cluster, round: usize) -> Result<Vec<Step>> {
    let name = format!("deleted-{round}");
    let namespace = object(NAMESPACE, "", &name, None);
    let widgets: Vec<Value> =
        (0..DELETED).map(|number| object(WIDGET, &name, &format!("it-{number}"), None)).collect();
    let mut created = Vec::new();
    cluster.push(&mut created, NAMESPACE, "ADDED", namespace.clone())?;
    for widget in &widgets {
        cluster.push(&mut created, WIDGET, "ADDED", widget.clone())?;
    }
    cluster.wait(&mut created, Duration::from_mins(15));
    cluster.run(created);

    let mut steps = Vec::new();
    let deleted_at = cluster.next.to_string();
    let mark = |mut object: Value| {
        object["metadata"]["deletionTimestamp"] = json!(deleted_at);
        object
    };
    cluster.push(&mut steps, NAMESPACE, "MODIFIED", mark(namespace.clone()))?;
    for widget in widgets {
        cluster.push(&mut steps, WIDGET, "DELETED", mark(widget))?;
    }
    cluster.push(&mut steps, NAMESPACE, "DELETED", mark(namespace))?;
    cluster.wait(&mut steps, Duration::from_mins(15));
    Ok(steps)
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

/// Resident memory of this process in bytes.
fn resident() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 =
        statm.split(' ').nth(1).context("/proc/self/statm has no second field")?.parse()?;
    Ok(pages * 4096)
}

fn as_float(count: usize) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

fn print(text: &str) {
    writeln!(io::stdout(), "{text}").ok();
}

/// Resident memory that one object of each kind adds, decoder included, after its first list.
fn measure_memory(count: usize) -> Result<()> {
    let kinds = [DEPLOYMENT, REPLICA_SET, POD, WIDGET];
    let mut kept = Vec::new();
    for id in kinds {
        let mut cluster = Cluster::new()?;
        let before = resident()?;
        cluster.process(id, WatchEvent::ListStarted { at: cluster.now });
        for number in 0..count {
            let (namespace, web) = (format!("team-{}", number / 100), format!("web-{number}"));
            let object = match id {
                DEPLOYMENT => settled(deployment(&namespace, &web, 1)),
                REPLICA_SET => replica_set(&namespace, &web, 1, 6),
                POD => running_pod(&namespace, &web, 1, 0),
                _ => object(id, &namespace, &web, None),
            };
            cluster.list_item(id, object)?;
        }
        cluster.complete_list(id);
        let added = usize::try_from(resident()?.saturating_sub(before))?;
        print(&format!("memory: {:>6} bytes per {}", added / count, KINDS[id].1));
        // Kept, so that the next kind cannot reuse its memory.
        kept.push(cluster);
    }
    drop(kept);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let rounds = if is_quick { 3 } else { 9 };
    let mut sizes = vec![1_000, 10_000, 100_000];
    if let Some(at) = arguments.iter().position(|argument| argument == "--objects") {
        let list = arguments.get(at + 1).context("--objects needs numbers, as in 1000,50000")?;
        sizes = list.split(',').map(str::parse).collect::<Result<_, _>>().context("--objects")?;
    }
    // The work takes place among the first hundred Deployments.
    ensure!(sizes.iter().all(|size| *size >= 1_000), "--objects: each size must be at least 1000");
    measure_memory(if is_quick { 2_000 } else { 10_000 })?;
    let mut clusters =
        sizes.iter().map(|size| Cluster::with_objects(*size)).collect::<Result<Vec<_>>>()?;
    let mut costs = vec![vec![Vec::new(); sizes.len()]; WORKLOADS.len()];
    for round in 0..rounds {
        for (index, (_, prepare, _)) in WORKLOADS.iter().enumerate() {
            for (size, cluster) in clusters.iter_mut().enumerate() {
                let steps = prepare(cluster, round)?;
                let events = steps.iter().filter(|step| matches!(step, Step::Event(..))).count();
                let count = if index + 1 == WORKLOADS.len() { DELETED } else { events };
                let before = cpu()?;
                cluster.run(steps);
                costs[index][size].push((cpu()? - before) / as_float(count)?);
            }
        }
    }
    for cluster in &clusters {
        for (index, (name, ..)) in WORKLOADS.iter().enumerate().skip(1) {
            let rounds_seen = cluster.expected[index];
            ensure!(rounds_seen >= rounds, "{name}: only {rounds_seen} of its spans were emitted");
        }
    }
    report(&sizes, &costs)
}

fn report(sizes: &[usize], costs: &[Vec<Vec<f64>>]) -> Result<()> {
    print(
        "\nCPU in µs per event (namespace deletion: per deleted object), ratio to the first size",
    );
    let mut ratios = Vec::new();
    for ((name, ..), costs) in WORKLOADS.iter().zip(costs) {
        // Noise only adds to the cost: the least of all rounds is nearest to the truth.
        let costs: Vec<f64> = costs
            .iter()
            .map(|rounds| rounds.iter().copied().fold(f64::INFINITY, f64::min))
            .collect();
        let first = costs.first().copied().context("--objects names no size")?;
        let cells = sizes
            .iter()
            .zip(&costs)
            .map(|(size, cost)| format!("{size:>7}: {cost:>8.1} ({:>5.2})", cost / first));
        print(&format!("{name:<22} {}", cells.collect::<Vec<_>>().join("  ")));
        ratios.push(costs.last().copied().unwrap_or(first) / first);
    }
    let plain = ratios.first().copied().context("no workload ran")?;
    print(&format!(
        "\nBar: a ratio of at most {ALLOWED} times that of a plain status update ({plain:.2})"
    ));
    let mut failed = Vec::new();
    for ((name, ..), ratio) in WORKLOADS.iter().zip(&ratios).skip(1) {
        let passes = *ratio <= ALLOWED * plain;
        let word = if passes { "pass" } else { "FAIL" };
        print(&format!("{word}: {name:<22} {ratio:.2}, {:.2} times", ratio / plain));
        if !passes {
            failed.push(*name);
        }
    }
    ensure!(failed.is_empty(), "the cost grows with the number of objects: {}", failed.join(", "));
    Ok(())
}
