//! What the lanes say of themselves while nothing happens on the log: that it is away, that it is back, and that
//! a lane is no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use billing_consumer::LaneStatus;
use bytes::Bytes;
use journal::{Appended, Error, EventLog, Lag, Reader, Record, Start};
use schemas::{Partition, Topic};

use crate::engine;
use crate::world::{World, until};

/// A log without a record.
#[derive(Clone, Default)]
struct Empty {
    away: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

#[async_trait]
impl EventLog for Empty {
    async fn append(&self, _: Topic, _: Partition, _: Bytes) -> Result<Appended, Error> {
        Err(Error::Closed)
    }

    async fn reader(&self, _: &str, _: &[Topic], _: Start) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Reader for Empty {
    async fn next(&mut self, _: usize, _: Duration) -> Result<Vec<Record>, Error> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!self.broken.load(Ordering::Relaxed), "a defect");
        if self.away.load(Ordering::Relaxed) {
            return Err(Error::Broker("nobody answers".to_owned()));
        }
        Ok(Vec::new())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn seek(&mut self, _: &Start) -> Result<(), Error> {
        Ok(())
    }

    fn lag(&self) -> Lag {
        Lag::Records(0)
    }
}

async fn started() -> (World, Empty) {
    let (_, store) = engine::database().await;
    let (mut world, log) = (World::new(Some(store)), Empty::default());
    let parts = billing_consumer::Parts {
        log: Arc::new(log.clone()),
        ..world.parts()
    };
    world.billing = Some(billing_consumer::start(world.settings.clone(), parts));
    world.ready().await;
    (world, log)
}

fn waits_for(lane: &LaneStatus, what: &str) -> bool {
    let waiting = lane.waiting.as_ref();
    waiting.is_some_and(|(why, _)| why.contains(what))
}

/// Without an event that would show it.
#[tokio::test]
async fn a_log_that_is_back_is_not_waited_for_any_more() {
    let (mut world, log) = started().await;
    for _ in 0..2 {
        log.away.store(true, Ordering::Relaxed);
        until("both lanes wait", || {
            let status = world.status();
            let both = [&status.budget, &status.store];
            both.iter().all(|lane| waits_for(lane, "nobody answers"))
        })
        .await;
        log.away.store(false, Ordering::Relaxed);
        until("no lane waits", || world.status().problems.is_empty()).await;
    }
    log.away.store(true, Ordering::Relaxed);
    // An end does not wait for it.
    world.drain().await;
}

#[tokio::test]
async fn a_lane_that_has_stopped_says_so_for_ever() {
    let (world, log) = started().await;
    let watch = world.billing.as_ref().expect("the lanes run").watch();
    log.broken.store(true, Ordering::Relaxed);
    until("both lanes have stopped", || {
        let status = watch.status();
        let both = [&status.budget, &status.store];
        both.iter().all(|lane| waits_for(lane, "has stopped"))
    })
    .await;
    let problems = world.status().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
}
