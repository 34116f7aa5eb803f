//! Spreads what would otherwise happen all at once.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Between 0 and 1; jitter needs no better source.
pub(super) fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
