//! The rule for kinds that have no rule of their own: every piece of evidence in the status is
//! collected, and the worst one decides (`docs/readiness.md`, The general rule).

use std::{borrow::Cow, cmp::Ordering, hash::Hasher as _};

use xxhash_rust::xxh3::Xxh3;

use crate::trace::{
    model::{observation::Condition, signals::StatusSignals, time::Timestamp},
    readiness::{
        judgement::{Judgement, Urgency, Why},
        lexicon::{self, Meaning, Polarity},
        status::{Evidence, Status, is_observed, is_older},
    },
};

/// How a piece of evidence counts; a later one outweighs an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good, but it may be there long before the controller has done anything else.
    Thin,
    Good,
    Work,
    Paused,
    Failed,
}

/// One field of an object that says how it is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding<'a> {
    pub weight: Weight,
    /// `status.conditions[Ready]`, `status.phase`.
    pub path: Cow<'static, str>,
    pub name: &'a str,
    /// The value that was found.
    pub value: Cow<'a, str>,
    pub reason: &'a str,
    pub message: &'a str,
    pub since: Option<Timestamp>,
}

impl Finding<'_> {
    /// `status.phase is Failed`
    fn text(&self) -> String {
        if self.name.is_empty() {
            return format!("{} is {}", self.path, self.value);
        }
        if self.path.ends_with("conditions") {
            return format!("condition {} is {}", self.name, self.value);
        }
        format!("{}.{} is {}", self.path, self.name, self.value)
    }
}

/// Reason and message of what is worst in an object; `None` where nothing is bad.
pub(super) fn explanation(e: &Evidence<'_>) -> Option<(Box<str>, Box<str>)> {
    judge(e).why.map(|why| (why.reason, why.message))
}

/// What an object without a status has.
static NO_SIGNALS: StatusSignals = StatusSignals::NONE;

fn signals<'a>(e: &Evidence<'a>) -> &'a StatusSignals {
    e.status.signals.as_deref().unwrap_or(&NO_SIGNALS)
}

/// Every piece of evidence in an object, in the order of its fields.
pub fn findings<'a>(e: &Evidence<'a>) -> Vec<Finding<'a>> {
    let mut findings = Vec::new();
    if e.spec.paused {
        findings.push(Finding {
            weight: Weight::Paused,
            path: "spec".into(),
            name: "",
            value: "paused as asked".into(),
            reason: "",
            message: "",
            since: None,
        });
    }
    add_conditions(e, &mut findings);
    add_words(e, &mut findings);
    add_flags(e, &mut findings);
    add_counters(e, &mut findings);
    findings
}

/// Judges a custom resource.
pub(super) fn judge(e: &Evidence<'_>) -> Judgement {
    let findings = findings(e);
    let observed = is_observed(e.status, e.generation);
    let worst = findings.iter().map(|finding| finding.weight).max();
    let deciding: Vec<&Finding<'_>> =
        findings.iter().filter(|finding| Some(finding.weight) == worst).collect();
    let why = worst.filter(|worst| *worst > Weight::Good).and_then(|_| why(&deciding, e));
    let status = match worst {
        Some(Weight::Failed) => failed(&deciding, e),
        Some(Weight::Paused) if e.spec.paused => Status::Paused,
        Some(Weight::Paused) => Status::OnHold,
        Some(Weight::Work) => Status::InProgress,
        Some(Weight::Good | Weight::Thin) => {
            Status::Current { since: deciding.iter().filter_map(|finding| finding.since).max() }
        }
        None if observed => Status::Current { since: None },
        None => Status::Unknown,
    };
    Judgement {
        status,
        evidence: Some(fingerprint(&deciding)),
        is_thin: matches!(worst, None | Some(Weight::Thin)),
        is_observed: observed,
        why,
    }
}

