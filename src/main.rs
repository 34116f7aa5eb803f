//! The entry point: arguments, settings, the command, an exit code.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _};
use spanlink::{
    cli::{Cli, Command, ConfigCommand},
    command,
    config::{ConfigError, settings::Settings},
    daemon::{self, TaskFailure},
    error_chain::ErrorChain,
    jaeger_ui::jaeger_ui,
};

/// Exit code of a wrong configuration, as of wrong arguments.
const EXIT_CONFIGURATION: u8 = 2;
/// Variables that are read elsewhere: the path of the configuration need not be Unicode, and clap
/// checks the log filter.
const READ_BY_CLAP: [&str; 2] = ["SPANLINK_CONFIG", "SPANLINK_LOG"];

fn main() -> ExitCode {
    let error = match run(&arguments()) {
        Ok(code) => return code,
        Err(error) => error,
    };
    // `spanlink replay … | head` is not an error.
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    // A task failure was logged when the task ended.
    if error.downcast_ref::<TaskFailure>().is_none() {
        // Standard error may be closed: then the message is lost.
        writeln!(io::stderr(), "spanlink: {}", ErrorChain(&*error)).ok();
    }
    if error.downcast_ref::<ConfigError>().is_some() {
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    ExitCode::FAILURE
}

/// The command line. kubectl runs `kubectl-spanlink` as its plugin `kubectl spanlink`:
/// <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>.
fn arguments() -> Cli {
    let name = env::args_os().next().unwrap_or_default();
    let is_plugin = Path::new(&name).file_stem() == Some("kubectl-spanlink".as_ref());
    let command = Cli::command();
    let command = if is_plugin { command.bin_name("kubectl spanlink") } else { command };
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let common = &cli.common;
    let log = common.log.as_deref();
    let settings = || Settings::load(common.config.as_deref(), variables(env::vars_os())?);
    match &cli.command {
        Command::Stamp(arguments) => {
            install_tls_provider()?;
            command::stamp(settings(), arguments, common.kubeconfig.as_deref(), log)?;
        }
        Command::Exec(arguments) => {
            install_tls_provider()?;
            return command::exec(settings(), arguments, log);
        }
        _ => run_configured(cli, &settings()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn install_tls_provider() -> anyhow::Result<()> {
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.map_err(|_installed| anyhow::anyhow!("a TLS provider is installed already"))
}

/// Runs a command that a wrong configuration prevents.
fn run_configured(cli: &Cli, settings: &Settings) -> anyhow::Result<()> {
    install_tls_provider()?;
    let common = &cli.common;
    let kubeconfig = common.kubeconfig.as_deref();
    let log = common.log.as_deref();
    match &cli.command {
        Command::Run { to } => daemon::run(settings, kubeconfig, *to, log),
        Command::Record { output } => daemon::record(settings, kubeconfig, output.as_deref(), log),
        Command::Replay { file, to } => {
            let everything = common.config.is_none();
            daemon::replay(settings, file, *to, everything, log)
        }
        Command::Explain { file } => explain(settings, file.as_deref()),
        Command::Config(ConfigCommand::Check) => check(settings),
        Command::Config(ConfigCommand::Kinds) => {
            Ok(write!(io::stdout(), "{}", daemon::kinds(settings))?)
        }
        // They run with a wrong configuration, too.
        Command::Stamp(_) | Command::Exec(_) => Ok(()),
        Command::Config(ConfigCommand::JaegerUi) => print_jaeger_ui(settings),
    }
}

/// The environment variables that may be options. Others need not be Unicode.
fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in all {
        let name = match name.into_string() {
            Ok(name) => name,
            Err(name) if is_option(&name.to_string_lossy()) => {
                return Err(not_unicode(&name.to_string_lossy(), "name"));
            }
            Err(_other) => continue,
        };
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_value) if is_option(&name) => return Err(not_unicode(&name, "value")),
            Err(_other) => {}
        }
    }
    Ok(variables)
}

fn is_option(name: &str) -> bool {
    let is_ours = name.starts_with("SPANLINK_") && !READ_BY_CLAP.contains(&name);
    is_ours || name.starts_with("OTEL_")
}

fn not_unicode(name: &str, part: &str) -> ConfigError {
    ConfigError::InEnvironment {
        variable: name.to_owned(),
        problem: format!("the {part} is not valid UTF-8; unset the variable or correct it"),
    }
}

fn check(settings: &Settings) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for warning in settings.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(writeln!(out, "The configuration is valid.")?)
}

fn explain(settings: &Settings, file: Option<&Path>) -> anyhow::Result<()> {
    let text = match file {
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => io::read_to_string(io::stdin()).context("cannot read standard input")?,
    };
    Ok(write!(io::stdout(), "{}", daemon::explain(settings, &text)?)?)
}

fn print_jaeger_ui(settings: &Settings) -> anyhow::Result<()> {
    let (configuration, without_service) = jaeger_ui(settings);
    for kind in without_service {
        writeln!(
            io::stderr(),
            "warning: the UI cannot link to the changes of {kind}, because the service.name of their \
             spans is not known beforehand; set the option service of its entry in watch"
        )?;
    }
    let text = serde_json::to_string_pretty(&configuration)
        .context("cannot write the configuration as JSON")?;
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
