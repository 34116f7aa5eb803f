//! Maps with several values of a key: what the indices of the tables are made of.

use std::collections::{HashMap, HashSet};

/// `None`: the value has no key.
pub(super) fn add_to<K, V>(index: &mut HashMap<K, HashSet<V>>, key: Option<K>, value: V)
where
    K: std::hash::Hash + Eq,
    V: std::hash::Hash + Eq,
{
    if let Some(key) = key {
        index.entry(key).or_default().insert(value);
    }
}

/// Removes a key with its last value.
pub(super) fn remove_from<K, V>(index: &mut HashMap<K, HashSet<V>>, key: Option<&K>, value: &V)
where
    K: std::hash::Hash + Eq,
    V: std::hash::Hash + Eq,
{
    let Some(key) = key else { return };
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}
