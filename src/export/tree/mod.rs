//! Traces for people: an indented tree per trace, and a row per change with its outcome.
//!
//! ```text
//! update Deployment shop/web g2 -> converged 4.2s  [context 4bf92f35…]  {spec.replicas by kubectl}
//! ├─ create ReplicaSet web-5b6848fddb g1 -> converged 3.1s
//! │  └─ create Pod web-5b6848fddb-mpdtf g1 -> converged 3.0s
//! └─ update ReplicaSet web-7584b4688f g2 -> converged 12ms
//! ```

mod printer;
mod render;
mod row;
mod style;

pub use printer::{Progress, TreePrinter};
pub use render::render;
pub(crate) use row::{
    RowPosition, change as change_row, late as late_row, one_line, stuck as stuck_row,
};
pub(crate) use style::Colour;
pub use style::Style;

#[cfg(test)]
mod tests;
