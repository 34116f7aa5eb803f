//! When the trees of recorded histories are printed, by the time of the recording.

use std::{path::Path, time::Duration};

use spanlink::{
    export::tree::{Progress, Style, TreePrinter, render},
    replay::{ReplayScope, Replayed, replay},
    trace::{
        model::{span::Span, time::Timestamp},
        rules::Rules,
    },
};

use crate::scenarios::{configured, scenarios};

/// How often complete trees are printed, as in the daemon.
const TICK: Duration = Duration::from_millis(250);

/// Prints the trees of a scenario as the time of its recording passes. Returns the text and all spans.
fn print(scenario: &Path) -> (String, Vec<Span>) {
    let mut printer = TreePrinter::new(Style::STABLE, Progress::Hidden);
    let (mut text, mut spans) = (String::new(), Vec::new());
    let mut last_tick = Timestamp::default();
    let on_replayed = |replayed: Replayed<'_>| {
        spans.extend(replayed.output.spans.iter().cloned());
        text += &printer.accept(replayed.output.spans, replayed.at);
        if last_tick.plus(TICK) <= replayed.at {
            last_tick = replayed.at;
            text += &printer.tick(replayed.at, || replayed.tracer.open_traces());
        }
    };
    let history = scenario.join("history.jsonl");
    replay(&history, Rules::default(), &configured(""), ReplayScope::Everything, on_replayed)
        .unwrap();
    text += &printer.finish(last_tick);
    (text, spans)
}

/// The trees of a text: each starts at a line without an edge.
fn trees(text: &str) -> Vec<String> {
    let mut trees: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_below = line.starts_with(['├', '└', '│', ' ']);
        match trees.last_mut().filter(|_| is_below) {
            Some(tree) => *tree += line,
            None => trees.push(line.to_owned()),
        }
        if let Some(tree) = trees.last_mut() {
            tree.push('\n');
        }
    }
    trees.sort();
    trees
}

#[test]
fn every_tree_is_printed_once_and_complete() {
    for scenario in scenarios() {
        let (text, spans) = print(&scenario);
        let expected = trees(&render(&spans, Style::STABLE));
        assert_eq!(trees(&text), expected, "{}", scenario.display());
    }
}
