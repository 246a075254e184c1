//! The decision: may this request be answered with a stored answer, and which one.
//!
//! Nothing here is an error to the caller: what fails is a miss with its reason. The scope comes
//! from the authenticated key alone, is hashed into partition and exact key, and is compared again
//! with the entry's own before that is served.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::answer;
use crate::config::{CacheConfig, THRESHOLD_FLOOR};
use crate::eligibility::Reason;
use crate::embed::Embedder;
use crate::entries::{Answer, Bounds, Entries, EntryId};
use crate::error::Error;
use crate::flight::{End, Flights, Leader, Role, ended};
use crate::key::Hash;
use crate::outcome::{Hit, HitKind, Lookup, NotStored, Outcome, Readiness, Stored};
use crate::persist::{self, Log};
use crate::request::{Prepared, prepare};
use crate::shelf::{Shelf, age};
use crate::stats::{Counters, Stats, count};

/// Wait for a vector when storing, off the request's path.
const STORE_EMBED: Duration = Duration::from_secs(5);

/// What a miss remembers, so that storing need not work it out again. Dropping it lets an identical
/// request that waits go ahead.
pub struct Ticket {
    asked: Prepared,
    leader: Option<Leader>,
}

/// A request that waits for an identical one.
pub struct Follower {
    asked: Prepared,
    state: watch::Receiver<Option<End>>,
    deadline: Instant,
}

/// The cache of one process. Cheap to share behind an [`Arc`].
pub struct CacheService {
    shelf: Arc<Shelf>,
    embedder: Option<Embedder>,
    log: Option<Log>,
    flights: Arc<Flights>,
    rebuilds: Mutex<Vec<JoinHandle<()>>>,
    warnings: Vec<String>,
}

impl CacheService {
    /// Opens the cache: loads the model (about a second) and the entries of its folder. Whatever
    /// cannot be loaded is left out with a warning; see [`Self::readiness`].
    ///
    /// # Errors
    /// Only for settings that cannot be meant.
    pub async fn open(config: CacheConfig) -> Result<Self, Error> {
        for (name, value) in [("threshold", config.threshold)] {
            if !(THRESHOLD_FLOOR..=1.0).contains(&value) {
                return Err(Error::Config {
                    name,
                    problem: format!("{value} is not between {THRESHOLD_FLOOR} and 1"),
                });
            }
        }
        if config.ttl_s == 0 || config.ttl_s > config.ttl_max_s {
            return Err(Error::Config {
                name: "ttl_s",
                problem: format!(
                    "{} is not between 1 and ttl_max_s ({})",
                    config.ttl_s, config.ttl_max_s
                ),
            });
        }
        tokio::task::spawn_blocking(move || Self::open_now(config))
            .await
            .unwrap_or_else(|e| {
                Err(Error::Config {
                    name: "dir",
                    problem: format!("opening the cache failed: {e}"),
                })
            })
    }

