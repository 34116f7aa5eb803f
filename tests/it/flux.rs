//! Health checks as we evaluate them, beside Flux's own evaluator: the expressions of the shipped
//! rules and generated ones, on generated objects. Every difference has its reason here.

use std::{
    collections::BTreeMap,
    io::{Seek as _, Write as _},
    process::{Command, Stdio},
};

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde::Deserialize;
use serde_json::{Value, json};
use spanlink::health_rule::{Expression, HealthRule};

use crate::{
    control_plane::{flux_ready, to_stderr},
    flux_expressions::{a_test, an_expression},
    flux_objects::Vocabulary,
    health::verdict,
    scenarios::configured,
};

const OBJECTS_OF_A_RULE: usize = 40;
const GENERATED_RULES: usize = 600;
const OBJECTS_OF_A_GENERATED_RULE: usize = 10;

/// Where we decide otherwise, and why. The keys are counted, so that none outlives its reason.
const DIFFERENCES: [(&str, &str); 9] = [
    (
        "a missing field",
        "Flux stops at an expression that reads a field which does not exist, and asks again later. \
         For us the expression is false, and the next one decides.",
    ),
    (
        "another error",
        "Flux stops at an error and asks again later. For us the object is Unknown: it is reported \
         as such after a minute.",
    ),
    (
        "two errors",
        "Where both sides of an operator are errors, or two items of a loop, Flux reports one of them, \
         and our interpreter the other. Only one of them may be a missing field.",
    ),
    (
        "contains and indexOf",
        "Kubernetes' library and our interpreter have them for lists too, and contains is false for \
         a value that contains nothing. In Flux they are errors.",
    ),
    ("string of a boolean", "Our interpreter has no such conversion: an error."),
    (
        "an optional field of a text",
        "`text.?field` is absent in Flux, and an error for our interpreter.",
    ),
    (
        "a fraction",
        "For our interpreter a fractional number equals no integer, as in `double(1) == 1`.",
    ),
    (
        "a newer generation was observed",
        "A controller that has observed a newer generation has observed the change's too.",
    ),
    (
        "an observed generation as text",
        "Flux leaves an observed generation that is no number to the expressions.",
    ),
];

/// The expressions of one health check.
#[derive(Clone, Debug, Default)]
struct Checks {
    in_progress: Option<String>,
    failed: Option<String>,
    current: String,
}

impl Checks {
    fn only(current: &str) -> Self {
        Self { current: current.to_owned(), ..Self::default() }
    }

    fn as_json(&self) -> Value {
        let mut checks = json!({"current": self.current});
        for (key, expression) in [("inProgress", &self.in_progress), ("failed", &self.failed)] {
            if let Some(expression) = expression {
                checks[key] = json!(expression);
            }
        }
        checks
    }

