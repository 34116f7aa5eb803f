//! One CEL expression: compiled once, with bounded cost, and evaluated over the fields of an object.

use std::{collections::BTreeSet, fmt, sync::Arc};

use kube_cel::{
    KubeCelExt as _,
    cel::{
        Context, ExecutionError, IdedExpr, Value,
        common::ast::{EntryExpr, Expr},
        parser::Parser,
    },
};
use serde_json::Value as Json;

/// Longer expressions are refused.
const MAX_TEXT: usize = 4096;
/// The most values that are handed to an expression: with one loop over them, an evaluation takes
/// milliseconds at most.
const MAX_VALUES: usize = 20_000;
/// The functions of CEL and of Kubernetes' libraries that expressions may call, but for
/// `lists.range`, which makes lists of any length, and those for patches and names.
/// ([Kubernetes' list](https://kubernetes.io/docs/reference/using-api/cel/))
const FUNCTIONS: &str = "add asApproximateFloat asInteger base64.decode base64.encode bytes charAt \
    cidr compareTo contains containsCIDR containsIP distinct double duration endsWith family find \
    findAll first flatten format getDate getDayOfMonth getDayOfWeek getDayOfYear getEscapedPath \
    getFullYear getHost getHostname getHours getMilliseconds getMinutes getMonth getPort getQuery \
    getScheme getSeconds hasValue indexOf int ip ip.isCanonical isCIDR isGlobalUnicast isGreaterThan \
    isIP isInteger isLessThan isLinkLocalMulticast isLinkLocalUnicast isLoopback isQuantity isSemver \
    isSorted isURL isUnspecified join last lastIndexOf lowerAscii major masked matches math.abs \
    math.ceil math.floor math.greatest math.least math.round math.sign math.trunc max min minor \
    optional.none optional.of optional.ofNonZeroValue or orValue patch prefixLength quantity replace \
    reverse semver sets.contains sets.equivalent sets.intersects sign size slice sort split \
    startsWith string strings.quote sub substring sum timestamp trim uint upperAscii url value";

/// A compiled expression. Copies share it.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    program: IdedExpr,
    fields: Fields,
}

/// The fields of an object that an expression reads: each top-level field, with the names of the
/// fields below it, or `None` where it reads the field as a whole.
pub type Fields = Vec<(Box<str>, Option<Vec<Box<str>>>)>;

/// Why an expression is refused. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    #[error("line {line}, column {column} of the expression: {problem}")]
    Syntax { line: isize, column: isize, problem: String },
    #[error("the expression has {0} characters; at most {MAX_TEXT} are allowed")]
    TooLong(usize),
    #[error("unknown function {0}")]
    UnknownFunction(String),
    #[error(
        "a loop over {0} inside another loop can take very long; loop only over a field of the \
         outer loop's own variable"
    )]
    NestedLoop(String),
    #[error("unknown variable {0}; an expression sees the top-level fields of the object")]
    UnknownVariable(String),
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
    static FUNCTIONS_ONLY: Context<'static> = Context::default().with_all();
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
        select_optionally(&mut program);
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), program, fields })))
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
            for (name, value) in &scope.0 {
                context.add_variable_from_value(name.clone(), value.clone());
            }
            context.resolve(&self.0.program).map_err(|error| match error {
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
    !FUNCTIONS.split_whitespace().any(|function| function == name)
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
pub(super) struct Scope(Vec<(String, Value)>);

impl Scope {
    /// `None` when the object is too large to be judged.
    pub(super) fn new(object: &serde_json::Map<String, Json>) -> Option<Self> {
        let mut left = MAX_VALUES;
        let variables = object
            .iter()
            .map(|(name, value)| Some((name.clone(), value_of(value, &mut left)?)))
            .collect::<Option<_>>()?;
        Some(Self(variables))
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

/// Walks an expression: collects the fields that it reads, and refuses what has no bounded cost.
#[derive(Default)]
struct Check {
    /// Top-level fields that are read as a whole.
    whole: BTreeSet<Box<str>>,
    /// Fields of top-level fields.
    parts: BTreeSet<(Box<str>, Box<str>)>,
}

/// A variable of a loop.
struct LoopVariable {
    name: String,
    /// The loop's own item, and not its accumulator.
    is_item: bool,
}

impl Check {
    fn fields(self) -> Fields {
        let names: BTreeSet<&Box<str>> =
            self.whole.iter().chain(self.parts.iter().map(|(name, _)| name)).collect();
        let below = |name: &str| {
            let parts = self.parts.iter().filter(|(of, _)| **of == *name);
            parts.map(|(_, part)| part.clone()).collect()
        };
        names
            .into_iter()
            .map(|name| (name.clone(), (!self.whole.contains(name)).then(|| below(name))))
            .collect()
    }

    fn visit(
        &mut self,
        expression: &IdedExpr,
        loops: &mut Vec<LoopVariable>,
    ) -> Result<(), ExpressionError> {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                self.read(name, None, loops);
                Ok(())
            }
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) => {
                    self.read(name, Some(&select.field), loops);
                    Ok(())
                }
                _ => self.visit(&select.operand, loops),
            },
            Expr::Call(call) => {
                check_function(&call.func_name, call.target.as_deref())?;
                if let Some((name, field)) = optional_field(&call.func_name, &call.args) {
                    self.read(name, Some(field), loops);
                    return Ok(());
                }
                let is_namespace = call.target.as_ref().is_some_and(
                    |target| matches!(&target.expr, Expr::Ident(name) if is_library(name)),
                );
                let target = call.target.iter().filter(|_| !is_namespace).map(|target| &**target);
                target.chain(&call.args).try_for_each(|part| self.visit(part, loops))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|item| self.visit(item, loops)),
            Expr::Map(map) => {
                self.visit_entries(map.entries.iter().map(|entry| &entry.expr), loops)
            }
            Expr::Struct(of) => {
                self.visit_entries(of.entries.iter().map(|entry| &entry.expr), loops)
            }
            Expr::Comprehension(of) => {
                check_nesting(&of.iter_range, loops)?;
                self.visit(&of.iter_range, loops)?;
                self.visit(&of.accu_init, loops)?;
                let depth = loops.len();
                loops.push(LoopVariable { name: of.accu_var.clone(), is_item: false });
                for name in of.iter_var2.iter().chain([&of.iter_var]) {
                    loops.push(LoopVariable { name: name.clone(), is_item: true });
                }
                for part in [&of.loop_cond, &of.loop_step, &of.result] {
                    self.visit(part, loops)?;
                }
                loops.truncate(depth);
                Ok(())
            }
        }
    }

    fn visit_entries<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e EntryExpr>,
        loops: &mut Vec<LoopVariable>,
    ) -> Result<(), ExpressionError> {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.visit(&field.value, loops)?,
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, loops)?;
                    self.visit(&entry.value, loops)?;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, name: &str, field: Option<&str>, loops: &[LoopVariable]) {
        if loops.iter().any(|variable| variable.name == name) {
            return;
        }
        match field {
            Some(field) => {
                self.parts.insert((name.into(), field.into()));
            }
            None => {
                self.whole.insert(name.into());
            }
        }
    }
}

