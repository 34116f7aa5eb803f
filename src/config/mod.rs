//! Configuration: as written in YAML (`file`), as meant by the rest (`settings`).

pub mod settings;
