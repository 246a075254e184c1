//! What a lane tells the audit topic, over a broker that is slow to take it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use journal::{Appended, Error, EventLog, Position, Reader, Start};
use parking_lot::Mutex;
use schemas::{AuditEvent, Event, Identity, NanoUsd, Partition, Pseq, SourceId, Topic};
use tokio::sync::Semaphore;

use crate::world::{World, usage};

/// Takes nothing until it is opened.
struct Slow {
    opened: Semaphore,
    told: Mutex<Vec<Bytes>>,
}

#[async_trait]
impl EventLog for Slow {
    async fn append(&self, _: Topic, partition: Partition, body: Bytes) -> Result<Appended, Error> {
        let _permit = self.opened.acquire().await.map_err(|_| Error::Closed)?;
        let mut told = self.told.lock();
        told.push(body);
        let identity = Identity {
            source_id: SourceId(1),
            partition,
            pseq: Pseq(told.len() as u64),
        };
        Ok(Appended {
            identity,
            position: Position(0),
            version: identity.pseq.0,
        })
    }

    async fn append_as(&self, _: Topic, _: Identity, _: Bytes) -> Result<Appended, Error> {
        Err(Error::Closed)
    }

    async fn reader(&self, _: &str, _: &[Topic], _: Start) -> Result<Box<dyn Reader>, Error> {
        Err(Error::Closed)
    }
}

/// Spend is true at once, whatever the audit topic does; what was brought meanwhile is told when it can be.
#[tokio::test]
async fn spend_does_not_wait_for_the_audit_topic() {
    let mut world = World::new(None);
    world.settings.audit_every = Duration::ZERO;
    let slow = Arc::new(Slow {
        opened: Semaphore::new(0),
        told: Mutex::default(),
    });
    let parts = billing_consumer::Parts {
        audit: Some(Arc::clone(&slow) as Arc<dyn EventLog>),
        ..world.parts()
    };
    world.billing = Some(billing_consumer::start(world.settings.clone(), parts));
    for call in 1..=3 {
        world.append(&usage(call, 100)).await;
        world.brought(call).await;
    }
    assert_eq!(world.spend().await.used, NanoUsd(300));
    assert!(slow.told.lock().is_empty());
    slow.opened.add_permits(1);
    world.drain().await;
    let told = slow.told.lock();
    let notes = told.iter().map(|body| AuditEvent::from_body(body).unwrap());
    let blocks: Vec<_> = notes.flat_map(|event| event.blocks).collect();
    assert_eq!(blocks.iter().map(|block| block.events).sum::<u64>(), 3);
}
