//! The price catalog as a projection of its log, and what is appended at a start: new entries of our
//! own list, and the prices of the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use config::ModelEntry;
use journal::{Journal, LocalReader, Options, Position, Reader, Start};
use metering::Catalog;
use schemas::{CatalogEvent, Event, Micros, Partition, PriceEntry, Text, Topic};

/// The open log with the catalog it makes.
pub struct Log {
    journal: Journal,
    pub catalog: Catalog,
}

/// Opens the log and reads it from its start: old versions must stay rateable.
pub fn open(data_dir: &Path) -> Result<Log> {
    let dir = data_dir.join("catalog");
    // An import of a whole price list is one record, and a record fits in a quarter of a segment.
    let options = Options {
        partitions: 1,
        ..Options::default()
    };
    let (journal, _) = Journal::open(&dir, options)
        .with_context(|| format!("cannot open the price catalog in {}", dir.display()))?;
    let mut catalog = Catalog::new();
    for record in journal.scan(&[Topic::Catalog], Position::default())? {
        let record = record?;
        let event = CatalogEvent::from_body(&record.body)?;
        catalog = catalog.apply(record.version, &event)?;
    }
    Ok(Log { journal, catalog })
}

/// The catalog of a process beside this one, kept up with on the present runtime.
pub async fn follow(data_dir: &Path) -> Result<Arc<ArcSwap<Catalog>>> {
    let dir = data_dir.join("catalog");
    let mut reader = LocalReader::open(&dir, "", &[Topic::Catalog], &Start::Beginning)
        .with_context(|| format!("cannot follow the price catalog in {}", dir.display()))?;
    let shared = Arc::new(ArcSwap::from_pointee(Catalog::new()));
    let catalog = shared.clone();
    // Ends with the process: the lanes wait for a version that does not come, and say so.
    tokio::spawn(async move {
        loop {
            match reader.next(64, Duration::from_secs(1)).await {
                Ok(records) => records.iter().for_each(|record| apply(&catalog, record)),
                Err(error) => {
                    tracing::error!("the price catalog cannot be read on: {error}");
                    return;
                }
            }
        }
    });
    Ok(shared)
}

fn apply(catalog: &ArcSwap<Catalog>, record: &journal::Record) {
    let next = CatalogEvent::from_body(&record.body)
        .map_err(anyhow::Error::from)
        .and_then(|event| Ok(catalog.load().apply(record.version, &event)?));
    match next {
        Ok(next) => catalog.store(Arc::new(next)),
        Err(error) => {
            tracing::error!(event = %record.identity, "price event without effect: {error:#}")
        }
    }
}

impl Log {
    /// Appends an event, durably, and gives the catalog's new version.
    pub fn append(&self, event: CatalogEvent) -> Result<u64> {
        let appended = self
            .journal
            .append(Topic::Catalog, Partition(0), &event.body())?;
        self.journal.sync()?;
        Ok(appended.version)
    }

    /// Brings our own list and the file's prices into force, as one event, if they are not.
    pub fn seed(mut self, models: &[ModelEntry], now: Micros) -> Result<Self> {
        let mut entries = self.catalog.builtin_changes(&metering::builtin());
        let of_file = models
            .iter()
            .filter(|entry| !entry.prices.is_empty())
            .map(price_of_file)
            .collect::<Result<Vec<_>>>()?;
        entries.extend(self.catalog.changes(&of_file));
        if entries.is_empty() {
            return Ok(self);
        }
        let event = CatalogEvent {
            event_time: now,
            actor: "start".into(),
            entries,
        };
        let catalog = self.catalog.clone();
        let version = self.append(event.clone())?;
        self.catalog = catalog.apply(version, &event)?;
        Ok(self)
    }
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
