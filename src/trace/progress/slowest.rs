//! The one thing that a change waited for longest, through everything it caused.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// Reported as the attributes `spanlink.slowest.*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Slowest {
    pub took: Duration,
    pub kind: Arc<str>,
    pub name: Arc<str>,
    /// Empty where the object as a whole was waited for.
    pub phase: Cow<'static, str>,
    /// The reason of the problem that held it up; empty where none is known.
    pub reason: Box<str>,
}
