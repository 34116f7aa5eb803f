//! The entry point: arguments, settings, the command, an exit code.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use clap::{CommandFactory as _, FromArgMatches as _};
use spanlink::{
    cli::{Cli, Command, ConfigCommand, OutboxCommand},
    command,
    config::{ConfigError, settings::Settings},
    control::{Action, Selection},
    daemon::{self, ObjectName, TaskFailure},
    error_chain::ErrorChain,
    jaeger_ui::jaeger_ui,
};

/// Exit code of a wrong configuration, as of wrong arguments.
const EXIT_CONFIGURATION: u8 = 2;
/// Variables that are read elsewhere: the path of the configuration need not be Unicode, and clap
/// checks the log filter.
const READ_BY_CLAP: [&str; 2] = ["SPANLINK_CONFIG", "SPANLINK_LOG"];
/// Arguments of `spanlink trace`.
const OF_TRACE: &str = "SPANLINK_TRACE_";

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
    if daemon::is_configuration_error(&error) {
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
        Command::Replay { file, to } => daemon::replay(settings, file, *to, log),
        Command::Explain { object, namespace } => {
            explain(settings, kubeconfig, object, namespace.as_deref())
        }
        Command::Outbox(command) => outbox(settings, command, log),
        Command::Trace(options) => daemon::trace(options, kubeconfig, log),
        Command::Config(ConfigCommand::Check) => check(settings, log),
        Command::Config(ConfigCommand::Kinds) => {
            Ok(write!(io::stdout(), "{}", daemon::kinds(settings))?)
        }
        // They run with a wrong configuration, too.
        Command::Stamp(_) | Command::Exec(_) => Ok(()),
        Command::Config(ConfigCommand::JaegerUi) => print_jaeger_ui(settings),
    }
}

/// The environment variables that may be options. Others need not be Unicode. A value of
/// OpenTelemetry's variables has replacement characters then; where the variable is used, it is
/// ignored or refused as any other malformed value.
fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in all {
        let name = match name.into_string() {
            Ok(name) => name,
            Err(name) if is_ours(&name.to_string_lossy()) => {
                return Err(not_unicode(&name.to_string_lossy(), "name"));
            }
            Err(_other) => continue,
        };
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_value) if is_ours(&name) => return Err(not_unicode(&name, "value")),
            Err(value) if name.starts_with("OTEL_") => {
                variables.push((name, value.to_string_lossy().into_owned()));
            }
            Err(_other) => {}
        }
    }
    Ok(variables)
}

fn is_ours(name: &str) -> bool {
    let is_argument = READ_BY_CLAP.contains(&name) || name.starts_with(OF_TRACE);
    name.starts_with("SPANLINK_") && !is_argument
}

fn not_unicode(name: &str, part: &str) -> ConfigError {
    ConfigError::InEnvironment {
        variable: name.to_owned(),
        problem: format!("the {part} is not valid UTF-8; unset the variable or correct it"),
    }
}

fn check(settings: &Settings, log: Option<&str>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for warning in settings.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    daemon::check(settings, log)?;
    Ok(writeln!(out, "The configuration is valid.")?)
}

fn outbox(settings: &Settings, command: &OutboxCommand, log: Option<&str>) -> anyhow::Result<()> {
    let (ids, action) = match command {
        OutboxCommand::List { output } => return daemon::list_quarantine(settings, *output, log),
        OutboxCommand::Retry { ids, .. } => (ids, Action::Retry),
        OutboxCommand::Drop { ids, .. } => (ids, Action::Drop),
    };
    let selection = if ids.is_empty() { Selection::All } else { Selection::Ids(ids.clone()) };
    daemon::remove_from_quarantine(settings, &selection, action, log)
}

fn explain(
    settings: &Settings,
    kubeconfig: Option<&Path>,
    object: &[OsString],
    namespace: Option<&str>,
) -> anyhow::Result<()> {
    if let Some(name) = object_name(object, namespace)? {
        let explained = daemon::explain_in_cluster(settings, kubeconfig, &name)?;
        return Ok(write!(io::stdout(), "{explained}")?);
    }
    ensure!(namespace.is_none(), "option -n belongs to an object of the cluster: KIND NAME");
    let text = match object.first().filter(|file| *file != "-") {
        Some(file) => {
            let file = Path::new(file);
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => io::read_to_string(io::stdin()).context("cannot read standard input")?,
    };
    Ok(write!(io::stdout(), "{}", daemon::explain(settings, &text)?)?)
}

/// The object of the cluster that the arguments name; `None` for a file or standard input.
fn object_name(
    arguments: &[OsString],
    namespace: Option<&str>,
) -> anyhow::Result<Option<ObjectName>> {
    let text = |argument: &OsString| {
        let text = argument.to_str().map(str::to_owned);
        text.with_context(|| format!("{} is not valid UTF-8", argument.display()))
    };
    let (kind, name) = match arguments {
        [] => return Ok(None),
        [file] if file == "-" || Path::new(file).exists() => return Ok(None),
        [argument] => {
            let text = text(argument)?;
            // A name cannot have a slash, but the kind `apps/v1/Deployment` has two.
            let is_file = [".yaml", ".yml", ".json"].iter().any(|end| text.ends_with(end));
            match text.rsplit_once('/') {
                Some((kind, name)) if !is_file && !kind.is_empty() && !name.is_empty() => {
                    (kind.to_owned(), name.to_owned())
                }
                _ => bail!(
                    "there is no file {text}; write KIND NAME or KIND/NAME for an object of the \
                     cluster"
                ),
            }
        }
        [kind, name, ..] => (text(kind)?, text(name)?),
    };
    Ok(Some(ObjectName { kind, name, namespace: namespace.map(str::to_owned) }))
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