fn failed(deciding: &[&Finding<'_>], e: &Evidence<'_>) -> Status {
    let since = deciding.iter().filter_map(|finding| finding.since).max();
    let (reason, message) = words_of(deciding.first().copied(), e);
    Status::Failed { reason, message, since }
}

/// What is not as it should be: the first finding with a reason that means failure, else the first
/// with any reason.
fn why(deciding: &[&Finding<'_>], e: &Evidence<'_>) -> Option<Why> {
    let is_failure = |finding: &&&Finding<'_>| {
        let (reason, message) = words_of(Some(finding), e);
        lexicon::urgency(&reason, &message) == Urgency::Failure
    };
    let first = deciding.iter().find(is_failure);
    let is_ready = |of: &&&Finding<'_>| of.name == "Ready" && !of.reason.is_empty();
    let first = first
        .or_else(|| deciding.iter().find(is_ready))
        .or_else(|| deciding.iter().find(|of| !of.reason.is_empty()));
    let finding = first.or_else(|| deciding.first())?;
    if finding.weight == Weight::Paused && finding.reason.is_empty() {
        return None;
    }
    let (reason, message) = words_of(Some(finding), e);
    let urgency = urgency(finding, &reason, &message);
    let is_condition = finding.path.ends_with("conditions");
    Some(Why { reason, message, since: finding.since, urgency, is_condition })
}

/// Conditions by which a controller refuses what the spec asks for: Gateway API, Crossplane.
const REFUSALS: [&str; 3] = ["Accepted", "ResolvedRefs", "Synced"];

fn urgency(finding: &Finding<'_>, reason: &str, message: &str) -> Urgency {
    let is_condition = finding.path.ends_with("conditions");
    if is_condition && REFUSALS.contains(&finding.name) && finding.value == "False" {
        return Urgency::Failure;
    }
    // A controller that waits for something says for what.
    if is_condition && finding.reason.is_empty() && finding.message.is_empty() {
        return Urgency::Working;
    }
    lexicon::urgency(reason, message)
}

/// Reason and message: of the condition, else of the status.
fn words_of(finding: Option<&Finding<'_>>, e: &Evidence<'_>) -> (Box<str>, Box<str>) {
    let Some(finding) = finding else { return <_>::default() };
    let of_status = |text: &Option<Box<str>>| text.clone().unwrap_or_default();
    let is_condition = finding.path.ends_with("conditions");
    let signals = signals(e);
    let reason = if !finding.reason.is_empty() {
        finding.reason.into()
    } else if is_condition {
        finding.name.into()
    } else {
        signals.reason.clone().unwrap_or_else(|| (&*finding.value).into())
    };
    let message = if finding.message.is_empty() {
        of_status(&signals.message)
    } else {
        finding.message.into()
    };
    let message = if message.is_empty() { finding.text().into() } else { message };
    (reason, message)
}

/// The same for a status that rests on the same evidence.
fn fingerprint(deciding: &[&Finding<'_>]) -> u64 {
    let mut parts: Vec<u64> = deciding
        .iter()
        .map(|finding| {
            let mut hash = Xxh3::new();
            for text in [&*finding.path, finding.name, &*finding.value, finding.reason] {
                hash.write_usize(text.len());
                hash.write(text.as_bytes());
            }
            hash.write_u64(finding.since.map_or(0, |since| since.nanos().unsigned_abs()));
            hash.finish()
        })
        .collect();
    parts.sort_unstable();
    let mut whole = Xxh3::new();
    for part in parts {
        whole.write_u64(part);
    }
    whole.finish() | 1
}

fn add_conditions<'a>(e: &Evidence<'a>, findings: &mut Vec<Finding<'a>>) {
    let status = e.status;
    let lists =
        [("status.conditions", &status.conditions), ("status.*[].conditions", &status.of_parents)];
    for (path, conditions) in lists {
        let has_whole = conditions
            .iter()
            .any(|condition| lexicon::is_about_whole(&condition.kind) && !is_older(condition, e));
        let mut known =
            conditions.iter().filter(|of| lexicon::polarity(&of.kind).is_some()).peekable();
        if known.peek().is_some()
            && known.all(|condition| is_older(condition, e))
            && let Some(first) = conditions.first()
        {
            findings.push(Finding {
                weight: Weight::Work,
                path: path.into(),
                name: &first.kind,
                value: "of an older generation".into(),
                reason: "",
                message: "",
                since: None,
            });
        }
        for condition in conditions {
            // It was written for an older generation of the object.
            if is_older(condition, e) {
                continue;
            }
            let Some(weight) = weight_of_condition(condition, has_whole, e) else { continue };
            findings.push(Finding {
                weight,
                path: path.into(),
                name: &condition.kind,
                value: (&*condition.status).into(),
                reason: &condition.reason,
                message: &condition.message,
                since: condition.last_transition,
            });
        }
    }
}

fn weight_of_condition(condition: &Condition, has_whole: bool, e: &Evidence<'_>) -> Option<Weight> {
    if &*condition.kind == "Running" {
        return weight_of_running(condition, e);
    }
    let polarity = lexicon::polarity(&condition.kind)?;
    let is_true = condition.status.eq_ignore_ascii_case("True");
    let is_false = condition.status.eq_ignore_ascii_case("False");
    let reason = condition.reason.to_ascii_lowercase();
    let name = &*condition.kind;
    Some(match polarity {
        Polarity::Good if is_true && name == "Synced" => Weight::Thin,
        Polarity::Good | Polarity::GoodPart if is_true => Weight::Good,
        Polarity::Step if is_true => Weight::Thin,
        // A part counts only where nothing is said about the whole.
        Polarity::GoodPart | Polarity::Step if has_whole => return None,
        Polarity::Good | Polarity::GoodPart | Polarity::Step
            if reason.ends_with("paused") || reason.ends_with("suspended") =>
        {
            Weight::Paused
        }
        Polarity::Good | Polarity::GoodPart | Polarity::Step => {
            if is_false && name == "Succeeded" && has_ended(&reason, e) {
                Weight::Failed
            } else {
                Weight::Work
            }
        }
        Polarity::Failed if is_true => Weight::Failed,
        Polarity::Unwell if is_true => Weight::Work,
        Polarity::Failed | Polarity::Unwell if is_false => Weight::Good,
        Polarity::Failed | Polarity::Unwell => Weight::Work,
        Polarity::Paused if is_true => Weight::Paused,
        // The Deployment controller's: it has worked, and is done.
        Polarity::Work if is_true && &*condition.reason == "NewReplicaSetAvailable" => Weight::Good,
        Polarity::Work if is_true => Weight::Work,
        Polarity::Work if is_false && &*condition.reason == "ProgressDeadlineExceeded" => {
            Weight::Failed
        }
        Polarity::Work if is_false && is_abort(&reason) => Weight::Work,
        Polarity::Paused | Polarity::Work => return None,
    })
}

/// `Running` says by its reason what runs: the object, or the work on it.
fn weight_of_running(condition: &Condition, e: &Evidence<'_>) -> Option<Weight> {
    if !condition.status.eq_ignore_ascii_case("True") {
        return None;
    }
    Some(match lexicon::meaning(&condition.reason) {
        Some(Meaning::Good) => Weight::Good,
        Some(Meaning::Running | Meaning::Work | Meaning::Unwell | Meaning::Failed) => Weight::Work,
        Some(Meaning::Paused) => Weight::Paused,
        None if is_finite(e) => Weight::Work,
        None => Weight::Thin,
    })
}

fn is_abort(reason: &str) -> bool {
    reason.contains("abort") || lexicon::urgency(reason, "") == Urgency::Failure
}

/// Whether the object is to finish.
fn is_finite(e: &Evidence<'_>) -> bool {
    signals(e).is_run || lexicon::is_run(&e.kind.kind)
}

fn has_ended(reason: &str, e: &Evidence<'_>) -> bool {
    signals(e).has_finished
        || ["fail", "timeout", "timedout", "cancel", "error"].iter().any(|end| reason.contains(end))
}

fn add_words<'a>(e: &Evidence<'a>, findings: &mut Vec<Finding<'a>>) {
    for word in &signals(e).words {
        let Some(meaning) = lexicon::meaning(&word.text) else { continue };
        let weight = match meaning {
            Meaning::Failed | Meaning::Unwell if word.is_part => Weight::Work,
            _ if word.is_part => continue,
            Meaning::Running if is_finite(e) => Weight::Work,
            Meaning::Good | Meaning::Running => Weight::Good,
            Meaning::Paused => Weight::Paused,
            Meaning::Work | Meaning::Unwell => Weight::Work,
            Meaning::Failed => Weight::Failed,
        };
        findings.push(Finding {
            weight,
            path: "status".into(),
            name: &word.path,
            value: (&*word.text).into(),
            reason: "",
            message: "",
            since: None,
        });
    }
}

