//! The pure middle: observations in, spans out. No IO, no clock, no async, no logging.
//!
//! An [`observation::Observation`] is compared with what is known of its object (`detect`); what
//! differs and means something is a change, for which a cause is found (`cause`, `link`), that gets
//! its place in a trace (`place`) and whose convergence is followed (`follow`, [`converge`], by the
//! rules in [`status`], `convention` and [`words`]) until it has an outcome: in steps ([`phase`],
//! `steps`), with what holds it up ([`problem`]), what it waited for longest ([`slowest`]), and what
//! Events say meanwhile ([`remark`]). It is told as spans (`emit`, `tell`), but for what `disclose`
//! holds back. [`tracer::Tracer`] holds the state and leads through; a [`checkpoint`] is that state
//! written down (`kept`), and `pace` holds time back while nothing can be heard.

#![warn(clippy::indexing_slicing, clippy::as_conversions, clippy::wildcard_enum_match_arm)]

mod adopt;
mod cause;
pub mod change;
mod changes;
pub mod checkpoint;
pub mod content;
pub mod context;
mod convention;
pub mod converge;
mod decide;
mod detect;
mod disclose;
mod emit;
mod follow;
pub mod id;
mod intake;
mod kept;
pub mod kind;
mod link;
mod loss;
pub mod manager;
mod names;
pub mod object;
pub mod observation;
pub mod output;
mod pace;
pub mod path;
pub mod phase;
mod place;
pub mod problem;
mod reference;
pub mod remark;
pub mod rules;
pub mod sampling;
pub mod slowest;
pub mod span;
pub mod status;
mod steps;
mod tell;
pub mod time;
pub mod tracer;
mod tracked;
pub mod words;
