//! Reports a change as spans: names, extents, attributes, links.

pub mod builder;
pub mod links;
pub mod output;
