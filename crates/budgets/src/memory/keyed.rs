//! Counters found by (name, instant), and then by a number that holds keep, so that ending a call looks
//! nothing up. A lookup allocates nothing; the hash is made before the lock is taken.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use schemas::{Micros, Text};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hash of a counter's key.
pub(super) fn hash_of(name: &str, start: Micros) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), start.0.cast_unsigned())
}

/// Passes a hash through.
#[derive(Default)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map whose keys are hashes already, or hashed with xxh3.
pub(super) type ReadyMap<K, V> = HashMap<K, V, BuildHasherDefault<Ready>>;

/// Where a counter lies. Valid until [`Keyed::retain`] drops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    /// No counter.
    pub(super) const NONE: Self = Self(u32::MAX);
}

struct Row<T> {
    name: Text,
    start: Micros,
    /// The next row with the same hash.
    next: Slot,
    value: T,
}

/// The counters.
pub(super) struct Keyed<T> {
    heads: ReadyMap<u64, Slot>,
    rows: Vec<Option<Row<T>>>,
    free: Vec<Slot>,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self {
            heads: ReadyMap::default(),
            rows: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Keyed<T> {
    fn row(&self, slot: Slot) -> Option<&Row<T>> {
        self.rows.get(slot.0 as usize).and_then(Option::as_ref)
    }

    fn find(&self, hash: u64, name: &str, start: Micros) -> Option<Slot> {
        let mut slot = *self.heads.get(&hash)?;
        while let Some(row) = self.row(slot) {
            if row.start == start && *row.name == *name {
                return Some(slot);
            }
            slot = row.next;
        }
        None
    }

    pub(super) fn get_by_key(&self, name: &str, start: Micros) -> Option<&T> {
        let slot = self.find(hash_of(name, start), name, start)?;
        self.get(slot)
    }

    /// `None` for [`Slot::NONE`] and for what is gone.
    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.row(slot).map(|row| &row.value)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let row = self.rows.get_mut(slot.0 as usize)?;
        row.as_mut().map(|row| &mut row.value)
    }

    /// The counter of a key, made by `new` if there is none.
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        name: &Text,
        start: Micros,
        new: impl FnOnce() -> T,
    ) -> Slot {
        if let Some(slot) = self.find(hash, name, start) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            // No machine holds 2³² counters of over 64 bytes.
            Slot((self.rows.len() - 1) as u32)
        });
        let next = self.heads.insert(hash, slot).unwrap_or(Slot::NONE);
        self.rows[slot.0 as usize] = Some(Row {
            name: name.clone(),
            start,
            next,
            value: new(),
        });
        slot
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// Every counter with its name and start.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Text, Micros, &T)> {
        let rows = self.rows.iter().flatten();
        rows.map(|row| (&row.name, row.start, &row.value))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut().flatten().map(|row| &mut row.value)
    }

    /// Forgets what `keep` does not want; the rest keeps its slots.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut dropped = false;
        for (at, row) in self.rows.iter_mut().enumerate() {
            if row.as_ref().is_some_and(|row| !keep(&row.value)) {
                *row = None;
                self.free.push(Slot(at as u32));
                dropped = true;
            }
        }
        if dropped {
            self.heads.clear();
            for at in 0..self.rows.len() {
                if let Some(row) = &mut self.rows[at] {
                    let hash = hash_of(&row.name, row.start);
                    row.next = self
                        .heads
                        .insert(hash, Slot(at as u32))
                        .unwrap_or(Slot::NONE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_with_one_hash_are_told_apart() {
        let mut keyed = Keyed::default();
        let names: Vec<Text> = ["a", "b", "c"].map(Text::from).to_vec();
        let slots: Vec<Slot> = (0..3)
            .map(|at| keyed.find_or_insert(42, &names[at], Micros(0), || at))
            .collect();
        for (at, name) in names.iter().enumerate() {
            assert_eq!(keyed.find(42, name, Micros(0)), Some(slots[at]));
            assert_eq!(keyed.get(slots[at]), Some(&at));
        }
        assert_eq!(keyed.find(42, "a", Micros(1)), None);
        assert_eq!(keyed.get(Slot::NONE), None);
    }

    #[test]
    fn a_forgotten_counter_leaves_the_others_where_they_are() {
        let mut keyed = Keyed::default();
        let slots: Vec<Slot> = (0..100_u32)
            .map(|number| {
                let name = Text::from(number.to_string());
                keyed.find_or_insert(hash_of(&name, Micros(7)), &name, Micros(7), || number)
            })
            .collect();
        keyed.retain(|number| number % 3 == 0);
        assert_eq!(keyed.len(), 34);
        for (number, slot) in (0..100_u32).zip(&slots) {
            let kept = (number % 3 == 0).then_some(&number);
            assert_eq!(keyed.get_by_key(&number.to_string(), Micros(7)), kept);
            assert_eq!(keyed.get(*slot), kept);
        }
        let name = Text::from("new");
        keyed.find_or_insert(hash_of(&name, Micros(7)), &name, Micros(7), || 1_000);
        assert_eq!(keyed.len(), 35);
        assert_eq!(keyed.get_by_key("new", Micros(7)), Some(&1_000));
    }
}
