//! The edge to where traces are stored: thin clients of Jaeger and of Grafana Tempo, for
//! `spanlink trace`.
//!
//! A client reads one trace by its id and finds the ids of traces. What the spans mean, and which
//! traces to read next, is decided in `causal_tree`.

mod answer;
mod client;
mod decode;
mod error;
mod http;
mod jaeger;
mod settings;
mod tempo;
mod ui;

pub use answer::{Found, ReadTrace, Window};
pub use client::Backend;
pub use error::BackendError;
pub use settings::{BackendKind, BackendSettings};
