//! The decision: may this request be answered with a stored answer, and which one.
//!
//! Nothing here is an error to the caller: what fails is a miss with its reason. The scope comes
//! from the authenticated key alone, is hashed into partition and exact key, and is compared again
//! with the entry's own before that is served.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{CacheConfig, Controls, Policy, THRESHOLD_FLOOR};
use crate::eligibility::{self, Reason, Tier};
use crate::embed::{Embedder, Vector};
use crate::entries::{Answer, Bounds, Entries, Entry, EntryId};
use crate::error::Error;
use crate::flight::{End, Flights, Leader, Role, ended};
use crate::guards::{self, Features};
use crate::index::{Index, Inserted};
use crate::key::{self, Asked, Hash, Key};
use crate::persist::{self, Living, Log, Replayed};
use crate::stats::{Counters, Stats, count};
use crate::{answer, json};

/// Candidates that the guards look at; the sixth nearest is rarely the right one.
const CANDIDATES: usize = 5;
/// Wait for a vector when storing, off the request's path.
const STORE_EMBED: Duration = Duration::from_secs(5);

/// A request.
#[derive(Clone, Debug)]
pub struct Lookup<'a> {
    /// The tenant, from the authenticated key only.
    pub scope: &'a str,
    /// The model that the request was resolved to.
    pub model: &'a str,
    /// The client's chat request as it came.
    pub body: &'a [u8],
    /// What the client asks of the cache.
    pub controls: Controls,
    /// What the operator allows.
    pub policy: Policy,
}

/// What became of a look-up.
#[derive(Debug)]
pub enum Outcome {
    /// Here is the answer.
    Hit(Hit),
    /// Ask the provider, and store the answer with the ticket.
    Miss(Ticket, Reason),
    /// Ask the provider; nothing will be stored.
    Bypass(Reason),
    /// The same request is under way: [`CacheService::wait`].
    Wait(Follower),
}

/// Which tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitKind {
    /// The same request.
    Exact,
    /// The same question in other words.
    Semantic,
}

impl HitKind {
    /// The word in headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Semantic => "semantic",
        }
    }
}

/// A stored answer that may be served.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Which tier answered.
    pub kind: HitKind,
    /// Cosine of the two questions; 1 for an exact hit.
    pub similarity: f32,
    /// Names the entry, for deleting it.
    pub entry: EntryId,
    /// The answer.
    pub answer: Arc<Answer>,
    /// How long it has been stored.
    pub age: Duration,
}

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

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Kept under this id.
    Kept(EntryId),
    /// Not kept, and why.
    Not(NotStored),
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The client asked for that (`no-store`, a life of zero).
    Unwanted,
    /// Not a complete answer that ended by itself.
    Incomplete,
    /// Calls tools.
    ToolCall,
    /// Has no text.
    Empty,
    /// Larger than a sixteenth of the cache.
    TooLarge,
}

impl NotStored {
    /// The word in logs and in the api.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unwanted => "unwanted",
            Self::Incomplete => "incomplete",
            Self::ToolCall => "tool-call",
            Self::Empty => "empty",
            Self::TooLarge => "too-large",
        }
    }
}

/// A request, read once.
struct Prepared {
    scope: Arc<str>,
    key: Key,
    controls: Controls,
    threshold: f32,
    /// What the semantic tier works with; `None` with the reason why it is not used.
    question: Result<Question, Reason>,
}

struct Question {
    text: String,
    features: Features,
    vector: Option<Vector>,
}

/// The cache of one process. Cheap to share behind an [`Arc`].
pub struct CacheService {
    core: Arc<Core>,
    embedder: Option<Embedder>,
    log: Option<Log>,
    flights: Arc<Flights>,
    rebuilds: Mutex<Vec<JoinHandle<()>>>,
    warnings: Vec<String>,
}

/// What the log's thread sees too.
struct Core {
    config: CacheConfig,
    entries: RwLock<Entries>,
    indexes: RwLock<HashMap<Hash, Arc<Index>>>,
    counters: Counters,
    /// Makes ids differ within a microsecond.
    sequence: AtomicU64,
}

