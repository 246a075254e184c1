//! The answers and how long they live: by exact hash and by id, within bounds of bytes and count.
//!
//! Expiry is absolute: an entry that is hit every second still dies at its time. Makes room in the
//! scope that uses most, so that no tenant evicts a smaller one. Knows nothing of vectors.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::guards::Features;
use crate::key::Hash;

/// Names an entry; cannot be guessed, and is never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(u128);

impl EntryId {
    /// From its number.
    #[must_use]
    pub fn from_u128(id: u128) -> Self {
        Self(id)
    }

    /// Its number.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok().map(Self))
            .flatten()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

/// Tokens as the provider counted them for the stored answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Tokens of the request.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The provider's `chat.completion` object, complete, as JSON.
    pub body: Bytes,
    /// What the provider counted: what a hit saves.
    pub usage: Tokens,
    /// What the call cost, in nano-dollars (10⁻⁹ USD): what a hit saves.
    pub cost_nano: i64,
    /// The model that answered.
    pub model: String,
    /// When, in seconds since the Unix epoch.
    pub created: i64,
    /// Who answered.
    pub provider: String,
}

/// A stored answer and what must hold for it to be served.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// The tenant whose answer this is; checked again before it is served.
    pub scope: Arc<str>,
    /// Requests that may share it by meaning.
    pub partition: Hash,
    /// The request that it answers word for word.
    pub exact: Hash,
    /// Microseconds since the Unix epoch.
    pub created: i64,
    /// Microseconds since the Unix epoch; served only before.
    pub expires: i64,
    /// What the guards compare; `None` for entries that are only served word for word.
    pub features: Option<Features>,
    /// The answer.
    pub answer: Arc<Answer>,
    /// The answer's bytes are in the shared store, not here.
    pub remote: bool,
    /// Times served since the last look for room.
    pub hits: AtomicU32,
}

impl Entry {
    /// Bytes in memory, about, with its vector (in a graph twice).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let vector = self
            .features
            .as_ref()
            .map_or(0, |f| f.heap_bytes() + 2 * 4 * crate::distance::DIMS);
        (self.answer.body.len()
            + self.answer.model.len()
            + self.answer.provider.len()
            + vector
            + 512) as u64
    }

    /// Drops the answer's bytes, which are in the shared store.
    pub(crate) fn leave_answer(&mut self) {
        let mut answer = Answer::clone(&self.answer);
        answer.body = Bytes::new();
        self.answer = Arc::new(answer);
        self.remote = true;
    }

    /// What keeping it is worth: money it may save again, for each byte.
    fn score(&self) -> f64 {
        let hits = f64::from(self.hits.load(Ordering::Relaxed)) + 1.0;
        (self.answer.cost_nano.max(0) as f64 + 1.0) * hits / self.bytes() as f64
    }
}

/// All entries of a cache.
#[derive(Debug)]
pub(crate) struct Entries {
    by_id: HashMap<EntryId, Held>,
    by_exact: HashMap<Hash, EntryId>,
    scopes: HashMap<Arc<str>, Scope>,
    partitions: HashMap<Hash, usize>,
    expiry: BTreeSet<(i64, EntryId)>,
    bytes: u64,
    bounds: Bounds,
    /// State of the draw of eviction candidates; needs to spread, not to be secret.
    draw: u64,
}

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub bytes: u64,
    pub scope_entries: usize,
    pub partition_entries: usize,
}

#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    /// Place in the scope's list.
    place: usize,
}

#[derive(Debug, Default)]
struct Scope {
    ids: Vec<EntryId>,
    bytes: u64,
}

/// Candidates drawn for each eviction; the worst of 16 is among the worst tenth in four of five draws.
const DRAWN: usize = 16;

