//! Tables that own their state.

pub mod clock;
pub mod dirty_map;
pub mod pod_losses;
