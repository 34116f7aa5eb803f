//! A map that remembers which of its entries may have changed, so that only those are written down.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    ops::Deref,
};

/// Read like a [`HashMap`]; whatever is reached for to be changed counts as changed.
#[derive(Debug)]
pub(crate) struct DirtyMap<K, V> {
    map: HashMap<K, V>,
    /// `None`: nobody writes anything down.
    touched: Option<HashSet<K>>,
}

impl<K, V> Default for DirtyMap<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), touched: None }
    }
}

impl<K, V> Deref for DirtyMap<K, V> {
    type Target = HashMap<K, V>;

    fn deref(&self) -> &HashMap<K, V> {
        &self.map
    }
}

impl<K: Clone + Eq + Hash, V> DirtyMap<K, V> {
    /// From now on it remembers.
    pub(crate) fn remember(&mut self) {
        self.touched.get_or_insert_default();
    }

    pub(crate) fn touch_all(&mut self) {
        if let Some(touched) = &mut self.touched {
            touched.extend(self.map.keys().cloned());
        }
    }

    /// What may have changed since the last call; what is not there any more is gone.
    pub(crate) fn take_touched(&mut self) -> HashSet<K> {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        touch(&mut self.touched, key);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        touch(&mut self.touched, &key);
        self.map.insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.map.remove(key)?;
        touch(&mut self.touched, key);
        Some(value)
    }

    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&V) -> bool) {
        let touched = &mut self.touched;
        self.map.retain(|key, value| {
            let is_kept = is_kept(value);
            if !is_kept {
                touch(touched, key);
            }
            is_kept
        });
    }
}

impl<K: Clone + Eq + Hash, V: Default> DirtyMap<K, V> {
    pub(crate) fn get_or_default(&mut self, key: &K) -> &mut V {
        touch(&mut self.touched, key);
        self.map.entry(key.clone()).or_default()
    }
}

fn touch<K: Clone + Eq + Hash>(touched: &mut Option<HashSet<K>>, key: &K) {
    if let Some(touched) = touched
        && !touched.contains(key)
    {
        touched.insert(key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> DirtyMap<u8, u8> {
        let mut kept = DirtyMap::default();
        kept.insert(1, 10);
        kept.insert(2, 20);
        kept.remember();
        kept
    }

    fn touched(kept: &mut DirtyMap<u8, u8>) -> Vec<u8> {
        let mut touched: Vec<u8> = kept.take_touched().into_iter().collect();
        touched.sort_unstable();
        touched
    }

    #[test]
    fn whatever_was_reached_for_is_told_once() {
        let mut kept = kept();
        assert_eq!(kept.get(&1), Some(&10));
        assert!(touched(&mut kept).is_empty());
        *kept.get_mut(&1).unwrap() += 1;
        kept.insert(3, 30);
        kept.get_or_default(&4);
        assert_eq!(kept.remove(&2), Some(20));
        assert_eq!(touched(&mut kept), [1, 2, 3, 4]);
        assert!(touched(&mut kept).is_empty());
        kept.retain(|value| *value == 11);
        assert_eq!(touched(&mut kept), [3, 4]);
        kept.touch_all();
        assert_eq!(touched(&mut kept), [1]);
    }

    #[test]
    fn what_is_not_there_is_not_touched_and_nothing_is_where_nobody_asks() {
        let mut kept = kept();
        assert_eq!(kept.get_mut(&9), None);
        assert_eq!(kept.remove(&9), None);
        assert!(touched(&mut kept).is_empty());
        let mut unasked = DirtyMap::<u8, u8>::default();
        unasked.insert(1, 10);
        unasked.touch_all();
        assert!(touched(&mut unasked).is_empty());
    }
}