    /// Each expression with the verdict that it gives, in the order of Flux.
    fn in_order(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let others = [("InProgress", &self.in_progress), ("Failed", &self.failed)];
        let others = others.into_iter().filter_map(|(verdict, of)| Some((verdict, of.as_deref()?)));
        others.chain([("Current", &*self.current)])
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: String,
    text: String,
    error: String,
}

/// The answers of the Go program beside the control plane.
fn ask_flux(requests: &[Value]) -> Vec<Answer> {
    let flux = flux_ready(&to_stderr).unwrap();
    let mut input = tempfile::tempfile().unwrap();
    for request in requests {
        writeln!(input, "{request}").unwrap();
    }
    input.rewind().unwrap();
    let output = Command::new(flux).stdin(input).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "flux ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Answer> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), requests.len(), "one answer for each request");
    answers
}

/// Deterministic values of a strategy.
fn generate<T: std::fmt::Debug>(
    runner: &mut TestRunner,
    strategy: &impl Strategy<Value = T>,
    count: usize,
) -> Vec<T> {
    (0..count).map(|_| strategy.new_tree(runner).unwrap().current()).collect()
}

fn runner() -> TestRunner {
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(Config::default(), seed)
}

fn is_missing(error: &str) -> bool {
    error.contains("no such key") || error.contains("no such attribute")
}

/// What an evaluation in Flux's order would give if a missing field made an expression false.
fn expected(alone: &[(&'static str, Answer)]) -> &'static str {
    for (verdict, answer) in alone {
        match (&*answer.error, &*answer.status) {
            ("", "Current") => return verdict,
            ("", _) => {}
            (error, _) if is_missing(error) => {}
            _ => return "Unknown",
        }
    }
    "InProgress"
}

/// Whether the verdict is possible if each expression with operators that is an error may fail by
/// either of its sides.
fn is_possible_with_two_errors(
    ours: &str,
    checks: &Checks,
    alone: &[(&'static str, Answer)],
) -> bool {
    let mut possible = Vec::new();
    for ((verdict, expression), (_, answer)) in checks.in_order().zip(alone) {
        let has_sides =
            ["&&", "||", "?", "(c, "].iter().any(|operator| expression.contains(operator));
        match (&*answer.error, &*answer.status) {
            ("", "Current") => {
                possible.push(verdict);
                return possible.contains(&ours);
            }
            ("", _) => {}
            (_, _) if has_sides => possible.push("Unknown"),
            (error, _) if is_missing(error) => {}
            _ => {
                possible.push("Unknown");
                return possible.contains(&ours);
            }
        }
    }
    possible.push("InProgress");
    possible.contains(&ours)
}

/// The key in [`DIFFERENCES`] that explains why the verdicts differ.
fn difference(
    object: &Value,
    ours: &str,
    theirs: &Answer,
    checks: &Checks,
    alone: &[(&'static str, Answer)],
) -> Option<&'static str> {
    let generation = object["metadata"]["generation"].as_i64();
    let observed = &object["status"]["observedGeneration"];
    let as_text = observed.as_str().and_then(|text| text.parse::<i64>().ok());
    if as_text.is_some() && as_text < generation && ours == "InProgress" {
        return Some("an observed generation as text");
    }
    if observed.as_i64() > generation && theirs.status == "InProgress" {
        return Some("a newer generation was observed");
    }
    let uses = |words: &[&str]| {
        let mut expressions = checks.in_order().map(|(_, expression)| expression);
        expressions.any(|expression| words.iter().any(|word| expression.contains(word)))
    };
    if !theirs.error.is_empty() {
        if ours == expected(alone) {
            let is_missing = is_missing(&theirs.error);
            return Some(if is_missing { "a missing field" } else { "another error" });
        }
        if is_possible_with_two_errors(ours, checks, alone) {
            return Some("two errors");
        }
    }
    if uses(&[".contains(", ".indexOf("]) && alone.iter().any(|(_, of)| !of.error.is_empty()) {
        return Some("contains and indexOf");
    }
    if uses(&["string("]) && ours == "Unknown" {
        return Some("string of a boolean");
    }
    if uses(&["?"]) && ours == "Unknown" {
        return Some("an optional field of a text");
    }
    uses(&["double(", "1.5"]).then_some("a fraction")
}

/// Compares the verdicts about each object by each of the `rules`; counts the differences by reason.
fn compare(rules: &[(String, String, Checks, Vec<Value>)]) -> BTreeMap<&'static str, usize> {
    let mut requests = Vec::new();
    for (_, _, checks, objects) in rules {
        for object in objects {
            requests.push(json!({"checks": checks.as_json(), "object": object}));
            for (_, expression) in checks.in_order() {
                let checks = Checks::only(expression).as_json();
                requests.push(json!({"checks": checks, "object": object}));
            }
        }
    }
    let mut answers = ask_flux(&requests).into_iter();
    let mut met = BTreeMap::new();
    let mut unexplained = Vec::new();
    for (api_version, kind, checks, objects) in rules {
        let mut entry = checks.as_json();
        entry["apiVersion"] = json!(api_version);
        entry["kind"] = json!(kind);
        let settings = configured(&json!({"health_checks": [entry]}).to_string());
        for object in objects {
            let theirs = answers.next().unwrap();
            let alone: Vec<_> =
                checks.in_order().map(|(verdict, _)| (verdict, answers.next().unwrap())).collect();
            let ours = verdict(&settings, object);
            let ours = ours.split(':').next().unwrap();
            if ours == theirs.status {
                continue;
            }
            match difference(object, ours, &theirs, checks, &alone) {
                Some(reason) => *met.entry(reason).or_default() += 1,
                None => unexplained.push(format!(
                    "ours {ours}, theirs {theirs:?}, alone {alone:?}\n{checks:#?}\n{object}"
                )),
            }
        }
    }
    let some = unexplained.iter().take(6).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(unexplained.is_empty(), "{} without a reason:\n{some}", unexplained.len());
    met
}

/// A row of the shipped rules.
#[derive(Debug, Deserialize)]
struct Row {
    kinds: Vec<String>,
    failed: Option<String>,
    paused: Option<String>,
    in_progress: Option<String>,
    current: String,
    reason: Option<String>,
    message: Option<String>,
}

impl Row {
    fn checks(&self) -> Checks {
        let text = |of: &Option<String>| of.as_deref().map(|text| text.trim_end().to_owned());
        Checks {
            in_progress: text(&self.in_progress),
            failed: text(&self.failed),
            current: self.current.trim_end().to_owned(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        [&self.reason, &self.message].into_iter().flatten().map(|text| text.trim_end())
    }

    fn vocabulary(&self) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        let others = [&self.failed, &self.paused, &self.in_progress, &self.reason, &self.message];
        for text in others.into_iter().flatten().chain([&self.current]) {
            vocabulary.add(text);
        }
        vocabulary
    }

    /// Some objects of the first kind, with its apiVersion.
    fn objects(&self, runner: &mut TestRunner) -> (String, String, Vec<Value>) {
        let (kind, group) = self.kinds[0].split_once('.').unwrap();
        let api_version = format!("{group}/v1");
        let objects = self.vocabulary().objects(&api_version, kind);
        (api_version.clone(), kind.to_owned(), generate(runner, &objects, OBJECTS_OF_A_RULE))
    }
}

fn shipped() -> Vec<Row> {
    let text = include_str!("../../src/trace/readiness/shipped.yaml");
    serde_saphyr::from_str(text).unwrap()
}

fn assert_all_met(met: &BTreeMap<&'static str, usize>) {
    for (difference, reason) in DIFFERENCES {
        assert!(met.contains_key(difference), "no longer a difference: {difference}: {reason}");
    }
}

#[test]
fn shipped_rules_decide_as_flux_does_but_for_the_differences() {
    let mut runner = runner();
    let rows = shipped();
    assert!(rows.len() > 200, "{} rows", rows.len());
    let mut rules = Vec::new();
    for row in &rows {
        let (api_version, kind, objects) = row.objects(&mut runner);
        rules.push((api_version.clone(), kind.clone(), row.checks(), objects.clone()));
        // An expression alone is compared by its truth.
        if let Some(paused) = &row.paused {
            rules.push((api_version, kind, Checks::only(paused.trim_end()), objects));
        }
    }
    let met = compare(&rules);
    assert!(met.contains_key("a missing field") && met.contains_key("another error"), "{met:?}");
}

#[test]
fn generated_expressions_decide_as_flux_does_but_for_the_differences() {
    let mut runner = runner();
    let mut rules = Vec::new();
    for number in 0..GENERATED_RULES {
        // Half of them have no operators between tests: then an error has one cause.
        let expressions = if number < GENERATED_RULES / 2 { a_test() } else { an_expression() };
        let [in_progress, failed, current] =
            generate(&mut runner, &expressions, 3).try_into().unwrap();
        let mut vocabulary = Vocabulary::default();
        for text in [&in_progress, &failed, &current] {
            vocabulary.add(text);
        }
        // Each shape of a health check that Flux takes.
        let checks = Checks {
            in_progress: number.is_multiple_of(2).then_some(in_progress),
            failed: number.is_multiple_of(3).then_some(failed),
            current,
        };
        let (api_version, kind) = ("example.com/v1", "Widget");
        let objects = vocabulary.objects(api_version, kind);
        let objects = generate(&mut runner, &objects, OBJECTS_OF_A_GENERATED_RULE);
        rules.push((api_version.to_owned(), kind.to_owned(), checks, objects));
    }
    assert_all_met(&compare(&rules));
}

#[test]
fn shipped_reasons_and_messages_are_those_that_flux_computes() {
    let mut runner = runner();
    let mut asked = Vec::new();
    for row in shipped() {
        let (_, _, objects) = row.objects(&mut runner);
        for text in row.texts() {
            asked.extend(objects.iter().map(|object| (text.to_owned(), object.clone())));
        }
    }
    let requests: Vec<Value> =
        asked.iter().map(|(text, object)| json!({"text": text, "object": object})).collect();
    let mut different = Vec::new();
    for ((text, object), theirs) in asked.iter().zip(ask_flux(&requests)) {
        let rule = HealthRule {
            // Texts are evaluated for an object that is not Current.
            reason: Some(Expression::parse(text).unwrap()),
            ..HealthRule::default()
        };
        let ours = rule.evaluate(object.as_object().unwrap()).unwrap();
        // An error leaves the text empty, as for `string(true)`.
        let is_of_boolean = theirs.text.contains("true") || theirs.text.contains("false");
        let is_explained = (ours.reason.is_empty() && is_of_boolean)
            // `has(list.field)` is an error in Flux, and false for us.
            || (text.contains("has(") && theirs.error.contains("in list"));
        if *ours.reason != *theirs.text && !is_explained {
            different.push(format!("ours {:?}, theirs {theirs:?}\n{text}\n{object}", ours.reason));
        }
    }
    let some = different.iter().take(6).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(different.is_empty(), "{} texts differ:\n{some}", different.len());
}
