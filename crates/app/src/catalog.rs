//! The price catalog as a projection of its log, and what is appended at a start: new entries of our
//! own list, and the prices of the file.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use arc_swap::ArcSwap;
use bytes::Bytes;
use config::ModelEntry;
use ingress::follow::{Follow, Frozen, Projection, Snapshot, Watch};
use journal::EventLog;
use metering::Catalog;
use parking_lot::Mutex;
use schemas::{CatalogEvent, Event, Micros, Partition, PriceEntry, Text, Topic};
use tokio::time::Instant;

/// A change of prices is in force by then, or its caller is told that it is not known to be.
const WITHIN: Duration = Duration::from_secs(10);

/// All versions of the catalog: old ones must stay rateable, so what is kept is every event.
#[derive(Default)]
pub struct Prices {
    catalog: Arc<ArcSwap<Catalog>>,
    events: Mutex<Vec<(u64, Bytes)>>,
}

impl Projection for Prices {
    const TOPIC: Topic = Topic::Catalog;
    const NAME: &'static str = "catalog";
    const READS: u16 = 1;

    fn apply(&self, version: u64, body: &[u8]) -> Result<(), String> {
        let event = CatalogEvent::from_body(body).map_err(|error| error.to_string())?;
        let next = self.catalog.load().apply(version, &event);
        self.catalog
            .store(Arc::new(next.map_err(|error| error.to_string())?));
        self.events
            .lock()
            .push((version, Bytes::copy_from_slice(body)));
        Ok(())
    }

    fn clear(&self) {
        self.events.lock().clear();
        self.catalog.store(Arc::default());
    }

    fn freeze(&self) -> Frozen {
        let events = self.events.lock().clone();
        Box::new(move |give| {
            for (version, body) in &events {
                give(*version, body);
            }
        })
    }
}

/// The catalog with what keeps it up to date.
pub struct Followed {
    pub catalog: Arc<ArcSwap<Catalog>>,
    follow: Follow<Prices>,
    log: Arc<dyn EventLog>,
}

/// Follows the catalog's log on the present runtime.
pub fn follow(log: Arc<dyn EventLog>, kept: Option<Snapshot>) -> Followed {
    let prices = Prices::default();
    let catalog = prices.catalog.clone();
    let follow = Follow::start(log.clone(), prices, kept);
    Followed {
        catalog,
        follow,
        log,
    }
}

impl Followed {
    pub fn watch(&self) -> Watch {
        self.follow.watch()
    }

    /// Stops following, and leaves a snapshot.
    pub async fn stop(self) {
        self.follow.stop().await;
    }

    pub fn book(&self) -> Book {
        Book {
            log: self.log.clone(),
            catalog: self.catalog.clone(),
            watch: self.watch(),
        }
    }
}

/// Where prices are changed.
pub struct Book {
    log: Arc<dyn EventLog>,
    catalog: Arc<ArcSwap<Catalog>>,
    watch: Watch,
}

impl Book {
    pub const fn catalog(&self) -> &Arc<ArcSwap<Catalog>> {
        &self.catalog
    }

    /// Appends an event and waits until it is in force here. Gives the catalog's version.
    pub async fn append(&self, event: &CatalogEvent) -> Result<u64> {
        let body = event.body().into();
        let appended = self.log.append(Topic::Catalog, Partition(0), body).await?;
        let until = Instant::now() + WITHIN;
        ensure!(
            self.watch.applied(appended.version, until).await,
            "the prices are on the log as version {}, and not in force here after {} s",
            appended.version,
            WITHIN.as_secs()
        );
        Ok(appended.version)
    }

    /// Brings our own list and `of_file` into force, as one event, if they are not. Several processes that
    /// start at once may append the same: the same prices twice are the same prices.
    pub async fn seed(&self, of_file: &[PriceEntry]) -> Result<()> {
        let known = self.catalog.load_full();
        let mut entries = known.builtin_changes(&metering::builtin());
        entries.extend(known.changes(of_file));
        if entries.is_empty() {
            return Ok(());
        }
        let event = CatalogEvent {
            event_time: ingress::clock::now(),
            actor: "start".into(),
            entries,
        };
        self.append(&event).await.map(drop)
    }
}

/// The prices that the file states, in the order of its deployments.
///
/// # Errors
/// One that is no price, naming its model.
pub fn of_file(models: &[ModelEntry]) -> Result<Vec<PriceEntry>> {
    let priced = models.iter().filter(|entry| !entry.prices.is_empty());
    let entries: Vec<_> = priced.map(price_of_file).collect::<Result<_>>()?;
    for entry in &entries {
        if let Err(error) = Catalog::check(entry) {
            bail!("price of {}/{}: {error}", entry.provider, entry.model);
        }
    }
    Ok(entries)
}

/// The price that a deployment of the file states for itself. In force since ever: a file says what is,
/// not since when; a call keeps the version it was admitted under.
fn price_of_file(entry: &ModelEntry) -> Result<PriceEntry> {
    let fields = entry
        .prices
        .iter()
        .map(|(name, price)| (name.as_str(), price.as_str()));
    let rates = metering::litellm_rates(fields)
        .map_err(|reason| anyhow::anyhow!("model_list: {}: {reason}", entry.model_name))?;
    let scope: Text = format!("deployment:{}", entry.deployment_id).into();
    Ok(PriceEntry {
        scope,
        provider: entry.provider.as_str().into(),
        model: entry
            .base_model
            .as_deref()
            .unwrap_or(&entry.upstream_model)
            .into(),
        effective_from: Micros(0),
        effective_to: None,
        source: "config".into(),
        source_date: "".into(),
        max_input: entry.limits.max_input_tokens.map(u64::from),
        max_output: entry.limits.max_output_tokens.map(u64::from),
        rates,
    })
}
