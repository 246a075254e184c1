//! Prints how many reservations and settlements a second go through the Redis at `REDIS_URL`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use budgets::redis::Settings;
use budgets::{Budgets, Error, Redis, Restored, measure};
use schemas::Micros;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let redis = Redis::start(Settings::new(url, "measured")).await?;
    redis.restore(&Restored::default()).await?;
    while redis.open().await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let budgets: Arc<dyn Budgets> = Arc::new(redis);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    for scopes in [1, 4] {
        for callers in [1, 64] {
            let calls = if callers == 1 { 5_000 } else { 100_000 };
            let load = measure::load(Arc::clone(&budgets), scopes, callers, calls, now).await;
            println!(
                "{scopes} scopes, {callers} callers: {:.0} reserve+release a second, reserve p50 {:?} p99 {:?}",
                load.per_second(),
                load.p50,
                load.p99
            );
        }
    }
    let mut from = 0;
    for (events, windows) in [(1_000, 100), (5_000, 500), (20_000, 500)] {
        let folded = measure::settle(&*budgets, 20, events, windows, from).await?;
        from += 20 * events;
        println!(
            "settle, {events} events folded to {windows} windows: {:.0} costs a second",
            folded.per_second()
        );
    }
    Ok(())
}
