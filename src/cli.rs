//! The command line: arguments, subcommands and their help.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    command::{ExecArguments, StampArguments},
    daemon::{Destination, Listed, TraceOptions},
};

/// Follows every change of a Kubernetes object through the controllers that act on it, and reports
/// it as linked OpenTelemetry spans.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every subcommand.
#[derive(Args, Debug)]
pub struct Common {
    /// Configuration file in YAML. Default: watch workloads in all namespaces, export to
    /// localhost:4317.
    #[arg(long, global = true, env = "SPANLINK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kubeconfig of the cluster. Default: KUBECONFIG, then ~/.kube/config, then the service account
    /// of the Pod.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Log level, such as info or debug, or levels by module: `info,spanlink::watch=debug`.
    #[arg(long, global = true, env = "SPANLINK_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch a cluster and export traces of its changes.
    Run {
        /// Where to send the spans.
        #[arg(long, value_enum, default_value_t = Destination::Otlp)]
        to: Destination,
    },
    /// Record watch events to a file, with secrets redacted.
    Record {
        /// File to create. Default: standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Replay a recording and print or export its traces, without a cluster.
    Replay {
        /// Recording to replay: JSON lines, or YAML documents.
        file: PathBuf,
        /// Where to send the spans.
        #[arg(long, value_enum, default_value_t = Destination::Tree)]
        to: Destination,
    },
    /// Explain when an object counts as converged: the verdict, the rule, and the evidence.
    Explain {
        /// A file with an object or a List in YAML or JSON, as kubectl prints it; or an object of the
        /// cluster, as KIND NAME or KIND/NAME. Default: standard input.
        #[arg(value_name = "FILE | KIND NAME | KIND/NAME", num_args = 0..=2)]
        object: Vec<OsString>,
        /// Namespace of the object in the cluster. Default: that of the kubeconfig's context.
        #[arg(long, short)]
        namespace: Option<String>,
    },
    /// List, retry or drop spans that the receiver refused, in the data directory.
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Print what a trace or an object's newest change caused, across linked traces, from Jaeger or
    /// Tempo.
    Trace(Box<TraceOptions>),
    /// Write a trace context into manifests, for kubectl apply, Helm, kustomize and kpt.
    Stamp(StampArguments),
    /// Run a command within a span; TRACEPARENT in its environment is the context of the span.
    Exec(ExecArguments),
    /// Inspect the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Refused spans are in quarantine, in entries with an id. The commands work through the running daemon
/// of the data directory, and on its file while no daemon runs.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List the spans in quarantine: when, how many, and why they were refused.
    List {
        /// Output format.
        #[arg(long, short, value_enum, default_value_t = Listed::Table, value_name = "FORMAT")]
        output: Listed,
    },
    /// Send spans in quarantine again, after those that are queued.
    Retry {
        /// Ids of entries. Default: all of them.
        #[arg(conflicts_with = "all")]
        ids: Vec<u64>,
        /// Every entry.
        #[arg(long)]
        all: bool,
    },
    /// Delete spans in quarantine.
    Drop {
        /// Ids of entries.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<u64>,
        /// Every entry.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Validate the configuration with the files it names, and warn about what has no effect and about
    /// gaps in ownership chains.
    Check,
    /// List the kinds with a rule of their own for when they have converged, and its source.
    Kinds,
    /// Print a configuration of the Jaeger UI with links from a trace to the changes it caused.
    JaegerUi,
}
