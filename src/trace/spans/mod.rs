//! Reports a change as spans: names, extents, attributes, links.

pub mod attributes;
pub(crate) mod builder;
pub(crate) mod links;
pub mod output;
