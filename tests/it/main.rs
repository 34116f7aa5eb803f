//! The integration tests, in one binary; the modules are the table of contents.

#[path = "../control_plane/mod.rs"]
mod control_plane;

mod control_plane_itself;
