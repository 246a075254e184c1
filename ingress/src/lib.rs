//! The ingress: one call in, one provider call out, one event appended.
//!
//! [`call`] is the life of a call; [`serve`] the threads it runs on; [`record`] what is written about
//! it. Nothing here asks a database on the way of a request, and nothing is sent to a provider before
//! its worst case is held and its ADMIT is written.

mod access;
mod admit;
pub mod alerts;
pub mod auth;
mod beside;
mod body;
mod cache_routes;
mod call;
pub mod clock;
mod demands;
pub mod directory;
mod edit;
mod endpoint;
pub mod error;
mod exchange;
mod failover;
pub mod follow;
mod form;
mod headers;
mod health;
mod hedge;
mod json;
mod look;
pub mod management;
pub mod metrics;
mod models;
pub mod moment;
mod params;
mod plan;
pub mod prices;
mod probe;
mod providers;
pub mod record;
mod recovery;
mod relay;
pub mod reload;
mod reply;
mod request;
mod router;
mod seal;
mod semantic_cache;
mod sent;
mod serve;
mod shorten;
mod spend;
mod sse;
mod stream;
mod synced;
mod upstream;
mod usage;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Instant;

use arc_swap::ArcSwap;
use budgets::Budgets;
use config::{Config, Source};
use directory::Directory;
use journal::{EventLog, Journal};
use metering::Catalog;
use parking_lot::Mutex;
use schemas::{KeyHash, Micros};
use tokio::task::JoinSet;

pub use beside::Beside;
pub use error::Error;
pub use models::Models;
pub use recovery::{Abandoned, recover};
pub use semantic_cache::{Complete, Found, Hit, Lookup, SemanticCache, Ticket, Unavailable};
pub use serve::{Running, start};

/// What a gateway is made of.
pub struct Parts {
    /// What the configuration is made from: the present one, and those after it.
    pub source: Arc<Source>,
    /// As the source says, without the models of the log.
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    /// Of calls.
    pub journal: Journal,
    /// `journal::Options::partitions` of it.
    pub partitions: u16,
    /// Of keys, teams and users: where changes go to.
    pub config_log: Arc<dyn EventLog>,
    /// How far `directory` follows it.
    pub config_follow: follow::Watch,
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// How far `catalog` follows its log; `None` where it never changes.
    pub catalog_follow: Option<follow::Watch>,
    /// Where prices that deployments state go to; `None` where the catalog never changes.
    pub prices: Option<prices::Book>,
    pub budgets: Arc<dyn Budgets>,
    pub store: Option<analytics::Store>,
    pub cache: Option<Arc<dyn SemanticCache>>,
    /// What else runs in this process.
    pub beside: Vec<Arc<dyn Beside>>,
    pub master_key: KeyHash,
}

/// The state that all serving threads share.
pub struct Gateway {
    pub directory: Arc<Directory>,
    pub journal: Journal,
    pub config_log: Arc<dyn EventLog>,
    pub config_follow: follow::Watch,
    pub catalog: Arc<ArcSwap<Catalog>>,
    pub catalog_follow: Option<follow::Watch>,
    pub prices: Option<prices::Book>,
    pub budgets: Arc<dyn Budgets>,
    pub store: Option<analytics::Store>,
    pub cache: Option<Arc<dyn SemanticCache>>,
    pub beside: Vec<Arc<dyn Beside>>,
    pub master_key: KeyHash,
    pub models: ArcSwap<Models>,
    pub reloads: reload::Reloads,
    pub metrics: metrics::Metrics,
    /// None where nobody wants to be told.
    pub alerts: Option<alerts::Alerts>,
    pub open_calls: record::OpenCalls,
    pub started: Micros,
    /// What [`Gateway::moment`] counts from.
    epoch: Instant,
    partitions: u16,
    draining: AtomicBool,
    /// Both followers have something to serve by. Never falls again.
    grounded: AtomicBool,
    /// Work that outlives the request that began it.
    detached: Mutex<JoinSet<()>>,
}

