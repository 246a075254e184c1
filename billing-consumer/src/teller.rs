//! Tells the audit topic what a lane has brought, every now and then and at its end. A lane that is killed
//! takes its last notes along: the audit then has fewer to compare, and compares rows all the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use journal::EventLog;
use schemas::{Partition, Topic};
use tokio::time::Instant;

use crate::audit::{Audit, Notes, bodies};
use crate::now;
use crate::status::Name;

const PARTITION: Partition = Partition(0);
/// Longest that a lane is kept waiting.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Teller {
    lane: Name,
    log: Option<Arc<dyn EventLog>>,
    every: Duration,
    notes: Notes,
    told: Instant,
}

impl Teller {
    pub(crate) fn new(lane: Name, log: Option<Arc<dyn EventLog>>, every: Duration) -> Self {
        Self {
            lane,
            log,
            every,
            notes: Notes::default(),
            told: Instant::now(),
        }
    }

    /// A batch was brought.
    pub(crate) fn add(&mut self, batch: &Audit) {
        if self.log.is_some() {
            self.notes.add(batch);
        }
    }

    /// Tells what is noted, if it is time or the lane ends.
    pub(crate) async fn tell(&mut self, ending: bool) {
        let Some(log) = &self.log else { return };
        if self.notes.is_empty() || !(ending || self.told.elapsed() >= self.every) {
            return;
        }
        self.told = Instant::now();
        let notes = self.notes.take();
        let told = tokio::time::timeout(PATIENCE, async {
            for body in bodies(self.lane.text(), &notes, now()) {
                log.append(Topic::Audit, PARTITION, Bytes::from(body))
                    .await?;
            }
            Ok::<_, journal::Error>(())
        });
        let why = match told.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {PATIENCE:?}"),
        };
        // Told twice is no harm: the audit sees two spans that each have to be true.
        tracing::warn!(
            lane = self.lane.text(),
            "the audit topic cannot be written, which is tried again: {why}"
        );
        self.notes.put_back(notes);
    }
}
