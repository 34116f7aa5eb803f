//! `spanlink config check`: builds what `spanlink run` builds from the settings, and connects to
//! nothing.

use super::runtime::block_on;
use crate::{
    config::{ConfigError, settings::Settings},
    export::{client::Client, error::ClientError, own_traces},
    logging::{self, LoggingError},
};

/// Builds the client of the collector, the log filter and the exporter of the daemon's own traces.
///
/// # Errors
/// The error with which `spanlink run` would end at its start.
pub fn check(settings: &Settings, log: Option<&str>) -> anyhow::Result<()> {
    block_on(async {
        Client::new(&settings.export)?;
        logging::check(log)?;
        own_traces::tracer_provider(settings)?;
        Ok(())
    })
}

/// Whether a command failed because of its configuration: the options, or the files that they name.
pub fn is_configuration_error(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>() || error.is::<ClientError>() || error.is::<LoggingError>()
}
