//! How long after its event spend is seen in Redis, and its row in the tables, at a steady load through a
//! journal, a relay, a broker and both lanes. Seen by other clients, which look again and again: their
//! pauses count, and so does what their looks take of the two cores that everything shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use analytics::Store;
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use billing_consumer::{Parts, Settings};
use journal::Journal;
use kafka::Relay;
use metering::Catalog;
use parking_lot::Mutex;
use schemas::{Identity, Partition, SourceId, Topic};

use super::servers::Servers;
use crate::arguments::Plan;
use crate::cpu;
use crate::report::{Gate, Table, number};

/// Events a second.
const RATE: usize = 5_000;
/// Events of one turn of the load.
const TURN: usize = 5;
const BUDGET_LOOK: Duration = Duration::from_millis(2);
const ROW_LOOK: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(60);

/// When each event was appended: by partition, in the order of its numbers.
type Appended = Arc<Vec<Mutex<Vec<Instant>>>>;

pub async fn table(
    servers: &Servers,
    plan: &Plan,
    bodies: &[Vec<u8>],
    catalog: &Catalog,
) -> Result<(Table, Vec<Gate>)> {
    // At first the group deals out its partitions, and the broker compiles itself on the cores of all.
    let (warm, lasts) = if plan.quick { (3, 5) } else { (10, 30) };
    let (warm, lasts) = (Duration::from_secs(warm), Duration::from_secs(lasts));
    let topics = servers.topics().await?;
    let (journal, log) = servers.journal(&topics)?;
    let (budgets, other_budgets) = servers.budgets_twice().await?;
    let store = servers.store().await?;
    let parts = Parts {
        log: Arc::new(log.clone()),
        dead_letters: Arc::new(log.clone()),
        audit: Some(Arc::new(log)),
        catalog: Arc::new(ArcSwap::from_pointee(catalog.clone())),
        budgets: Some(budgets),
        store: Some(store.clone()),
    };
    let settings = Settings {
        budget_group: servers.fresh(),
        store_group: servers.fresh(),
        ..Settings::default()
    };
    let relay = Relay::start(topics.clone(), &journal)?;
    let billing = billing_consumer::start(settings, parts);
    let appended: Appended = Arc::new((0..topics.partitions).map(|_| Mutex::default()).collect());
    let done = AtomicBool::new(false);
    let (own, others) = (cpu::own_process(), servers.used());
    let began = Instant::now();
    let source = journal.source_id();
    let (synced, budget, row) = tokio::join!(
        async {
            let synced = load(&journal, bodies, &appended, warm, lasts).await;
            done.store(true, Ordering::Release);
            synced
        },
        watch(&appended, &done, began + warm, BUDGET_LOOK, async || {
            let standing = other_budgets.standing().await?;
            Ok(standing.marks)
        }),
        watch(&appended, &done, began + warm, ROW_LOOK, async || {
            in_tables(&store, source).await
        }),
    );
    let synced = synced?;
    let lasted = began.elapsed().as_secs_f64();
    let share = (cpu::own_process() - own).as_secs_f64() / lasted;
    let others = servers.used().since(others);
    let (budget, row) = (budget?, row?);
    relay.drain(LATE).await;
    billing.drain(LATE).await?;
    let mut table = Table::new(
        &format!("Billing, from event to effect at {RATE} events a second, milliseconds"),
        &["", "p50", "p99", "worst", "p99 at most", "events"],
    );
    let mut gates = Vec::new();
    for (name, seen, most) in [
        (
            "event to durable in the journal (a sync of this disk)",
            synced,
            None,
        ),
        ("event to budget visible in Redis", budget, Some(150.0)),
        ("event to row in ClickHouse", row, Some(2_000.0)),
    ] {
        let at = |share: f64| {
            let last = seen.len().saturating_sub(1);
            let at = (last as f64 * share) as usize;
            seen.get(at)
                .map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3)
        };
        table.row([
            name.to_owned(),
            number(at(0.5), 1),
            number(at(0.99), 1),
            number(at(1.0), 1),
            most.map_or_else(|| "-".to_owned(), |most| number(most, 0)),
            seen.len().to_string(),
        ]);
        gates.extend(most.map(|most| Gate::new(name, "p99", at(0.99), most, "ms")));
    }
    let percent = |us: f64| us / 1e4 / lasted;
    table.note(format!(
        "of the cores: load, journal, relay, both lanes and the looks took {:.0} % of one, Kafka {:.0} %, Redis \
         {:.0} %, ClickHouse {:.0} %",
        share * 100.0,
        percent(others.kafka),
        percent(others.redis),
        percent(others.engine),
    ));
    Ok((table, gates))
}

