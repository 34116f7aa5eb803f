//! The words that controllers write into a status, and what they mean.

use crate::trace::readiness::judgement::Urgency;

/// What a word means, whatever API it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Good,
    /// Good for what is to keep running, work for what is to finish.
    Running,
    Paused,
    Work,
    /// Not good, but the controller may still mend it.
    Unwell,
    Failed,
}

/// Whether a word means that all is well.
pub(super) fn is_good(text: &str) -> bool {
    meaning(text) == Some(Meaning::Good)
}

/// Longer texts are sentences.
const MAX_PHRASE: usize = 4;

/// Words that mean work although they do not end in -ing.
const WORK: &[&str] = &[
    "accepted",
    "backoff",
    "delayed",
    "inprogress",
    "init",
    "missing",
    "new",
    "notready",
    "outofsync",
    "partial",
    "partially",
    "pending",
    "processing",
    "progress",
    "progressing",
    "queued",
    "requested",
    "retry",
    "scheduled",
    "started",
    "submitted",
    "unknown",
    "unready",
    "waiting",
    "yellow",
];

const GOOD: &[&str] = &[
    "active",
    "admitted",
    "applied",
    "attached",
    "available",
    "bound",
    "complete",
    "completed",
    "connected",
    "current",
    "deployed",
    "done",
    "enabled",
    "established",
    "exists",
    "finished",
    "green",
    "healthy",
    "initialized",
    "installed",
    "issued",
    "latest",
    "normal",
    "ok",
    "online",
    "operational",
    "passed",
    "programmed",
    "provisioned",
    "ready",
    "reconciled",
    "resolved",
    "satisfied",
    "stable",
    "succeeded",
    "success",
    "successful",
    "synced",
    "synchronized",
    "true",
    "uptodate",
    "valid",
    "verified",
];

const PAUSED: &[&str] = &["hibernated", "paused", "suspended"];

/// Beginnings of words.
const FAILED: &[&str] = &[
    "abort", "crash", "denied", "error", "expired", "fail", "fault", "invalid", "killed", "lost",
    "reject", "timedout", "timeout",
];
const UNWELL: &[&str] = &["degraded", "unhealthy", "unavailable", "unreachable", "warning"];
/// Whole words.
const UNWELL_WHOLE: &[&str] = &["red"];

const NEGATIONS: &[&str] = &["no", "non", "not", "without"];

/// The meaning of a word or a short phrase: `Running`, `IN_PROGRESS`, `Cluster in healthy state`.
/// `None`: it has no meaning of its own, as `Foo`.
pub(super) fn meaning(text: &str) -> Option<Meaning> {
    let words = words(text);
    let whole = words.concat();
    let any = |is: &dyn Fn(&str) -> bool| words.iter().any(|word| is(word));
    let begins = |list: &[&str], word: &str| list.iter().any(|start| word.starts_with(start));
    let is_negated = any(&|word| NEGATIONS.contains(&word));
    if !is_negated && (begins(FAILED, &whole) || any(&|word| begins(FAILED, word))) {
        return Some(Meaning::Failed);
    }
    if any(&|word| begins(UNWELL, word)) || UNWELL_WHOLE.contains(&&*whole) {
        return Some(Meaning::Unwell);
    }
    if PAUSED.contains(&&*whole) || any(&|word| PAUSED.contains(&word)) {
        return Some(Meaning::Paused);
    }
    if WORK.contains(&&*whole) || any(&|word| is_activity(word)) {
        return Some(Meaning::Work);
    }
    // A sentence that contains such a word need not say that all is well.
    let has_good =
        words.len() <= MAX_PHRASE && (GOOD.contains(&&*whole) || any(&|word| GOOD.contains(&word)));
    if has_good {
        return Some(if is_negated { Meaning::Work } else { Meaning::Good });
    }
    if any(&|word| word == "running") {
        return Some(if is_negated { Meaning::Work } else { Meaning::Running });
    }
    any(&|word| WORK.contains(&word)).then_some(Meaning::Work)
}

/// `Creating`, `Rolling`: but for running, which has a meaning of its own.
fn is_activity(word: &str) -> bool {
    word.len() > 4
        && word.ends_with("ing")
        && !matches!(word, "running" | "nothing" | "string" | "warning")
}

/// The words of a phrase, in lower case: `INPROGRESS`, `InProgress`, `in-progress`.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut follows_lower = false;
    let mut in_word = false;
    for c in text.chars() {
        if !c.is_alphanumeric() {
            in_word = false;
            continue;
        }
        let starts = !in_word || (c.is_uppercase() && follows_lower);
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
        in_word = true;
        follows_lower = c.is_lowercase() || c.is_numeric();
    }
    words
}

/// What the kind of a condition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polarity {
    /// Good when True.
    Good,
    /// Good when True, of a part of the object: counts where no condition is about the whole.
    GoodPart,
    /// Good when True, but it may be true long before the object is converged.
    Step,
    /// Bad when True: it has failed for good.
    Failed,
    /// Bad when True: the controller may still mend it.
    Unwell,
    /// True means that the controller works on the object.
    Work,
    Paused,
}

