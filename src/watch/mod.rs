//! The edge in: what Kubernetes says becomes observations.

mod body;
pub mod decode;
mod lenient;
pub mod recording;
mod status;
