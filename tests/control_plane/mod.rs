//! The real control plane: etcd, API server, controllers, scheduler, a fake kubelet and Jaeger.
//!
//! The integration tests and the demo share this folder, so each uses only a part of it. What is
//! started here ends with the process that started it, however that process ends, and listens on
//! 127.0.0.1 only. The first use on a machine builds the servers from Go modules
//! (`tests/control-plane/`), which takes about ten minutes on two cores.
//!
//! ```text
//! binaries   Go modules → a cache outside the clone, once
//! stages     the behaviour of Pods under the fake kubelet, chosen by the label `spanlink.test/behaviour`
//! accounts   tokens and kubeconfig files
//! server     one process: started, killed, ended with us
//! servers    each component's command line, and when it is ready
//! plane      all of it together: ControlPlane
//! cluster    what tests do with it: kubectl, namespaces, nodes, audit log
//! jaeger     Jaeger's configuration and its HTTP API
//! shared     the one control plane that tests share
//! ```
#![allow(dead_code, unused_imports, reason = "tests use one part of this, the demo another")]

mod accounts;
mod binaries;
mod cluster;
mod folder;
mod jaeger;
mod plane;
mod ports;
mod server;
mod servers;
mod shared;
mod stages;
mod wait;

pub(crate) use accounts::Account;
pub(crate) use binaries::{
    Binaries, Tool, argo_rollouts_ready, cache_folder, flux_ready, kstatus_ready, propagation_ready,
};
pub(crate) use jaeger::{Jaeger, PersonSpan, http_client};
pub(crate) use plane::{ControlPlane, Options};
pub(crate) use ports::free as free_port;
pub(crate) use server::{Server, flag};
pub(crate) use servers::Component;
pub(crate) use shared::{own, shared, to_stderr};
pub(crate) use wait::until;
