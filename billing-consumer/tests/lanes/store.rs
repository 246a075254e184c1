//! The store lane into the real engine.

use budgets::Spend;
use schemas::{Meter, NanoUsd, Quantity};

use crate::engine;
use crate::world::{World, now, until, usage};

const LEDGER: &str = "SELECT count(), sum(amount) FROM cost_ledger FINAL";
const DAY_S: i64 = 86_400;

#[tokio::test]
async fn rows_and_spend_are_one_number_and_a_replay_changes_neither() {
    let (_, store) = engine::database().await;
    let mut world = World::new(Some(store.clone()));
    world.settings.store_batch = 70;
    world.start();
    for call in 1..=200 {
        let mut event = usage(call, 1_000 + i64::try_from(call).unwrap());
        // Batches that span months.
        event.admitted_at = now().plus_secs(-DAY_S * 20 * i64::try_from(call % 4).unwrap());
        world.append(&event).await;
    }
    world.brought(200).await;
    let sum = 200 * 1_000 + 200 * 201 / 2;
    assert_eq!(
        world.spend().await,
        Spend {
            used: NanoUsd(sum),
            ..Spend::default()
        }
    );
    assert_eq!(engine::ask(&store, LEDGER).await, "200\t0.0002201");
    let months = engine::ask(&store, "SELECT uniqExact(toYYYYMM(ts)) FROM usage_rows").await;
    assert!(months.parse::<u32>().unwrap() > 1, "{months}");
    let audit = world.status().audit;
    assert_eq!((audit.compared, audit.differing.len()), (1, 0));

    // Budget state comes from the tables' sums, then from the log after them.
    drop(world.billing.take());
    world.append(&usage(201, 9)).await;
    world.restart();
    world.ready().await;
    world.brought(1).await;
    assert_eq!(world.spend().await.used, NanoUsd(sum + 9));
    assert_eq!(
        world.status().budget.events,
        1,
        "the tables' sums were used, not the whole log"
    );

    // The tables deleted: everything comes again from the log.
    let (_, store) = engine::database().await;
    world.store = Some(store.clone());
    world.restart();
    world.brought(201).await;
    assert_eq!(world.spend().await.used, NanoUsd(sum + 9));
    assert_eq!(engine::ask(&store, LEDGER).await, "201\t0.000220109");

    // Rows without their marks, as a crash in the middle of an insert leaves them.
    engine::ask(&store, "TRUNCATE TABLE lane_marks").await;
    engine::ask(
        &store,
        "ALTER TABLE cost_ledger DELETE WHERE pseq % 7 = 3 SETTINGS mutations_sync = 2",
    )
    .await;
    world.restart();
    world.brought(199).await;
    assert_eq!(world.spend().await.used, NanoUsd(sum + 9));
    assert_eq!(engine::ask(&store, LEDGER).await, "201\t0.000220109");
    assert_eq!(
        engine::ask(&store, "SELECT count() FROM usage_rows FINAL").await,
        "201"
    );
}

#[tokio::test]
async fn dead_letters_and_unpriced_usage_leave_no_hole() {
    let (_, store) = engine::database().await;
    let mut world = World::new(Some(store.clone()));
    world.start();
    let mut unpriced = usage(3, 5);
    unpriced.model = "unheard-of".into();
    let mut negative = usage(2, 5);
    negative.meters.0 = vec![Quantity {
        meter: Meter::OutputText,
        quantity: -5,
    }];
    world.append(&usage(1, 10)).await;
    world.append(&negative).await;
    world.append(&unpriced).await;
    world.append_bytes(b"garbage".to_vec()).await;
    world.brought(4).await;
    // Held against a budget, so it is charged its hold of 1,000 and flagged.
    assert_eq!(engine::ask(&store, LEDGER).await, "2\t0.00000101");
    assert_eq!(
        engine::ask(
            &store,
            "SELECT pseq, unpriced_reason FROM usage_rows WHERE NOT priced"
        )
        .await,
        "3\tunknown_model"
    );
    assert_eq!(
        world.letters().await.len(),
        4,
        "two events, each given up by both lanes"
    );
    assert_eq!(world.status().store.unpriced, 1);
    world.restart();
    world.ready().await;
    world.append(&usage(5, 20)).await;
    world.brought(1).await;
    assert_eq!(world.spend().await.used, NanoUsd(1_030));
    assert_eq!(world.letters().await.len(), 4);
    let audit = world.status().audit;
    assert_eq!((audit.compared, audit.differing.len()), (1, 0));
}

#[tokio::test]
async fn while_the_tables_are_down_budgets_go_on_and_the_rows_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let addr = engine::free_addr();
    let supervisor = engine::start(dir.path(), addr).await;
    let store = engine::connect(addr, "default");
    let mut world = World::new(Some(store.clone()));
    world.start();
    world.append(&usage(1, 10)).await;
    world.brought(1).await;
    supervisor.shutdown().await;
    for call in 2..=50 {
        world.append(&usage(call, 10)).await;
    }
    until("the budget lane goes on", || {
        world.status().budget.events == 50
    })
    .await;
    until("the store lane says what it waits for", || {
        world
            .status()
            .store
            .waiting
            .is_some_and(|(why, _)| why.contains("ClickHouse"))
    })
    .await;
    assert_eq!(world.spend().await.used, NanoUsd(500));
    // Read to its end, and behind all the same: by the age of what waits.
    let zero = Some(std::time::Duration::ZERO);
    until("the store lane alone is behind", || {
        let status = world.status();
        status.store.behind > zero && status.budget.behind == zero
    })
    .await;
    let supervisor = engine::start(dir.path(), addr).await;
    world.brought(50).await;
    assert_eq!(engine::ask(&store, LEDGER).await, "50\t0.0000005");
    world.drain().await;
    supervisor.shutdown().await;
}

/// The tables have the rows and nobody heard so: they are sent again, and no sum changes.
#[tokio::test]
async fn answers_that_are_lost_double_nothing() {
    let (name, store) = engine::database().await;
    let (there, lost) = engine::forgetful(&name).await;
    let mut world = World::new(Some(there));
    world.settings.store_every = std::time::Duration::ZERO;
    world.start();
    for round in 1..=6 {
        // That of the rows, of the ledger, of the marks; some of them twice.
        lost.store(round, std::sync::atomic::Ordering::SeqCst);
        for call in 1..=20 {
            world
                .append(&usage(u64::from(round) * 100 + call, 10))
                .await;
        }
        world.brought(u64::from(round) * 20).await;
        until("as many answers are lost", || {
            lost.load(std::sync::atomic::Ordering::SeqCst) == 0
        })
        .await;
    }
    world.drain().await;
    assert_eq!(engine::ask(&store, LEDGER).await, "120\t0.0000012");
    let rows = "SELECT count() FROM usage_rows FINAL";
    assert_eq!(engine::ask(&store, rows).await, "120");
}
