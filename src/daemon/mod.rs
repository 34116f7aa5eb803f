//! Wires the parts together: watch → trace → outbox → export.
//!
//! | file | is |
//! | --- | --- |
//! | `run` | `spanlink run`: the order of starting and of stopping |
//! | `core` | the event loop that owns the state of the trace |
//! | `tasks` | supervision: a task that ends early ends the daemon, with its reason |
//! | `shutdown` | SIGTERM and SIGINT |
//! | `prepare` | what the loop starts with: the outbox, the state, the cluster |
//! | `restore`, `reading` | the checkpoint of an earlier run, and whether it can be used |
//! | `record`, `replay`, `explain`, `trace_command` | the commands of the same names |
//! | `check` | `spanlink config check` |
//! | `outbox_command`, `quarantine` | `spanlink outbox`, and what it reaches through the control socket |
//!
//! Two threads do the work. One runs the watches and the event loop: they wake up together, and
//! seldom. The main thread runs the sender, the admin server and the supervision. An outbox on disk
//! has a third one that writes, and signals are received on a fourth.

mod check;
mod clock;
mod core;
mod destination;
mod explain;
mod outbox_command;
mod prepare;
mod quarantine;
mod queue;
mod reading;
mod record;
mod replay;
mod restore;
mod rules;
mod run;
mod runtime;
mod shutdown;
mod tasks;
mod trace_command;
mod unsampled;

pub use self::{
    check::{check, is_configuration_error},
    clock::now,
    destination::Destination,
    explain::{explain, explain_in_cluster, kinds},
    outbox_command::{Listed, list_quarantine, remove_from_quarantine},
    queue::OutboxQueue,
    record::record,
    replay::replay,
    rules::rules,
    run::run,
    tasks::TaskFailure,
    trace_command::{ObjectTarget, TraceOptions, TraceTarget, trace},
};
pub use crate::watch::ObjectName;
