//! The edge out: spans become OTLP requests, trees to read, or JSON lines.
//!
//! `encode` turns a span into a record for the outbox, `batch` joins records into requests, and
//! `sender` sends those through a `client`, over a `connection`, until the receiver has accepted or
//! refused them. `sink` chooses between OTLP, `tree` and `json`. Encoding is deterministic: the same
//! span is the same bytes, also after a restart. OTLP's types are used in `encode`, and in
//! `own_traces` for the traces of the daemon itself.

mod backoff;
pub mod batch;
pub mod client;
mod connection;
pub mod encode;
mod endpoint;
pub mod error;
mod export_log;
mod failure;
mod grpc;
mod grpc_response;
mod gzip;
mod http;
mod http_response;
pub mod json;
pub mod own_traces;
pub mod refusal;
mod request_size;
pub mod response;
pub mod retry_after;
pub mod sender;
pub mod sink;
pub mod tree;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod sender_tests;
