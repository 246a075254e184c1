//! Fault proof 1: processes killed at every step of a call and of a consumer.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tests::provider::Script;
use tests::topics;
use tests::{Shape, World};

use crate::books::close;
use crate::load::{Load, Plan, Seen};
use crate::table::Row;

const RUNS: u32 = 5;

/// Keys of which each has a limit that none of the proofs here comes near, and a partition of its own, more
/// or less.
pub async fn keys(world: &World, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(world.key(json!({"max_budget": 1000})).await);
    }
    keys
}

/// Restarts an ingress with a fail point, calls until it has died there, starts it again; and so on.
async fn ingress_dies_at(step: &str, mut row: Row, mut random: StdRng) -> Row {
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    for _ in 0..RUNS {
        let victim = random.random_range(0..world.ingresses.len());
        let step = format!("{step}:{}", random.random_range(1..8));
        let ingress = &mut world.ingresses[victim];
        ingress.stop();
        ingress.launch.env = vec![("TOLLGATE_FAIL".into(), step)];
        ingress.again();
        ingress.ready().await;
        let load = Load::start(&world, &seen, &Plan::of(&keys, 60));
        let ingress = &mut world.ingresses[victim];
        ingress.died().await;
        ingress.launch.env.clear();
        ingress.again();
        load.over().await;
        world.ready().await;
        row.runs += 1;
    }
    close(&world, &seen, &keys, &mut row).await;
    row
}

pub async fn ingress_before_dispatch(random: StdRng) -> Row {
    let row = Row::of("ingress killed before dispatch", 300);
    ingress_dies_at("after_admit", row, random).await
}

pub async fn ingress_after_usage(random: StdRng) -> Row {
    let row = Row::of(
        "ingress killed after USAGE, before the client has its end",
        300,
    );
    ingress_dies_at("after_usage", row, random).await
}

/// At a random moment, with streams open on every ingress.
pub async fn ingress_mid_stream(mut random: StdRng) -> Row {
    let mut row = Row::of("ingress killed in mid-stream", 300);
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    let script = Script {
        pace: Duration::from_millis(10),
        ..Script::of_tokens(20)
    };
    world.provider.script("scripted-upstream", script);
    let mut cut = 0;
    for _ in 0..RUNS {
        let plan = Plan {
            clients: 12,
            streams: 1,
            ..Plan::of(&keys, 60)
        };
        let (before, open) = (seen.ended(), world.provider.books());
        let load = Load::start(&world, &seen, &plan);
        // Streams are open all the time once the first has ended.
        let enough = random.random_range(1..30);
        world
            .until(
                || "streams to be under way",
                || {
                    seen.ended() >= before + enough
                        && world.provider.books().requests > open.requests + 12
                },
            )
            .await;
        let victim = random.random_range(0..world.ingresses.len());
        world.ingresses[victim].kill();
        world.ingresses[victim].again();
        load.over().await;
        world.ready().await;
        row.runs += 1;
        cut += world.provider.books().cancelled - open.cancelled;
    }
    assert!(cut > 0, "no stream was cut");
    close(&world, &seen, &keys, &mut row).await;
    row
}

/// What was sent and not acknowledged is sent again: the topic has it twice, the books once.
pub async fn relay_between_send_and_ack(_: StdRng) -> Row {
    let mut row = Row::of("relay killed between send and ack", 300);
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    for run in 0..20 {
        let victim = run % world.ingresses.len();
        let ingress = &mut world.ingresses[victim];
        ingress.kill();
        ingress.launch.env = vec![("TOLLGATE_FAIL".into(), "relay_after_send_before_ack".into())];
        ingress.again();
        // Until one of its events is on the way.
        let deadline = Instant::now() + Duration::from_secs(120);
        while world.ingresses[victim].lives() {
            assert!(
                Instant::now() < deadline,
                "was to die, and lives\n{}",
                world.log()
            );
            Load::start(&world, &seen, &Plan::of(&keys, 15))
                .over()
                .await;
        }
        let ingress = &mut world.ingresses[victim];
        ingress.launch.env.clear();
        ingress.again();
        row.runs += 1;
    }
    world.ready().await;
    close(&world, &seen, &keys, &mut row).await;
    let records = topics::read(&world, "usage.v1");
    let identities: std::collections::HashSet<_> =
        records.iter().map(|record| record.identity()).collect();
    assert!(identities.len() < records.len(), "nothing was sent twice");
    row
}

/// One of the two ends itself at the step; the other goes on; it comes back.
pub async fn billing_at_every_step(mut random: StdRng) -> Row {
    let mut row = Row::of("billing killed at each step of both lanes", 240);
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    for step in billing_consumer::fail_point::Step::ALL {
        for _ in 0..2 {
            let victim = random.random_range(0..world.billing.len());
            let step = format!("{}:{}", step.name(), random.random_range(1..3));
            let billing = &mut world.billing[victim];
            billing.stop();
            billing.launch.env = vec![("TOLLGATE_FAIL".into(), step.clone())];
            billing.again();
            billing.ready().await;
            // Calls until it has been dealt a partition and its events.
            let mut tries = 0;
            while world.billing[victim].lives() {
                tries += 1;
                assert!(tries < 120, "it does not come to {step}\n{}", world.log());
                Load::start(&world, &seen, &Plan::of(&keys, 24))
                    .over()
                    .await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let billing = &mut world.billing[victim];
            billing.launch.env.clear();
            billing.again();
            billing.ready().await;
            row.runs += 1;
        }
    }
    close(&world, &seen, &keys, &mut row).await;
    row
}
