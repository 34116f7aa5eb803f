//! Loads the configuration: the file, environment variables over it, and the place of every error.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use config::{Map, Source, Value, ValueKind};
use serde::Deserialize as _;
use serde_path_to_error::{Path as OptionPath, Segment};

use super::{
    deserialize::OptionValue,
    environment,
    file::File,
    headers, proxy,
    settings::Settings,
    yaml::{Document, OptionPosition, START, YamlError, path_of_option},
};

/// Options that had another name before. The old name is refused with the new one.
const RENAMED: [(&str, &str); 2] = [("project", "projection"), ("batch", "read_interval")];

/// The prefix of environment variables that set an option: `SPANLINK_OTLP__ENDPOINT` sets
/// `otlp.endpoint`.
const PREFIX: &str = "SPANLINK_";
/// Variables with that prefix that are arguments of the command, and not options.
const ARGUMENTS: [&str; 2] = ["SPANLINK_CONFIG", "SPANLINK_LOG"];
/// The prefix of those of `spanlink trace`.
const ARGUMENTS_OF_TRACE: &str = "SPANLINK_TRACE_";

/// Why a configuration is refused, and where the mistake is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {problem}")]
    InFile { path: PathBuf, line: u64, column: u64, problem: String },
    #[error("environment variable {variable}: {problem}")]
    InEnvironment { variable: String, problem: String },
    #[error("cannot read the environment variables {PREFIX}…")]
    Environment { source: config::ConfigError },
}

impl Settings {
    /// Reads the file at `path`, if any, and lets `variables` replace what it sets. Options that
    /// neither sets have their defaults.
    ///
    /// # Errors
    /// When the file cannot be read, or an option is unknown or has a wrong value. The error names
    /// the line, or the environment variable, and what would be right.
    pub fn load(
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let document = match path {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
                parse(&text).map_err(|error| ConfigError::InFile {
                    path: path.to_owned(),
                    line: error.position.line,
                    column: error.position.column,
                    problem: error.problem,
                })?
            }
            None => Document::default(),
        };
        let of_options: Map<String, String> = variables
            .iter()
            .filter(|(name, _)| sets_option(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let places = Places { path, document: &document, variables: &of_options };
        let layers = layers(&document, of_options.clone())
            .map_err(|source| ConfigError::Environment { source })?;
        let options = OptionValue(Value::new(None, ValueKind::Table(layers)));
        let mut track = serde_path_to_error::Track::new();
        let file = File::deserialize(serde_path_to_error::Deserializer::new(options, &mut track))
            .map_err(|error| places.locate(&track.path(), &error.to_string()))?;
        let is_endpoint_set = file.otlp.endpoint.is_some();
        let mut settings = file.settings();
        settings.ignored_variables =
            environment::apply(&mut settings.export, is_endpoint_set, &variables)
                .map_err(|(variable, problem)| ConfigError::InEnvironment { variable, problem })?;
        settings.export.proxy = proxy::from_variables(&variables);
        Ok(settings)
    }
}

fn parse(text: &str) -> Result<Document, YamlError> {
    let mut document = Document::parse(text)?;
    headers::fold_names(&mut document)?;
    Ok(document)
}

fn layers(
    document: &Document,
    variables: Map<String, String>,
) -> Result<Map<String, Value>, config::ConfigError> {
    config::Config::builder()
        .add_source(FileLayer(document.options.clone()))
        .add_source(
            config::Environment::with_prefix("SPANLINK")
                .prefix_separator("_")
                .separator("__")
                .source(Some(variables)),
        )
        .build()?
        .collect()
}

/// The options of the file, as the lowest layer.
#[derive(Clone, Debug)]
struct FileLayer(Map<String, Value>);

impl Source for FileLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn sets_option(variable: &str) -> bool {
    variable.starts_with(PREFIX)
        && !ARGUMENTS.contains(&variable)
        && !variable.starts_with(ARGUMENTS_OF_TRACE)
        && !is_service_link(variable)
}

/// The kubelet gives every container variables for each Service of its namespace. A Service named
/// `spanlink` adds `SPANLINK_SERVICE_HOST` and `SPANLINK_PORT`, one named `spanlink-metrics`
/// `SPANLINK_METRICS_PORT`
/// ([Service environment variables](https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)).
fn is_service_link(variable: &str) -> bool {
    let is_port = |(_, port): (&str, &str)| port.starts_with(|c: char| c.is_ascii_digit());
    !variable.contains("__")
        && (variable.ends_with("_PORT")
            || variable.ends_with("_SERVICE_HOST")
            || variable.contains("_SERVICE_PORT_")
            || variable.split_once("_PORT_").is_some_and(is_port))
}

/// Finds where an option was set.
struct Places<'a> {
    path: Option<&'a Path>,
    document: &'a Document,
    variables: &'a Map<String, String>,
}

