//! How many events a second one core brings through each lane, for `tollgate bench`: from a real local
//! log, with the lanes' own steps (fetch, dedupe, decode, rate, fold or encode, audit). The budget lane
//! settles into memory; the store lane stops before the insert is sent. Prints nothing itself.

use std::path::Path;
use std::time::{Duration, Instant};

use analytics::Batch;
use budgets::{Budgets, Memory};
use journal::{Journal, Options, Reader, Start, Sync};
use metering::Catalog;
use schemas::codec::Blob;
use schemas::events::{PriceEntry, Rate};
use schemas::{
    Attribution, BudgetRef, CacheKind, CatalogEvent, Event, KeyHash, Meter, Meters, Micros,
    NanoUsd, OrgId, Outcome, Partition, RequestId, Stages, Topic, Usage,
};

use crate::audit::Audit;
use crate::dedupe::{Dedupe, Judged};
use crate::fold::Fold;
use crate::rated::{Rated, rate};
use crate::rows::rows;

/// Keys that the events are spread over; each has a team, and all are in `global`.
const KEYS: u64 = 1_000;
/// The lanes' own batch sizes.
const BUDGET_BATCH: usize = 8_192;
const STORE_BATCH: usize = 20_000;

/// One lane's figure.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub lane: &'static str,
    pub events: u64,
    pub took: Duration,
}

impl Measured {
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    Catalog(#[from] metering::Error),
    #[error(transparent)]
    Budgets(#[from] budgets::Error),
    #[error("an event of the measurement was not billed")]
    NotBilled,
}

/// Writes `events` events to a new log in `dir` and reads them three times: without doing anything,
/// into budget state, and into encoded rows.
///
/// # Errors
/// The log cannot be written or read.
pub async fn lanes(dir: &Path, events: u64) -> Result<Vec<Measured>, MeasureError> {
    let options = Options {
        sync: Sync::Os,
        linger: Duration::ZERO,
        ..Options::default()
    };
    let (journal, _) = Journal::open(dir, options)?;
    for number in 0..events {
        journal.append(Topic::Usage, Partition(0), &event(number).body())?;
    }
    let catalog = Catalog::new().apply(1, &prices())?;
    let open = || journal.local_reader("", &[Topic::Usage], &Start::Beginning);

    let mut reader = open()?;
    let began = Instant::now();
    while !reader.next(BUDGET_BATCH, Duration::ZERO).await?.is_empty() {}
    let fetch = Measured {
        lane: "fetch only",
        events,
        took: began.elapsed(),
    };

    let mut reader = open()?;
    let memory = Memory::new();
    let (mut dedupe, mut audit) = (Dedupe::default(), Audit::default());
    let began = Instant::now();
    loop {
        let records = reader.next(BUDGET_BATCH, Duration::ZERO).await?;
        if records.is_empty() {
            break;
        }
        let mut fold = Fold::default();
        for record in &records {
            if dedupe.judge(&record.identity) != Judged::Apply {
                return Err(MeasureError::NotBilled);
            }
            let mut older = Vec::new();
            let Ok(Rated::Billed(billed)) = rate(&record.body, &mut older, &catalog) else {
                return Err(MeasureError::NotBilled);
            };
            fold.add(&record.identity, &billed);
            audit.billed(&record.identity, billed.charge.amount);
            dedupe.raise(&record.identity);
        }
        memory.settle(&fold.settlement(Vec::new())).await?;
    }
    let budget = Measured {
        lane: "budget",
        events,
        took: began.elapsed(),
    };

    let mut reader = open()?;
    let (mut dedupe, mut audit, mut batch) = (Dedupe::default(), Audit::default(), Batch::new());
    let began = Instant::now();
    loop {
        let records = reader.next(STORE_BATCH, Duration::ZERO).await?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            if dedupe.judge(&record.identity) != Judged::Apply {
                return Err(MeasureError::NotBilled);
            }
            let mut older = Vec::new();
            let Ok(Rated::Billed(billed)) = rate(&record.body, &mut older, &catalog) else {
                return Err(MeasureError::NotBilled);
            };
            let (usage, cost) = rows(&record.identity, &billed);
            batch.push(&usage, &cost);
            audit.billed(&record.identity, billed.charge.amount);
            dedupe.raise(&record.identity);
        }
        batch.clear();
    }
    let store = Measured {
        lane: "store, without sending",
        events,
        took: began.elapsed(),
    };
    Ok(vec![fetch, budget, store])
}

fn prices() -> CatalogEvent {
    let price = |meter, price: &str| Rate {
        meter,
        service_tier: None,
        context_above: 0,
        price: price.into(),
    };
    let entry = PriceEntry {
        scope: "global".into(),
        provider: "openai".into(),
        model: "gpt-5-mini".into(),
        effective_from: Micros(0),
        effective_to: None,
        source: "measurement".into(),
        source_date: "2026-01-01".into(),
        max_input: None,
        max_output: None,
        rates: vec![
            price(Meter::InputText, "0.00000025"),
            price(Meter::InputCacheRead, "0.000000025"),
            price(Meter::OutputText, "0.000002"),
            price(Meter::OutputReasoning, "0.000002"),
        ],
    };
    CatalogEvent {
        event_time: Micros(0),
        actor: "measurement".into(),
        entries: vec![entry],
    }
}

/// A usual event: four meters, three budget windows, a provider's usage object.
fn event(number: u64) -> Usage {
    const START: Micros = Micros(1_790_000_000_000_000);
    let key = number % KEYS;
    let window = |budget: String| BudgetRef {
        budget: budget.into(),
        window_start: Micros(0),
        window_end: Micros(i64::MAX),
    };
    let hash = KeyHash::of(&key.to_string());
    let mut meters = Meters::default();
    for (meter, quantity) in [
        (Meter::InputText, 900),
        (Meter::InputCacheRead, 300),
        (Meter::OutputText, 150),
        (Meter::OutputReasoning, 80),
    ] {
        meters.add(meter, quantity);
    }
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Usage {
        event_time: START,
        admitted_at: START,
        request_id: RequestId(id),
        call_id: None,
        attribution: Attribution {
            org: OrgId::default(),
            team: Some(format!("team-{}", key % 20).into()),
            user: None,
            key: Some(hash),
            key_alias: Some("laptop".into()),
            end_user: None,
            tags: vec!["search".into()],
        },
        attempt_no: 1,
        last: true,
        outcome: Outcome::Ok,
        estimated: false,
        mismatch: false,
        stream: true,
        status: 200,
        error_code: None,
        finish_reason: Some("stop".into()),
        model_requested: "fast".into(),
        provider: "openai".into(),
        model: "gpt-5-mini".into(),
        deployment: "openai-1".into(),
        service_tier: None,
        meters,
        provider_usage: Blob(
            br#"{"prompt_tokens":1200,"completion_tokens":230,"total_tokens":1430,"prompt_tokens_details":{"cached_tokens":300}}"#
                .to_vec(),
        ),
        hold: NanoUsd(10_000_000),
        budgets: vec![window(format!("key:{hash}")), window(format!("team:team-{}", key % 20)), window("global".into())],
        catalog_version: 1,
        cache: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd(0),
        first_byte_us: Some(350_000),
        duration_us: 2_400_000,
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
    }
}