    fn open_now(config: CacheConfig) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let embedder = match config.semantic.then(|| Embedder::open(&config)) {
            Some(Ok(embedder)) => Some(embedder),
            Some(Err(e)) => {
                warnings.push(format!("answering word for word only: {e}"));
                None
            }
            None => None,
        };
        let bounds = Bounds {
            bytes: config.bytes_max,
            scope_entries: config.scope_entries_max,
            partition_entries: config.partition_entries_max,
        };
        let shelf = Arc::new(Shelf {
            entries: RwLock::new(Entries::new(bounds)),
            indexes: RwLock::default(),
            counters: Counters::default(),
            sequence: AtomicU64::new(0),
            config,
        });
        let log = shelf.config.dir.clone().and_then(|dir| {
            let mut vectors: HashMap<EntryId, Vec<f32>> = HashMap::new();
            let opened = persist::open(&dir, embedder.as_ref().map(Embedder::model), |record| {
                shelf.replay(record, &mut vectors)
            });
            shelf.load_vectors(vectors);
            match opened.and_then(|mut opened| {
                warnings.append(&mut opened.warnings);
                opened.start(Arc::clone(&shelf))
            }) {
                Ok(log) => Some(log),
                Err(e) => {
                    warnings.push(format!("keeping entries in memory only: {e}"));
                    None
                }
            }
        });
        for warning in &warnings {
            tracing::warn!("cache: {warning}");
        }
        Ok(Self {
            shelf,
            embedder,
            log,
            flights: Arc::default(),
            rebuilds: Mutex::default(),
            warnings,
        })
    }

    /// Looks for an answer.
    pub async fn lookup(&self, lookup: Lookup<'_>) -> Outcome {
        let policy_flight = lookup.policy.single_flight;
        let mut asked = match prepare(&self.shelf.config, &lookup) {
            Ok(asked) => asked,
            Err(reason) => {
                count(&self.shelf.counters.bypasses, reason);
                return Outcome::Bypass(reason);
            }
        };
        if asked.controls.no_cache {
            return self.miss(asked, None, Reason::NoCache);
        }
        let too_old = match self.exact(&asked) {
            Ok(hit) => return self.hit(hit),
            Err(too_old) => too_old,
        };
        let mut leader = None;
        if policy_flight && !asked.controls.no_store {
            match self.flights.join(asked.key.exact) {
                Role::Leader(own) => leader = Some(own),
                Role::Follower(state) => {
                    let deadline = Instant::now() + self.shelf.config.follower_wait;
                    return Outcome::Wait(Follower {
                        asked,
                        state,
                        deadline,
                    });
                }
            }
        }
        match self.semantic(&mut asked).await {
            Ok(hit) => {
                if let Some(leader) = leader {
                    leader.end(End::Answered);
                }
                self.hit(hit)
            }
            Err(_) if too_old => self.miss(asked, leader, Reason::MaxAge),
            Err(reason) => self.miss(asked, leader, reason),
        }
    }

    /// Waits for the identical request that is under way, at most as long as configured. Never
    /// gives [`Outcome::Wait`] again.
    pub async fn wait(&self, follower: Follower) -> Outcome {
        let Follower {
            mut asked,
            mut state,
            deadline,
        } = follower;
        loop {
            let Ok(end) = tokio::time::timeout_at(deadline.into(), ended(&mut state)).await else {
                return self.miss(asked, None, Reason::FollowerWait);
            };
            if let Ok(hit) = self.exact(&asked) {
                return self.hit(hit);
            }
            match end {
                Some(End::Answered) => {
                    return match self.semantic(&mut asked).await {
                        Ok(hit) => self.hit(hit),
                        Err(_) => self.miss(asked, None, Reason::FollowerWait),
                    };
                }
                Some(End::Unstorable) => return self.miss(asked, None, Reason::FollowerWait),
                None => match self.flights.join(asked.key.exact) {
                    Role::Leader(leader) => {
                        return self.miss(asked, Some(leader), Reason::FollowerWait);
                    }
                    Role::Follower(next) => state = next,
                },
            }
        }
    }

    /// Keeps an answer, if it may be kept. Call it after the client has its answer: it may embed.
    pub async fn store(&self, ticket: Ticket, answer: Answer) -> Stored {
        let Ticket { mut asked, leader } = ticket;
        let ttl = asked
            .controls
            .ttl_s
            .unwrap_or(self.shelf.config.ttl_s)
            .min(self.shelf.config.ttl_max_s);
        let refused = if asked.controls.no_store || ttl == 0 {
            Some(NotStored::Unwanted)
        } else if answer.body.len() as u64 > self.shelf.config.bytes_max / 16 {
            Some(NotStored::TooLarge)
        } else {
            answer::refusal(&answer.body)
        };
        if let Some(why) = refused {
            self.shelf
                .counters
                .not_stored
                .fetch_add(1, Ordering::Relaxed);
            if let Some(leader) = leader {
                leader.end(End::Unstorable);
            }
            return Stored::Not(why);
        }
        // Followers need the exact entry only; but two entries for one answer would be one too many,
        // so the vector, if it is late, is waited for here.
        if let (Some(embedder), Ok(question)) = (&self.embedder, &mut asked.question)
            && question.vector.is_none()
        {
            question.vector = embedder
                .embed_within(&question.text, STORE_EMBED)
                .await
                .ok();
        }
        let shelf = Arc::clone(&self.shelf);
        let exact = asked.key.exact;
        let kept = tokio::task::spawn_blocking(move || shelf.build(&asked, answer, ttl)).await;
        let Ok((entry, vector)) = kept else {
            self.shelf
                .counters
                .not_stored
                .fetch_add(1, Ordering::Relaxed);
            return Stored::Not(NotStored::Incomplete);
        };
        let id = entry.id;
        let partition = entry.partition;
        self.shelf.put(entry, vector, self.log.as_ref());
        if let Some(leader) = leader {
            debug_assert_eq!(leader.exact(), exact);
            leader.end(End::Answered);
        }
        self.rebuild_if_due(&partition);
        Stored::Kept(id)
    }

    /// Deletes an entry, for good once this returns. With a scope only if it is that tenant's.
    pub async fn delete(&self, id: EntryId, scope: Option<&str>) -> bool {
        let done = {
            let mut entries = self.shelf.entries.write();
            if entries
                .any(id)
                .is_none_or(|entry| scope.is_some_and(|scope| *entry.scope != *scope))
            {
                return false;
            }
            let gone = entries.remove(id);
            let done = self.log.as_ref().map(|log| log.delete(id));
            self.shelf.forget(&entries, gone);
            done
        };
        if let Some(done) = done {
            // An error means that the log is broken, which readiness tells.
            drop(done.await);
        }
        true
    }

    /// Deletes everything.
    pub async fn clear(&self) {
        let done = {
            let mut entries = self.shelf.entries.write();
            entries.clear();
            self.shelf.indexes.write().clear();
            self.log.as_ref().map(Log::clear)
        };
        if let Some(done) = done {
            drop(done.await);
        }
    }

    /// Writes what is queued to disk and waits for rebuilds; call it before the process ends.
    pub async fn drain(&self) {
        let rebuilds = std::mem::take(&mut *self.rebuilds.lock());
        for rebuild in rebuilds {
            drop(rebuild.await);
        }
        if let Some(log) = &self.log {
            drop(log.flush().await);
        }
    }

    /// Takes out what has expired; [`Self::store`] does so too, this is for quiet times.
    pub fn sweep(&self) {
        let mut entries = self.shelf.entries.write();
        let gone = entries.expired(self.shelf.config.clock.now());
        self.shelf.forget(&entries, gone);
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::of(&self.shelf.counters);
        {
            let entries = self.shelf.entries.read();
            (stats.entries, stats.bytes) = (entries.len(), entries.bytes());
        }
        let indexes = self.shelf.indexes.read();
        stats.partitions = indexes.len();
        for index in indexes.values().map(|index| index.stats()) {
            stats.vectors.0 += index.live;
            stats.vectors.1 += index.dead;
            stats.canaries.0 += index.canaries.0;
            stats.canaries.1 += index.canaries.1;
        }
        stats.flights = self.flights.len();
        stats.embed = self.embedder.as_ref().map(Embedder::stats);
        stats
    }

    /// What works.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let semantic = self.embedder.as_ref().is_some_and(Embedder::is_well);
        let persistent = self.log.as_ref().is_some_and(|log| !log.is_broken());
        let config = &self.shelf.config;
        Readiness {
            semantic,
            persistent,
            degraded: (config.semantic && !semantic) || (config.dir.is_some() && !persistent),
            warnings: self.warnings.clone(),
        }
    }

    /// The embedder, for measuring.
    #[must_use]
    pub fn embedder(&self) -> Option<&Embedder> {
        self.embedder.as_ref()
    }

    /// The entry of the same request; an error tells whether there was one that is too old.
    fn exact(&self, asked: &Prepared) -> Result<Hit, bool> {
        let now = self.shelf.config.clock.now();
        let entry = self
            .shelf
            .entries
            .read()
            .by_exact(&asked.key.exact, now)
            .cloned()
            .ok_or(false)?;
        if !self.shelf.belongs(&entry, asked) {
            return Err(false);
        }
        let age = age(&entry, now);
        if asked
            .controls
            .max_age_s
            .is_some_and(|max| age > Duration::from_secs(max))
        {
            return Err(true);
        }
        Ok(self.shelf.serve(&entry, HitKind::Exact, 1.0, age))
    }

    async fn semantic(&self, asked: &mut Prepared) -> Result<Hit, Reason> {
        let embedder = self.embedder.as_ref().ok_or(Reason::NoModel);
        let question = asked.question.as_mut().map_err(|reason| *reason)?;
        let vector = match &question.vector {
            Some(vector) => Arc::clone(vector),
            None => embedder?.embed(&question.text).await?,
        };
        question.vector = Some(Arc::clone(&vector));
        self.shelf.nearest(asked, &vector)
    }

    fn hit(&self, hit: Hit) -> Outcome {
        let counters = &self.shelf.counters;
        match hit.kind {
            HitKind::Exact => counters.hits_exact.fetch_add(1, Ordering::Relaxed),
            HitKind::Semantic => {
                counters.similarity(hit.similarity);
                counters.hits_semantic.fetch_add(1, Ordering::Relaxed)
            }
        };
        counters
            .saved_nano
            .fetch_add(hit.answer.cost_nano, Ordering::Relaxed);
        counters.saved_tokens.fetch_add(
            hit.answer
                .usage
                .prompt
                .saturating_add(hit.answer.usage.completion),
            Ordering::Relaxed,
        );
        Outcome::Hit(hit)
    }

    fn miss(&self, asked: Prepared, leader: Option<Leader>, reason: Reason) -> Outcome {
        count(&self.shelf.counters.misses, reason);
        Outcome::Miss(Ticket { asked, leader }, reason)
    }

    fn rebuild_if_due(&self, partition: &Hash) {
        let Some(index) = self.shelf.indexes.read().get(partition).cloned() else {
            return;
        };
        if index.wants_rebuild() {
            let rebuild = tokio::task::spawn_blocking(move || {
                if !index.rebuild() {
                    tracing::warn!("cache: an index could not be rebuilt, the old one serves on");
                }
            });
            let mut rebuilds = self.rebuilds.lock();
            rebuilds.retain(|r| !r.is_finished());
            rebuilds.push(rebuild);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("leads", &self.leader.is_some())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follower")
    }
}
