//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::daemon::To;

/// Follows every change of a Kubernetes object through the controllers that act on it, and tells it
/// as linked OpenTelemetry spans.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug)]
pub struct Common {
    /// Configuration in YAML; without one, workloads of every namespace go to localhost:4317.
    #[arg(long, global = true, env = "SPANLINK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which cluster; else KUBECONFIG, else ~/.kube/config, else the Pod's own account.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What to log: info, debug, or by module as in `info,spanlink::watch=debug`.
    #[arg(long, global = true, env = "SPANLINK_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch a cluster and tell what its changes set off, until it is stopped.
    Run {
        /// Where spans go.
        #[arg(long, value_enum, default_value_t = Sink::Otlp)]
        to: Sink,
    },
    /// Write watch events to a file, secrets out, until it is stopped.
    Record {
        /// The file; standard output without it.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Tell what a recording's changes set off. Needs no cluster.
    Replay {
        file: PathBuf,
        /// Where spans go.
        #[arg(long, value_enum, default_value_t = Sink::Tree)]
        to: Sink,
    },
    /// Look at configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a configuration, and where it breaks a chain of causes.
    Check,
    /// Print a configuration for Jaeger's UI that leads forward, from a trace to what it caused.
    JaegerUi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sink {
    /// A collector, Jaeger or Tempo, by OTLP.
    Otlp,
    /// Indented trees, for people.
    Tree,
    /// One OTLP/JSON request a line.
    Json,
}

impl From<Sink> for To {
    fn from(sink: Sink) -> Self {
        match sink {
            Sink::Otlp => Self::Otlp,
            Sink::Tree => Self::Tree,
            Sink::Json => Self::Json,
        }
    }
}
