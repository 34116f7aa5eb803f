//! Judges a status by the first rule that applies to its kind (`docs/readiness.md`, Order of the
//! rules).

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    health_rule::{State, Verdict},
    trace::{
        model::kind::is_built_in,
        readiness::{
            general,
            judgement::{Judgement, Why},
            kstatus, lexicon,
            status::{Evidence, Status, is_observed, is_older},
        },
        rules::status_field::StatusFieldRule,
    },
};

/// The reason of a rule that names the good word of before.
const NOT_OBSERVED: &str = "NotObserved";

/// The verdict about a status, for a change of this generation.
pub fn judge(e: &Evidence<'_>) -> Judgement {
    let judgement = if let Some(verdict) = &e.status.verdict {
        by_verdict(verdict, e)
    } else if let Some(rule) = e.status_field {
        by_status_field(rule, e)
    } else if is_built_in(e.kind) {
        return Judgement::certain(kstatus::judge(e));
    } else if e.is_data_only && !e.status.present {
        data_only()
    } else {
        general::judge(e)
    };
    for_change(judgement, e)
}

/// What a judgement of the status means for the change: a status of before it says nothing good or
/// bad about it.
fn for_change(judgement: Judgement, e: &Evidence<'_>) -> Judgement {
    let is_behind = matches!(
        (e.status.observed_generation, e.generation),
        (Some(observed), Some(generation)) if observed < generation
    );
    let is_written = e.written_since || judgement.is_observed;
    // A rule can decide by the spec alone, where no controller writes a status.
    let has_no_status = !e.status.present && (e.status.verdict.is_some() || e.is_data_only);
    let status = match judgement.status {
        Status::Paused => Status::Paused,
        Status::OnHold if !is_behind => Status::OnHold,
        _ if is_behind => Status::InProgress,
        Status::InProgress => Status::InProgress,
        status if is_written || has_no_status => status,
        Status::Current { .. } | Status::Failed { .. } | Status::OnHold | Status::Unknown => {
            Status::Unknown
        }
    };
    let why = judgement.why.filter(|why| why.is_condition || is_written);
    Judgement { status, why, ..judgement }
}

/// No status follows for an object that holds only data. But a controller can also write the status of
/// a kind without a status subresource, so this has to stand for a while.
fn data_only() -> Judgement {
    Judgement {
        status: Status::Current { since: None },
        evidence: Some(1),
        is_thin: true,
        is_observed: false,
        why: None,
    }
}

/// By the rule of the configuration, or a shipped one.
fn by_verdict(verdict: &Verdict, e: &Evidence<'_>) -> Judgement {
    let Verdict { state, reason, message, reads_status } = verdict;
    // What the rule leaves open, the general rule may know.
    let is_short = *state != State::Current && (reason.is_empty() || message.is_empty());
    let general = is_short.then(|| general::explanation(e)).flatten();
    let is_old_word = *state == State::InProgress && lexicon::is_good(reason);
    let not_observed = Box::from(NOT_OBSERVED);
    let reason = if is_old_word { &not_observed } else { reason };
    let (general_reason, general_message) = general.unwrap_or_default();
    let reason = if reason.is_empty() { general_reason } else { reason.clone() };
    let message = if message.is_empty() { general_message } else { message.clone() };
    let named = || if reason.is_empty() { "Failed".into() } else { reason.clone() };
    let status = match state {
        State::Current => Status::Current { since: None },
        State::Paused if e.spec.paused => Status::Paused,
        State::Paused => Status::OnHold,
        State::InProgress => Status::InProgress,
        State::Failed => Status::Failed { reason: named(), message: message.clone(), since: None },
        State::Unknown => Status::Unknown,
    };
    let has_why = *state == State::InProgress && !reason.is_empty();
    let text = format!("{state:?} {reason}");
    Judgement {
        status,
        evidence: Some(xxh3_64(text.as_bytes()) | 1),
        // Its controller may still be about to write the first status.
        is_thin: *reads_status && !e.status.present,
        is_observed: is_observed(e.status, e.generation),
        why: has_why.then(|| Why {
            reason: reason.clone(),
            message: message.clone(),
            since: None,
            urgency: lexicon::urgency(&reason, &message),
            is_condition: true,
        }),
    }
}

/// By the status field that the configuration names (option `converges`).
fn by_status_field(rule: &StatusFieldRule, e: &Evidence<'_>) -> Judgement {
    let of_condition = rule
        .condition
        .as_ref()
        .and_then(|kind| e.status.conditions.iter().find(|condition| condition.kind == *kind));
    let word = e.status.word.as_deref().unwrap_or_default();
    let is_one_of = |words: &[Box<str>]| words.iter().any(|of| of.eq_ignore_ascii_case(word));
    let status = if e.status.word.is_none() {
        // The controller may be at work although it has not written the field yet.
        let is_at_work = general::judge(e).status == Status::InProgress;
        if is_at_work { Status::InProgress } else { Status::Unknown }
    } else if of_condition.is_some_and(|condition| is_older(condition, e)) {
        Status::InProgress
    } else if is_one_of(&rule.current) {
        Status::Current { since: None }
    } else if is_one_of(&rule.failed) {
        let reason = of_condition.map_or(word, |condition| condition.reason_or_kind()).into();
        let of_status = || e.status.signals.as_ref()?.message.clone();
        let message = of_condition.map(|condition| condition.message.clone()).or_else(of_status);
        let message = message.unwrap_or_default();
        Status::Failed { reason, message, since: None }
    } else {
        Status::InProgress
    };
    let why = of_condition.filter(|_| status == Status::InProgress).map(|condition| Why {
        reason: condition.reason_or_kind().into(),
        message: condition.message.clone(),
        since: condition.last_transition,
        urgency: lexicon::urgency(&condition.reason, &condition.message),
        is_condition: true,
    });
    Judgement {
        status,
        evidence: Some(xxh3_64(word.as_bytes()) | 1),
        is_thin: false,
        is_observed: is_observed(e.status, e.generation),
        why,
    }
}
