//! A map that records which entries may have changed, so that a checkpoint writes only those.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Every entry that was borrowed mutably counts as changed.
#[derive(Debug)]
pub(crate) struct DirtyMap<K, V> {
    map: HashMap<K, V>,
    /// `None`: no checkpoint is written, so nothing is recorded.
    dirty: Option<HashSet<K>>,
}

impl<K, V> Default for DirtyMap<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), dirty: None }
    }
}

impl<K, V> DirtyMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.map.values()
    }
}

impl<K: Clone + Eq + Hash, V> DirtyMap<K, V> {
    /// Records changes from now on.
    pub(crate) fn start_recording(&mut self) {
        self.dirty.get_or_insert_default();
    }

    pub(crate) fn mark_all(&mut self) {
        if let Some(dirty) = &mut self.dirty {
            dirty.extend(self.map.keys().cloned());
        }
    }

    /// The keys of the entries that may have changed since the last call, removed ones included.
    pub(crate) fn take_dirty(&mut self) -> HashSet<K> {
        self.dirty.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        mark(&mut self.dirty, key);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        mark(&mut self.dirty, &key);
        self.map.insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.map.remove(key)?;
        mark(&mut self.dirty, key);
        Some(value)
    }
}

impl<K: Clone + Eq + Hash, V: Default> DirtyMap<K, V> {
    pub(crate) fn get_or_default(&mut self, key: &K) -> &mut V {
        mark(&mut self.dirty, key);
        self.map.entry(key.clone()).or_default()
    }
}

fn mark<K: Clone + Eq + Hash>(dirty: &mut Option<HashSet<K>>, key: &K) {
    if let Some(dirty) = dirty
        && !dirty.contains(key)
    {
        dirty.insert(key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording_map() -> DirtyMap<u8, u8> {
        let mut map = DirtyMap::default();
        map.insert(1, 10);
        map.insert(2, 20);
        map.start_recording();
        map
    }

    fn dirty(map: &mut DirtyMap<u8, u8>) -> Vec<u8> {
        let mut dirty: Vec<u8> = map.take_dirty().into_iter().collect();
        dirty.sort_unstable();
        dirty
    }

    #[test]
    fn mutably_borrowed_inserted_and_removed_entries_are_returned_once() {
        let mut map = recording_map();
        assert_eq!(map.get(&1), Some(&10));
        assert!(dirty(&mut map).is_empty());
        *map.get_mut(&1).unwrap() += 1;
        map.insert(3, 30);
        map.get_or_default(&4);
        assert_eq!(map.remove(&2), Some(20));
        assert_eq!(dirty(&mut map), [1, 2, 3, 4]);
        assert!(dirty(&mut map).is_empty());
        map.mark_all();
        assert_eq!(dirty(&mut map), [1, 3, 4]);
    }

    #[test]
    fn only_present_entries_are_marked_and_only_while_recording() {
        let mut map = recording_map();
        assert_eq!(map.get_mut(&9), None);
        assert_eq!(map.remove(&9), None);
        assert!(dirty(&mut map).is_empty());
        let mut unrecorded = DirtyMap::<u8, u8>::default();
        unrecorded.insert(1, 10);
        unrecorded.mark_all();
        assert!(dirty(&mut unrecorded).is_empty());
    }
}
