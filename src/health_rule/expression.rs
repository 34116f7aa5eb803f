//! One CEL expression: compiled once, with bounded cost, and evaluated over the fields of an object.

use std::{fmt, sync::Arc};

use kube_cel::{
    KubeCelExt as _,
    cel::{Context, ExecutionError, IdedExpr, Value, parser::Parser},
};
use serde_json::Value as Json;

use super::{
    adapt::{Selection, adapt, add_functions},
    check::{Check, ExpressionError, Fields, MAX_TEXT, is_function},
};

/// The most values that are handed to an expression: with one loop over them, an evaluation takes
/// milliseconds at most.
const MAX_VALUES: usize = 20_000;
/// The most values of which [`Compiled::exact`] is evaluated: it copies them at each access.
const MAX_VALUES_EXACT: usize = 1_000;

/// A compiled expression. Copies share it.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    program: IdedExpr,
    /// The same, slower: distinguishes a missing field from a value of another type.
    exact: IdedExpr,
    fields: Fields,
}

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A field does not exist (yet).
    Missing,
    Error(String),
}

thread_local! {
    /// Has every function and no variable.
    static FUNCTIONS_ONLY: Context<'static> = {
        let mut context = Context::default().with_all();
        add_functions(&mut context);
        context
    };
}

impl Expression {
    /// Compiles the text of an expression.
    ///
    /// # Errors
    /// When it is not CEL, calls an unknown function, or its cost has no bound.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let length = text.chars().count();
        if length > MAX_TEXT {
            return Err(ExpressionError::TooLong(length));
        }
        let parsed = Parser::new().enable_optional_syntax(true).parse(text);
        let mut program = parsed.map_err(|errors| {
            let first = errors.errors.into_iter().next();
            first.map_or_else(
                || ExpressionError::Syntax { line: 1, column: 1, problem: "invalid".to_owned() },
                |error| ExpressionError::Syntax {
                    line: error.pos.0,
                    column: error.pos.1.saturating_add(1),
                    problem: error.msg,
                },
            )
        })?;
        let mut check = Check::default();
        check.visit(&program, &mut Vec::new())?;
        let fields = check.fields();
        let mut exact = program.clone();
        adapt(&mut program, Selection::Index);
        adapt(&mut exact, Selection::Function);
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), program, exact, fields })))
    }

    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The fields of an object that it reads.
    pub fn fields(&self) -> &Fields {
        &self.0.fields
    }

    /// Its value in `scope`.
    pub(super) fn evaluate(&self, scope: &Scope) -> Result<Value, Failure> {
        FUNCTIONS_ONLY.with(|root| {
            let mut context = root.new_inner_scope();
            for (name, value) in &scope.variables {
                context.add_variable_from_value(name.clone(), value.clone());
            }
            let value = match context.resolve(&self.0.program) {
                Err(ExecutionError::NoSuchOverload) if scope.values <= MAX_VALUES_EXACT => {
                    context.resolve(&self.0.exact)
                }
                value => value,
            };
            value.map_err(|error| match error {
                ExecutionError::NoSuchKey(_) | ExecutionError::MissingArgumentOrTarget => {
                    Failure::Missing
                }
                ExecutionError::UndeclaredReference(name) if is_field_name(&name) => {
                    Failure::Missing
                }
                error => Failure::Error(short(&error.to_string())),
            })
        })
    }
}

/// An error that contains a whole object is of no use in a log.
fn short(error: &str) -> String {
    error.chars().take(200).collect()
}

/// An undeclared variable is a field that the object does not have; functions were checked before.
fn is_field_name(name: &str) -> bool {
    !is_function(name)
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text).finish()
    }
}

/// The variables of an evaluation: the fields of an object that its expressions read.
pub(super) struct Scope {
    variables: Vec<(String, Value)>,
    /// How many values the variables contain.
    values: usize,
}

impl Scope {
    /// `None` when the object is too large to be judged.
    pub(super) fn new(object: &serde_json::Map<String, Json>) -> Option<Self> {
        let mut left = MAX_VALUES;
        let variables = object
            .iter()
            .map(|(name, value)| Some((name.clone(), value_of(value, &mut left)?)))
            .collect::<Option<_>>()?;
        Some(Self { variables, values: MAX_VALUES.saturating_sub(left) })
    }
}