impl Gateway {
    /// # Errors
    /// A model of the configuration that cannot be called as it stands.
    pub fn new(parts: Parts) -> Result<Self, Error> {
        parts.directory.set_budgets(&parts.config.budgets);
        Ok(Self {
            models: ArcSwap::from_pointee(Models::new(&parts.config)?),
            alerts: alerts::Alerts::of(&parts.config),
            directory: parts.directory,
            journal: parts.journal,
            config_log: parts.config_log,
            config_follow: parts.config_follow,
            catalog: parts.catalog,
            catalog_follow: parts.catalog_follow,
            prices: parts.prices,
            reloads: reload::Reloads::new(parts.source),
            budgets: parts.budgets,
            store: parts.store,
            cache: parts.cache,
            beside: parts.beside,
            master_key: parts.master_key,
            metrics: metrics::Metrics::default(),
            open_calls: record::OpenCalls::default(),
            started: clock::now(),
            epoch: Instant::now(),
            partitions: parts.partitions,
            draining: AtomicBool::new(false),
            grounded: AtomicBool::new(false),
            detached: Mutex::default(),
        })
    }

    /// The settings in force. A call goes by those that it began with.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.models.load().config.clone()
    }

    /// The clock of the request path.
    #[must_use]
    pub fn now(&self) -> Micros {
        clock::now()
    }

    /// The clock of routing: it never goes back.
    #[must_use]
    pub fn moment(&self) -> routing::Moment {
        self.moment_of(Instant::now())
    }

    /// An instant that was read already, by the clock of routing.
    #[must_use]
    pub fn moment_of(&self, at: Instant) -> routing::Moment {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        routing::Moment(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Tells the journal up to where all calls are closed, so that it can be trimmed and a start reads
    /// little. To be called about once a second.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn mark_low_water(&self) -> Result<(), Error> {
        Ok(self
            .journal
            .mark_low_water(self.open_calls.low_water(&self.journal))?)
    }

    /// A serving thread has nothing to do. Where every call has written its last record, nobody is on the
    /// way to the disk whom a group could wait for.
    fn hurry_if_all_wait(&self) {
        if self.open_calls.count() == 0 {
            self.journal.hurry();
        }
    }

    /// Whether no new calls are taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether keys, models and prices are known, be it from a snapshot. Without them nobody can be told apart and
    /// nothing can be priced.
    #[must_use]
    pub fn is_grounded(&self) -> bool {
        if self.grounded.load(Ordering::Relaxed) {
            return true;
        }
        let known = |follow: &follow::Watch| follow.is_grounded();
        let now = known(&self.config_follow)
            && self.catalog_follow.as_ref().is_none_or(known)
            && self.reloads.models() == self.directory.models_version();
        if now {
            self.grounded.store(true, Ordering::Relaxed);
        }
        now
    }

    /// Says no to who asks whether it is ready, and still takes calls: so a load balancer can look away
    /// before anything is refused.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Does what must not end with the request that asks for it. Work that needs to wait for nothing is
    /// done when this returns.
    pub fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(work);
        if pin!(&mut work)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return;
        }
        // Without a runtime the process is ending, and the log has all that counts.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut detached = self.detached.lock();
            while detached.try_join_next().is_some() {}
            detached.spawn_on(work, &runtime);
        }
    }

    async fn finish_detached(&self) {
        let mut detached = std::mem::take(&mut *self.detached.lock());
        while detached.join_next().await.is_some() {}
    }
}

/// What one serving thread has of its own.
pub struct Worker {
    pub gateway: Arc<Gateway>,
    upstream: upstream::Upstream,
    syncs: Arc<synced::Syncs>,
}

impl Worker {
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            upstream: upstream::Upstream::default(),
            syncs: Arc::default(),
            gateway,
        }
    }
}
