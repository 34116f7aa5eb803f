//! The edge out: spans become OTLP requests, a tree for people, or JSON lines.
//!
//! Encoding is deterministic: the same span becomes the same bytes, today and after a restart. Only
//! [`encode`] knows OTLP's types, so wire types never pass this edge.

pub mod batch;
pub mod client;
pub mod encode;
mod grpc;
mod health;
mod http;
pub mod json;
mod reason;
pub mod retry;
pub mod sender;
pub mod sink;
pub mod tree;

#[cfg(test)]
mod samples;