impl Entries {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            by_id: HashMap::new(),
            by_exact: HashMap::new(),
            scopes: HashMap::new(),
            partitions: HashMap::new(),
            expiry: BTreeSet::new(),
            bytes: 0,
            bounds,
            draw: 0x9e37_79b9_7f4a_7c15,
        }
    }

    pub(crate) fn by_exact(&self, exact: &Hash, now: i64) -> Option<&Arc<Entry>> {
        self.by_id(*self.by_exact.get(exact)?, now)
    }

    pub(crate) fn by_id(&self, id: EntryId, now: i64) -> Option<&Arc<Entry>> {
        self.by_id
            .get(&id)
            .map(|held| &held.entry)
            .filter(|entry| now < entry.expires)
    }

    /// Whether an entry exists at all, expired or not.
    pub(crate) fn any(&self, id: EntryId) -> Option<&Arc<Entry>> {
        self.by_id.get(&id).map(|held| &held.entry)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values().map(|held| &held.entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn partition_len(&self, partition: &Hash) -> usize {
        self.partitions.get(partition).copied().unwrap_or(0)
    }

    /// Adds an entry in the place of one with the same exact hash, and makes room. Returns what had
    /// to go: expired, replaced or evicted.
    pub(crate) fn put(&mut self, entry: Arc<Entry>, now: i64) -> Vec<Arc<Entry>> {
        let mut gone = self.expired(now);
        if let Some(&old) = self.by_exact.get(&entry.exact) {
            gone.extend(self.remove(old));
        }
        let (id, bytes) = (entry.id, entry.bytes());
        let scope = self.scopes.entry(Arc::clone(&entry.scope)).or_default();
        let place = scope.ids.len();
        scope.ids.push(id);
        scope.bytes += bytes;
        self.bytes += bytes;
        *self.partitions.entry(entry.partition).or_default() += 1;
        self.by_exact.insert(entry.exact, id);
        self.expiry.insert((entry.expires, id));
        let (own, partition) = (Arc::clone(&entry.scope), entry.partition);
        self.by_id.insert(id, Held { entry, place });

        while self
            .scopes
            .get(&own)
            .is_some_and(|s| s.ids.len() > self.bounds.scope_entries)
        {
            gone.extend(self.evict(&own, id, None));
        }
        while self.partition_len(&partition) > self.bounds.partition_entries {
            gone.extend(self.evict(&own, id, Some(partition)));
        }
        while self.bytes > self.bounds.bytes && !self.by_id.is_empty() {
            // The largest scope pays; the tenant's name decides between equals, so that it is the
            // same one each time.
            let Some(largest) = self
                .scopes
                .iter()
                .max_by_key(|(name, s)| (s.bytes, Arc::clone(name)))
                .map(|(name, _)| Arc::clone(name))
            else {
                break;
            };
            gone.extend(self.evict(&largest, id, None));
        }
        gone
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: EntryId) -> Option<Arc<Entry>> {
        let held = self.by_id.remove(&id)?;
        let entry = held.entry;
        self.bytes -= entry.bytes();
        self.expiry.remove(&(entry.expires, id));
        if self.by_exact.get(&entry.exact) == Some(&id) {
            self.by_exact.remove(&entry.exact);
        }
        if let Some(count) = self.partitions.get_mut(&entry.partition) {
            *count -= 1;
            if *count == 0 {
                self.partitions.remove(&entry.partition);
            }
        }
        if let Some(scope) = self.scopes.get_mut(&entry.scope) {
            scope.bytes -= entry.bytes();
            scope.ids.swap_remove(held.place);
            if let Some(moved) = scope.ids.get(held.place)
                && let Some(moved) = self.by_id.get_mut(moved)
            {
                moved.place = held.place;
            }
            if scope.ids.is_empty() {
                self.scopes.remove(&entry.scope);
            }
        }
        Some(entry)
    }

    /// Takes out what has expired.
    pub(crate) fn expired(&mut self, now: i64) -> Vec<Arc<Entry>> {
        let mut gone = Vec::new();
        while let Some(&(expires, id)) = self.expiry.first() {
            if expires > now {
                break;
            }
            match self.remove(id) {
                Some(entry) => gone.push(entry),
                None => {
                    self.expiry.remove(&(expires, id));
                }
            }
        }
        gone
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.bounds);
    }

    /// Takes the least worth of a few drawn entries of a scope; the newest only when it is alone.
    fn evict(
        &mut self,
        scope: &Arc<str>,
        newest: EntryId,
        partition: Option<Hash>,
    ) -> Option<Arc<Entry>> {
        let ids = &self.scopes.get(scope)?.ids;
        let mut draw = self.draw;
        let drawn = std::iter::repeat_with(|| {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            // The remainder is below a length, so it fits.
            ids[(draw % ids.len() as u64) as usize]
        });
        let may_go = |id: &EntryId| {
            (*id != newest || ids.len() == 1)
                && partition.is_none_or(|p| {
                    self.by_id
                        .get(id)
                        .is_some_and(|held| held.entry.partition == p)
                })
        };
        let worst = |candidates: &mut dyn Iterator<Item = EntryId>| {
            candidates
                .filter(may_go)
                .filter_map(|id| {
                    let entry = &self.by_id.get(&id)?.entry;
                    // Hits fade, so that yesterday's favourite can leave.
                    let hits = entry.hits.load(Ordering::Relaxed);
                    entry.hits.store(hits - hits / 4, Ordering::Relaxed);
                    Some((entry.score(), id))
                })
                .min_by(|a, b| a.0.total_cmp(&b.0))
        };
        // None of the drawn may go (another partition's): look at all, which is rare and bounded.
        let found = worst(&mut drawn.take(DRAWN)).or_else(|| worst(&mut ids.iter().copied()));
        self.draw = draw;
        let (_, id) = found?;
        self.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scope: &str, n: u128, size: usize, cost_nano: i64, expires: i64) -> Arc<Entry> {
        let mut exact = [0; 32];
        exact[..16].copy_from_slice(&n.to_le_bytes());
        Arc::new(Entry {
            id: EntryId(n),
            scope: scope.into(),
            partition: [0; 32],
            exact,
            created: 0,
            expires,
            features: None,
            answer: Arc::new(Answer {
                body: Bytes::from(vec![b'x'; size]),
                usage: Tokens::default(),
                cost_nano,
                model: "m".into(),
                created: 0,
                provider: "p".into(),
            }),
            remote: false,
            hits: AtomicU32::new(0),
        })
    }

    fn bounds(bytes: u64, scope_entries: usize) -> Bounds {
        Bounds {
            bytes,
            scope_entries,
            partition_entries: 1_000_000,
        }
    }

    #[test]
    fn the_cheap_and_large_go_first_and_bounds_hold() {
        let mut entries = Entries::new(bounds(100_000, 1_000));
        for n in 0..500 {
            // Every other entry is dear.
            entries.put(
                entry("a", n, 500, if n % 2 == 0 { 1_000_000 } else { 1 }, 100),
                0,
            );
            assert!(entries.bytes() <= 100_000);
        }
        let dear = entries.iter().filter(|e| e.answer.cost_nano > 1).count();
        assert!(dear * 10 > entries.len() * 9, "{dear} of {}", entries.len());
    }

    #[test]
    fn a_large_tenant_does_not_evict_a_small_one() {
        let mut entries = Entries::new(bounds(100_000, 1_000));
        for n in 0..5 {
            entries.put(entry("small", n, 100, 0, 100), 0);
        }
        for n in 100..600 {
            entries.put(entry("large", n, 1_000, 1_000, 100), 0);
        }
        assert!((0..5).all(|n| entries.by_id(EntryId(n), 1).is_some()));
        assert!(entries.bytes() <= 100_000);
    }

    #[test]
    fn counts_are_bounded_for_each_scope_and_expiry_is_absolute() {
        let mut entries = Entries::new(bounds(u64::MAX, 10));
        for n in 0..30 {
            entries.put(entry("a", n, 10, 1, 50), 0);
        }
        assert_eq!(entries.len(), 10);
        assert!(entries.by_id(EntryId(29), 49).is_some(), "the newest stays");
        assert!(entries.by_id(EntryId(29), 50).is_none());
        assert_eq!(entries.expired(50).len(), 10);
        assert_eq!((entries.len(), entries.bytes()), (0, 0));
        assert!(
            entries.scopes.is_empty()
                && entries.partitions.is_empty()
                && entries.by_exact.is_empty()
        );
    }

    #[test]
    fn an_answer_larger_than_the_bound_does_not_stay() {
        let mut entries = Entries::new(bounds(1_000, 10));
        let gone = entries.put(entry("a", 1, 5_000, 1, 50), 0);
        assert_eq!((gone.len(), entries.len()), (1, 0));
    }

    #[test]
    fn ids_are_written_and_read_alike() {
        let id = EntryId(42);
        assert_eq!(EntryId::parse(&id.to_string()), Some(id));
        assert_eq!(EntryId::parse("42"), None);
        assert_eq!(EntryId::parse("+0000000000000000000000000000042"), None);
    }
}
