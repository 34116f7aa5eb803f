//! The edge out: spans become OTLP requests, a tree for people, or JSON lines.
//!
//! Encoding is deterministic: the same span becomes the same bytes, today and after a restart. Only
//! [`encode`] knows OTLP's types, so wire types never pass this edge.

pub mod batch;
pub mod encode;

#[cfg(test)]
mod samples;
