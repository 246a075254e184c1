//! Entries and indexes side by side: what one removes the other forgets.
//!
//! Entries are the truth, an index is rebuilt from them. Locks are taken in that order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::config::CacheConfig;
use crate::eligibility::Reason;
use crate::entries::{Answer, Entries, Entry, EntryId};
use crate::guards;
use crate::index::{Index, Inserted};
use crate::key::Hash;
use crate::outcome::{Hit, HitKind};
use crate::persist::{Living, Log, Replayed};
use crate::request::Prepared;
use crate::stats::{Counters, count};

/// Candidates that the guards look at; the sixth nearest is rarely the right one.
const CANDIDATES: usize = 5;

/// Entries and indexes; the log's thread sees them too.
pub(crate) struct Shelf {
    pub(crate) config: CacheConfig,
    pub(crate) entries: RwLock<Entries>,
    pub(crate) indexes: RwLock<HashMap<Hash, Arc<Index>>>,
    pub(crate) counters: Counters,
    /// Makes ids differ within a microsecond.
    pub(crate) sequence: AtomicU64,
    /// Makes ids differ between caches, and impossible to guess.
    pub(crate) secret: [u8; 16],
}

/// An entry that may be served to a question in other words.
pub(crate) struct Candidate {
    pub(crate) entry: Arc<Entry>,
    pub(crate) similarity: f32,
}

impl Shelf {
    /// The best candidate that the guards let pass; else why the best was refused.
    pub(crate) fn nearest(&self, asked: &Prepared, vector: &[f32]) -> Result<Candidate, Reason> {
        let question = asked.question.as_ref().map_err(|reason| *reason)?;
        let index = self
            .indexes
            .read()
            .get(&asked.key.partition)
            .cloned()
            .ok_or(Reason::NoNeighbour)?;
        let now = self.config.clock.now();
        let mut why = Reason::NoNeighbour;
        for near in index.search(vector, CANDIDATES, asked.threshold) {
            let Some(entry) = self.entries.read().by_id(near.entry, now).cloned() else {
                continue;
            };
            let Some(features) = &entry.features else {
                continue;
            };
            if !self.belongs(&entry, asked) {
                continue;
            }
            if near.similarity < guards::threshold(features, &question.features, asked.threshold) {
                continue;
            }
            if let Some(guard) = guards::refuse(features, &question.features) {
                count(&self.counters.guards, guard);
                if why == Reason::NoNeighbour {
                    why = guard;
                }
                continue;
            }
            if self.is_too_old(&entry, asked) {
                why = Reason::MaxAge;
                continue;
            }
            return Ok(Candidate {
                entry,
                similarity: near.similarity.min(1.0),
            });
        }
        Err(why)
    }

    pub(crate) fn serve(
        &self,
        entry: &Entry,
        kind: HitKind,
        similarity: f32,
        answer: Arc<Answer>,
    ) -> Hit {
        entry.hits.fetch_add(1, Ordering::Relaxed);
        Hit {
            kind,
            similarity,
            entry: entry.id,
            answer,
            age: age(entry, self.config.clock.now()),
        }
    }

    /// Whether an entry is older than the client accepts.
    pub(crate) fn is_too_old(&self, entry: &Entry, asked: &Prepared) -> bool {
        asked
            .controls
            .max_age_s
            .is_some_and(|max| age(entry, self.config.clock.now()) > Duration::from_secs(max))
    }

    /// The last line of defence between tenants; the key has decided before.
    pub(crate) fn belongs(&self, entry: &Entry, asked: &Prepared) -> bool {
        let belongs = entry.scope == asked.scope && entry.partition == asked.key.partition;
        if !belongs {
            self.counters.crossed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(cache.entry = %entry.id, "cache: an entry was found under a request that it does not belong to; not served");
        }
        belongs
    }

    /// Makes an entry, with its vector if it has one.
    pub(crate) fn make(
        &self,
        asked: &Prepared,
        answer: Answer,
        ttl_s: u64,
    ) -> (Entry, Option<Vec<f32>>) {
        let now = self.config.clock.now();
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::new()
            .chain_update(asked.key.exact)
            .chain_update(self.secret)
            .chain_update(now.to_le_bytes())
            .chain_update(sequence.to_le_bytes())
            .finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        let id = EntryId::from_u128(u128::from_le_bytes(half));
        // Up to a tenth shorter, so that what was stored together does not expire together; never
        // longer than was asked for.
        let ttl_us = ttl_s.saturating_mul(1_000_000);
        let jitter = ttl_us / 10 * u64::from(digest[16]) / 255;
        let expires = now.saturating_add_unsigned(ttl_us - jitter);
        let question = asked.question.as_ref().ok();
        let question = question.and_then(|q| Some((q.features.clone(), q.vector.as_ref()?)));
        let (features, vector) = match question {
            Some((features, vector)) => (Some(features), Some(vector.to_vec())),
            None => (None, None),
        };
        let entry = Entry {
            id,
            scope: Arc::clone(&asked.scope),
            partition: asked.key.partition,
            exact: asked.key.exact,
            created: now,
            expires,
            features,
            answer: Arc::new(answer),
            remote: false,
            hits: AtomicU32::new(0),
        };
        (entry, vector)
    }

