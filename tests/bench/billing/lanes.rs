//! The lanes as they run: from a real broker, to a real Redis and a real engine of the usage tables, beside
//! the same consumer with rating and sending left out. CPU time of this whole process, so librdkafka's
//! threads count; what the servers use is told apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use arc_swap::ArcSwap;
use billing_consumer::{LaneStatus, Parts, Settings, Status};
use journal::{EventLog as _, Start};
use kafka::Log;
use metering::Catalog;
use schemas::Topic;

use super::sends;
use super::servers::{Others, Servers};
use super::steps::Steps;
use crate::arguments::Plan;
use crate::cpu;
use crate::report::{Gate, Table, number};

/// Events a second and core of each lane.
const TARGET: f64 = 300_000.0;
/// Longest time without any progress.
const STUCK: Duration = Duration::from_secs(30);
/// A look copies the status of both lanes, which counts as theirs.
const LOOK: Duration = Duration::from_millis(20);

/// One way through all events.
struct Run {
    /// CPU time of this process, ns an event.
    own: f64,
    /// Events a second by the clock, from the first that came.
    wall: f64,
    /// CPU time of the servers, ns an event.
    others: Others,
}

/// What the parts of both lanes cost, CPU ns an event.
struct Parted {
    steps: Steps,
    settle: f64,
    insert: f64,
}

pub async fn tables(
    servers: &Servers,
    plan: &Plan,
    bodies: &[Vec<u8>],
    catalog: &Catalog,
    steps: &Steps,
) -> Result<[(Table, Vec<Gate>); 2]> {
    let events = if plan.quick { 100_000 } else { 500_000 };
    let topics = servers.topics().await?;
    let relayed = servers.fill(&topics, bodies, events).await?;
    let log = Log::new(topics)?;
    let (mut fetch, mut budget, mut store) = (Vec::new(), Vec::new(), Vec::new());
    let (mut settle, mut insert) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        fetch.push(fetched(servers, &log, events).await?);
        let parts = parts(servers, &log, catalog).await?;
        let of = |status: Status| status.budget;
        budget.push(lane(servers, events, with_budgets(servers, &parts).await?, of).await?);
        let of = |status: Status| status.store;
        store.push(lane(servers, events, with_store(servers, &parts).await?, of).await?);
        settle.push(sends::settle(servers, bodies, catalog, events).await?);
        insert.push(sends::insert(servers, bodies, catalog, events).await?);
    }
    let own = |runs: &[Run]| median(runs.iter().map(|run| run.own).collect());
    let parted = Parted {
        steps: *steps,
        settle: median(settle),
        insert: median(insert),
    };
    let split = parted.table(own(&fetch), own(&budget), own(&store));
    let (mut whole, gates) = whole(events, &fetch, &budget, &store);
    whole.note(format!(
        "before that, the relay of an ingress brought them to the broker for {relayed:.0} CPU ns each"
    ));
    Ok([(whole, gates), (split, Vec::new())])
}

fn whole(events: usize, fetch: &[Run], budget: &[Run], store: &[Run]) -> (Table, Vec<Gate>) {
    let mut table = Table::new(
        &format!(
            "Billing from a broker: {events} usage events, CPU of the whole consumer process with its Kafka client"
        ),
        &[
            "",
            "events/s and core",
            "of the reference",
            "target",
            "of the target",
            "events/s by the clock",
            "CPU ns/event",
            "Kafka's",
            "Redis'",
            "ClickHouse's",
        ],
    );
    let mut gates = Vec::new();
    let reference = 1e9 / median(fetch.iter().map(|run| run.own).collect());
    for (name, runs, gated) in [
        ("reference: fetches, and does nothing", fetch, false),
        ("budget lane: fetch to settlement in Redis", budget, true),
        ("store lane: fetch to rows in ClickHouse", store, true),
    ] {
        let of = |of: fn(&Run) -> f64| median(runs.iter().map(of).collect());
        let own = of(|run| run.own);
        let rate = 1e9 / own;
        let only = |text: String| if gated { text } else { "-".to_owned() };
        table.row([
            name.to_owned(),
            number(rate, 0),
            only(number(rate / reference, 2)),
            only(number(TARGET, 0)),
            only(number(rate / TARGET, 2)),
            number(of(|run| run.wall), 0),
            number(own, 0),
            number(of(|run| run.others.kafka), 0),
            number(of(|run| run.others.redis), 0),
            number(of(|run| run.others.engine), 0),
        ]);
        if gated {
            let (lane, _) = name.split_once(':').unwrap_or((name, ""));
            gates.push(Gate::least(lane, "events a second and core", rate, TARGET));
        }
    }
    (table, gates)
}

