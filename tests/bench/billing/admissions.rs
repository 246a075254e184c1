//! How fast budgets admit: in memory, and through a real Redis on loopback, started for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use budgets::redis::Settings;
use budgets::{Budgets, Memory, Redis, Restored, measure};
use test_servers::redis::BUDGETS;

use super::NOW;
use crate::arguments::Plan;
use crate::cpu;
use crate::report::{Table, number};

/// At once, as in a busy ingress.
const CALLERS: usize = 64;

pub async fn table(plan: &Plan) -> Result<Table> {
    let server = test_servers::Redis::start(BUDGETS).await;
    let settings = Settings {
        pause: Duration::ZERO,
        ..Settings::new(server.url(), "bench")
    };
    let redis = Redis::start(settings).await?;
    redis.restore(&Restored::default()).await?;
    redis.open().await?;
    // Windows are those of the server's clock.
    let now = redis.clock(NOW);
    let redis: Arc<dyn Budgets> = Arc::new(redis);
    let memory = Memory::new();
    memory.open().await?;
    let mut table = Table::new(
        "Admissions: a reservation over all scopes of a call (money, requests, tokens, slots), and its release",
        &["", "admissions/s", "p50 ms", "p99 ms", "Redis CPU µs each"],
    );
    for scopes in [1, 4] {
        let calls = if plan.quick { 200_000 } else { 1_000_000 };
        let measured = measure::admissions(&memory, scopes, calls, NOW).await;
        table.row([
            format!("in memory, {scopes} {}, one caller", word(scopes)),
            number(measured.per_second(), 0),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
        ]);
    }
    let calls = if plan.quick { 5_000 } else { 100_000 };
    let spent = || server.id().map_or(f64::NAN, |id| cpu::spent(id).gateway);
    for scopes in [1, 4] {
        for callers in [1, CALLERS] {
            let calls = if callers == 1 { calls / 10 } else { calls };
            let before = spent();
            let load = measure::load(Arc::clone(&redis), scopes, callers, calls, now).await;
            let at_once = if callers == 1 {
                "one caller".to_owned()
            } else {
                format!("{callers} at once")
            };
            table.row([
                format!("in Redis, {scopes} {}, {at_once}", word(scopes)),
                number(load.per_second(), 0),
                number(load.p50.as_secs_f64() * 1e3, 3),
                number(load.p99.as_secs_f64() * 1e3, 3),
                number((spent() - before) / load.calls as f64, 0),
            ]);
        }
    }
    let (events, windows) = (5_000, 500);
    let batches = if plan.quick { 4 } else { 40 };
    let folded = measure::settle(&*redis, batches, events, windows, 0).await?;
    table.note(format!(
        "settled in Redis, batches of {events} costs folded to {windows} windows: {:.0} costs a second",
        folded.per_second()
    ));
    Ok(table)
}

const fn word(scopes: usize) -> &'static str {
    if scopes == 1 { "scope" } else { "scopes" }
}
