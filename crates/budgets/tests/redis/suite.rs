//! The promises of every backend.

use std::sync::Arc;

use budgets::redis::{Clock, Settings};
use budgets::{Budgets, Redis, conformance};
use schemas::Micros;

use crate::world::{now, settings, shared_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_every_promise() {
    let server = shared_server().await;
    let minute = 60_000_000;
    let start = Micros(now().0.div_euclid(minute) * minute);
    let make = async || {
        let settings = Settings {
            clock: Clock::Caller,
            ..settings(server)
        };
        Arc::new(Redis::start(settings).await.expect("a usable server")) as Arc<dyn Budgets>
    };
    conformance::run(make, start).await;
}
