//! Checks an expression when it is compiled: what it reads, and whether its cost has a bound.

use std::collections::BTreeSet;

use kube_cel::cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue},
};

/// Longer expressions are refused.
pub(super) const MAX_TEXT: usize = 4096;
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
    #[error("messages such as {0}{{…}} cannot be constructed; write a map: {{\"key\": value}}")]
    Message(String),
    #[error("unknown variable {0}; an expression sees the top-level fields of the object")]
    UnknownVariable(String),
}

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

/// Whether expressions may call a function of this name.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.split_whitespace().any(|function| function == name)
}

/// Walks an expression: collects the fields that it reads, and refuses what has no bounded cost.
#[derive(Default)]
pub(super) struct Check {
    /// Top-level fields that are read as a whole.
    whole: BTreeSet<Box<str>>,
    /// Fields of top-level fields.
    parts: BTreeSet<(Box<str>, Box<str>)>,
}

/// A variable of a loop.
pub(super) struct LoopVariable {
    name: String,
    /// The loop's own item, and not its accumulator.
    is_item: bool,
}

impl Check {
    pub(super) fn fields(self) -> Fields {
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

    pub(super) fn visit(
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
            // The interpreter panics at one.
            Expr::Struct(of) => Err(ExpressionError::Message(of.type_name.clone())),
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

/// `status.?phase` is a call with the variable and the name of the field.
fn optional_field<'e>(function: &str, arguments: &'e [IdedExpr]) -> Option<(&'e str, &'e str)> {
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
    let qualified = match target.map(|target| &target.expr) {
        Some(Expr::Ident(library)) if is_library(library) => format!("{library}.{name}"),
        _ => name.to_owned(),
    };
    if is_operator || is_function(&qualified) || is_function(name) {
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
