//! The causal tree across linked traces, from the spans that a backend returned: for `spanlink trace`.
//!
//! A backend shows one trace at a time. What a person did is in one trace, the API server's or a
//! controller's part in another one, and the changes that followed in further ones; they are joined
//! by span links only. `follow` names the traces to read next, `assemble` puts every span below its
//! cause, and `text` and `json` print the result. Nothing here reads the network or the clock.
//!
//! ```text
//! deploy shop (person) 1.2s  trace 4bf92f3577b34da6a3ce929d0e0e4736
//! └─ update Deployment shop/web g2 -> converged 4.2s  [context 4bf92f35…]  trace 6ece023f…
//!    └─ create ReplicaSet web-5b6848fddb g1 -> converged 3.1s
//! ```

mod assemble;
mod follow;
mod json;
mod limits;
mod stored_span;
mod summary;
mod text;

pub use assemble::{CausalTree, assemble};
pub use follow::{Search, causing_traces, searches_for_caused};
pub use json::to_json;
pub use limits::Incomplete;
pub use stored_span::{Emitter, StoredSpan};
pub use text::{Printed, UiLink, to_text};

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
