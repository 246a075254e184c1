//! What the steps of a lane cost on one core, from bytes in memory: the parts of a lane that are its own.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use analytics::Batch;
use anyhow::{Result, bail};
use arc_swap::ArcSwap;
use billing_consumer::fold::Fold;
use billing_consumer::rows;
use journal::Journal;
use metering::Catalog;
use schemas::{Event as _, Partition, Topic, Usage};

use super::{billed, identity};
use crate::arguments::Plan;
use crate::report::{Table, number};
use crate::{contender, cpu};

/// Each step alone, CPU ns an event.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    pub decode: f64,
    pub rate: f64,
    /// Of the budget lane.
    pub fold: f64,
    /// Of the store lane.
    pub encode: f64,
}

/// Medians of the rounds. A step is what is added when it is done after those before it, since a view of an
/// event is only read where it is used.
pub fn measured(bodies: &[Vec<u8>], catalog: &Catalog, plan: &Plan) -> Result<Steps> {
    let events = if plan.quick { 60_000 } else { 400_000 };
    let passes = events / bodies.len();
    let mut sums: [Vec<f64>; 4] = Default::default();
    for _ in 0..plan.rounds {
        let decode = &mut || {
            for body in bodies {
                let mut older = Vec::new();
                black_box(Usage::view_of(body, &mut older)?);
            }
            Ok(())
        };
        let rate = &mut || {
            for body in bodies {
                let mut older = Vec::new();
                black_box(billed(body, &mut older, catalog)?);
            }
            Ok(())
        };
        let fold = &mut || {
            let mut fold = Fold::default();
            for (at, body) in bodies.iter().enumerate() {
                let mut older = Vec::new();
                fold.add(&identity(at), &billed(body, &mut older, catalog)?);
            }
            black_box(fold.settlement(Vec::new()));
            Ok(())
        };
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
        let works: [&mut dyn FnMut() -> Result<()>; 4] = [decode, rate, fold, encode];
        for (sum, work) in sums.iter_mut().zip(works) {
            work()?;
            let before = cpu::own_thread();
            for _ in 0..passes {
                work()?;
            }
            let spent = cpu::own_thread() - before;
            sum.push(spent.as_nanos() as f64 / (passes * bodies.len()) as f64);
        }
    }
    let [decode, rated, folded, encoded] = sums.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    Ok(Steps {
        decode,
        rate: rated - decode,
        fold: folded - rated,
        encode: encoded - rated,
    })
}

/// The budget lane itself over a journal on disk, as `up` runs it without a broker.
pub fn journal(bodies: &[Vec<u8>], catalog: &Catalog, plan: &Plan) -> Result<Table> {
    let events = if plan.quick { 60_000 } else { 400_000 };
    let ns = lane(bodies, catalog, events)?;
    let mut table = Table::new(
        &format!(
            "Billing without a broker: {events} usage events from the journal on disk, CPU of the process"
        ),
        &["", "events/s and core", "CPU ns/event"],
    );
    table.row([
        "budget lane: read, decode, rate, fold, settle in memory".to_owned(),
        number(1e9 / ns, 0),
        number(ns, 0),
    ]);
    Ok(table)
}

fn lane(bodies: &[Vec<u8>], catalog: &Catalog, events: usize) -> Result<f64> {
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
        catalog: Arc::new(ArcSwap::from_pointee(catalog.clone())),
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
