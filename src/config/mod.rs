//! Configuration: as written in YAML (`file`), as meant by the rest (`settings`).

mod environment;
mod file;
pub mod jaeger_ui;
mod selector;
pub mod settings;

pub use file::ConfigError;