fn add_flags<'a>(e: &Evidence<'a>, findings: &mut Vec<Finding<'a>>) {
    for (name, is_set) in &signals(e).flags {
        findings.push(Finding {
            weight: if *is_set { Weight::Good } else { Weight::Work },
            path: "status".into(),
            name,
            value: if *is_set { "true" } else { "false" }.into(),
            reason: name,
            message: "",
            since: None,
        });
    }
}

/// Beginnings of the names of counters: how many are wanted, and how many there are.
const WANTED: [&str; 3] = ["desired", "expected", "wanted"];
const COUNTED: [&str; 6] = ["ready", "updated", "available", "uptodate", "running", "healthy"];

fn add_counters<'a>(e: &Evidence<'a>, findings: &mut Vec<Finding<'a>>) {
    for (name, count) in &signals(e).counters {
        let lower = name.to_ascii_lowercase();
        let Some(of) = counted(&lower) else { continue };
        let Some((wanted, is_sure)) = wanted(of, e) else { continue };
        let weight = match count.cmp(&wanted) {
            Ordering::Less => Weight::Work,
            // None are wanted, and there are none: that says little.
            Ordering::Equal if wanted == 0 => continue,
            Ordering::Equal if !is_sure => Weight::Thin,
            Ordering::Equal => Weight::Good,
            Ordering::Greater => continue,
        };
        findings.push(Finding {
            weight,
            path: "status".into(),
            name,
            value: format!("{count} of {wanted}").into(),
            reason: name,
            message: "",
            since: None,
        });
    }
    add_missing_counters(e, findings);
}