/// Appends events at the rate, each synced with those around it. Answers how long the last of each turn
/// took to be durable, sorted.
async fn load(
    journal: &Journal,
    bodies: &[Vec<u8>],
    appended: &Appended,
    warm: Duration,
    lasts: Duration,
) -> Result<Vec<Duration>> {
    let began = Instant::now();
    let mut syncs = tokio::task::JoinSet::new();
    let every = Duration::from_secs(1) * u32::try_from(TURN)? / u32::try_from(RATE)?;
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut count = 0;
    while began.elapsed() < warm + lasts {
        turns.tick().await;
        let mut last = None;
        for _ in 0..TURN {
            let partition = count % appended.len();
            let mut times = appended[partition].lock();
            times.push(Instant::now());
            let body = &bodies[count % bodies.len()];
            let partition = Partition(u16::try_from(partition)?);
            last = Some(journal.append(Topic::Usage, partition, body)?.position);
            count += 1;
        }
        if let Some(position) = last {
            let (at, durable) = (Instant::now(), journal.durable(position));
            let warm = began.elapsed() > warm;
            syncs.spawn(async move {
                durable.await?;
                Ok::<_, journal::Error>(warm.then(|| at.elapsed()))
            });
        }
    }
    journal.sync()?;
    let mut waits = Vec::new();
    while let Some(synced) = syncs.join_next().await {
        waits.extend(synced??);
    }
    waits.sort_unstable();
    Ok(waits)
}

/// Looks until everything was seen; answers how long each event took that came after the start, sorted.
async fn watch(
    appended: &Appended,
    done: &AtomicBool,
    from: Instant,
    pause: Duration,
    marks: impl AsyncFn() -> Result<Vec<Identity>>,
) -> Result<Vec<Duration>> {
    let mut seen = vec![0; appended.len()];
    let mut waits = Vec::new();
    loop {
        let all = done.load(Ordering::Acquire);
        let marks = marks().await?;
        let now = Instant::now();
        for mark in marks {
            let partition = usize::from(mark.partition.0);
            let times = appended.get(partition).context("an unknown partition")?;
            let upto = usize::try_from(mark.pseq.0)?;
            let last = std::mem::replace(&mut seen[partition], upto);
            let times = times.lock();
            let new = times.get(last..upto).context("an unknown event")?;
            let warm = new.iter().filter(|at| **at >= from);
            waits.extend(warm.map(|at| now - *at));
        }
        let whole = |(times, seen): (&Mutex<Vec<Instant>>, &usize)| times.lock().len() == *seen;
        if all && appended.iter().zip(&seen).all(whole) {
            waits.sort_unstable();
            return Ok(waits);
        }
        if from.elapsed() > LATE * 2 {
            bail!("not all events were seen");
        }
        tokio::time::sleep(pause).await;
    }
}

/// The last event of each partition that has a row with its cost. A batch is in whole or not at all.
async fn in_tables(store: &Store, source: SourceId) -> Result<Vec<Identity>> {
    let mut answer = store
        .sql(
            "SELECT kpart, max(pseq) FROM cost_ledger GROUP BY kpart",
            "TSV",
        )
        .await?;
    let mut text = Vec::new();
    while let Some(piece) = answer.next().await? {
        text.extend_from_slice(&piece);
    }
    let line = |line: &str| {
        let (partition, pseq) = line.split_once('\t').context("two columns")?;
        Ok(Identity {
            source_id: source,
            partition: Partition(partition.parse()?),
            pseq: schemas::Pseq(pseq.parse()?),
        })
    };
    String::from_utf8(text)?.lines().map(line).collect()
}
