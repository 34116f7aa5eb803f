//! Wires the house: watch → trace → outbox → export, the loop that owns the state, the order of stopping.

use std::{path::Path, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch as signal};
use tracing::{info, warn};

use crate::{
    admin::{self, Health},
    config::settings::{KindSettings, Settings, Stale, Startup},
    count,
    export::{
        client::Client as OtlpClient,
        encode::Encoder,
        json::JsonSink,
        sender::{Drain, Queue, Sender},
        tree::Live,
    },
    metrics::Metrics,
    outbox::{Limits, Outbox},
    trace::{
        id::Ids,
        object::GroupKind,
        output::Output,
        rules::{KindRules, Rules},
        span::Span,
        time::Timestamp,
        tracer::Tracer,
    },
    watch::{self, FromWatch},
};

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Otlp,
    Tree,
    Json,
}

/// Batches of notices between the watches and the loop. A full queue makes the watches wait.
const NOTICES: usize = 64;
/// How often the loop shows that it turns, and gauges are brought up to date.
const PULSE: Duration = Duration::from_secs(5);

/// The one clock. Time enters the house here, as data.
pub fn clock() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one clock")]
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since_epoch.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    Timestamp::from_nanos(nanos)
}