/// What a counter counts: `replicas` of `readyReplicas`; a `DaemonSet`'s have names of their own.
fn counted(name: &str) -> Option<&str> {
    match name {
        "numberready" | "numberavailable" => Some("numberscheduled"),
        _ => COUNTED.iter().find_map(|start| name.strip_prefix(start)),
    }
}

/// How many are wanted of what is counted: `replicas` of the spec, else a counter of the status. Of
/// the replicas that exist it is not sure that no more are wanted.
fn wanted(of: &str, e: &Evidence<'_>) -> Option<(i64, bool)> {
    let signals = signals(e);
    let in_spec = e.spec.replicas.filter(|_| of == "replicas");
    let in_status = || {
        let is_wanted =
            |name: &str| WANTED.iter().any(|start| name.strip_prefix(start) == Some(of));
        let mut counters = signals.counters.iter();
        counters.find(|(name, _)| is_wanted(&name.to_ascii_lowercase())).map(|(_, count)| *count)
    };
    let existing = || signals.replicas.filter(|_| of == "replicas");
    let sure = in_spec.or_else(in_status).map(|wanted| (wanted, true));
    sure.or_else(|| existing().map(|count| (count, false)))
}

/// Controllers leave out a counter that is 0.
fn add_missing_counters<'a>(e: &Evidence<'a>, findings: &mut Vec<Finding<'a>>) {
    let counters = &signals(e).counters;
    for (name, wanted) in counters.iter().filter(|(_, wanted)| *wanted > 0) {
        let lower = name.to_ascii_lowercase();
        let Some(of) = WANTED.iter().find_map(|start| lower.strip_prefix(start)) else { continue };
        let is_counted =
            counters.iter().any(|(name, _)| counted(&name.to_ascii_lowercase()) == Some(of));
        if !is_counted && of != "replicas" {
            findings.push(Finding {
                weight: Weight::Work,
                path: "status".into(),
                name,
                value: format!("0 of {wanted}").into(),
                reason: name,
                message: "",
                since: None,
            });
        }
    }
}
