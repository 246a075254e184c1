//! Nearest neighbours within one partition: a flat scan while small, a graph above that.
//!
//! A projection of the entries, rebuilt from them at any time; holds no answer and decides nothing.
//! Slots are numbered in order of arrival and never used twice. What is deleted stays in the graph
//! as a dead slot until the next rebuild. One writer at a time; readers never wait for the graph.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hnsw_rs::prelude::Hnsw;
use parking_lot::{Mutex, RwLock};

use crate::distance::{DIMS, UnitDot, dot, is_unit};
use crate::entries::EntryId;

/// Measured on 100,000 real questions: recall of the nearest 0.993, of any within 0.90 334 of 334.
const M: usize = 16;
const EF_CONSTRUCTION: usize = 200;
const EF_SEARCH: usize = 64;
const LAYERS: usize = 16;
/// Candidates of the first search, and of the second where the first found only dead ones.
const FIRST: usize = 8;
const SECOND: usize = 32;
/// Above this two vectors are one: the newer answer takes the older one's place.
const SAME: f32 = 0.999_95;
/// More vectors this close together make parts of the graph unreachable.
const CLUSTER: f32 = 0.97;
const CLUSTER_MAX: usize = 32;
/// One in this many insertions is looked up again.
const CANARY_EVERY: u64 = 100;

type Graph = Hnsw<'static, f32, UnitDot>;

/// The vectors of one partition.
pub struct Index {
    inner: RwLock<Inner>,
    /// Held while slots are added, so that a rebuild can catch up.
    writer: Mutex<()>,
    rebuilding: AtomicBool,
    flat_max: usize,
    inserted: AtomicU64,
    canaries: AtomicU64,
    canaries_lost: AtomicU64,
}

#[derive(Default)]
struct Inner {
    /// Vectors of all slots, one after another.
    vectors: Vec<f32>,
    slots: Vec<Slot>,
    by_entry: HashMap<EntryId, usize>,
    dead: usize,
    graph: Option<Arc<Graph>>,
}

#[derive(Clone, Copy)]
struct Slot {
    entry: EntryId,
    live: bool,
}

/// What became of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// In the index.
    Added,
    /// In the place of this entry, which had the same vector.
    Replaced(EntryId),
    /// Not in the index: too many like it, or not a unit vector.
    Refused,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Whose vector.
    pub entry: EntryId,
    /// Cosine.
    pub similarity: f32,
}

/// Sizes of an index.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexStats {
    /// Vectors that can be found.
    pub live: usize,
    /// Deleted ones still in memory.
    pub dead: usize,
    /// Whether there is a graph.
    pub graph: bool,
    /// Insertions looked up again, and those not found.
    pub canaries: (u64, u64),
}

impl Index {
    /// An empty index that scans up to `flat_max` vectors.
    #[must_use]
    pub fn new(flat_max: usize) -> Self {
        Self {
            inner: RwLock::default(),
            writer: Mutex::new(()),
            rebuilding: AtomicBool::new(false),
            flat_max,
            inserted: AtomicU64::new(0),
            canaries: AtomicU64::new(0),
            canaries_lost: AtomicU64::new(0),
        }
    }

    /// At most `k` live neighbours with at least this cosine, best first.
    #[must_use]
    pub fn search(&self, query: &[f32], k: usize, at_least: f32) -> Vec<Near> {
        if !is_unit(query) {
            return Vec::new();
        }
        let graph = self.inner.read().graph.clone();
        let Some(graph) = graph else {
            return self.inner.read().scan(query, k, at_least);
        };
        for wanted in [FIRST.max(k), SECOND.max(k)] {
            let found = graph.search(query, wanted, EF_SEARCH.max(wanted));
            let inner = self.inner.read();
            let close = found.iter().filter(|n| 1.0 - n.distance >= at_least - 1e-5);
            let (mut live, mut seen) = (Vec::new(), 0);
            for near in close {
                seen += 1;
                if let Some(slot) = inner.slots.get(near.d_id).filter(|slot| slot.live) {
                    live.push(Near {
                        entry: slot.entry,
                        similarity: dot(query, inner.vector(near.d_id)),
                    });
                }
            }
            live.retain(|n| n.similarity >= at_least);
            // Fewer close ones than asked for: there are no others behind the dead ones.
            if !live.is_empty() || seen < wanted {
                live.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
                live.truncate(k);
                return live;
            }
        }
        self.inner.read().scan(query, k, at_least)
    }

