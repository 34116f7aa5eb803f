//! The configuration: options as written in YAML, then settings as the rest of the daemon reads them.
//!
//! [`Settings::load`](settings::Settings::load) reads the file and the environment, checks every
//! option and fills in the defaults. Other folders use [`settings`] only.

mod attributes;
mod carriers;
mod converges;
mod defaults;
mod deserialize;
mod endpoint;
mod environment;
mod file;
mod headers;
mod kind_selector;
mod load;
mod object_selector;
mod owners;
mod ownership_gaps;
mod paths;
mod proxy;
mod scalars;
pub mod settings;
mod warnings;
mod yaml;

pub use load::ConfigError;
