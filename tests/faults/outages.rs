//! Fault proof 2: the parts outside go away under load, and come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tests::parts::Parts;
use tests::world::MASTER;
use tests::{Shape, World};

use crate::books::{close, overshoot};
use crate::kills::keys;
use crate::load::{Load, Plan, Saw, Seen, marked, next_marker};
use crate::table::Row;

const DOWN: Duration = Duration::from_secs(20);
const CLIENTS: u64 = 8;

/// Where no call may fail, a disk that keeps Redis busy for seconds is no reason either.
const PATIENT: &str = "    wait_ms: 20000\n";

/// A world on parts of its own, since it breaks them.
async fn alone() -> (Arc<Parts>, World) {
    let parts = Parts::start().await;
    let world = World::with(Shape::Split, "").on(&parts).start().await;
    (parts, world)
}

/// Calls of which some have ended, and most are to come.
async fn midway(world: &World, seen: &Seen, keys: &[String], random: &mut StdRng) -> Load {
    let load = Load::start(world, seen, &steady(keys, 200, Duration::from_secs(4)));
    let enough = seen.ended() + random.random_range(20..100);
    world.until(|| "calls", || seen.ended() >= enough).await;
    load
}

/// Slow enough to go on for longer than a part is down.
fn steady(keys: &[String], calls: u64, over: Duration) -> Plan {
    let each = u32::try_from(calls / CLIENTS).expect("few");
    Plan {
        clients: CLIENTS,
        pause: over / each,
        ..Plan::of(keys, calls)
    }
}

/// Calls go on as if nothing was: the journal is the queue.
pub async fn broker_down(_: StdRng) -> Row {
    let mut row = Row::of("broker stopped for 20 s under load", 600);
    let parts = Parts::start().await;
    let world = World::with(Shape::Split, "").redis(PATIENT).on(&parts);
    let world = world.start().await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    let load = Load::start(
        &world,
        &seen,
        &steady(&keys, 600, DOWN + Duration::from_secs(4)),
    );
    world.until(|| "calls", || seen.ended() > 40).await;
    parts.kafka.stop().await;
    let (down, before) = (Instant::now(), seen.ended());
    tokio::time::sleep(DOWN).await;
    assert!(
        down.elapsed() >= DOWN && seen.ended() > before + 200,
        "calls stopped with the broker"
    );
    parts.kafka.restart().await;
    load.over().await;
    let others = seen
        .all()
        .into_iter()
        .filter(|(_, saw)| *saw != Saw::End)
        .count();
    assert_eq!(others, 0, "calls failed because the broker was gone");
    close(&world, &seen, &keys, &mut row).await;
    row.runs = 1;
    row
}

/// A journal that cannot be emptied refuses calls at its cap, and loses nothing.
pub async fn journal_full(_: StdRng) -> Row {
    let mut row = Row::of("journals full while the broker stands still", 200);
    let parts = Parts::start().await;
    let world = World::with(Shape::Split, "")
        .on(&parts)
        .tollgate("  journal:\n    cap_bytes: 1048576\n    segment_bytes: 65536\n")
        .start()
        .await;
    let seen = Seen::default();
    parts.kafka.freeze();
    let tags: Vec<String> = (0..100).map(|at| format!("tag-{at:0100}")).collect();
    let call = || async {
        let marker = next_marker();
        let chat = marked(world.chat_first(MASTER, "hi"), &marker);
        let answer = chat.with("metadata", json!({"tags": tags})).send().await;
        let saw = if answer.status == 200 {
            Saw::End
        } else {
            Saw::Refusal(answer.status)
        };
        seen.push(marker, saw);
        answer
    };
    let refused = loop {
        let answer = call().await;
        if answer.status != 200 {
            break answer;
        }
        assert!(seen.ended() < 2_000, "the cap does not hold");
    };
    assert_eq!(
        (refused.status, refused.error_type().as_str()),
        (503, "journal_unavailable"),
        "{}",
        refused.text
    );
    parts.kafka.thaw();
    let deadline = Instant::now() + Duration::from_secs(120);
    while seen.ended() < row.planned || call().await.status != 200 {
        assert!(Instant::now() < deadline, "no room again\n{}", world.log());
        if call().await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    close(&world, &seen, &[], &mut row).await;
    row.runs = 1;
    row
}

/// Tears the end off the append-only file of a Redis that is down.
pub fn tear(parts: &Parts, random: &mut StdRng) {
    let path = parts.budgets.append_only_file();
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("the file");
    let length = file.metadata().expect("its length").len();
    let torn = random.random_range(1..20_000).min(length / 2);
    file.set_len(length - torn).expect("a shorter file");
}

/// `kill -9`, the end of its file torn off, and a new start: counters and fence went back together.
pub async fn redis_torn(mut random: StdRng) -> Row {
    let mut row = Row::of("Redis killed, its append-only file torn", 600);
    let (parts, world) = alone().await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    for _ in 0..3 {
        let load = midway(&world, &seen, &keys, &mut random).await;
        parts.budgets.kill();
        tear(&parts, &mut random);
        parts.budgets.restart().await;
        load.over().await;
        row.runs += 1;
        close(&world, &seen, &keys, &mut row).await;
    }
    row.overshoot = overshoot(&world, schemas::NanoUsd::from_usd(6_000));
    row
}

/// Fails closed at once, and is exact again within half a minute.
pub async fn redis_flushed(mut random: StdRng) -> Row {
    let mut row = Row::of("FLUSHALL under load", 600);
    let (parts, world) = alone().await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    for _ in 0..3 {
        let load = midway(&world, &seen, &keys, &mut random).await;
        parts.flush();
        let (flushed, before) = (Instant::now(), seen.ended());
        // More than were on their way: budgets admit, and they do so only where they are exact.
        let enough = before + 2 * CLIENTS;
        world.until(|| "calls", || seen.ended() > enough).await;
        let exact = flushed.elapsed();
        assert!(
            exact < Duration::from_secs(30),
            "exact only after {exact:?}"
        );
        load.over().await;
        close(&world, &seen, &keys, &mut row).await;
        row.runs += 1;
    }
    row
}

/// Calls and budgets go on; the rows come later, once each.
pub async fn tables_down(mut random: StdRng) -> Row {
    let mut row = Row::of("ClickHouse killed in mid-insert and down for 20 s", 600);
    let mut world = World::with(Shape::Split, "").redis(PATIENT).start().await;
    let (keys, seen) = (keys(&world, 6).await, Seen::default());
    let load = Load::start(
        &world,
        &seen,
        &steady(&keys, 600, DOWN + Duration::from_secs(4)),
    );
    let rows = "select count() from cost_ledger";
    world
        .until(
            || "rows",
            || world.tables().ask(rows).is_ok_and(|count| count != "0"),
        )
        .await;
    // An insert is under way most of the time: batches follow each other.
    tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
    let engine = world.engine.as_mut().expect("an engine");
    engine.kill();
    let before = seen.ended();
    tokio::time::sleep(DOWN).await;
    assert!(seen.ended() > before + 200, "calls stopped with the tables");
    let engine = world.engine.as_mut().expect("an engine");
    engine.again();
    engine.ready().await;
    load.over().await;
    let others = seen
        .all()
        .into_iter()
        .filter(|(_, saw)| *saw != Saw::End)
        .count();
    assert_eq!(others, 0, "calls failed because the tables were gone");
    close(&world, &seen, &keys, &mut row).await;
    row.runs = 1;
    row
}
