//! Admissions and settlements through a real Redis on loopback, started for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use budgets::redis::Settings;
use budgets::{Budgets, Redis, Restored, measure};
use schemas::Micros;
use test_servers::redis::BUDGETS;

use crate::arguments::Plan;

const CALLERS: usize = 64;

/// One line for each measurement.
pub fn measured(plan: &Plan, now: Micros) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(lines(plan, now))
}

async fn lines(plan: &Plan, now: Micros) -> Result<Vec<String>> {
    let server = test_servers::Redis::start(BUDGETS).await;
    let settings = Settings {
        pause: Duration::ZERO,
        ..Settings::new(server.url(), "bench")
    };
    let redis = Redis::start(settings).await?;
    redis.restore(&Restored::default()).await?;
    redis.open().await?;
    // Windows are those of the server's clock.
    let now = redis.clock(now);
    let budgets: Arc<dyn Budgets> = Arc::new(redis);
    let mut lines = Vec::new();
    let calls = if plan.quick { 5_000 } else { 100_000 };
    for scopes in [1, 4] {
        for callers in [1, CALLERS] {
            let calls = if callers == 1 { calls / 10 } else { calls };
            let load = measure::load(Arc::clone(&budgets), scopes, callers, calls, now).await;
            lines.push(format!(
                "budgets in Redis, {scopes} scopes, {callers} at once: {:.0} reservations with their \
                 release a second; a reservation p50 {:.3} ms, p99 {:.3} ms",
                load.per_second(),
                load.p50.as_secs_f64() * 1e3,
                load.p99.as_secs_f64() * 1e3,
            ));
        }
    }
    let (events, windows) = (5_000, 500);
    let batches = if plan.quick { 4 } else { 40 };
    let folded = measure::settle(&*budgets, batches, events, windows, 0).await?;
    lines.push(format!(
        "budgets in Redis, batches of {events} costs folded to {windows} windows: {:.0} costs settled a second",
        folded.per_second()
    ));
    Ok(lines)
}
