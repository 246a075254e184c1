//! Fault proof 3: consumers that stall, come and go, and topics that are not what they should be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tests::gateway::{Gateway, Launch, signal};
use tests::topics::{self, IDENTITY, Raw};
use tests::{Shape, World};

use crate::books::close;
use crate::kills::keys;
use crate::load::{Load, Plan, Seen};
use crate::table::Row;

const USAGE: &str = "usage.v1";

/// Stopped for longer than its session, it is not dealt any partition; woken up, it still believes so.
pub async fn zombie(mut random: StdRng) -> Row {
    let mut row = Row::of("consumer frozen past its session, then woken", 600);
    let world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    for _ in 0..2 {
        let over = Duration::from_secs(10);
        let plan = Plan {
            pause: over / 37,
            ..Plan::of(&keys, 300)
        };
        let load = Load::start(&world, &seen, &plan);
        let before = seen.ended();
        world.until(|| "calls", || seen.ended() > before + 30).await;
        let victim = &world.billing[random.random_range(0..world.billing.len())];
        signal(victim.pid(), "STOP");
        // The session of the tests' broker is six seconds.
        tokio::time::sleep(Duration::from_secs(8)).await;
        signal(victim.pid(), "CONT");
        load.over().await;
        row.runs += 1;
        close(&world, &seen, &keys, &mut row).await;
    }
    row
}

/// Members come, leave and are killed, every two seconds for a minute; work goes on.
pub async fn rebalance_storm(mut random: StdRng) -> Row {
    let mut row = Row::of("rebalance every two seconds for a minute", 900);
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    let config = world.billing[0].launch.config.clone();
    let plan = Plan {
        pause: Duration::from_secs(60) / 112,
        ..Plan::of(&keys, 900)
    };
    let load = Load::start(&world, &seen, &plan);
    let end = Instant::now() + Duration::from_secs(60);
    let mut progress = 0_u32;
    let mut last_rows = String::new();
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_secs(2);
        if world.billing.len() > 2 {
            let mut leaver = world
                .billing
                .remove(random.random_range(0..world.billing.len()));
            if random.random_bool(0.5) {
                leaver.kill();
            } else {
                tokio::task::block_in_place(|| leaver.stop());
            }
        } else {
            let data_dir = world.path(&format!("billing-{}", 10 + row.runs));
            world.billing.push(Gateway::spawn(Launch::role(
                "billing",
                config.clone(),
                data_dir,
            )));
        }
        row.runs += 1;
        let rows = world.sql("select count() from cost_ledger final");
        progress += u32::from(rows != last_rows);
        last_rows = rows;
        tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
    }
    assert!(progress > 3, "nothing was billed in the storm");
    load.over().await;
    close(&world, &seen, &keys, &mut row).await;
    // As many as there came: the figure of the table is the plan.
    row.runs = 30;
    row
}

/// A fifth of the topic comes again, much later.
pub async fn duplicates(mut random: StdRng) -> Row {
    let mut row = Row::of("20 % of a topic produced twice", 400);
    let world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    Load::start(&world, &seen, &Plan::of(&keys, 200))
        .over()
        .await;
    close(&world, &seen, &keys, &mut row).await;
    let records = topics::read(&world, USAGE);
    let again: Vec<Raw> = records
        .iter()
        .filter(|_| random.random_bool(0.2))
        .cloned()
        .collect();
    assert!(again.len() > 10);
    topics::write(&world, USAGE, &again);
    Load::start(&world, &seen, &Plan::of(&keys, 200))
        .over()
        .await;
    close(&world, &seen, &keys, &mut row).await;
    row.runs = 1;
    row
}

/// One value of a billing process's metrics, added up over all labels and all processes.
async fn metric(world: &World, name: &str) -> f64 {
    let mut sum = 0.0;
    for billing in &world.billing {
        let url = format!("{}/metrics", billing.url());
        let Ok(answer) = world.http.get(url).send().await else {
            continue;
        };
        let text = answer.text().await.unwrap_or_default();
        let values = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        sum += values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>();
    }
    sum
}

