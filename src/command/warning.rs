//! Messages on standard error that do not fail a command.

use std::{
    fmt::Display,
    io::{Write as _, stderr},
};

/// Writes a line. Standard error may be closed: then the message is lost.
pub(super) fn warn(message: impl Display) {
    writeln!(stderr(), "spanlink: warning: {message}").ok();
}