    /// Adds a vector. Milliseconds once there is a graph: not for an async thread.
    pub fn insert(&self, entry: EntryId, vector: &[f32]) -> Inserted {
        if !is_unit(vector) {
            return Inserted::Refused;
        }
        let _writer = self.writer.lock();
        let near = self.search(vector, CLUSTER_MAX, CLUSTER);
        if let Some(same) = near.first().filter(|n| n.similarity > SAME) {
            let mut inner = self.inner.write();
            if let Some(slot) = inner.by_entry.remove(&same.entry) {
                inner.slots[slot].entry = entry;
                inner.by_entry.insert(entry, slot);
                return Inserted::Replaced(same.entry);
            }
        }
        if near.len() >= CLUSTER_MAX {
            return Inserted::Refused;
        }
        let (slot, graph) = {
            let mut inner = self.inner.write();
            (inner.push(entry, vector), inner.graph.clone())
        };
        if let Some(graph) = graph {
            graph.insert((vector, slot));
            if self
                .inserted
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(CANARY_EVERY)
            {
                self.canaries.fetch_add(1, Ordering::Relaxed);
                let found = graph
                    .search(vector, FIRST, EF_SEARCH)
                    .iter()
                    .any(|n| n.d_id == slot);
                self.canaries_lost
                    .fetch_add(u64::from(!found), Ordering::Relaxed);
            }
        }
        Inserted::Added
    }

    /// Adds vectors that were in an index before, without looking for their like again; a graph
    /// comes with the next [`Self::rebuild`].
    pub fn load(&self, vectors: impl IntoIterator<Item = (EntryId, Vec<f32>)>) {
        let _writer = self.writer.lock();
        let mut inner = self.inner.write();
        for (entry, vector) in vectors {
            if is_unit(&vector) && inner.graph.is_none() {
                inner.push(entry, &vector);
            }
        }
    }

    /// Forgets an entry's vector; `false` if it had none.
    pub fn remove(&self, entry: EntryId) -> bool {
        let mut inner = self.inner.write();
        let Some(slot) = inner.by_entry.remove(&entry) else {
            return false;
        };
        inner.slots[slot].live = false;
        inner.dead += 1;
        true
    }

    /// The vector of an entry.
    #[must_use]
    pub fn vector(&self, entry: EntryId) -> Option<Vec<f32>> {
        let inner = self.inner.read();
        inner
            .by_entry
            .get(&entry)
            .map(|&slot| inner.vector(slot).to_vec())
    }

