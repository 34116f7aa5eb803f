//! The objects that an object names besides its owners.

use serde::{Deserialize, Serialize};

use crate::trace::model::{observation::Reference, time::Timestamp};

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct References {
    /// The objects that the configured fields name.
    pub(crate) to: Vec<Reference>,
    /// The owners that marks name.
    pub(crate) owners: Vec<Reference>,
    /// What it names as its own.
    pub(crate) children: Vec<Reference>,
    /// The target of an autoscaler.
    pub(crate) scales: Option<Reference>,
    /// The replicas that an autoscaler last wanted.
    pub(crate) desired: Option<i64>,
    /// When an autoscaler last scaled.
    pub(crate) rescaled: Option<Rescaled>,
}

/// The last time an autoscaler scaled, in resourceVersions.
///
/// Its controller writes `/scale` and then `status.lastScaleTime`. So it scaled after the last status
/// without that time was written, and before the first with it. The times of both writes are less
/// exact: in managedFields, `/scale` has none.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Rescaled {
    /// `status.lastScaleTime`
    at: Option<Timestamp>,
    /// It scaled between these resourceVersions. Equal ones: before the first observation, or never.
    after: u64,
    before: u64,
    /// The resourceVersion of the newest status.
    newest: u64,
}

impl Rescaled {
    /// Updates what is known with a status of this resourceVersion.
    pub(crate) fn with_status(
        known: Option<Self>,
        at: Option<Timestamp>,
        resource_version: u64,
    ) -> Self {
        match known {
            None => Self {
                at,
                after: resource_version,
                before: resource_version,
                newest: resource_version,
            },
            Some(known) if at <= known.at => Self { at, newest: resource_version, ..known },
            Some(known) => {
                Self { at, after: known.newest, before: resource_version, newest: resource_version }
            }
        }
    }

    pub(crate) fn is_at(&self, resource_version: u64) -> bool {
        self.after < resource_version && resource_version < self.before
    }
}
