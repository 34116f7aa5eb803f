//! Rules that decide from the text of an object whether it has converged: expressions in
//! [CEL](https://cel.dev), as Flux has them in
//! [`healthCheckExprs`](https://fluxcd.io/flux/components/kustomize/kustomizations/#health-check-expressions).
//!
//! ```text
//! adapt, check ← expression; verdict, expression ← rule
//! ```

mod adapt;
mod check;
mod expression;
mod rule;
mod verdict;

pub use check::{ExpressionError, Fields};
pub use expression::Expression;
pub use rule::{HealthRule, Order};
pub use verdict::{State, Verdict};
