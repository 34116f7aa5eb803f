//! Configuration: as written in YAML (`file`), as meant by the rest ([`settings`]).

mod chains;
mod environment;
mod file;
mod load;
mod meant;
mod path;
mod selector;
pub mod settings;
mod warnings;

pub use load::ConfigError;
