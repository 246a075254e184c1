//! Duplicates and losses, over a log whose deliveries are scripted: what a relay or a broker may do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use billing_consumer::mend::{self, Hole};
use budgets::{Budgets, Memory};
use bytes::Bytes;
use journal::{Appended, Error, EventLog, Lag, Position, Reader, Record, Start};
use parking_lot::Mutex;
use schemas::{
    AuditEvent, AuditKind, Event, Identity, Micros, NanoUsd, Partition, Pseq, SourceId, Standing,
    Topic,
};

use crate::world::{World, until, usage};

/// A log that delivers what it is told to, in that order. A seek goes back to the beginning.
#[derive(Default)]
struct Scripted {
    deliveries: Mutex<Vec<Record>>,
    commits: Mutex<Vec<usize>>,
    /// Appended to the audit topic.
    said: Mutex<Vec<Bytes>>,
}

const fn appended(identity: Identity) -> Appended {
    Appended {
        identity,
        position: Position(0),
        version: 0,
    }
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
    /// Keeps what only operators append.
    async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: Bytes,
    ) -> Result<Appended, Error> {
        let identity = Identity {
            source_id: SourceId(99),
            partition,
            pseq: Pseq(1),
        };
        assert_eq!(topic, Topic::Audit);
        self.0.said.lock().push(body);
        Ok(appended(identity))
    }

    async fn append_as(
        &self,
        topic: Topic,
        identity: Identity,
        body: Bytes,
    ) -> Result<Appended, Error> {
        let mut deliveries = self.0.deliveries.lock();
        let position = Position(deliveries.len() as u64);
        deliveries.push(Record {
            topic,
            identity,
            version: identity.pseq.0,
            position,
            body,
        });
        Ok(appended(identity))
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
    // What lies behind it is in no sum: hard budgets stay closed.
    until("the lane has come to the end", || {
        world.status().budget.lag == Some(Lag::Records(0))
    })
    .await;
    assert!(!world.budgets.ready());
    let problems = world.status().problems;
    assert!(
        problems
            .iter()
            .any(|why| why.contains("hard budgets refuse")),
        "{problems:?}"
    );

    // Somebody finds the event.
    log.deliver(1, 3);
    world.brought(8).await;
    until("the position moves", || {
        log.commits.lock().last() == Some(&8)
    })
    .await;
    assert_eq!(used(&world.budgets).await, NanoUsd(5 * 10 + 3 * 100));
    world.ready().await;
    assert!(
        world.status().problems.is_empty(),
        "{:?}",
        world.status().problems
    );
}

/// An operator gives up what is lost, and nothing else; what waited behind it is billed, and hard budgets open.
#[tokio::test]
async fn events_that_are_accepted_as_lost_hold_nothing_up() {
    let (mut world, log) = (World::new(None), Arc::new(Scripted::default()));
    for pseq in [1, 2, 5, 6, 8] {
        log.deliver(1, pseq);
    }
    start(&mut world, &log);
    world.brought(2).await;
    until("the gap is told", || !world.status().budget.gaps.is_empty()).await;
    let standing = Standing {
        marks: world.status().budget.marks,
        next: Vec::new(),
    };
    let hole = |first, last, waiting| Hole {
        source: SourceId(1),
        partition: Partition(0),
        first: Pseq(first),
        last: Pseq(last),
        waiting,
    };
    let topic = Log(Arc::clone(&log));
    let holes = mend::holes(&topic, &standing).await.unwrap();
    assert_eq!(holes, [hole(3, 4, 3), hole(7, 7, 1)]);
    for (first, last) in [(2, 3), (3, 5), (6, 6), (9, 9), (4, 3)] {
        let accepted = mend::accept(&topic, &standing, &hole(first, last, 0), "a guess").await;
        assert!(
            matches!(accepted, Err(mend::Error::NotMissing(_))),
            "{first} to {last}: {accepted:?}"
        );
    }
    assert!(log.said.lock().is_empty(), "nothing is said of a refusal");
    // One by one, in any order, and again after a crash in the middle.
    for (first, last) in [(7, 7), (4, 4), (3, 3)] {
        mend::accept(&topic, &standing, &hole(first, last, 0), "the disk broke")
            .await
            .unwrap();
    }
    // Five events and three letters.
    world.brought(8).await;
    assert_eq!(used(&world.budgets).await, NanoUsd(5 * 10));
    world.ready().await;
    assert!(world.status().problems.is_empty());
    let letters = world.letters().await;
    let lost: Vec<u64> = letters.iter().map(|letter| letter.of_pseq).collect();
    assert_eq!(lost, [3, 4, 7]);
    assert!(
        letters
            .iter()
            .all(|letter| letter.error.contains("the disk broke"))
    );
    let said = log.said.lock().clone();
    let said = said.iter().map(|body| AuditEvent::from_body(body).unwrap());
    assert!(
        said.into_iter()
            .all(|note| note.kind == AuditKind::GapAccepted)
    );
    drop(world.billing.take());
    world.budgets = Arc::new(Memory::new());
    start(&mut world, &log);
    world.ready().await;
    assert_eq!(used(&world.budgets).await, NanoUsd(5 * 10));
    assert_eq!(world.letters().await.len(), 3, "each once");
}
