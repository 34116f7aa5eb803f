//! Judges a status: is the object done, in progress, failed, or is there a known problem?

pub mod general;
pub mod judge;
pub mod judgement;
pub mod kstatus;
mod lexicon;
pub mod problem;
pub(crate) mod resize;
pub mod shipped;
pub mod status;
