//! spanlink follows every change of a Kubernetes object through the controllers that act on it, and
//! tells it as linked OpenTelemetry spans.
//!
//! ```text
//!  API server                                                        collector, Jaeger, Tempo
//!      │                                                                        ▲
//!      ▼                                                                        │
//!   [watch] ── notices ──▶ [trace] ── spans ──▶ [export::sink] ── records ──▶ [outbox] ──▶ [export::sender]
//!              lists, watches,    what changed, what caused it,     bytes in, bytes out,
//!              decoding           how it ended                      acknowledged in order
//! ```
//!
//! | folder | is |
//! | --- | --- |
//! | [`watch`] | the edge in: discovery, lists, watches, decoding; recordings |
//! | [`trace`] | the pure middle: no IO, no clock, no async |
//! | [`outbox`] | what waits for export, and the checkpoint; on disk, or in memory |
//! | [`export`] | the edge out: OTLP, trees, JSON lines |
//! | [`config`] | options as written, options as meant |
//! | [`daemon`] | the one wiring place and the loop that owns the state |
//! | [`admin`], [`metrics`], [`logging`], [`cli`], [`jaeger_ui`] | what operators see |
//!
//! What holds everywhere:
//!
//! - A span id is a pure function of its change; the trace id is its head's.
//! - Encoding is deterministic: repeats are byte-identical.
//! - Time enters as data. A relist is one `reset`, so absent means deleted. Generations may jump.
//! - What is known is written down together with the spans that followed from it, or not at all:
//!   what was told is never told anew, what was not is told as it would have been.
//! - Wire types never pass their edge. An edge never uses another edge.
//! - No watched object is ever written.
//!
//! Words: an *observation* is what one watch event said about one object; a *change* a difference
//! that means something; a *head* a change that nothing in flight caused, every other is *caused*;
//! a *chain* a head and all it caused, its *origin* the annotated trace at the beginning; a
//! *convergence* an object's road from a change to its *outcome*; a *remark* what one of Kubernetes'
//! Events says of an object; the *checkpoint* what is known, as a restart finds it.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod export;
pub mod jaeger_ui;
pub mod logging;
pub mod metrics;
pub mod outbox;
pub mod replay;
pub mod trace;
mod trace_metrics;
pub mod watch;
