//! Expressions as people write them in health checks, and worse, by chance.

use proptest::{prelude::*, sample::select};

/// An expression that is true, false or an error, of a few levels.
pub(crate) fn an_expression() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        11 => a_test(),
        1 => select(vec!["true".to_owned(), "false".to_owned()]),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| format!("!({of})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
    .boxed()
}

/// An expression of one level.
pub(crate) fn a_test() -> BoxedStrategy<String> {
    prop_oneof![
        4 => comparison(),
        3 => loop_over_conditions(),
        2 => presence(),
        2 => text_function(),
        1 => optional(),
    ]
    .boxed()
}

fn a_field() -> impl Strategy<Value = String> {
    let fields = [
        "status.phase",
        "status.health.status",
        "status.ready",
        "status.replicas",
        "status.readyReplicas",
        "status.observedGeneration",
        "spec.replicas",
        "spec.paused",
        "metadata.generation",
        "status['phase']",
    ];
    select(fields.map(str::to_owned).to_vec())
}

fn a_literal() -> impl Strategy<Value = String> {
    let literals =
        ["'Ready'", "\"Failed\"", "'True'", "''", "0", "1", "2", "1.5", "true", "false", "-1"];
    select(literals.map(str::to_owned).to_vec())
}

fn comparison() -> impl Strategy<Value = String> {
    let operator = || select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let sum = (a_field(), select(vec!["+", "-", "*"]), 0..3_i64)
        .prop_map(|(field, operator, number)| format!("{field} {operator} {number}"));
    let operand = || prop_oneof![3 => a_field(), 2 => a_literal()];
    prop_oneof![
        6 => (a_field(), operator(), operand()).prop_map(|(a, by, b)| format!("{a} {by} {b}")),
        1 => (sum, operator(), operand()).prop_map(|(a, by, b)| format!("{a} {by} {b}")),
        2 => (a_field(), a_literal(), a_literal())
            .prop_map(|(field, a, _)| format!("{field} in [{a}, {a}]")),
        1 => (operand(), operator(), 0..3_usize)
            .prop_map(|(of, by, number)| format!("size({of}) {by} {number}")),
    ]
}

fn presence() -> impl Strategy<Value = String> {
    let fields =
        ["status.phase", "status.health.status", "spec.paused", "status", "status.conditions"];
    prop_oneof![
        3 => select(fields[..3].to_vec()).prop_map(|field| format!("has({field})")),
        1 => select(fields[3..].to_vec()).prop_map(|field| format!("size({field}) > 0")),
        1 => Just("'phase' in status".to_owned()),
    ]
}

/// A loop as the conditions of a status need it.
fn loop_over_conditions() -> impl Strategy<Value = String> {
    let condition = || {
        let tests = [
            "c.type == 'Ready'",
            "c.type == 'Ready' && c.status == 'True'",
            "c.type == 'Stalled' && c.status != 'False'",
            "c.status == 'True'",
            "has(c.reason) && c.reason == 'Failed'",
            "c.reason in ['Failed', 'Error']",
            "c.observedGeneration >= metadata.generation",
            "c.?reason.orValue('') == 'Failed'",
            "c.reason.startsWith('F')",
        ];
        select(tests.to_vec())
    };
    let function = select(vec!["exists", "all", "exists_one"]);
    let list =
        || select(vec!["status.conditions", "status.items", "status.?conditions.orValue([])"]);
    prop_oneof![
        5 => (list(), function, condition())
            .prop_map(|(list, function, test)| format!("{list}.{function}(c, {test})")),
        2 => (list(), condition(), 0..3_usize)
            .prop_map(|(list, test, size)| format!("{list}.filter(c, {test}).size() == {size}")),
        1 => (list(), condition(), condition())
            .prop_map(|(list, test, other)| format!("{list}.filter(c, {test}).all(c, {other})")),
        1 => (list(), condition())
            .prop_map(|(list, test)| format!("{list}.filter(c, {test})[0].status == 'True'")),
        1 => list().prop_map(|list| format!("{list}.map(c, c.status)[0] == 'True'")),
        1 => list().prop_map(|list| format!("'True' in {list}.map(c, c.status)")),
        1 => (list(), condition())
            .prop_map(|(list, test)| format!("{list}.map(c, {test}, c.reason)[?0].orValue('') == ''")),
    ]
}

fn text_function() -> impl Strategy<Value = String> {
    let tests = [
        "startsWith('R')",
        "endsWith('ed')",
        "contains('a')",
        "matches('^[A-Z][a-z]+$')",
        "lowerAscii() == 'ready'",
        "upperAscii() != ''",
        "split('a').size() > 1",
        "replace('a', 'b') == 'Rebdy'",
        "substring(1) == 'eady'",
        "indexOf('e') == 1",
        "trim() == 'Ready'",
        "charAt(0) == 'R'",
    ];
    let conversions = ["string", "int", "double", "size"];
    prop_oneof![
        3 => (a_field(), select(tests.to_vec())).prop_map(|(field, test)| format!("{field}.{test}")),
        1 => (select(conversions.to_vec()), a_field(), a_literal())
            .prop_map(|(convert, field, literal)| format!("{convert}({field}) == {literal}")),
        1 => (1..4_i64).prop_map(|number| format!("double(metadata.generation) == {number}")),
    ]
}

fn optional() -> impl Strategy<Value = String> {
    let tests = [
        "status.?phase.orValue('Ready') == 'Ready'",
        "status.?health.?status.orValue('') in ['', 'Ready']",
        "status.?phase.hasValue()",
        "status.?replicas.orValue(0) >= spec.?replicas.orValue(1)",
        "status[?'phase'].orValue('') == ''",
        "optional.of(status.phase).value() == 'Ready'",
        "status.?phase.or(status.?reason).orValue('') != ''",
    ];
    select(tests.map(str::to_owned).to_vec())
}
