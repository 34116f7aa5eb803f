//! spanlink follows every change of a Kubernetes object through the controllers that act on it.

pub mod config;
pub mod metrics;
pub mod trace;
pub mod watch;