impl Parted {
    /// Where the CPU time of a lane goes.
    fn table(&self, fetch: f64, budget: f64, store: f64) -> Table {
        let mut table = Table::new(
            "Where it goes, CPU ns/event",
            &["", "budget lane", "share", "store lane", "share"],
        );
        let Steps {
            decode,
            rate,
            fold,
            encode,
        } = self.steps;
        let known = |last: f64, send: f64| fetch + decode + rate + last + send;
        let rows = [
            ("fetch: Kafka client, framing, records", fetch, fetch),
            ("decode: a view of the bytes", decode, decode),
            ("rate: price, charge", rate, rate),
            ("fold per budget window, or encode two rows", fold, encode),
            ("send: settle in Redis, or insert", self.settle, self.insert),
            (
                "the rest: order, duplicates, audit, marks",
                budget - known(fold, self.settle),
                store - known(encode, self.insert),
            ),
            ("whole, as it runs", budget, store),
        ];
        for (name, in_budget, in_store) in rows {
            let share = |part: f64, whole: f64| format!("{} %", number(part / whole * 100.0, 0));
            table.row([
                name.to_owned(),
                number(in_budget, 0),
                share(in_budget, budget),
                number(in_store, 0),
                share(in_store, store),
            ]);
        }
        table.note("each step alone, in the same run; what a lane as a whole takes beyond them is the rest".to_owned());
        table
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

async fn parts(servers: &Servers, log: &Log, catalog: &Catalog) -> Result<Parts> {
    // What lanes tell of themselves goes to topics of its own.
    let aside = Arc::new(Log::new(servers.topics().await?)?);
    Ok(Parts {
        log: Arc::new(log.clone()),
        dead_letters: aside.clone(),
        audit: Some(aside),
        catalog: Arc::new(ArcSwap::from_pointee(catalog.clone())),
        budgets: None,
        store: None,
    })
}

async fn with_budgets(servers: &Servers, parts: &Parts) -> Result<Parts> {
    Ok(Parts {
        budgets: Some(servers.budgets().await?),
        ..parts.clone()
    })
}

async fn with_store(servers: &Servers, parts: &Parts) -> Result<Parts> {
    Ok(Parts {
        store: Some(servers.store().await?),
        ..parts.clone()
    })
}

/// Reads everything as a lane does, and does nothing with it.
async fn fetched(servers: &Servers, log: &Log, events: usize) -> Result<Run> {
    let mut clock = Clock::start(servers);
    let group = servers.fresh();
    let pause = Settings::default().budget_every;
    let mut reader = log
        .gathering_reader(&group, &[Topic::Usage], Start::Beginning, pause)
        .await?;
    let mut count = 0;
    while count < events {
        let records = reader.next(8_192, STUCK).await?;
        if records.is_empty() {
            bail!("the broker gives no events");
        }
        count += records.len();
        clock.saw(count);
    }
    let run = clock.stop(servers, events);
    drop(reader);
    log.close(STUCK).await;
    Ok(run)
}

/// Lets one lane bring everything to its sink.
async fn lane(
    servers: &Servers,
    events: usize,
    parts: Parts,
    of: fn(Status) -> LaneStatus,
) -> Result<Run> {
    let settings = Settings {
        budget_group: servers.fresh(),
        store_group: servers.fresh(),
        ..Settings::default()
    };
    let mut clock = Clock::start(servers);
    let billing = billing_consumer::start(settings, parts.clone());
    let mut progress = (0, Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let lane = of(billing.status());
        let done = usize::try_from(lane.events)?;
        clock.saw(done);
        if done > progress.0 {
            progress = (done, Instant::now());
        }
        if done >= events {
            break;
        }
        if lane.dead_letters > 0 {
            bail!("an event of the bench became a dead letter");
        }
        if progress.1.elapsed() > STUCK {
            bail!("a lane does not go on: {:?}", billing.status().problems);
        }
    }
    let run = clock.stop(servers, events);
    billing.drain(STUCK).await?;
    Ok(run)
}

struct Clock {
    own: Duration,
    others: Others,
    /// When the first events had come, and how many these were.
    first: Option<(Instant, usize)>,
}

impl Clock {
    fn start(servers: &Servers) -> Self {
        Self {
            own: cpu::own_process(),
            others: servers.used(),
            first: None,
        }
    }

    fn saw(&mut self, count: usize) {
        if count > 0 && self.first.is_none() {
            self.first = Some((Instant::now(), count));
        }
    }

    fn stop(self, servers: &Servers, events: usize) -> Run {
        let own = cpu::own_process() - self.own;
        let others = servers.used().since(self.others);
        let each = |us: f64| us * 1e3 / events as f64;
        Run {
            own: own.as_nanos() as f64 / events as f64,
            wall: self.first.map_or(f64::NAN, |(at, count)| {
                (events - count) as f64 / at.elapsed().as_secs_f64()
            }),
            others: Others {
                kafka: each(others.kafka),
                redis: each(others.redis),
                engine: each(others.engine),
            },
        }
    }
}
