//! A doorway: arguments, settings, logging, the command, an exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use spanlink::{
    cli::{Cli, Command, ConfigCommand},
    config::{ConfigError, settings::Settings},
    daemon,
    jaeger_ui::jaeger_ui,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match act(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if even this fails.
            writeln!(io::stderr(), "spanlink: {}", told(&error)).ok();
            let is_about_configuration = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if is_about_configuration { 2 } else { 1 })
        }
    }
}

fn act(cli: &Cli) -> anyhow::Result<()> {
    let common = &cli.common;
    let settings = Settings::load(common.config.as_deref(), std::env::vars())?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_installed| anyhow::anyhow!("a TLS provider is installed already"))?;
    let kubeconfig = common.kubeconfig.as_deref();
    let log = common.log.as_deref();
    match &cli.command {
        Command::Run { to } => daemon::run(&settings, kubeconfig, (*to).into(), log),
        Command::Record { output } => daemon::record(&settings, kubeconfig, output.as_deref(), log),
        Command::Replay { file, to } => {
            let everything = common.config.is_none();
            daemon::replay(&settings, file, (*to).into(), everything, log)
        }
        Command::Config(ConfigCommand::Check) => check(&settings),
        Command::Config(ConfigCommand::JaegerUi) => {
            let (configuration, unknown) = jaeger_ui(&settings);
            for kind in unknown {
                writeln!(
                    io::stderr(),
                    "warning: no link leads to {kind}: its service.name is not known beforehand; \
                     the option service of its entry says one"
                )?;
            }
            let text = serde_json::to_string_pretty(&configuration)
                .context("cannot write the configuration as JSON")?;
            Ok(writeln!(io::stdout(), "{text}")?)
        }
    }
}

/// The chain of causes, once: some libraries repeat their sources in their own words.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    })
}

fn check(settings: &Settings) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for warning in settings.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(writeln!(out, "The configuration is right.")?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}
