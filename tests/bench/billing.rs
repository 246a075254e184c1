//! `bench billing`: what one event costs a lane, step by step, as a whole from the journal on disk, and as
//! a whole from a broker; how soon its effect is seen; and how fast budgets reserve.

mod lanes;
pub mod servers;
mod visible;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use analytics::Batch;
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use billing_consumer::fold::Fold;
use billing_consumer::rated::{self, Billed, Rated};
use billing_consumer::rows;
use budgets::Budgets;
use journal::Journal;
use metering::Catalog;
use schemas::{
    Attribution, BudgetRef, CacheKind, CatalogEvent, Event, Identity, KeyHash, Meter, Meters,
    Micros, NanoUsd, Outcome, Partition, PriceEntry, Pseq, RequestId, SourceId, Stages, Text,
    Topic, Usage,
};

use crate::arguments::Plan;
use crate::contender;
use crate::cores::Cores;
use crate::cpu;
use crate::report::{Table, number};

/// 2026-01-01.
const NOW: Micros = Micros(1_767_225_600_000_000);
const VERSION: u64 = 1;
/// Who calls: each key has a budget of its own.
const KEYS: usize = 1_000;
/// Events of one batch, as the lanes cut them.
const BATCH: usize = 8_192;

pub fn section(plan: &Plan) -> Result<()> {
    let events = if plan.quick { 60_000 } else { 400_000 };
    eprintln!("billing: {events} events");
    Cores::pick()?.at_load(|| {
        let entry = entry()?;
        let bodies = bodies(&entry);
        let catalog = catalog(entry)?;
        let mut table = Table::new(
            "Billing: usage events on one core",
            &["", "events/s and core", "CPU ns/event"],
        );
        let mut row = |name: &str, ns: f64| {
            table.row([name.to_owned(), number(1e9 / ns, 0), number(ns, 0)]);
        };
        steps(&bodies, &catalog, events, &mut row)?;
        row(
            "budget lane, whole: journal, dedupe, rate, settle",
            lane(&bodies, catalog, events)?,
        );
        for scopes in [1, 4] {
            table.note(admissions(scopes, plan)?);
        }
        for line in crate::redis::measured(plan, NOW)? {
            table.note(line);
        }
        table.print(&[], &[])
    })?;
    on_servers(plan)
}

/// What takes a broker, a Redis and the engine of the usage tables.
fn on_servers(plan: &Plan) -> Result<()> {
    let entry = entry()?;
    let bodies = bodies(&entry);
    let catalog = catalog(entry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let servers = servers::Servers::start().await?;
        let (table, gates) = lanes::table(&servers, plan, &bodies, &catalog).await?;
        table.print(&[], &gates)?;
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

/// Each step with those before it.
fn steps(
    bodies: &[Vec<u8>],
    catalog: &Catalog,
    events: usize,
    row: &mut impl FnMut(&str, f64),
) -> Result<()> {
    let rounds = events.div_ceil(bodies.len());
    let per_event = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        work()?;
        let before = cpu::own_thread();
        for _ in 0..rounds {
            work()?;
        }
        Ok((cpu::own_thread() - before).as_nanos() as f64 / (rounds * bodies.len()) as f64)
    };
    let decode = &mut || {
        for body in bodies {
            let mut older = Vec::new();
            black_box(Usage::view_of(body, &mut older)?);
        }
        Ok(())
    };
    row("decode", per_event(decode)?);
    let rate = &mut || {
        for body in bodies {
            let mut older = Vec::new();
            black_box(billed(body, &mut older, catalog)?);
        }
        Ok(())
    };
    row("decode, rate", per_event(rate)?);
    let fold = &mut || {
        let mut fold = Fold::default();
        for (at, body) in bodies.iter().enumerate() {
            let mut older = Vec::new();
            fold.add(&identity(at), &billed(body, &mut older, catalog)?);
        }
        black_box(fold.settlement(Vec::new()));
        Ok(())
    };
    row("decode, rate, fold (budget lane)", per_event(fold)?);
    let mut batch = Batch::new();
    let encode = &mut || {
        batch.clear();
        for (at, body) in bodies.iter().enumerate() {
            let mut older = Vec::new();
            let billed = billed(body, &mut older, catalog)?;
            let (usage, cost) = rows::rows(&identity(at), &billed);
            batch.push(&usage, &cost);
        }
        black_box(batch.bytes());
        Ok(())
    };
    row("decode, rate, encode rows (store lane)", per_event(encode)?);
    Ok(())
}

fn billed<'a>(body: &'a [u8], older: &'a mut Vec<u8>, catalog: &Catalog) -> Result<Billed<'a>> {
    match rated::rate(body, older, catalog) {
        Ok(Rated::Billed(billed)) => Ok(billed),
        Ok(Rated::Poison(poison)) => bail!("an event of the bench is poison: {}", poison.reason),
        Err(_) => bail!("the catalog of the bench is not loaded"),
    }
}

/// The lane itself over a journal on disk, CPU of the whole process per event, ns.
fn lane(bodies: &[Vec<u8>], catalog: Catalog, events: usize) -> Result<f64> {
    let folder = contender::folder()?;
    let (log, _) = Journal::open(&folder.path().join("log"), journal::Options::default())?;
    let (dead_letters, _) = Journal::open(&folder.path().join("dlq"), journal::Options::default())?;
    for at in 0..events {
        log.append(Topic::Usage, Partition(0), &bodies[at % bodies.len()])?;
    }
    log.sync()?;
    let parts = billing_consumer::Parts {
        log: Arc::new(log),
        dead_letters: Arc::new(dead_letters),
        audit: None,
        catalog: Arc::new(ArcSwap::from_pointee(catalog)),
        budgets: Some(Arc::new(budgets::Memory::new())),
        store: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let before = cpu::own_process();
        let billing = billing_consumer::start(billing_consumer::Settings::default(), parts);
        loop {
            let status = billing.status().budget;
            if status.events >= events as u64 {
                break;
            }
            if status.dead_letters > 0 {
                bail!("an event of the bench became a dead letter");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let spent = cpu::own_process() - before;
        billing.drain(Duration::from_secs(5)).await?;
        Ok(spent.as_nanos() as f64 / events as f64)
    })
}

fn admissions(scopes: usize, plan: &Plan) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let memory = budgets::Memory::new();
        memory.open().await?;
        let calls = if plan.quick { 200_000 } else { 1_000_000 };
        let measured = budgets::measure::admissions(&memory, scopes, calls, NOW).await;
        Ok(format!(
            "budgets in memory, {scopes} scopes: {:.0} reservations with their release a second",
            measured.per_second()
        ))
    })
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
