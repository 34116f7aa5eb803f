//! Tests of the edges, against servers that do as they are told.

#![expect(clippy::unwrap_used, reason = "a failed test is how these helpers report")]

mod export_grpc;
mod export_http;
mod export_support;
mod export_tls;
mod scripted_receiver;
