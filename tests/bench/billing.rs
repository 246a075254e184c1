//! `bench billing`: what an event costs a lane, as a whole from a broker and step by step, beside the same
//! consumer that does nothing with it; how fast budgets admit; and how soon an event's effect is seen.

mod admissions;
mod lanes;
mod sends;
pub mod servers;
mod steps;
mod visible;

use anyhow::{Context, Result, bail};
use billing_consumer::rated::{self, Billed, Rated};
use metering::Catalog;
use schemas::{
    Attribution, BudgetRef, CacheKind, CatalogEvent, Event, Identity, KeyHash, Meter, Meters,
    Micros, NanoUsd, Outcome, Partition, PriceEntry, Pseq, RequestId, SourceId, Stages, Text,
    Usage,
};

use crate::arguments::Plan;
use crate::cores::Cores;

/// 2026-01-01.
const NOW: Micros = Micros(1_767_225_600_000_000);
const VERSION: u64 = 1;
/// Who calls: each key has a budget of its own.
const KEYS: usize = 1_000;
/// Events of one batch, as the lanes cut them.
const BATCH: usize = 8_192;

pub fn section(plan: &Plan) -> Result<()> {
    let entry = entry()?;
    let bodies = bodies(&entry);
    let catalog = catalog(entry)?;
    eprintln!("billing: steps, in memory");
    let steps = Cores::pick()?.at_load(|| {
        let steps = steps::measured(&bodies, &catalog, plan)?;
        steps::journal(&bodies, &catalog, plan)?.print(&[], &[])?;
        Ok(steps)
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        eprintln!("billing: budgets");
        admissions::table(plan).await?.print(&[], &[])?;
        let servers = servers::Servers::start().await?;
        eprintln!("billing: lanes, from a broker");
        for (table, gates) in lanes::tables(&servers, plan, &bodies, &catalog, &steps).await? {
            table.print(&[], &gates)?;
        }
        eprintln!("billing: from event to effect");
        let (table, gates) = visible::table(&servers, plan, &bodies, &catalog).await?;
        table.print(&[], &gates)
    })
}

fn entry() -> Result<PriceEntry> {
    let first = metering::builtin().into_iter().next();
    first.context("the catalog is empty")
}

fn bodies(entry: &PriceEntry) -> Vec<Vec<u8>> {
    (0..BATCH).map(|at| usage(entry, at).body()).collect()
}

fn billed<'a>(body: &'a [u8], older: &'a mut Vec<u8>, catalog: &Catalog) -> Result<Billed<'a>> {
    match rated::rate(body, older, catalog) {
        Ok(Rated::Billed(billed)) => Ok(billed),
        Ok(Rated::Poison(poison)) => bail!("an event of the bench is poison: {}", poison.reason),
        Err(_) => bail!("the catalog of the bench is not loaded"),
    }
}

fn catalog(entry: PriceEntry) -> Result<Catalog> {
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "bench".into(),
        entries: vec![entry],
    };
    Ok(Catalog::new().apply(VERSION, &event)?)
}

fn identity(at: usize) -> Identity {
    Identity {
        source_id: SourceId(1),
        partition: Partition(0),
        pseq: Pseq(at as u64 + 1),
    }
}

/// A chat of a key with a budget of its own, below a team's and everybody's.
fn usage(entry: &PriceEntry, at: usize) -> Usage {
    let key = at % KEYS;
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&(key as u64).to_be_bytes());
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(at as u64).to_be_bytes());
    let mut meters = Meters::default();
    meters.add(Meter::InputText, 74 + at as i64 % 50);
    meters.add(Meter::OutputText, 42);
    let window = |budget: Text| BudgetRef {
        budget,
        window_start: Micros(0),
        window_end: Micros(i64::MAX),
    };
    Usage {
        event_time: NOW,
        admitted_at: NOW,
        request_id: RequestId(id),
        call_id: None,
        attribution: Attribution {
            team: Some("search".into()),
            key: Some(KeyHash(hash)),
            key_alias: Some(format!("key-{key}").into()),
            ..Attribution::default()
        },
        attempt_no: 1,
        last: true,
        outcome: Outcome::Ok,
        estimated: false,
        mismatch: false,
        stream: false,
        status: 200,
        error_code: None,
        finish_reason: Some("stop".into()),
        model_requested: entry.model.clone(),
        provider: entry.provider.clone(),
        model: entry.model.clone(),
        deployment: "0123456789abcdef".into(),
        service_tier: None,
        meters,
        provider_usage: schemas::codec::Blob(
            br#"{"prompt_tokens":74,"completion_tokens":42,"total_tokens":116}"#
                .as_slice()
                .into(),
        ),
        hold: NanoUsd(1_000_000),
        budgets: vec![
            window(format!("key:{}", KeyHash(hash)).into()),
            window("team:search".into()),
            window("global".into()),
        ],
        catalog_version: VERSION,
        cache: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd(0),
        first_byte_us: Some(350_000),
        duration_us: 900_000,
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
    }
}