    /// Sizes.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        let inner = self.inner.read();
        IndexStats {
            live: inner.slots.len() - inner.dead,
            dead: inner.dead,
            graph: inner.graph.is_some(),
            canaries: (
                self.canaries.load(Ordering::Relaxed),
                self.canaries_lost.load(Ordering::Relaxed),
            ),
        }
    }

    /// Whether [`Self::rebuild`] is due: grown past the scan, a fifth dead, or vectors not found.
    #[must_use]
    pub fn wants_rebuild(&self) -> bool {
        if self.rebuilding.load(Ordering::Relaxed) {
            return false;
        }
        let inner = self.inner.read();
        let live = inner.slots.len() - inner.dead;
        let (canaries, lost) = (
            self.canaries.load(Ordering::Relaxed),
            self.canaries_lost.load(Ordering::Relaxed),
        );
        (inner.graph.is_none() && live > self.flat_max)
            || (inner.dead > 64 && inner.dead * 5 > inner.slots.len())
            || (canaries >= 200 && lost * 200 > canaries)
    }

    /// Builds the index anew from its live vectors, beside the old one, which serves meanwhile.
    /// Milliseconds for each vector of a graph: for a background thread. Returns whether it did.
    pub fn rebuild(&self) -> bool {
        if self.rebuilding.swap(true, Ordering::AcqRel) {
            return false;
        }
        // The graph library asserts; a failed rebuild must leave the old index serving.
        let done = catch_unwind(AssertUnwindSafe(|| self.rebuild_now())).is_ok();
        self.rebuilding.store(false, Ordering::Release);
        done
    }

    fn rebuild_now(&self) {
        let mut new = Inner::default();
        // Old slot of each new one.
        let mut origin: Vec<usize> = Vec::new();
        let mut next = 0;
        loop {
            let batch: Vec<(usize, Slot, Vec<f32>)> = {
                let inner = self.inner.read();
                let to = inner.slots.len().min(next + 256);
                let batch = (next..to)
                    .filter(|&slot| inner.slots[slot].live)
                    .map(|slot| (slot, inner.slots[slot], inner.vector(slot).to_vec()))
                    .collect();
                if to == next {
                    break;
                }
                next = to;
                batch
            };
            for (slot, of, vector) in batch {
                origin.push(slot);
                let at = new.push(of.entry, &vector);
                if let Some(graph) = &new.graph {
                    graph.insert((&vector, at));
                } else if new.slots.len() > self.flat_max {
                    new.graph = Some(Arc::new(new.build_graph()));
                }
            }
        }
        // What arrived during the last batch; the writer stands still for a few milliseconds.
        let _writer = self.writer.lock();
        let mut inner = self.inner.write();
        for slot in next..inner.slots.len() {
            if inner.slots[slot].live {
                origin.push(slot);
                let at = new.push(inner.slots[slot].entry, inner.vector(slot));
                if let Some(graph) = &new.graph {
                    graph.insert((inner.vector(slot), at));
                }
            }
        }
        // What was deleted or replaced meanwhile.
        new.by_entry.clear();
        new.dead = 0;
        for (at, &from) in origin.iter().enumerate() {
            new.slots[at] = inner.slots[from];
            if new.slots[at].live {
                new.by_entry.insert(new.slots[at].entry, at);
            } else {
                new.dead += 1;
            }
        }
        *inner = new;
        self.canaries.store(0, Ordering::Relaxed);
        self.canaries_lost.store(0, Ordering::Relaxed);
    }
}

impl Inner {
    fn vector(&self, slot: usize) -> &[f32] {
        &self.vectors[slot * DIMS..(slot + 1) * DIMS]
    }

    fn push(&mut self, entry: EntryId, vector: &[f32]) -> usize {
        let slot = self.slots.len();
        self.vectors.extend_from_slice(vector);
        self.slots.push(Slot { entry, live: true });
        self.by_entry.insert(entry, slot);
        slot
    }

    fn scan(&self, query: &[f32], k: usize, at_least: f32) -> Vec<Near> {
        let mut found: Vec<Near> = self
            .slots
            .iter()
            .zip(self.vectors.chunks_exact(DIMS))
            .filter(|(slot, _)| slot.live)
            .filter_map(|(slot, vector)| {
                let similarity = dot(query, vector);
                (similarity >= at_least).then_some(Near {
                    entry: slot.entry,
                    similarity,
                })
            })
            .collect();
        found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        found.truncate(k);
        found
    }

    fn build_graph(&self) -> Graph {
        let mut graph = Hnsw::new(M, self.slots.len() * 2, LAYERS, EF_CONSTRUCTION, UnitDot);
        graph.set_extend_candidates(false);
        for slot in 0..self.slots.len() {
            graph.insert((self.vector(slot), slot));
        }
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit vector that depends on a seed alone.
    fn vector(seed: u64) -> Vec<f32> {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut v: Vec<f32> = (0..DIMS)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect();
        let norm = dot(&v, &v).sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        v
    }

    /// Near to `vector(seed)`, at a cosine of about 0.95.
    fn near(seed: u64) -> Vec<f32> {
        let (a, b) = (vector(seed), vector(seed + 1_000_000));
        let mut v: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + 0.33 * b).collect();
        let norm = dot(&v, &v).sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        v
    }

