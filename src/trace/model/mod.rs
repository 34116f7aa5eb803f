//! Plain data, without decisions.

pub mod content;
pub mod context;
pub mod field_manager;
pub mod id;
pub mod interner;
pub mod kind;
pub mod kubernetes_event;
pub mod object;
pub mod observation;
pub mod path;
pub mod signals;
pub mod span;
pub mod time;