const GOOD_CONDITIONS: &[&str] = &[
    "accepted",
    "admitted",
    "available",
    "bound",
    "complete",
    "completed",
    "deployed",
    "established",
    "healthy",
    "installed",
    "programmed",
    "provisioned",
    "ready",
    "reconciled",
    "resolvedrefs",
    "succeeded",
    "synced",
    "uptodate",
    "valid",
];
const FAILED_CONDITIONS: &[&str] = &["error", "failed", "stalled", "terminal"];
const UNWELL_CONDITIONS: &[&str] =
    &["degraded", "failure", "invalid", "notready", "unavailable", "unhealthy"];
const WORK_CONDITIONS: &[&str] = &["reconciling", "progressing", "rollingout"];
const GOOD_ENDINGS: &[&str] = &[
    "accepted",
    "available",
    "complete",
    "completed",
    "configured",
    "deployed",
    "healthy",
    "installed",
    "provisioned",
    "ready",
    "reconciled",
    "running",
    "succeeded",
    "success",
    "synced",
    "valid",
];

/// Endings of conditions that are no step on the way.
const ENDED: &[&str] = &[
    "aborted",
    "blocked",
    "cancelled",
    "canceled",
    "deleted",
    "disabled",
    "drained",
    "evicted",
    "expired",
    "occurred",
    "preempted",
    "quarantined",
    "stopped",
    "terminated",
];

/// The polarity of a condition by its kind, without regard to case; a prefix as in `ACK.Terminal`
/// or `example.com/Ready` does not count. `None`: it has no meaning of its own.
pub(super) fn polarity(condition: &str) -> Option<Polarity> {
    let name = condition.rsplit(['.', '/']).next().unwrap_or(condition).to_ascii_lowercase();
    let name = &*name;
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if GOOD_CONDITIONS.contains(&name) {
        Some(Polarity::Good)
    } else if FAILED_CONDITIONS.contains(&name) {
        Some(Polarity::Failed)
    } else if UNWELL_CONDITIONS.contains(&name)
        || ["fail", "error", "invalid", "degraded", "unhealthy", "notready"]
            .iter()
            .any(|part| name.contains(part))
    {
        Some(Polarity::Unwell)
    } else if ends(&["paused", "suspended"]) {
        Some(Polarity::Paused)
    } else if WORK_CONDITIONS.contains(&name) || is_activity(name) {
        Some(Polarity::Work)
    } else if ends(GOOD_ENDINGS) {
        Some(Polarity::GoodPart)
    } else if ends(&["ed", "able"]) && !ends(ENDED) {
        Some(Polarity::Step)
    } else {
        None
    }
}

/// Conditions about the object as a whole: beside one of them its parts do not count.
const WHOLE: &[&str] =
    &["available", "complete", "completed", "healthy", "ready", "reconciled", "succeeded"];

/// Whether a condition is about the object as a whole.
pub(super) fn is_about_whole(condition: &str) -> bool {
    WHOLE.iter().any(|name| condition.eq_ignore_ascii_case(name))
}

/// Endings of kinds whose objects are to finish.
const RUNS: &[&str] = &[
    "Job",
    "Run",
    "Workflow",
    "Task",
    "Backup",
    "Restore",
    "Build",
    "Pipeline",
    "Experiment",
    "SparkApplication",
];

/// Whether objects of a kind are to finish: for them, running is work.
pub(super) fn is_run(kind: &str) -> bool {
    RUNS.iter().any(|ending| kind.ends_with(ending))
}

/// Parts of reasons that mean a failure or a missing thing.
const FAILURES: &[&str] = &[
    "fail",
    "error",
    "notfound",
    "denied",
    "invalid",
    "forbidden",
    "refused",
    "missing",
    "exceeded",
    "unable",
    "cannot",
    "conflict",
    "mismatch",
    "backoff",
    "unsupported",
    "notexist",
    "nofit",
    "notallowed",
    "rejected",
    "unauthorized",
    "crash",
    "infeasible",
    "err",
];
/// Parts of messages that do.
const FAILURE_MESSAGES: &[&str] = &["refused", "forbidden", "not found", "denied", "invalid"];

/// How soon a person should see that an object is not Current, by the reason and the message.
pub(super) fn urgency(reason: &str, message: &str) -> Urgency {
    let lower = reason.to_ascii_lowercase();
    let message = message.to_ascii_lowercase();
    let meaning = meaning(reason);
    if FAILURES.iter().any(|part| lower.contains(part))
        || FAILURE_MESSAGES.iter().any(|part| message.contains(part))
        || matches!(meaning, Some(Meaning::Failed | Meaning::Unwell))
    {
        return Urgency::Failure;
    }
    let is_wait = words(reason).iter().any(|word| WAITS.contains(&&**word));
    let is_work = matches!(meaning, Some(Meaning::Work | Meaning::Running));
    if is_work && !is_wait { Urgency::Working } else { Urgency::Waiting }
}

/// Words of reasons that mean that the controller can do nothing for now.
const WAITS: &[&str] = &["blocked", "missing", "not", "pending", "unknown", "waiting"];
