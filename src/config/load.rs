//! Loads a configuration: the file with the environment over it, and says what is wrong where.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{environment, file::File, settings::Settings};

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {problem}")]
    Written { path: PathBuf, line: u64, column: u64, problem: String },
    #[error("{place}: {problem}")]
    Environment { place: String, problem: String },
}

impl Settings {
    /// Defaults, the file over them, the environment over both.
    ///
    /// # Errors
    /// When something is not as it should be: where, and what would be right.
    pub fn load(
        path: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let mut layers = config::Config::builder();
        if let Some(path) = path {
            let text = fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            // Read for its errors: only here is it known on which line something stands.
            parse(path, &text)?;
            layers = layers.add_source(config::File::from_str(&text, config::FileFormat::Yaml));
        }
        let own: config::Map<String, String> = variables
            .iter()
            .filter(|(name, _)| name.starts_with("SPANLINK_") && name.as_str() != "SPANLINK_CONFIG")
            .filter(|(name, _)| name.as_str() != "SPANLINK_LOG" && !is_of_a_service(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let source = config::Environment::with_prefix("SPANLINK")
            .prefix_separator("_")
            .separator("__")
            .source(Some(own));
        let in_environment = |problem: String| ConfigError::Environment {
            place: "environment variables SPANLINK_…".to_owned(),
            problem,
        };
        let layered =
            layers.add_source(source).build().map_err(|error| in_environment(error.to_string()))?;
        let file: File = serde_path_to_error::deserialize(layered)
            .map_err(|error| in_environment(explain(&error.to_string())))?;
        let mut settings = file.settings();
        environment::apply(&mut settings, &variables)
            .map_err(|(place, problem)| ConfigError::Environment { place, problem })?;
        Ok(settings)
    }
}

/// The kubelet tells every container of the Services of its namespace, by their names: of `spanlink`
/// as `SPANLINK_SERVICE_HOST` and `SPANLINK_PORT`, of `spanlink-metrics` as `SPANLINK_METRICS_PORT`
/// ([service links](https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)).
fn is_of_a_service(name: &str) -> bool {
    let is_of_a_port = |(_, port): (&str, &str)| port.starts_with(|c: char| c.is_ascii_digit());
    !name.contains("__")
        && (name.ends_with("_PORT")
            || name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT_")
            || name.split_once("_PORT_").is_some_and(is_of_a_port))
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location();
        let of = |at: fn(&serde_saphyr::Location) -> u64| location.as_ref().map_or(1, at);
        ConfigError::Written {
            path: path.to_owned(),
            line: of(serde_saphyr::Location::line),
            column: of(serde_saphyr::Location::column),
            problem: explain(&error.to_string()),
        }
    })
}

/// Says an unknown word's nearest right one.
fn explain(problem: &str) -> String {
    // The place is said before.
    let problem = problem.split(" at line ").next().unwrap_or(problem);
    let unknown = [("unknown field ", "option"), ("unknown variant ", "value")]
        .into_iter()
        .find_map(|(prefix, what)| Some((what, problem.strip_prefix(prefix)?)));
    let Some((what, rest)) = unknown else {
        return match problem {
            "invalid u64" => "expected a whole number that is not negative".to_owned(),
            other => other.to_owned(),
        };
    };
    let (wrong, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let bare = |word: &str| word.trim_matches(|c| c == '`' || c == ' ').to_owned();
    let wrong = bare(wrong);
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
    match nearest {
        Some((_, word)) => format!("unknown {what} {wrong:?}; did you mean {word:?}?"),
        None => format!("unknown {what} {wrong:?}; there are {}", right.join(", ")),
    }
}
