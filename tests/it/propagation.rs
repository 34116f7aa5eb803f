//! The library for controllers beside OpenTelemetry's propagators for Go, on thousands of generated
//! annotations; every difference has its reason here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Seek as _, Write as _},
    process::{Command, Stdio},
};

use serde::Deserialize;
use spanlink_propagation::{
    Annotations, Propagation, TRACEPARENT_ANNOTATION, TRACESTATE_ANNOTATION,
};

use crate::{
    control_plane::{propagation_ready, to_stderr},
    kstatus_objects::Chance,
};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};

const CASES: usize = 20_000;

/// What Go extracts from annotations, and what it injects of that.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Theirs {
    valid: bool,
    trace_id: String,
    span_id: String,
    flags: u8,
    trace_state: String,
    injected: Annotations,
}

/// Where Go and this library differ, and why.
struct Difference {
    reason: &'static str,
    applies: fn(&Annotations) -> bool,
}

fn traceparent(annotations: &Annotations) -> &str {
    annotations.get(TRACEPARENT_ANNOTATION).map_or("", String::as_str)
}

fn tracestate(annotations: &Annotations) -> &str {
    annotations.get(TRACESTATE_ANNOTATION).map_or("", String::as_str)
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        reason: "Reserved flags of version 00 are ignored, as W3C asks; Go refuses them.",
        applies: |annotations| {
            let text = traceparent(annotations);
            text.starts_with("00-") && text.get(53..55).is_some_and(|flags| flags > "03")
        },
    },
    Difference {
        reason: "Of later versions only the flag sampled is read: others may mean something else.",
        applies: |annotations| {
            let text = traceparent(annotations);
            !text.starts_with("00-")
                && text.get(54..55).is_some_and(|digit| "2367abef".contains(digit))
        },
    },
    Difference {
        reason: "A - behind version 00 is more than it has; Go sees nothing behind the -.",
        applies: |annotations| {
            let text = traceparent(annotations);
            text.starts_with("00-") && text.len() == 56 && text.ends_with('-')
        },
    },
    Difference {
        reason: "A tracestate of more than 512 characters loses members.",
        applies: |annotations| tracestate(annotations).len() > 512,
    },
];

fn digits(chance: &mut Chance, count: usize) -> String {
    (0..count).map(|_| chance.of(&"0123456789abcdef".chars().collect::<Vec<_>>())).collect()
}

/// Valid mostly, or nearly so.
fn some_traceparent(chance: &mut Chance) -> String {
    let version = chance.of(&["00", "00", "00", "00", "00", "01", "cc", "fe", "ff", "0", "000"]);
    let zeros = |count: usize| "0".repeat(count);
    let trace = if chance.one_in(20) { zeros(32) } else { digits(chance, 32) };
    let span = if chance.one_in(20) { zeros(16) } else { digits(chance, 16) };
    let flags = if chance.one_in(4) {
        digits(chance, 2)
    } else {
        chance.of(&["00", "01", "02", "03"]).to_owned()
    };
    let rest = chance.of(&["", "", "", "", "", "", "", "", "-", "-more", ".", " ", "\n"]);
    let mut text = format!("{version}-{trace}-{span}-{flags}{rest}");
    if chance.one_in(8) {
        let at = chance.below(text.len());
        let other = chance.of(&["A", "g", "+", "-", "_", " ", "é", "", "00"]);
        text.replace_range(at..=at, other);
    }
    text
}

fn some_tracestate(chance: &mut Chance) -> String {
    // Valid and long.
    if chance.one_in(20) {
        let members =
            (0..10 + chance.below(22)).map(|index| format!("v{index}={}", digits(chance, 40)));
        return members.collect::<Vec<_>>().join(",");
    }
    let members = if chance.one_in(10) { 28 + chance.below(8) } else { chance.below(5) };
    let mut list = Vec::new();
    for index in 0..members {
        let key = match chance.below(12) {
            0 => format!("tenant{index}@vendor"),
            1 => "vendor".to_owned(),
            2 => chance.of(&["Vendor", "a b", "1a", "a@b@c", "@a", ""]).to_owned(),
            _ => format!("v{index}_-*/"),
        };
        let value = match chance.below(12) {
            0 => "x".repeat(chance.below(258)),
            1 => chance.of(&["a=b", "é", "a\tb", "", " ", "a "]).to_owned(),
            _ => digits(chance, 6),
        };
        list.push(format!("{key}={value}"));
    }
    list.join(chance.of(&[",", ",", ",", ", ", " ,\t", ",,"]))
}