fn value_of(json: &Json, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Int(integer),
            (None, Some(unsigned)) => Value::UInt(unsigned),
            (None, None) => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => {
            let items = items.iter().map(|item| value_of(item, left));
            Value::List(Arc::new(items.collect::<Option<_>>()?))
        }
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(key, value)| Some((key.clone(), value_of(value, left)?)));
            let fields: std::collections::HashMap<String, Value> = fields.collect::<Option<_>>()?;
            fields.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(text: &str) -> String {
        Expression::parse(text).unwrap_err().to_string()
    }

    fn is(text: &str, object: &Json, expected: &Result<Value, Failure>) -> bool {
        let scope = Scope::new(object.as_object().unwrap()).unwrap();
        Expression::parse(text).unwrap().evaluate(&scope) == *expected
    }

    #[test]
    fn absent_fields_are_missing_at_every_depth() {
        let object = json!({"status": {"ready": true, "list": [{"a": 1}]}});
        for text in ["spec.x == 1", "status.x", "status.x.y.z == 1", "size(status.x) > 0"] {
            assert!(is(text, &object, &Err(Failure::Missing)), "{text}");
        }
        assert!(is("status.ready", &object, &Ok(Value::Bool(true))));
        assert!(is("has(status.x)", &object, &Ok(Value::Bool(false))));
    }

    #[test]
    fn optional_fields_have_the_value_that_stands_in_for_them() {
        let object = json!({"status": {"list": [{"a": 1}]}});
        for text in [
            "status.?conditions.orValue([]).size() == 0",
            "status.?a.?b.orValue(7) == 7",
            "status.list.all(x, x.?a.orValue(0) == 1)",
        ] {
            assert!(is(text, &object, &Ok(Value::Bool(true))), "{text}");
        }
    }

    #[test]
    fn item_that_is_an_error_does_not_hide_one_that_decides() {
        let object = json!({"status": {"list": [{}, {"a": 1}, {"a": "x"}]}});
        for (text, expected) in [
            ("status.list.exists(x, x.a == 1)", Ok(Value::Bool(true))),
            ("status.list.exists(x, x.a == 2)", Err(Failure::Missing)),
            ("status.list.exists(x, spec.a == 2 || x.a == 2)", Err(Failure::Missing)),
            ("status.list.all(x, x.a == 2)", Ok(Value::Bool(false))),
            ("status.list.all(x, x.a == 1 || x.a == 'x')", Err(Failure::Missing)),
        ] {
            let scope = Scope::new(object.as_object().unwrap()).unwrap();
            let expression = Expression::parse(text).unwrap();
            assert_eq!(expression.evaluate(&scope), expected, "{text}");
        }
        assert!(!is("[].exists(x, x)", &object, &Ok(Value::Bool(true))));
        assert!(is("[].all(x, x)", &object, &Ok(Value::Bool(true))));
    }

    #[test]
    fn field_of_a_value_without_fields_is_missing() {
        let object = json!({"spec": null, "status": {"phase": "Ready", "list": [{"a": null}]}});
        for text in ["status.phase.name != 'x'", "spec.x != 1", "status.list.exists(x, x.a.b != 1)"]
        {
            assert!(is(text, &object, &Err(Failure::Missing)), "{text}");
        }
        let scope = Scope::new(object.as_object().unwrap()).unwrap();
        let value = Expression::parse("status.phase && true").unwrap().evaluate(&scope);
        assert!(matches!(value, Err(Failure::Error(_))), "{value:?}");
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        assert!(refusal("status.phase ==").starts_with("line 1, column "));
        assert_eq!(refusal("status.frob()"), "unknown function frob");
        assert!(refusal("Widget{size: 1}.size == 1").contains("Widget{…}"));
        assert_eq!(refusal("lists.range(1000000000).size() > 0"), "unknown function range");
        assert!(refusal(&"a".repeat(MAX_TEXT + 1)).contains("4097 characters"));
    }

    #[test]
    fn loops_are_refused_where_their_cost_has_no_bound() {
        assert!(Expression::parse("status.a.all(x, x.b.exists(y, y == 1))").is_ok());
        assert!(refusal("status.a.all(x, status.a.exists(y, y == x))").contains("inside another"));
        assert!(refusal("status.a.all(x, x.b.all(y, x.b.exists(z, z == y)))").contains("loop"));
    }

    #[test]
    fn only_the_fields_that_are_read_are_handed_over() {
        let fields = |text: &str| Expression::parse(text).unwrap().fields().clone();
        let part = |name: &str| Some(vec![Box::from(name)]);
        assert_eq!(
            fields("status.phase == spec.phase"),
            [("spec".into(), part("phase")), ("status".into(), part("phase")),]
        );
        assert_eq!(fields("status.?a.orValue(0) == 1"), [("status".into(), part("a"))]);
        assert_eq!(fields("size(status) > 0 && has(status.a)"), [("status".into(), None)]);
    }

    #[test]
    fn large_object_of_another_type_is_not_copied_at_each_access() {
        let object = json!({"status": {"list": vec![json!({"a": 1}); 5_000]}});
        let scope = Scope::new(object.as_object().unwrap()).unwrap();
        let test = "status.list.exists(x, size(status.list) < 0 || x.a.b.c)";
        let value = Expression::parse(test).unwrap().evaluate(&scope);
        assert!(matches!(value, Err(Failure::Error(_))), "{value:?}");
    }

    #[test]
    fn object_with_too_many_values_is_not_judged() {
        let many = json!({"status": {"list": vec![0; MAX_VALUES]}});
        assert!(Scope::new(many.as_object().unwrap()).is_none());
    }
}