impl Places<'_> {
    fn locate(&self, path: &OptionPath, message: &str) -> ConfigError {
        let mut option = String::new();
        let mut parents = vec![String::new()];
        for segment in path {
            match segment {
                Segment::Seq { index } => option = format!("{option}[{index}]"),
                Segment::Map { key } | Segment::Enum { variant: key } => {
                    option = path_of_option(&option, key);
                }
                Segment::Unknown => continue,
            }
            parents.push(option.clone());
        }
        // The path of an unknown option ends with its name.
        let (is_unknown, problem) = explain(message, parents.len() == 2);
        let named = is_unknown.then_some(option);
        // An option that is missing, or a list, has no place: then its parent has one.
        for option in parents.iter().rev() {
            if let Some(variable) = self.variable(option) {
                return ConfigError::InEnvironment { variable: variable.to_owned(), problem };
            }
            if let Some(position) = self.document.positions.get(option) {
                return self.in_file(*position, named.as_ref() == Some(option), problem);
            }
        }
        self.in_file(OptionPosition { name: START, value: START }, false, problem)
    }

    fn in_file(&self, position: OptionPosition, is_name: bool, problem: String) -> ConfigError {
        let position = if is_name { position.name } else { position.value };
        ConfigError::InFile {
            path: self.path.map(Path::to_owned).unwrap_or_default(),
            line: position.line,
            column: position.column,
            problem,
        }
    }

    fn variable(&self, option: &str) -> Option<&str> {
        let sets = |name: &&String| {
            let path = name.strip_prefix(PREFIX).unwrap_or_default();
            path.to_lowercase().replace("__", ".") == option
        };
        self.variables.keys().find(sets).map(String::as_str)
    }
}

/// Turns an error of serde into a message for people. Returns whether the option is unknown as well.
fn explain(message: &str, is_top_level: bool) -> (bool, String) {
    let unknown = [("unknown field ", "option"), ("unknown variant ", "value")]
        .into_iter()
        .find_map(|(prefix, what)| Some((what, message.strip_prefix(prefix)?)));
    let Some((what, rest)) = unknown else {
        let message = match message.strip_prefix("missing field `") {
            Some(name) => format!("missing option {:?}", name.trim_end_matches('`')),
            None => message.replace("sequence", "list"),
        };
        return (false, message);
    };
    let (word, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let bare = |word: &str| word.trim_matches(|c| c == '`' || c == ' ').to_owned();
    let wrong = bare(word);
    let is_option = what == "option";
    let renamed = RENAMED.iter().find(|(old, _)| is_option && is_top_level && wrong == *old);
    if let Some((old, new)) = renamed {
        return (true, format!("the option {old:?} is now called {new:?}"));
    }
    let right: Vec<String> = expected
        .trim_start_matches("one of ")
        .replace(" or ", ", ")
        .split(", ")
        .map(bare)
        .collect();
    let nearest = right
        .iter()
        .map(|word| (strsim::osa_distance(&wrong, word), word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, word)| *distance <= word.len().div_ceil(2).max(2));
    let problem = match nearest {
        Some((_, word)) => format!("unknown {what} {wrong:?}; did you mean {word:?}?"),
        None => format!("unknown {what} {wrong:?}; expected one of: {}", right.join(", ")),
    };
    (is_option, problem)
}
