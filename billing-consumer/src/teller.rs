//! Tells the audit topic what a lane has brought, every now and then and at its end. A lane that is killed
//! takes its last notes along: the audit then has fewer to compare, and compares rows all the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use journal::EventLog;
use schemas::{Partition, Topic};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::audit::{Audit, Notes, Span, bodies};
use crate::now;
use crate::status::Name;

const PARTITION: Partition = Partition(0);
/// Longest that telling may take, and an ending lane waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Teller {
    lane: Name,
    log: Option<Arc<dyn EventLog>>,
    every: Duration,
    notes: Notes,
    /// What is being told aside, so that no event waits for it: one task at most.
    telling: JoinSet<Result<(), Untold>>,
    told: Instant,
}

struct Untold {
    spans: Vec<Span>,
    why: String,
}

impl Teller {
    pub(crate) fn new(lane: Name, log: Option<Arc<dyn EventLog>>, every: Duration) -> Self {
        Self {
            lane,
            log,
            every,
            notes: Notes::default(),
            telling: JoinSet::new(),
            told: Instant::now(),
        }
    }

    /// A batch was brought.
    pub(crate) fn add(&mut self, batch: &Audit) {
        if self.log.is_some() {
            self.notes.add(batch);
        }
    }

    /// Begins to tell what is noted, if it is time; does so to the end, if the lane ends.
    pub(crate) async fn tell(&mut self, ending: bool) {
        self.hear(ending).await;
        let due = ending || self.told.elapsed() >= self.every;
        if due && self.telling.is_empty() && !self.notes.is_empty() {
            self.begin();
            self.hear(ending).await;
        }
    }

    fn begin(&mut self) {
        let Some(log) = self.log.clone() else { return };
        self.told = Instant::now();
        let (lane, spans) = (self.lane, self.notes.take());
        self.telling.spawn(async move {
            let told = tokio::time::timeout(PATIENCE, async {
                for body in bodies(lane.text(), &spans, now()) {
                    log.append(Topic::Audit, PARTITION, Bytes::from(body))
                        .await?;
                }
                Ok::<_, journal::Error>(())
            });
            let why = match told.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not done within {PATIENCE:?}"),
            };
            Err(Untold { spans, why })
        });
    }

    /// What became of it: looks, or waits for the end.
    async fn hear(&mut self, wait: bool) {
        let done = match wait {
            true => self.telling.join_next().await,
            false => self.telling.try_join_next(),
        };
        let Some(Ok(Err(untold))) = done else { return };
        tracing::warn!(
            lane = self.lane.text(),
            "the audit topic cannot be written, which is tried again: {}",
            untold.why
        );
        // Told twice is no harm: the audit sees two spans that each have to be true.
        self.notes.put_back(untold.spans);
    }
}
