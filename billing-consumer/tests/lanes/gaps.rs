//! Duplicates and losses, over a log whose deliveries are scripted: what a relay or a broker may do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use budgets::{Budgets, Memory};
use bytes::Bytes;
use journal::{Appended, Error, EventLog, Lag, Position, Reader, Record, Start};
use parking_lot::Mutex;
use schemas::{Event, Identity, Micros, NanoUsd, Partition, Pseq, SourceId, Topic};

use crate::world::{World, until, usage};

/// A log that delivers what it is told to, in that order. A seek goes back to the beginning.
#[derive(Default)]
struct Scripted {
    deliveries: Mutex<Vec<Record>>,
    commits: Mutex<Vec<usize>>,
}

struct ScriptedReader {
    log: Arc<Scripted>,
    at: usize,
}

impl Scripted {
    /// Delivers event `pseq` of a source; it costs ten to the power of the source's number.
    fn deliver(&self, source: u64, pseq: u64) {
        let body = usage(
            source * 1_000 + pseq,
            10_i64.pow(u32::try_from(source).unwrap()),
        )
        .body();
        let mut deliveries = self.deliveries.lock();
        let position = Position(deliveries.len() as u64);
        let identity = Identity {
            source_id: SourceId(source),
            partition: Partition(0),
            pseq: Pseq(pseq),
        };
        deliveries.push(Record {
            topic: Topic::Usage,
            identity,
            version: identity.pseq.0,
            position,
            body: body.into(),
        });
    }
}

struct Log(Arc<Scripted>);

#[async_trait]
impl EventLog for Log {
    async fn append(&self, _: Topic, _: Partition, _: Bytes) -> Result<Appended, Error> {
        Err(Error::Closed)
    }

    async fn reader(&self, _: &str, _: &[Topic], _: Start) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(ScriptedReader {
            log: Arc::clone(&self.0),
            at: 0,
        }))
    }
}

#[async_trait]
impl Reader for ScriptedReader {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, Error> {
        let read = |at: usize| {
            let deliveries = self.log.deliveries.lock();
            deliveries[at..deliveries.len().min(at + max)].to_vec()
        };
        let mut records = read(self.at);
        if records.is_empty() {
            tokio::time::sleep(wait.min(Duration::from_millis(2))).await;
            records = read(self.at);
        }
        self.at += records.len();
        Ok(records)
    }

    async fn commit(&mut self) -> Result<(), Error> {
        self.log.commits.lock().push(self.at);
        Ok(())
    }

    async fn seek(&mut self, _: &Start) -> Result<(), Error> {
        self.at = 0;
        Ok(())
    }

    fn lag(&self) -> Lag {
        Lag::Records((self.log.deliveries.lock().len() - self.at) as u64)
    }
}

async fn used(budgets: &Memory) -> NanoUsd {
    budgets
        .spend(&[("global".into(), Micros(0))])
        .await
        .unwrap()[0]
        .used
}

fn start(world: &mut World, log: &Arc<Scripted>) {
    world.settings.budget_commit_every = Duration::ZERO;
    let parts = billing_consumer::Parts {
        log: Arc::new(Log(Arc::clone(log))),
        ..world.parts()
    };
    world.billing = Some(billing_consumer::start(world.settings.clone(), parts));
}

#[tokio::test]
async fn what_is_delivered_twice_is_billed_once() {
    let (mut world, log) = (World::new(None), Arc::new(Scripted::default()));
    for from in [1, 30, 5, 59, 1] {
        for pseq in from..=60 {
            log.deliver(1, pseq);
        }
    }
    start(&mut world, &log);
    world.brought(60).await;
    until("all deliveries are read", || {
        log.commits.lock().last() == Some(&log.deliveries.lock().len())
    })
    .await;
    assert_eq!(used(&world.budgets).await, NanoUsd(600));
    assert_eq!(world.status().budget.duplicates, 31 + 56 + 2 + 60);
}

#[tokio::test]
async fn a_missing_event_parks_its_source_alone_until_it_comes() {
    let (mut world, log) = (World::new(None), Arc::new(Scripted::default()));
    for pseq in [1, 2, 4, 5] {
        log.deliver(1, pseq);
    }
    for pseq in [1, 2, 3] {
        log.deliver(2, pseq);
    }
    start(&mut world, &log);
    until("the gap is told", || !world.status().budget.gaps.is_empty()).await;
    world.brought(5).await;
    let status = world.status();
    let gap = status.budget.gaps[0];
    assert_eq!(
        (gap.source, gap.expected, gap.got),
        (SourceId(1), Pseq(3), Pseq(4))
    );
    assert!(
        status.problems.iter().any(|why| why.contains("parked")),
        "{:?}",
        status.problems
    );
    assert_eq!(used(&world.budgets).await, NanoUsd(2 * 10 + 3 * 100));
    assert!(
        log.commits.lock().is_empty(),
        "the position must not pass parked events"
    );

    // A restart changes nothing: the gap is found again.
    drop(world.billing.take());
    world.budgets = Arc::new(Memory::new());
    start(&mut world, &log);
    world.brought(5).await;
    until("the gap is told", || !world.status().budget.gaps.is_empty()).await;

    // Somebody finds the event.
    log.deliver(1, 3);
    world.brought(8).await;
    until("the position moves", || {
        log.commits.lock().last() == Some(&8)
    })
    .await;
    assert_eq!(used(&world.budgets).await, NanoUsd(5 * 10 + 3 * 100));
    assert!(
        world.status().problems.is_empty(),
        "{:?}",
        world.status().problems
    );
}
