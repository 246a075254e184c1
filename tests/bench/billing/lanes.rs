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

use super::servers::{Others, Servers};
use crate::arguments::Plan;
use crate::cpu;
use crate::report::{Gate, Table, number};

/// Events a second and core of each lane.
const TARGET: f64 = 300_000.0;
/// Longest time without any progress.
const STUCK: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

/// One way through all events.
struct Run {
    /// CPU time of this process, ns an event.
    own: f64,
    /// Events a second by the clock, from the first that came.
    wall: f64,
    /// CPU time of the servers, ns an event.
    others: Others,
}

pub async fn table(
    servers: &Servers,
    plan: &Plan,
    bodies: &[Vec<u8>],
    catalog: &Catalog,
) -> Result<(Table, Vec<Gate>)> {
    let events = if plan.quick { 100_000 } else { 500_000 };
    let topics = servers.topics().await?;
    let relayed = servers.fill(&topics, bodies, events).await?;
    let log = Log::new(topics)?;
    let (mut fetch, mut budget, mut store) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        fetch.push(fetched(servers, &log, events).await?);
        let parts = parts(servers, &log, catalog).await?;
        let of = |status: Status| status.budget;
        budget.push(lane(servers, events, with_budgets(servers, &parts).await?, of).await?);
        let of = |status: Status| status.store;
        store.push(lane(servers, events, with_store(servers, &parts).await?, of).await?);
    }
    let mut table = Table::new(
        &format!("Billing from a broker: {events} events, CPU of the whole consumer process"),
        &[
            "",
            "events/s and core",
            "CPU ns/event",
            "events/s by the clock",
            "Kafka ns/event",
            "Redis ns/event",
            "ClickHouse ns/event",
        ],
    );
    let mut gates = Vec::new();
    for (name, runs, gated) in [
        ("the consumer alone: fetch", fetch, false),
        (
            "budget lane: fetch, decode, rate, fold, settle",
            budget,
            true,
        ),
        ("store lane: fetch, decode, rate, encode, send", store, true),
    ] {
        let median = |of: fn(&Run) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let own = median(|run| run.own);
        table.row([
            name.to_owned(),
            number(1e9 / own, 0),
            number(own, 0),
            number(median(|run| run.wall), 0),
            number(median(|run| run.others.kafka), 0),
            number(median(|run| run.others.redis), 0),
            number(median(|run| run.others.engine), 0),
        ]);
        if gated {
            gates.push(Gate::new(name, "CPU", own, 1e9 / TARGET, "ns an event"));
        }
    }
    table.note(format!(
        "before that, the relay of an ingress brought them to the broker for {relayed:.0} CPU ns each"
    ));
    Ok((table, gates))
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

/// Reads everything and does nothing with it.
async fn fetched(servers: &Servers, log: &Log, events: usize) -> Result<Run> {
    let mut clock = Clock::start(servers);
    let group = servers.fresh();
    let mut reader = log
        .reader(&group, &[Topic::Usage], Start::Beginning)
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
