//! The in-memory budget state, against the suite that every backend passes.

use std::sync::Arc;

use budgets::{Budgets, Memory, Refusal, Reserve, Scope, ScopeKind, conformance, measure};
use metering::Window;
use schemas::{Micros, NanoUsd, RequestId};

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

fn scope(limit: i64, parallel: Option<u64>) -> Scope {
    Scope {
        kind: ScopeKind::Key,
        id: "k".into(),
        budget: "key:k".into(),
        limit: (limit >= 0).then_some(NanoUsd(limit)),
        window: Window {
            start: Micros(0),
            end: Micros(i64::MAX),
        },
        rpm: Some(1),
        tpm: None,
        parallel,
    }
}

fn asks(hold: u8, amount: i64, scopes: &[Scope]) -> Reserve<'_> {
    Reserve {
        hold: RequestId([hold; 16]),
        amount: NanoUsd(amount),
        least: NanoUsd(amount),
        tokens: 0,
        scopes,
        now: NOON,
        expires: NOON.plus_secs(60),
    }
}

/// A second attempt after one that cost holds more, inside of the limit or not at all, and is counted once.
#[tokio::test]
async fn a_hold_is_raised_within_the_limit() {
    let memory = Memory::new();
    memory.open().await.expect("open");
    let scopes = [scope(100, None)];
    memory.reserve(&asks(1, 60, &scopes)).await.expect("room");
    let refused = memory.raise(&asks(1, 41, &scopes)).await;
    assert!(
        matches!(refused, Err(Refusal::Budget { .. })),
        "{refused:?}"
    );
    assert_eq!(memory.raise(&asks(1, 40, &scopes)).await, Ok(NanoUsd(40)));
    let id = RequestId([1; 16]);
    let window = [("key:k".into(), Micros(0))];
    assert_eq!(memory.spend(&window).await.unwrap()[0].held, NanoUsd(100));
    memory.finish(id, NanoUsd(90), 0, NOON, None).await;
    assert_eq!(
        memory.spend(&window).await.unwrap()[0].finished,
        NanoUsd(90)
    );
    assert_eq!(memory.stats().cost_over_hold, 0);
    assert!(memory.raise(&asks(1, 1, &scopes)).await.is_err());
}

/// What a deployment's own limits count holds no money, and leaves nothing behind but its counts.
#[tokio::test]
async fn a_hold_of_limits_alone_is_over_when_it_ends() {
    let memory = Memory::new();
    memory.open().await.expect("open");
    let scopes = [scope(-1, Some(1))];
    memory.reserve(&asks(1, 0, &scopes)).await.expect("room");
    memory
        .finish(RequestId([1; 16]), NanoUsd(0), 7, NOON, None)
        .await;
    let stats = memory.stats();
    assert_eq!((stats.open, stats.finished), (0, 0));
    let refused = memory.reserve(&asks(2, 0, &scopes)).await;
    assert!(
        matches!(refused, Err(Refusal::Rate { .. })),
        "the request stays counted"
    );
}
