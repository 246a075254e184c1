//! Prices that deployments state for themselves, brought onto the catalog's log before a call can need them.
//! Never edits an entry: a call keeps the version that it was admitted under.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use config::ModelEntry;
use journal::EventLog;
use metering::Catalog;
use schemas::{CatalogEvent, Event, Micros, Partition, PriceEntry, Text, Topic};
use tokio::time::{Instant, timeout_at};

use crate::follow::Watch;
use crate::{Error, clock};

/// Where the prices of deployments are from, by the log.
const SOURCE: &str = "config";
/// A change of prices is in force by then, or its caller is told that it is not known to be.
const WITHIN: Duration = Duration::from_secs(10);

/// Where prices are changed.
#[derive(Clone)]
pub struct Book {
    log: Arc<dyn EventLog>,
    catalog: Arc<ArcSwap<Catalog>>,
    watch: Watch,
}

impl Book {
    /// `watch` tells how far `catalog` follows `log`.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, catalog: Arc<ArcSwap<Catalog>>, watch: Watch) -> Self {
        Self {
            log,
            catalog,
            watch,
        }
    }

    #[must_use]
    pub const fn catalog(&self) -> &Arc<ArcSwap<Catalog>> {
        &self.catalog
    }

    /// Appends an event and waits until it is in force here. Gives the catalog's version.
    ///
    /// # Errors
    /// The log did not take it, or it is not known to be in force.
    pub async fn append(&self, event: &CatalogEvent) -> Result<u64, Error> {
        let until = Instant::now() + WITHIN;
        let body = event.body().into();
        let appending = self.log.append(Topic::Catalog, Partition(0), body);
        let appended = match timeout_at(until, appending).await {
            Ok(appended) => appended.map_err(|error| {
                Error::Change(format!("the log of prices did not take a change ({error})"))
            })?,
            Err(_) => {
                return Err(Error::Change(
                    "the log of prices did not acknowledge a change".to_owned(),
                ));
            }
        };
        if self.watch.applied(appended.version, until).await {
            return Ok(appended.version);
        }
        Err(Error::Change(format!(
            "the prices are on the log as version {}, and not in force here after {} s",
            appended.version,
            WITHIN.as_secs()
        )))
    }

    /// Brings our own list and what deployments state into force, as one event, if they are not, and ends what they
    /// stated and no longer do. Gives the catalog's version that has them. Several processes may append the same at once: the same prices twice
    /// are the same prices.
    ///
    /// # Errors
    /// As [`Book::append`].
    pub async fn seed(&self, stated: &Stated, actor: &str) -> Result<u64, Error> {
        let known = self.catalog.load_full();
        let mut entries = known.builtin_changes(&metering::builtin());
        entries.extend(known.changes(&stated.entries));
        let is_of = |id: &str| stated.deployments.iter().any(|known| known == id);
        entries.extend(known.ended(is_of, SOURCE, &stated.entries, clock::now()));
        if entries.is_empty() {
            return Ok(known.version());
        }
        let event = CatalogEvent {
            event_time: clock::now(),
            actor: actor.into(),
            entries,
        };
        self.append(&event).await
    }

    /// Whether a version is in force here, waited for.
    pub async fn has(&self, version: u64) -> bool {
        self.watch.applied(version, Instant::now() + WITHIN).await
    }
}

/// What deployments say of their prices.
#[derive(Debug, Clone, Default)]
pub struct Stated {
    /// Ids of all of them: what one of these states no longer, ends.
    deployments: Vec<String>,
    entries: Vec<PriceEntry>,
}

/// The prices that deployments state, in their order.
///
/// # Errors
/// One that is no price, naming its model.
pub fn stated(models: &[ModelEntry]) -> Result<Stated, String> {
    let priced = models.iter().filter(|entry| !entry.prices.is_empty());
    let entries: Vec<_> = priced.map(price).collect::<Result<_, _>>()?;
    for entry in &entries {
        if let Err(error) = Catalog::check(entry) {
            return Err(format!(
                "price of {}/{}: {error}",
                entry.provider, entry.model
            ));
        }
    }
    Ok(Stated {
        deployments: models
            .iter()
            .map(|entry| entry.deployment_id.clone())
            .collect(),
        entries,
    })
}

/// The price that a deployment states for itself. In force since ever: a file says what is, not since when; a
/// call keeps the version it was admitted under.
fn price(entry: &ModelEntry) -> Result<PriceEntry, String> {
    let fields = entry
        .prices
        .iter()
        .map(|(name, price)| (name.as_str(), price.as_str()));
    let rates = metering::litellm_rates(fields)
        .map_err(|reason| format!("model {}: {reason}", entry.model_name))?;
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
        source: SOURCE.into(),
        source_date: "".into(),
        max_input: entry.limits.max_input_tokens.map(u64::from),
        max_output: entry.limits.max_output_tokens.map(u64::from),
        rates,
    })
}