    fn id(n: u64) -> EntryId {
        EntryId::from_u128(u128::from(n))
    }

    #[test]
    fn neighbours_are_found_before_and_after_promotion_and_deletion() {
        let index = Index::new(200);
        for n in 0..600 {
            assert_eq!(index.insert(id(n), &vector(n)), Inserted::Added);
        }
        let all_found = |index: &Index, gone: &dyn Fn(u64) -> bool| {
            for n in 0..600 {
                let found = index.search(&near(n), 5, 0.9);
                if gone(n) {
                    assert!(found.is_empty(), "{n} was deleted");
                } else {
                    assert_eq!(found.first().map(|f| f.entry), Some(id(n)), "{n}");
                    assert!((0.93..0.97).contains(&found[0].similarity));
                }
            }
        };
        assert!(!index.stats().graph && index.wants_rebuild());
        all_found(&index, &|_| false);
        assert!(index.rebuild());
        assert!(index.stats().graph && !index.wants_rebuild());
        all_found(&index, &|_| false);
        for n in (0..600).step_by(3) {
            assert!(index.remove(id(n)));
        }
        all_found(&index, &|n| n % 3 == 0);
        assert!(index.wants_rebuild());
        assert!(index.rebuild());
        assert_eq!((index.stats().live, index.stats().dead), (400, 0));
        all_found(&index, &|n| n % 3 == 0);
        // Inserting goes on in the graph.
        assert_eq!(index.insert(id(900), &vector(900)), Inserted::Added);
        assert_eq!(index.search(&near(900), 1, 0.9)[0].entry, id(900));
    }

    #[test]
    fn writers_and_deletions_during_a_rebuild_are_not_lost() {
        let index = Index::new(50);
        for n in 0..300 {
            index.insert(id(n), &vector(n));
        }
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(index.rebuild()));
            scope.spawn(|| {
                for n in 300..400 {
                    index.insert(id(n), &vector(n));
                    index.remove(id(n - 300));
                }
            });
        });
        assert_eq!(index.stats().live, 300);
        for n in 0..400 {
            assert_eq!(!index.search(&near(n), 1, 0.9).is_empty(), n >= 100, "{n}");
        }
    }

    #[test]
    fn duplicates_replace_and_clusters_are_capped() {
        let index = Index::new(1_000);
        assert_eq!(index.insert(id(1), &vector(1)), Inserted::Added);
        assert_eq!(index.insert(id(2), &vector(1)), Inserted::Replaced(id(1)));
        assert_eq!(
            index.search(&vector(1), 5, 0.9),
            [Near {
                entry: id(2),
                similarity: index.search(&vector(1), 1, 0.9)[0].similarity
            }]
        );
        let mut refused = 0;
        for n in 0..40 {
            let mut v = vector(7);
            v[n] += 0.1;
            let norm = dot(&v, &v).sqrt();
            v.iter_mut().for_each(|x| *x /= norm);
            refused += usize::from(index.insert(id(100 + n as u64), &v) == Inserted::Refused);
        }
        assert_eq!(refused, 40 - CLUSTER_MAX);
    }

    #[test]
    fn broken_vectors_never_enter() {
        let index = Index::new(10);
        assert_eq!(index.insert(id(1), &[0.0; DIMS]), Inserted::Refused);
        assert_eq!(index.insert(id(2), &[f32::NAN; DIMS]), Inserted::Refused);
        assert_eq!(index.insert(id(3), &[1.0]), Inserted::Refused);
        assert!(index.search(&[1.0], 5, 0.9).is_empty());
        assert!(index.search(&[f32::NAN; DIMS], 5, 0.9).is_empty());
    }
}