    /// Puts an entry where it is found, its vector into the index. May take milliseconds for a graph:
    /// not for an async thread.
    pub(crate) fn place(&self, mut entry: Entry, vector: Option<Vec<f32>>, log: Option<&Log>) {
        let now = self.config.clock.now();
        if entry.expires <= now || self.knows(entry.id) {
            return;
        }
        let vector = vector.filter(|vector| {
            entry.features.is_some()
                && self.index(entry.partition).insert(entry.id, vector) != Inserted::Refused
        });
        if vector.is_none() {
            entry.features = None;
        }
        let entry = Arc::new(entry);
        let mut entries = self.entries.write();
        let gone = entries.put(Arc::clone(&entry), now);
        // Under the lock, so that the log has the order that memory has.
        if let Some(log) = log {
            log.put(&entry, vector);
        }
        self.forget(&entries, gone);
    }

    /// Takes one entry out, here only. What it returns tells when that is on disk; nobody need wait.
    pub(crate) fn forget_one(
        &self,
        id: EntryId,
        log: Option<&Log>,
    ) -> Option<oneshot::Receiver<()>> {
        let mut entries = self.entries.write();
        let gone = entries.remove(id);
        let done = log.filter(|_| gone.is_some()).map(|log| log.delete(id));
        self.forget(&entries, gone);
        done
    }

    pub(crate) fn knows(&self, id: EntryId) -> bool {
        self.entries.read().any(id).is_some()
    }

    /// Entries from before a time, in microseconds since the Unix epoch.
    pub(crate) fn older_than(&self, time: i64) -> Vec<EntryId> {
        self.entries
            .read()
            .iter()
            .filter(|entry| entry.created < time)
            .map(|entry| entry.id)
            .collect()
    }

    /// Whether what is taken over would push out what is here.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.entries.read().bytes() > self.config.bytes_max / 10 * 9
    }

    fn index(&self, partition: Hash) -> Arc<Index> {
        if let Some(index) = self.indexes.read().get(&partition) {
            return Arc::clone(index);
        }
        let flat_max = self.config.flat_max;
        Arc::clone(
            self.indexes
                .write()
                .entry(partition)
                .or_insert_with(|| Arc::new(Index::new(flat_max))),
        )
    }

    /// Takes the vectors of removed entries out of the indexes.
    pub(crate) fn forget(&self, entries: &Entries, gone: impl IntoIterator<Item = Arc<Entry>>) {
        for entry in gone {
            self.counters.gone.fetch_add(1, Ordering::Relaxed);
            let Some(index) = self.indexes.read().get(&entry.partition).cloned() else {
                continue;
            };
            index.remove(entry.id);
            if entries.partition_len(&entry.partition) == 0 {
                self.indexes.write().remove(&entry.partition);
            }
        }
    }

    pub(crate) fn replay(&self, record: Replayed, vectors: &mut HashMap<EntryId, Vec<f32>>) {
        let now = self.config.clock.now();
        let mut entries = self.entries.write();
        let gone = match record {
            // Compaction may write an entry whose own record is still queued behind it.
            Replayed::Put(entry, _) if entries.any(entry.id).is_some() => Vec::new(),
            Replayed::Put(entry, _) if entry.expires <= now => {
                // It replaced an older answer to the same request all the same.
                entries
                    .by_exact(&entry.exact, now)
                    .map(|old| old.id)
                    .and_then(|old| entries.remove(old))
                    .into_iter()
                    .collect()
            }
            Replayed::Put(entry, vector) => {
                vectors.extend(vector.map(|vector| (entry.id, vector)));
                entries.put(Arc::new(*entry), now)
            }
            Replayed::Delete(id) => entries.remove(id).into_iter().collect(),
            Replayed::Clear => {
                entries.clear();
                vectors.clear();
                Vec::new()
            }
        };
        for entry in gone {
            vectors.remove(&entry.id);
        }
    }

    pub(crate) fn load_vectors(&self, mut vectors: HashMap<EntryId, Vec<f32>>) {
        let mut by_partition: HashMap<Hash, Vec<(i64, EntryId)>> = HashMap::new();
        for entry in self.entries.read().iter() {
            if vectors.contains_key(&entry.id) {
                by_partition
                    .entry(entry.partition)
                    .or_default()
                    .push((entry.created, entry.id));
            }
        }
        for (partition, mut ids) in by_partition {
            ids.sort_unstable();
            self.index(partition).load(
                ids.into_iter()
                    .filter_map(|(_, id)| Some((id, vectors.remove(&id)?))),
            );
        }
    }
}

impl Living for Arc<Shelf> {
    fn entries(&self) -> Vec<Arc<Entry>> {
        let now = self.config.clock.now();
        self.entries
            .read()
            .iter()
            .filter(|entry| entry.expires > now)
            .cloned()
            .collect()
    }

    fn vector(&self, entry: &Entry) -> Option<Vec<f32>> {
        let index = self.indexes.read().get(&entry.partition).cloned()?;
        index.vector(entry.id)
    }
}

pub(crate) fn age(entry: &Entry, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(now.saturating_sub(entry.created)).unwrap_or(0))
}
