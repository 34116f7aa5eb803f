//! Judges a status: is the object done, in progress, failed, or is there a known problem?

pub mod conventions;
pub mod kstatus;
pub mod problem;
pub(crate) mod resize;
pub mod status;
pub mod status_field;
