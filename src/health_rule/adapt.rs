//! Adapts a parsed expression to its interpreter, which deviates from the
//! [definition of CEL](https://github.com/google/cel-spec/blob/master/doc/langdef.md) in three places.
//!
//! - `a.b` is false where `a` is a value without fields, such as null; by the definition the field is
//!   missing. It is written as `a["b"]`, which is an error then ([`Selection::Index`]), or with a
//!   function that finds out which error it is ([`Selection::Function`]), and takes longer.
//! - `a.?b` does not exist, but `a[?"b"]`, which means the same.
//! - `exists` and `all` end at the first item that is an error. By the definition such an item does not
//!   matter where another one decides: a condition without a reason does not hide the next one. They
//!   get functions of our own that remember the error.

use std::sync::Arc;

use kube_cel::cel::{
    Context, ExecutionError, FunctionContext, IdedExpr, Value,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue},
    objects::Key,
};

/// How `a.b` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    Index,
    Function,
}

// No names that an expression can contain.
const FIELD: &str = "@field";
const ANY: &str = "@any";
const ALL: &str = "@all";
const RESULT: &str = "@result_of_loop";

/// What the accumulator of a loop contains after an item without the field that the loop reads.
const MISSING: &str = "";
/// The same, after an item with a value of another type.
const NO_OVERLOAD: &str = "no such overload";

/// Adds the functions that adapted expressions call.
pub(super) fn add_functions(context: &mut Context<'_>) {
    context.add_function(FIELD, field);
    context.add_function(ANY, |call: &FunctionContext<'_, '_>| accumulate(call, true));
    context.add_function(ALL, |call: &FunctionContext<'_, '_>| accumulate(call, false));
    context.add_function(RESULT, result_of_loop);
}

fn field(call: &FunctionContext<'_, '_>) -> Result<Value, ExecutionError> {
    let [operand, name] = call.args else { return Err(ExecutionError::NoSuchOverload) };
    let Value::String(name) = call.ptx.resolve(name)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    match call.ptx.resolve(operand)? {
        Value::Map(fields) => {
            let key = Key::String(Arc::clone(&name));
            fields.map.get(&key).cloned().ok_or_else(|| ExecutionError::no_such_key(&name))
        }
        Value::List(_) | Value::Opaque(_) | Value::Function(..) => {
            Err(ExecutionError::NoSuchOverload)
        }
        _ => Err(ExecutionError::no_such_key(&name)),
    }
}

/// One item of a loop that `decisive` decides. Arguments: the accumulator and the test of the item,
/// which is evaluated only while the loop is undecided.
fn accumulate(call: &FunctionContext<'_, '_>, decisive: bool) -> Result<Value, ExecutionError> {
    let [accumulator, test] = call.args else { return Err(ExecutionError::NoSuchOverload) };
    let before = call.ptx.resolve(accumulator)?;
    if before == Value::Bool(decisive) {
        return Ok(before);
    }
    let error = |text: &str| Ok(Value::String(Arc::new(text.to_owned())));
    match call.ptx.resolve(test) {
        Ok(Value::Bool(of_item)) if of_item == decisive => Ok(Value::Bool(decisive)),
        Ok(Value::Bool(_)) => Ok(before),
        // The first error counts.
        _ if matches!(before, Value::String(_)) => Ok(before),
        Ok(_) => error("the test of a loop is not true or false"),
        // Functions were checked before, so an undeclared name is a field that the object does not have.
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::UndeclaredReference(_)) => {
            error(MISSING)
        }
        Err(ExecutionError::NoSuchOverload) => error(NO_OVERLOAD),
        Err(other) => error(&other.to_string()),
    }
}

fn result_of_loop(call: &FunctionContext<'_, '_>) -> Result<Value, ExecutionError> {
    let [accumulator] = call.args else { return Err(ExecutionError::NoSuchOverload) };
    match call.ptx.resolve(accumulator)? {
        Value::String(error) if error.as_str() == MISSING => Err(ExecutionError::no_such_key("")),
        Value::String(error) if error.as_str() == NO_OVERLOAD => {
            Err(ExecutionError::NoSuchOverload)
        }
        Value::String(error) => Err(ExecutionError::function_error("loop", error)),
        decided => Ok(decided),
    }
}

/// Adapts an expression and everything in it.
pub(super) fn adapt(expression: &mut IdedExpr, selection: Selection) {
    match &mut expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => adapt(&mut select.operand, selection),
        Expr::Call(call) => {
            let is_field = matches!(
                call.args.get(1).map(|name| &name.expr),
                Some(Expr::Literal(LiteralValue::String(_)))
            );
            let function = match (&*call.func_name, selection) {
                ("_?._", _) => "_[?_]",
                ("_[_]", Selection::Function) if is_field => FIELD,
                (same, _) => same,
            };
            call.func_name = function.to_owned();
            call.target.iter_mut().for_each(|target| adapt(target, selection));
            call.args.iter_mut().for_each(|argument| adapt(argument, selection));
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|item| adapt(item, selection)),
        Expr::Map(map) => {
            map.entries.iter_mut().for_each(|entry| adapt_entry(&mut entry.expr, selection));
        }
        Expr::Struct(of) => {
            of.entries.iter_mut().for_each(|entry| adapt_entry(&mut entry.expr, selection));
        }
        Expr::Comprehension(of) => {
            for part in [
                &mut of.iter_range,
                &mut of.accu_init,
                &mut of.loop_cond,
                &mut of.loop_step,
                &mut of.result,
            ] {
                adapt(part, selection);
            }
            adapt_loop(of);
        }
    }
    if let Expr::Select(select) = &mut expression.expr
        && !select.test
    {
        let operand = std::mem::take(&mut *select.operand);
        let field = LiteralValue::String(select.field.as_str().into());
        let field = IdedExpr { id: expression.id, expr: Expr::Literal(field) };
        let function = match selection {
            Selection::Index => "_[_]",
            Selection::Function => FIELD,
        };
        *expression = call(expression.id, function, vec![operand, field]);
    }
}

/// Replaces the functions of `exists` and `all`, which are or and and.
fn adapt_loop(of: &mut ComprehensionExpr) {
    let (Expr::Literal(LiteralValue::Boolean(_)), Expr::Call(step)) =
        (&of.accu_init.expr, &mut of.loop_step.expr)
    else {
        return;
    };
    let function = match &*step.func_name {
        "_||_" => ANY,
        "_&&_" => ALL,
        _ => return,
    };
    function.clone_into(&mut step.func_name);
    // The function skips the items after the decisive one.
    of.loop_cond.expr = Expr::Literal(LiteralValue::Boolean(true.into()));
    let accumulator = std::mem::take(&mut of.result);
    of.result = call(accumulator.id, RESULT, vec![accumulator]);
}

fn adapt_entry(entry: &mut EntryExpr, selection: Selection) {
    match entry {
        EntryExpr::StructField(field) => adapt(&mut field.value, selection),
        EntryExpr::MapEntry(entry) => {
            adapt(&mut entry.key, selection);
            adapt(&mut entry.value, selection);
        }
    }
}

fn call(id: u64, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: function.to_owned(), target: None, args };
    IdedExpr { id, expr: Expr::Call(call) }
}
