//! The decision: may this request be answered with a stored answer, and which one.
//!
//! Nothing here is an error to the caller: what fails is a miss with its reason. The scope comes
//! from the authenticated key alone, is hashed into partition and exact key, and is compared again
//! with the entry's own before that is served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::eligibility::Reason;
use crate::embed::Embedder;
use crate::entries::{Answer, Entry};
use crate::flight::{End, Flights, Leader, Role, ended};
use crate::outcome::{Follower, Hit, HitKind, Outcome, Readiness, SharedState, Ticket};
use crate::persist::Log;
use crate::request::{Lookup, Prepared, prepare};
use crate::shared::{Down, Following, Shared};
use crate::shelf::Shelf;
use crate::stats::{Stats, count};

/// Of a caller's budget, for the way back to it.
const REPLY: Duration = Duration::from_millis(5);
/// Neighbours whose answers are gone, after which it is a miss.
const EVICTED_MAX: usize = 5;

/// The cache of one process. Cheap to share behind an [`Arc`].
pub struct CacheService {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) embedder: Option<Embedder>,
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) shared: Option<(Arc<Shared>, Following)>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) rebuilds: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) warnings: Vec<String>,
}

impl CacheService {
    /// Looks for an answer.
    pub async fn lookup(&self, lookup: Lookup<'_>) -> Outcome {
        self.lookup_within(lookup, None).await
    }

    /// Looks for an answer for somebody who goes on without one after `budget`: a text that cannot be
    /// embedded by then is a miss.
    pub async fn lookup_within(&self, lookup: Lookup<'_>, budget: Option<Duration>) -> Outcome {
        let deadline = budget.map(|budget| Instant::now() + budget);
        let single_flight = lookup.policy.single_flight;
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
        let why = match self.exact(&asked).await {
            Ok(hit) => return self.hit(hit),
            Err(why) => why,
        };
        let mut leader = None;
        if single_flight && !asked.controls.no_store {
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
        if why == Reason::StoreDown {
            // There is no answer to be had for a neighbour either.
            return self.miss(asked, leader, why);
        }
        match self.semantic(&mut asked, deadline).await {
            Ok(hit) => {
                if let Some(leader) = leader {
                    leader.end(End::Answered);
                }
                self.hit(hit)
            }
            Err(_) if why == Reason::MaxAge => self.miss(asked, leader, why),
            Err(reason) => self.miss(asked, leader, reason),
        }
    }

    /// The ticket of a request that another cache has looked up, so that its answer can be stored
    /// here. `None` for requests that a look-up leaves alone.
    #[must_use]
    pub fn ticket(&self, lookup: &Lookup<'_>) -> Option<Ticket> {
        let asked = prepare(&self.shelf.config, lookup).ok()?;
        Some(Ticket {
            asked,
            leader: None,
        })
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
            if let Ok(hit) = self.exact(&asked).await {
                return self.hit(hit);
            }
            match end {
                Some(End::Answered) => {
                    return match self.semantic(&mut asked, None).await {
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
        let shared = self.shared.as_ref().map(|(shared, _)| SharedState {
            up: shared.is_up(),
            warm: shared.is_warm(),
        });
        let config = &self.shelf.config;
        Readiness {
            semantic,
            persistent,
            shared,
            degraded: (config.semantic && !semantic)
                || (config.dir.is_some() && !persistent)
                || shared.is_some_and(|shared| !shared.up),
            warnings: self.warnings.clone(),
        }
    }

    /// Everything of [`Self::stats`] and of the shared store, in Prometheus' text format.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut out = self.stats().prometheus();
        if let Some((shared, _)) = &self.shared {
            shared.prometheus(&mut out);
        }
        out
    }

    /// The embedder, for measuring.
    #[must_use]
    pub fn embedder(&self) -> Option<&Embedder> {
        self.embedder.as_ref()
    }

    /// The entry of the same request, or why there is none.
    async fn exact(&self, asked: &Prepared) -> Result<Hit, Reason> {
        let now = self.shelf.config.clock.now();
        let here = self
            .shelf
            .entries
            .read()
            .by_exact(&asked.key.exact, now)
            .cloned();
        if let Some(entry) = here
            && self.shelf.belongs(&entry, asked)
        {
            if self.shelf.is_too_old(&entry, asked) {
                return Err(Reason::MaxAge);
            }
            if let Some(answer) = self.answer(&entry).await? {
                return Ok(self.shelf.serve(&entry, HitKind::Exact, 1.0, answer));
            }
        }
        // Another cache may have stored it a moment ago.
        let Some((shared, _)) = &self.shared else {
            return Err(Reason::NoNeighbour);
        };
        let found = shared.find(&asked.key.exact).await;
        let entry = found
            .map_err(|Down| Reason::StoreDown)?
            .filter(|entry| now < entry.expires && entry.exact == asked.key.exact)
            .filter(|entry| self.shelf.belongs(entry, asked))
            .ok_or(Reason::NoNeighbour)?;
        if self.shelf.is_too_old(&entry, asked) {
            return Err(Reason::MaxAge);
        }
        let answer = Arc::clone(&entry.answer);
        Ok(self.shelf.serve(&entry, HitKind::Exact, 1.0, answer))
    }

    /// The answer of an entry, from where it is. `None`: evicted, and the entry is gone with it.
    async fn answer(&self, entry: &Entry) -> Result<Option<Arc<Answer>>, Reason> {
        if !entry.remote {
            return Ok(Some(Arc::clone(&entry.answer)));
        }
        let Some((shared, _)) = &self.shared else {
            return Ok(None);
        };
        let found = shared
            .fetch(entry.id)
            .await
            .map_err(|Down| Reason::StoreDown)?;
        // The id is a hash over all of these; that they agree is checked all the same.
        let same = |found: &Entry| {
            (&found.scope, found.partition, found.exact)
                == (&entry.scope, entry.partition, entry.exact)
        };
        match found {
            Some(found) if same(&found) => Ok(Some(found.answer)),
            found => {
                if found.is_some() {
                    self.shelf.counters.crossed.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(cache.entry = %entry.id, "cache: the shared store holds another entry under this id; not served");
                }
                self.shelf.forget_one(entry.id, self.log.as_deref());
                shared.tell_evicted(entry.id).await;
                Ok(None)
            }
        }
    }

    async fn semantic(
        &self,
        asked: &mut Prepared,
        deadline: Option<Instant>,
    ) -> Result<Hit, Reason> {
        let embedder = self.embedder.as_ref().ok_or(Reason::NoModel);
        let question = asked.question.as_mut().map_err(|reason| *reason)?;
        let vector = match (&question.vector, deadline) {
            (Some(vector), _) => Arc::clone(vector),
            (None, None) => embedder?.embed(&question.text).await?,
            (None, Some(deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now() + REPLY);
                let budget = left.min(self.shelf.config.embed_budget);
                embedder?.embed_within(&question.text, budget).await?
            }
        };
        question.vector = Some(Arc::clone(&vector));
        let mut evicted = false;
        for _ in 0..EVICTED_MAX {
            let near = match self.shelf.nearest(asked, &vector) {
                Err(Reason::NoNeighbour) if evicted => return Err(Reason::Evicted),
                near => near?,
            };
            if let Some(answer) = self.answer(&near.entry).await? {
                let kind = HitKind::Semantic;
                return Ok(self.shelf.serve(&near.entry, kind, near.similarity, answer));
            }
            evicted = true;
        }
        Err(Reason::Evicted)
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