/// The interpreter does not know `status.?phase` of an absent field, but `status[?"phase"]`, which
/// means the same.
fn select_optionally(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => select_optionally(&mut select.operand),
        Expr::Call(call) => {
            if call.func_name == "_?._" {
                "_[?_]".clone_into(&mut call.func_name);
            }
            call.target.iter_mut().for_each(|target| select_optionally(target));
            call.args.iter_mut().for_each(select_optionally);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(select_optionally),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| select_in(&mut entry.expr)),
        Expr::Struct(of) => of.entries.iter_mut().for_each(|entry| select_in(&mut entry.expr)),
        Expr::Comprehension(of) => {
            for part in [
                &mut of.iter_range,
                &mut of.accu_init,
                &mut of.loop_cond,
                &mut of.loop_step,
                &mut of.result,
            ] {
                select_optionally(part);
            }
        }
    }
}

fn select_in(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => select_optionally(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            select_optionally(&mut entry.key);
            select_optionally(&mut entry.value);
        }
    }
}

/// `status.?phase` is a call with the variable and the name of the field.
fn optional_field<'e>(function: &str, arguments: &'e [IdedExpr]) -> Option<(&'e str, &'e str)> {
    use kube_cel::cel::common::ast::LiteralValue;
    let [operand, field] = arguments else { return None };
    match (&operand.expr, &field.expr) {
        (Expr::Ident(name), Expr::Literal(LiteralValue::String(field))) if function == "_?._" => {
            Some((name, field.inner()))
        }
        _ => None,
    }
}

/// A part of a function's name before the dot, such as `optional` in `optional.of`.
fn is_library(name: &str) -> bool {
    let is_prefix = |function: &str| function.split_once('.').is_some_and(|(of, _)| of == name);
    FUNCTIONS.split_whitespace().any(is_prefix)
}

fn check_function(name: &str, target: Option<&IdedExpr>) -> Result<(), ExpressionError> {
    let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_known = |name: &str| FUNCTIONS.split_whitespace().any(|function| function == name);
    let qualified = match target.map(|target| &target.expr) {
        Some(Expr::Ident(library)) if is_library(library) => format!("{library}.{name}"),
        _ => name.to_owned(),
    };
    if is_operator || is_known(&qualified) || is_known(name) {
        return Ok(());
    }
    Err(ExpressionError::UnknownFunction(qualified))
}

/// An inner loop may only be over a part of the item of the loop around it: then all loops together
/// visit each part of the object once.
fn check_nesting(range: &IdedExpr, loops: &[LoopVariable]) -> Result<(), ExpressionError> {
    let Some(innermost) = loops.iter().rev().find(|variable| variable.is_item) else {
        return Ok(());
    };
    let mut names = BTreeSet::new();
    collect_names(range, &mut names);
    match names.into_iter().find(|name| *name != innermost.name) {
        Some(name) => Err(ExpressionError::NestedLoop(name.to_owned())),
        None => Ok(()),
    }
}

fn collect_names<'e>(expression: &'e IdedExpr, names: &mut BTreeSet<&'e str>) {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => {}
        Expr::Ident(name) => {
            names.insert(name);
        }
        Expr::Select(select) => collect_names(&select.operand, names),
        Expr::Call(call) => {
            call.target.iter().for_each(|target| collect_names(target, names));
            call.args.iter().for_each(|argument| collect_names(argument, names));
        }
        Expr::List(list) => list.elements.iter().for_each(|item| collect_names(item, names)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| collect_entry(&entry.expr, names)),
        Expr::Struct(of) => of.entries.iter().for_each(|entry| collect_entry(&entry.expr, names)),
        // Its own variables are left to its own check; its range decides here.
        Expr::Comprehension(of) => collect_names(&of.iter_range, names),
    }
}

fn collect_entry<'e>(entry: &'e EntryExpr, names: &mut BTreeSet<&'e str>) {
    match entry {
        EntryExpr::StructField(field) => collect_names(&field.value, names),
        EntryExpr::MapEntry(entry) => {
            collect_names(&entry.key, names);
            collect_names(&entry.value, names);
        }
    }
}