/// A record is gone from the topic: an alarm, and its source waits; the others go on. When its ingress has sent it
/// again, its source goes on, too.
pub async fn gap(mut random: StdRng) -> Row {
    let mut row = Row::of("one record removed from a topic", 200);
    let mut world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    // Nobody reads while the topic is made anew without one of its records.
    world.billing.iter_mut().for_each(Gateway::stop);
    Load::start(&world, &seen, &Plan::of(&keys, 200))
        .over()
        .await;
    world
        .until(
            || "the relays to be done",
            || topics::count(&world, USAGE) >= 200,
        )
        .await;
    let records = topics::read(&world, USAGE);
    topics::clear(&world, USAGE).await;
    let mut length: HashMap<(i32, Vec<u8>), u64> = HashMap::new();
    for record in &records {
        *length
            .entry((record.partition, record.source()))
            .or_default() += 1;
    }
    // In the middle of its source: some before it, some after it.
    let inner: Vec<usize> = (0..records.len())
        .filter(|&at| {
            let record = &records[at];
            let last = length[&(record.partition, record.source())];
            record.pseq() > 1 && record.pseq() < last
        })
        .collect();
    let hole = *inner
        .choose(&mut random)
        .expect("a source with three events");
    let removed = records[hole].clone();
    let parked = |record: &Raw| {
        (record.partition, record.source()) == (removed.partition, removed.source())
            && record.pseq() >= removed.pseq()
    };
    let (before, behind) = (&records[..hole], &records[hole + 1..]);
    world.billing.iter_mut().for_each(Gateway::again);
    // Whoever reads the partition has been dealt it.
    topics::write(&world, USAGE, before);
    world.rows(before.len()).await;
    assert_eq!(metric(&world, "tollgate_lane_gaps").await, 0.0);
    topics::write(&world, USAGE, behind);
    let produced = Instant::now();
    while metric(&world, "tollgate_lane_gaps").await == 0.0 {
        assert!(
            produced.elapsed() < Duration::from_secs(5),
            "no alarm within 5 s\n{}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let applied = records.iter().filter(|record| !parked(record)).count();
    world.rows(applied).await;
    let look = || world.try_command(&["audit", "--wait", "0"]);
    let (clean, said) = tokio::task::block_in_place(look);
    assert!(
        !clean && said.contains("without a row in the ledger"),
        "the audit does not see that a record is gone: {said}"
    );
    // It stays so: nothing behind the hole is ever applied.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.rows(applied).await;
    // Whoever has it still sends everything again: what is known is dropped, and the hole is filled.
    for ingress in &mut world.ingresses {
        tokio::task::block_in_place(|| ingress.stop());
        std::fs::remove_file(ingress.data_dir().join("journal/positions/relay")).expect("a place");
        ingress.again();
    }
    world.ready().await;
    close(&world, &seen, &keys, &mut row).await;
    row.runs = 1;
    row
}

/// What nobody can read goes to the dead letters, whole; what lies beside it is billed.
pub async fn garbage(mut random: StdRng) -> Row {
    let mut row = Row::of("garbage and unknown schema ids in a topic", 400);
    let world = World::start(Shape::Split).await;
    let (keys, seen) = (keys(&world, 12).await, Seen::default());
    Load::start(&world, &seen, &Plan::of(&keys, 200))
        .over()
        .await;
    let mut bad = Vec::new();
    for at in 0..20_u64 {
        let mut payload = vec![0_u8; random.random_range(0..200)];
        random.fill(&mut payload[..]);
        // By chance it would be a message of a source that nobody knows, and lack all before it.
        if let Some(first) = payload.first_mut() {
            *first |= 1;
        }
        let mut headers = Vec::new();
        if at % 2 == 0 {
            // Framed as ours, under an id that nobody knows, from a source of its own.
            payload = [&[0][..], &0x7fff_fff0_u32.to_be_bytes(), &payload].concat();
            let identity = [
                &0xbad_0000_u64.to_be_bytes()[..],
                &[0, 0],
                &(at / 2 + 1).to_be_bytes(),
            ];
            headers.push((IDENTITY.to_owned(), identity.concat()));
        }
        bad.push(Raw {
            partition: if at % 2 == 0 {
                0
            } else {
                random.random_range(0..4)
            },
            payload,
            key: None,
            headers,
        });
    }
    topics::write(&world, USAGE, &bad);
    Load::start(&world, &seen, &Plan::of(&keys, 200))
        .over()
        .await;
    // Both lanes meet them: each is kept by each, whole.
    let is_kept = |letters: &[Raw], raw: &Raw| {
        let found = |letter: &Raw| {
            let mut parts = letter.payload.windows(raw.payload.len().max(1));
            raw.payload.is_empty() || parts.any(|part| part == raw.payload)
        };
        letters.iter().any(found)
    };
    world
        .until(
            || "all of it in the dead letters",
            || {
                let letters = topics::read(&world, "dlq.v1");
                letters.len() >= 2 * bad.len() && bad.iter().all(|raw| is_kept(&letters, raw))
            },
        )
        .await;
    close(&world, &seen, &keys, &mut row).await;
    row.runs = 1;
    row
}
