//! spanlink follows every change of a Kubernetes object through the controllers that act on it.

pub mod config;
pub mod export;
pub mod metrics;
pub mod outbox;
pub mod replay;
pub mod trace;
pub mod watch;
