//! spanlink follows every change of a Kubernetes object through the controllers that act on it, and
//! reports it as linked OpenTelemetry spans.
//!
//! ```text
//!  API server                                                   collector, Jaeger, Tempo
//!      │                                                                   ▲
//!      │ lists, watches                                                    │ OTLP
//!      ▼                                                                   │
//!   [watch] ── watch events ──▶ [trace] ── spans ──▶ [export] ──┐      [export]
//!   decodes objects             detects changes,     encodes    │          ▲
//!                               decides causes                  │ records  │ records
//!                               and outcomes                    ▼          │
//!                                    └──── checkpoint ────▶ [outbox] ──────┘
//!                                                           on disk or in memory
//! ```
//!
//! | folder or file | is |
//! | --- | --- |
//! | [`watch`] | the edge to Kubernetes: discovery, lists, watches, decoding, recordings |
//! | [`trace`] | the pure middle: from watch events to spans; no IO, no clock, no async |
//! | [`outbox`] | the edge to the disk: encoded records and the checkpoint |
//! | [`export`] | the edge to the collector: OTLP; also trees and JSON lines on standard output |
//! | [`backend`] | the edge to Jaeger and Tempo, for `spanlink trace` |
//! | [`causal_tree`] | from the spans of linked traces to one tree; no IO |
//! | [`config`] | the options as written, and the settings they mean |
//! | [`daemon`] | wires everything: tasks, channels, the event loop, the order of stopping |
//! | [`stamp`] | writes a trace context into manifests, and changes nothing else of their text |
//! | [`command`] | commands of people and pipelines: `stamp`, `exec` |
//! | [`replay`] | plays a recording through the trace |
//! | [`control`] | the control socket of `spanlink outbox` |
//! | [`admin`], [`metrics`], [`logging`], [`cli`], [`jaeger_ui`] | the interfaces to operators |
//! | [`error_chain`] | prints an error with its causes |
//! | [`redacted_url`] | URLs without their secrets, for logs and errors |
//! | [`health_rule`] | rules in CEL for when an object has converged |
//! | [`field_path`] | the grammar of field paths, for options and for the trace |
//!
//! The test `architecture` checks which of them may use which.
//!
//! These hold everywhere:
//!
//! - The id of a span is a pure function of its change; the id of a trace is that of its head.
//! - Encoding is deterministic: a span that is encoded again has the same bytes.
//! - Time is an argument. Only [`daemon::now`] reads the clock.
//! - A relist replaces the state of its watch: an object that is absent from it was deleted.
//! - Generations may be missed, so a generation may grow by more than one.
//! - The checkpoint and the spans that followed from it are committed together or not at all: a
//!   restart repeats no span and misses none.
//! - Types of a wire format stay within their edge. An edge never uses another edge.
//! - The daemon writes no watched object.
//! - A task that ends early ends the daemon, with its reason.
//!
//! The terms:
//!
//! - An *observation* is the state of one object in one watch event.
//! - A *change* is a difference between two observations that matters.
//! - A *head* is a change without a cause among the tracked changes; every other change is *caused*.
//! - A *chain* is a head and every change it caused; its *origin* is the annotated trace, if any.
//! - A *convergence* is the way of an object from a change to its *outcome*, in *phases*.
//! - A *Kubernetes Event* is an object of kind Event; an *event* is a watch event.
//! - The *checkpoint* is the stored state that a restart resumes from.

pub mod admin;
pub mod backend;
pub mod causal_tree;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod error_chain;
pub mod export;
pub mod field_path;
pub mod health_rule;
pub mod jaeger_ui;
pub mod logging;
pub mod metrics;
pub mod outbox;
pub mod redacted_url;
pub mod replay;
pub mod stamp;
pub mod trace;
mod trace_metrics;
pub mod watch;
