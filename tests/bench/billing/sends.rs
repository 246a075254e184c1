//! What a lane's last step costs this process: a settlement into Redis, an insert into the tables. Batches are
//! made beforehand, as the lanes cut them.

use analytics::Batch;
use anyhow::Result;
use billing_consumer::fold::Fold;
use billing_consumer::{Settings, rows};
use budgets::{Restored, Settled};
use metering::Catalog;

use super::servers::Servers;
use super::{billed, identity};
use crate::cpu;

/// CPU ns an event.
pub async fn settle(
    servers: &Servers,
    bodies: &[Vec<u8>],
    catalog: &Catalog,
    events: usize,
) -> Result<f64> {
    let budgets = servers.budgets().await?;
    budgets.restore(&Restored::default()).await?;
    budgets.open().await?;
    let settlement = |batch: usize| {
        let mut fold = Fold::default();
        for (at, body) in bodies.iter().enumerate() {
            let mut older = Vec::new();
            let identity = identity(batch * bodies.len() + at);
            fold.add(&identity, &billed(body, &mut older, catalog)?);
        }
        anyhow::Ok(fold.settlement(Vec::new()))
    };
    let count = (events / bodies.len()).max(1);
    let settlements = (0..count).map(settlement).collect::<Result<Vec<_>>>()?;
    let before = cpu::own_process();
    for settlement in &settlements {
        let settled = budgets.settle(settlement).await?;
        anyhow::ensure!(
            settled == Settled::Applied,
            "a settlement of the bench changed nothing"
        );
    }
    Ok((cpu::own_process() - before).as_nanos() as f64 / (count * bodies.len()) as f64)
}

/// CPU ns an event.
pub async fn insert(
    servers: &Servers,
    bodies: &[Vec<u8>],
    catalog: &Catalog,
    events: usize,
) -> Result<f64> {
    let store = servers.store().await?;
    let rows = Settings::default().store_batch;
    let mut batch = Batch::new();
    for at in 0..rows {
        let mut older = Vec::new();
        let billed = billed(&bodies[at % bodies.len()], &mut older, catalog)?;
        let (usage, cost) = rows::rows(&identity(at), &billed);
        batch.push(&usage, &cost);
    }
    let count = (events / rows).max(1);
    let before = cpu::own_process();
    for _ in 0..count {
        store.insert(&batch).await?;
    }
    Ok((cpu::own_process() - before).as_nanos() as f64 / (count * rows) as f64)
}
