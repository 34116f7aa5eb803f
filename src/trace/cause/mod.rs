//! Finds the change that caused a change, and places it in traces: functions over the tables.

pub(crate) mod ancestors;
pub(crate) mod context;
pub(crate) mod find;
pub(crate) mod marked;
pub(crate) mod own_write;
pub(crate) mod placement;
pub(crate) mod references;
pub(crate) mod wait;
