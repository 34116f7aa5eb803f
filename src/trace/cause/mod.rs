//! Finds which change caused a change, and where that places it in traces.

pub mod find;
pub mod placement;
pub mod references;
