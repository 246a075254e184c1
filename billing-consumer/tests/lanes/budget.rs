//! The budget lane, without tables: spend comes from the log alone.

use std::sync::Arc;

use budgets::{Budgets, Spend};
use metering::Catalog;
use schemas::{Meter, NanoUsd, Quantity};

use crate::world::{World, id, now, prices, until, usage};

fn spent(nano: i64) -> Spend {
    Spend {
        used: NanoUsd(nano),
        ..Spend::default()
    }
}

#[tokio::test]
async fn usage_becomes_spend_and_its_hold_goes() {
    let mut world = World::new(None);
    world.start();
    world.ready().await;
    world.reserve(1, 500).await;
    world
        .budgets
        .finish(id(1), NanoUsd(300), 0, now(), None)
        .await;
    assert_eq!(world.spend().await.shown(), NanoUsd(300));
    world.append(&usage(1, 300)).await;
    world.brought(1).await;
    assert_eq!(world.spend().await, spent(300));
    let stats = world.budgets.stats();
    assert_eq!(
        (stats.open, stats.finished, stats.settled_without_hold),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_restart_rebuilds_the_same_spend_from_the_log() {
    let mut world = World::new(None);
    world.start();
    for call in 1..=500 {
        world.append(&usage(call, 7)).await;
    }
    world.brought(500).await;
    assert_eq!(world.spend().await, spent(3_500));
    for _ in 0..2 {
        world.restart();
        world.ready().await;
        assert_eq!(world.spend().await, spent(3_500));
    }
}

/// What cannot be billed is kept whole, and its neighbours are billed.
#[tokio::test]
async fn poison_goes_to_the_dead_letters_once() {
    let mut world = World::new(None);
    world.start();
    world.ready().await;
    world.reserve(3, 500).await;
    let mut unknown_schema = usage(2, 5).body_of();
    unknown_schema[..8].copy_from_slice(&[0xab; 8]);
    let mut negative = usage(3, 5);
    negative.meters.0 = vec![Quantity {
        meter: Meter::OutputText,
        quantity: -5,
    }];
    let mut absurd = usage(4, 5);
    absurd.meters.0 = vec![Quantity {
        meter: Meter::OutputText,
        quantity: 1 << 62,
    }];
    let bodies = [
        b"garbage that is no event".to_vec(),
        unknown_schema,
        negative.body_of(),
        absurd.body_of(),
    ];
    world.append(&usage(10, 100)).await;
    for body in &bodies {
        world.append_bytes(body.clone()).await;
        world.append(&usage(11, 100)).await;
    }
    world.brought(9).await;
    assert_eq!(
        world.spend().await,
        spent(500),
        "the hold of a dead letter goes too"
    );
    for _ in 0..2 {
        let letters = world.letters().await;
        let kept: Vec<_> = letters
            .iter()
            .map(|letter| letter.original.0.clone())
            .collect();
        assert_eq!(kept, bodies);
        assert_eq!(
            letters
                .iter()
                .map(|letter| letter.of_pseq)
                .collect::<Vec<_>>(),
            [2, 4, 6, 8]
        );
        assert!(
            letters
                .iter()
                .all(|letter| !letter.error.is_empty() && &*letter.lane == "budget")
        );
        world.restart();
        world.ready().await;
        assert_eq!(world.spend().await, spent(500));
    }
}

#[tokio::test]
async fn an_event_waits_for_the_prices_it_was_admitted_with() {
    let mut world = World::new(None);
    world.catalog.store(Arc::new(Catalog::new()));
    world.settings.alarm_after = std::time::Duration::ZERO;
    world.start();
    world.append(&usage(1, 300)).await;
    until("the lane says what it waits for", || {
        let waiting = world.status().budget.waiting;
        waiting.is_some_and(|(why, _)| why.contains("catalog version 1"))
    })
    .await;
    assert!(
        !world.budgets.ready(),
        "unsettled usage keeps hard budgets closed"
    );
    world
        .catalog
        .store(Arc::new(Catalog::new().apply(1, &prices()).unwrap()));
    world.ready().await;
    assert_eq!(world.spend().await, spent(300));
    assert!(
        world.status().problems.is_empty(),
        "{:?}",
        world.status().problems
    );
}

#[tokio::test]
async fn draining_brings_everything() {
    let mut world = World::new(None);
    world.settings.budget_batch = 10;
    world.start();
    for call in 1..=300 {
        world.append(&usage(call, 1)).await;
    }
    world.drain().await;
    assert_eq!(world.spend().await, spent(300));
}

/// Names the encoder of the trait, which tests need by value.
trait BodyOf {
    fn body_of(&self) -> Vec<u8>;
}

impl BodyOf for schemas::Usage {
    fn body_of(&self) -> Vec<u8> {
        schemas::Event::body(self)
    }
}
