//! Notices that all trace contexts are unsampled: then no chain that begins with one is exported.

use tracing::warn;

use crate::{
    config::settings::{ContextSampling, SamplingSettings},
    trace::spans::output::TraceMetric,
};

/// So many contexts without a sampled one are no coincidence.
const ENOUGH: u32 = 20;

/// Whether the contexts that were read are sampled.
#[derive(Debug)]
pub(super) enum ContextFlags {
    /// Only unsampled ones so far.
    Unsampled { count: u32 },
    /// A context was sampled, a warning was logged, or the flag decides nothing.
    Settled,
}

impl ContextFlags {
    pub(super) fn new(sampling: &SamplingSettings) -> Self {
        match sampling.contexts {
            ContextSampling::Follow => Self::Unsampled { count: 0 },
            ContextSampling::Ignore => Self::Settled,
        }
    }

    /// Records what a context was, and logs a warning once where all of many are unsampled.
    pub(super) fn record(&mut self, update: &TraceMetric) {
        let TraceMetric::Extracted { valid: true, sampled, .. } = update else { return };
        let Self::Unsampled { count } = self else { return };
        *count += 1;
        let contexts = *count;
        if *sampled {
            *self = Self::Settled;
        } else if contexts >= ENOUGH {
            *self = Self::Settled;
            warn!(
                contexts,
                "All trace contexts of objects so far are unsampled, so the chains that begin with them \
                 are not exported. Raise the sampling of whoever writes them, such as the API server's, \
                 or set the option sampling.contexts to ignore."
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::object::GroupKind;

    fn sampling(contexts: ContextSampling) -> SamplingSettings {
        SamplingSettings { contexts, ratio: 1.0 }
    }

    fn settled_after(updates: impl Iterator<Item = (bool, bool)>) -> bool {
        let mut flags = ContextFlags::new(&sampling(ContextSampling::Follow));
        for (valid, sampled) in updates {
            let kind = GroupKind::new("", "Pod");
            flags.record(&TraceMetric::Extracted { kind, valid, sampled });
        }
        matches!(flags, ContextFlags::Settled)
    }

    #[test]
    fn only_many_valid_contexts_without_a_sampled_one_are_reported() {
        let unsampled = || std::iter::repeat_n((true, false), 19);
        assert!(!settled_after(unsampled()));
        assert!(!settled_after(unsampled().chain([(false, false)])));
        assert!(settled_after(unsampled().chain([(true, false)])));
        assert!(settled_after([(true, true)].into_iter()));
        let ignored = ContextFlags::new(&sampling(ContextSampling::Ignore));
        assert!(matches!(ignored, ContextFlags::Settled));
    }
}