fn some_annotations(chance: &mut Chance) -> Annotations {
    let mut annotations = Annotations::from([("team".to_owned(), "a".to_owned())]);
    if !chance.one_in(30) {
        annotations.insert(TRACEPARENT_ANNOTATION.to_owned(), some_traceparent(chance));
    }
    if chance.one_in(2) {
        annotations.insert(TRACESTATE_ANNOTATION.to_owned(), some_tracestate(chance));
    }
    annotations
}

fn asked(cases: &[Annotations]) -> Vec<Theirs> {
    let binary = propagation_ready(&to_stderr).unwrap();
    let mut input = tempfile::tempfile().unwrap();
    for annotations in cases {
        writeln!(input, "{}", serde_json::to_string(annotations).unwrap()).unwrap();
    }
    input.rewind().unwrap();
    let output =
        Command::new(binary).stdin(Stdio::from(input)).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the program in Go ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same of this library.
fn ours(propagation: &Propagation, annotations: &Annotations) -> Theirs {
    let extracted = propagation.extract_context(&Context::new(), "Widget", annotations);
    let mut injected = Annotations::new();
    propagation.inject_context(&extracted, "Widget", &mut injected);
    let none = SpanContext::empty_context();
    let guard = extracted.span();
    let span = if extracted.has_active_span() { guard.span_context() } else { &none };
    Theirs {
        valid: span.is_valid(),
        trace_id: span.trace_id().to_string(),
        span_id: span.span_id().to_string(),
        flags: span.trace_flags().to_u8(),
        trace_state: span.trace_state().header(),
        injected,
    }
}

#[test]
fn we_read_annotations_as_go_does_but_for_the_differences() {
    let mut chance = Chance(5915);
    let cases: Vec<Annotations> = (0..CASES).map(|_| some_annotations(&mut chance)).collect();
    let propagation = Propagation::new("test", "test");
    let theirs = asked(&cases);
    assert_eq!(theirs.len(), cases.len());
    let mut used = BTreeMap::new();
    let mut alike = BTreeSet::new();
    for (annotations, theirs) in cases.iter().zip(&theirs) {
        let ours = ours(&propagation, annotations);
        if ours == *theirs {
            alike.insert(ours.valid);
            continue;
        }
        let difference = DIFFERENCES.iter().find(|difference| (difference.applies)(annotations));
        let Some(difference) = difference else {
            panic!("{annotations:?}\nours: {ours:?}\ntheirs: {theirs:?}");
        };
        *used.entry(difference.reason).or_insert(0) += 1;
    }
    assert_eq!(alike.len(), 2, "both valid and invalid contexts are read alike");
    for difference in DIFFERENCES {
        assert!(used.contains_key(difference.reason), "no case needs: {}", difference.reason);
    }
}

#[test]
fn each_reads_what_the_other_writes() {
    let mut chance = Chance(11);
    let propagation = Propagation::new("test", "test");
    let written = |annotations: &Annotations| {
        let mut injected = Annotations::new();
        let context = propagation.extract_context(&Context::new(), "Widget", annotations);
        propagation.inject_context(&context, "Widget", &mut injected).then_some(injected)
    };
    let by_us: Vec<Annotations> =
        (0..CASES).filter_map(|_| written(&some_annotations(&mut chance))).collect();
    assert!(by_us.len() > CASES / 4);
    for (annotations, theirs) in by_us.iter().zip(asked(&by_us)) {
        let expected = ours(&propagation, annotations);
        assert_eq!(theirs, expected, "{annotations:?}");
        // What Go wrote of it is the same again.
        assert_eq!(ours(&propagation, &theirs.injected), expected);
    }
}