/// Whether the cache does all that it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Answers by meaning are given.
    pub semantic: bool,
    /// Entries survive a restart.
    pub persistent: bool,
    /// Asked for more than works.
    pub degraded: bool,
    /// What was not as it should be.
    pub warnings: Vec<String>,
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
        let core = Arc::new(Core {
            entries: RwLock::new(Entries::new(bounds)),
            indexes: RwLock::default(),
            counters: Counters::default(),
            sequence: AtomicU64::new(0),
            config,
        });
        let log = core.config.dir.clone().and_then(|dir| {
            let mut vectors: HashMap<EntryId, Vec<f32>> = HashMap::new();
            let opened = persist::open(&dir, embedder.as_ref().map(Embedder::model), |record| {
                core.replay(record, &mut vectors)
            });
            core.load_vectors(vectors);
            match opened.and_then(|mut opened| {
                warnings.append(&mut opened.warnings);
                opened.start(Arc::clone(&core))
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
            core,
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
        let mut asked = match self.prepare(&lookup) {
            Ok(asked) => asked,
            Err(reason) => {
                count(&self.core.counters.bypasses, reason);
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
                    let deadline = Instant::now() + self.core.config.follower_wait;
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
            .unwrap_or(self.core.config.ttl_s)
            .min(self.core.config.ttl_max_s);
        let refused = if asked.controls.no_store || ttl == 0 {
            Some(NotStored::Unwanted)
        } else if answer.body.len() as u64 > self.core.config.bytes_max / 16 {
            Some(NotStored::TooLarge)
        } else {
            answer::refusal(&answer.body)
        };
        if let Some(why) = refused {
            self.core
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
        let core = Arc::clone(&self.core);
        let exact = asked.key.exact;
        let kept = tokio::task::spawn_blocking(move || core.build(&asked, answer, ttl)).await;
        let Ok((entry, vector)) = kept else {
            self.core
                .counters
                .not_stored
                .fetch_add(1, Ordering::Relaxed);
            return Stored::Not(NotStored::Incomplete);
        };
        let id = entry.id;
        let partition = entry.partition;
        self.core.put(entry, vector, self.log.as_ref());
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
            let mut entries = self.core.entries.write();
            if entries
                .any(id)
                .is_none_or(|entry| scope.is_some_and(|scope| *entry.scope != *scope))
            {
                return false;
            }
            let gone = entries.remove(id);
            let done = self.log.as_ref().map(|log| log.delete(id));
            self.core.forget(&entries, gone);
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
            let mut entries = self.core.entries.write();
            entries.clear();
            self.core.indexes.write().clear();
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
        let mut entries = self.core.entries.write();
        let gone = entries.expired(self.core.config.clock.now());
        self.core.forget(&entries, gone);
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::of(&self.core.counters);
        {
            let entries = self.core.entries.read();
            (stats.entries, stats.bytes) = (entries.len(), entries.bytes());
        }
        let indexes = self.core.indexes.read();
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
        let config = &self.core.config;
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

    fn prepare(&self, lookup: &Lookup<'_>) -> Result<Prepared, Reason> {
        if lookup.policy.mode == crate::config::Mode::Off {
            return Err(Reason::Off);
        }
        if lookup.body.len() > self.core.config.body_bytes_max {
            return Err(Reason::TooLarge);
        }
        let request = json::object(lookup.body).ok_or(Reason::Unreadable)?;
        let tier = eligibility::tier(&request, &lookup.policy);
        let question = match tier {
            Tier::Bypass(reason) => return Err(reason),
            Tier::Exact(reason) => Err(reason),
            Tier::Semantic => key::question(&request)
                .ok_or(Reason::NotPlainText)
                .map(|text| Question {
                    text: text.to_owned(),
                    features: Features::of(text),
                    vector: None,
                }),
        };
        let controls = merged(&lookup.controls, request.get("cache"));
        let key = key::key(Asked {
            scope: lookup.scope,
            model: lookup.model,
            revision: &lookup.policy.revision,
            namespace: controls.namespace.as_deref(),
            request: &request,
        });
        let base = lookup
            .policy
            .threshold
            .unwrap_or(self.core.config.threshold)
            .max(THRESHOLD_FLOOR);
        // A client may only ask for more likeness; NaN and the like change nothing.
        let threshold = controls
            .threshold
            .filter(|t| *t <= 1.0)
            .map_or(base, |t| t.max(base));
        Ok(Prepared {
            scope: lookup.scope.into(),
            key,
            controls,
            threshold,
            question,
        })
    }

    /// The entry of the same request; an error tells whether there was one that is too old.
    fn exact(&self, asked: &Prepared) -> Result<Hit, bool> {
        let now = self.core.config.clock.now();
        let entry = self
            .core
            .entries
            .read()
            .by_exact(&asked.key.exact, now)
            .cloned()
            .ok_or(false)?;
        if !self.core.belongs(&entry, asked) {
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
        Ok(self.core.serve(&entry, HitKind::Exact, 1.0, age))
    }

    async fn semantic(&self, asked: &mut Prepared) -> Result<Hit, Reason> {
        let embedder = self.embedder.as_ref().ok_or(Reason::NoModel);
        let question = asked.question.as_mut().map_err(|reason| *reason)?;
        let vector = match &question.vector {
            Some(vector) => Arc::clone(vector),
            None => embedder?.embed(&question.text).await?,
        };
        question.vector = Some(Arc::clone(&vector));
        self.core.nearest(asked, &vector)
    }

    fn hit(&self, hit: Hit) -> Outcome {
        let counters = &self.core.counters;
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
        count(&self.core.counters.misses, reason);
        Outcome::Miss(Ticket { asked, leader }, reason)
    }

    fn rebuild_if_due(&self, partition: &Hash) {
        let Some(index) = self.core.indexes.read().get(partition).cloned() else {
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

impl Core {
    /// The best candidate that the guards let pass; else why the best was refused.
    fn nearest(&self, asked: &Prepared, vector: &[f32]) -> Result<Hit, Reason> {
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
            let age = age(&entry, now);
            if asked
                .controls
                .max_age_s
                .is_some_and(|max| age > Duration::from_secs(max))
            {
                why = Reason::MaxAge;
                continue;
            }
            return Ok(self.serve(&entry, HitKind::Semantic, near.similarity.min(1.0), age));
        }
        Err(why)
    }

    fn serve(&self, entry: &Entry, kind: HitKind, similarity: f32, age: Duration) -> Hit {
        entry.hits.fetch_add(1, Ordering::Relaxed);
        Hit {
            kind,
            similarity,
            entry: entry.id,
            answer: Arc::clone(&entry.answer),
            age,
        }
    }

    /// The last line of defence between tenants; the key has decided before.
    fn belongs(&self, entry: &Entry, asked: &Prepared) -> bool {
        let belongs = entry.scope == asked.scope && entry.partition == asked.key.partition;
        if !belongs {
            self.counters.crossed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(cache.entry = %entry.id, "cache: an entry was found under a request that it does not belong to; not served");
        }
        belongs
    }

    /// Makes an entry and puts its vector into the index.
    fn build(
        &self,
        asked: &Prepared,
        answer: Answer,
        ttl_s: u64,
    ) -> (Arc<Entry>, Option<Vec<f32>>) {
        let now = self.config.clock.now();
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::new()
            .chain_update(asked.key.exact)
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
        let mut features = None;
        let mut vector = None;
        if let Ok(question) = &asked.question
            && let Some(found) = &question.vector
        {
            let index = self.index(asked.key.partition);
            if index.insert(id, found) != Inserted::Refused {
                features = Some(question.features.clone());
                vector = Some(found.to_vec());
            }
        }
        let entry = Entry {
            id,
            scope: Arc::clone(&asked.scope),
            partition: asked.key.partition,
            exact: asked.key.exact,
            created: now,
            expires,
            features,
            answer: Arc::new(answer),
            hits: AtomicU32::new(0),
        };
        (Arc::new(entry), vector)
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

    fn put(&self, entry: Arc<Entry>, vector: Option<Vec<f32>>, log: Option<&Log>) {
        let now = self.config.clock.now();
        let mut entries = self.entries.write();
        let gone = entries.put(Arc::clone(&entry), now);
        self.counters.stored.fetch_add(1, Ordering::Relaxed);
        // Under the lock, so that the log has the order that memory has.
        if let Some(log) = log {
            log.put(&entry, vector);
        }
        self.forget(&entries, gone);
    }

    /// Takes the vectors of removed entries out of the indexes.
    fn forget(&self, entries: &Entries, gone: impl IntoIterator<Item = Arc<Entry>>) {
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

    fn replay(&self, record: Replayed, vectors: &mut HashMap<EntryId, Vec<f32>>) {
        let now = self.config.clock.now();
        let mut entries = self.entries.write();
        let gone = match record {
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

    fn load_vectors(&self, mut vectors: HashMap<EntryId, Vec<f32>>) {
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

impl Living for Arc<Core> {
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

fn age(entry: &Entry, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(now.saturating_sub(entry.created)).unwrap_or(0))
}

/// The client's headers, completed from the body's `cache` object (LiteLLM's shape). Of two ages the
/// smaller counts, of two wishes not to be cached each. The body's namespace is hashed by the key.
fn merged(controls: &Controls, body: Option<&Value>) -> Controls {
    let mut controls = controls.clone();
    let Some(body) = body else { return controls };
    let is = |name: &str| body.get(name) == Some(&Value::Bool(true));
    // Fractions of a second are cut, as LiteLLM does not have them.
    let seconds = |name: &str| {
        let v = body.get(name)?;
        v.as_u64()
            .or_else(|| v.as_f64().filter(|v| *v >= 0.0).map(|v| v as u64))
    };
    controls.no_cache |= is("no-cache");
    controls.no_store |= is("no-store");
    controls.ttl_s = controls.ttl_s.or_else(|| seconds("ttl"));
    for name in ["s-maxage", "s-max-age", "max-age"] {
        controls.max_age_s = match (controls.max_age_s, seconds(name)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    controls
}
