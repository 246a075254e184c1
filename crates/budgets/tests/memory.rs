//! The in-memory budget state, against the suite that every backend passes.

use std::sync::Arc;

use budgets::{Budgets, Memory, conformance, measure};
use schemas::Micros;

const NOON: Micros = Micros(1_790_000_040_000_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 64)]
async fn memory_keeps_every_promise() {
    conformance::run(async || Arc::new(Memory::new()) as Arc<dyn Budgets>, NOON).await;
}

#[tokio::test]
async fn measuring_leaves_no_hold() {
    let memory = Memory::new();
    memory.open().await.expect("open");
    for scopes in [1, 4] {
        let measured = measure::admissions(&memory, scopes, 1_000, NOON).await;
        assert_eq!((measured.scopes, measured.calls), (scopes, 1_000));
    }
    assert_eq!(memory.stats().open, 0);
}
