//! The lane that brings usage and cost into the tables. It waits while they are down, with its batch
//! kept, and holds up nothing else.
//!
//! Per batch: dead letters, insert (rows, marks, offsets), commit. The tables' keys are the events', so a
//! batch that comes again changes no sum; what a crash after each step costs stands in
//! [`crate::fail_point`].

use std::sync::Arc;
use std::time::Duration;

use analytics::{Batch, Store};
use journal::Record;
use metering::{Catalog, NotYet};
use schemas::{Micros, Standing};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::Audit;
use crate::backoff::Patience;
use crate::dead_letters::DeadLetters;
use crate::fail_point::{Step, pass};
use crate::intake::{Fill, Intake, Owner};
use crate::rated::{Rated, rate};
use crate::rows::rows;
use crate::status::{Board, Name};
use crate::teller::Teller;
use crate::{Parts, Settings, rebuild};

const LANE: Name = Name::Store;
const IDLE: Duration = Duration::from_millis(500);
/// Pause until a catalog that is behind is looked at again.
const CATALOG_PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct StoreLane {
    pub settings: Settings,
    pub parts: Parts,
    pub store: Store,
    pub dead_letters: Arc<DeadLetters>,
    pub board: Arc<Board>,
    pub stop: watch::Receiver<bool>,
}

/// One insert in the making.
#[derive(Default)]
struct Pending {
    batch: Batch,
    /// What it is made of, to find a row that the tables refuse.
    records: Vec<Record>,
    poison: Vec<(Record, String)>,
    audit: Audit,
    events: u64,
    unpriced: u64,
    first_event: Option<Micros>,
    last_event: Option<Micros>,
    since: Option<Instant>,
}

impl StoreLane {
    pub(crate) async fn run(self) {
        let standing = self.standing().await;
        let owner = Owner {
            lane: LANE,
            group: &self.settings.store_group,
            pause: self.settings.store_soon,
            settings: &self.settings,
            board: &self.board,
            stop: &self.stop,
        };
        let mut intake = Intake::open(owner, &*self.parts.log, &standing).await;
        let mut pending = Pending::default();
        let mut teller = Teller::new(LANE, self.parts.audit.clone(), self.settings.audit_every);
        let mut last_insert: Option<Instant> = None;
        loop {
            let due_at = pending.since.map(|since| {
                let soon = since + self.settings.store_soon;
                last_insert.map_or(soon, |last| soon.max(last + self.settings.store_every))
            });
            let room = self
                .settings
                .store_batch
                .saturating_sub(pending.records.len());
            if room > 0 {
                let wait = due_at.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
                if intake.fill(room, wait).await == Fill::Reassigned {
                    // Whoever reads these partitions now brings what waits here.
                    pending.clear();
                    self.board.update(LANE, |status, _| status.oldest = None);
                    intake.restart_after(&self.standing().await);
                    continue;
                }
                self.take(&mut intake, &mut pending).await;
            }
            let ending = intake.is_ending();
            let full = pending.records.len() >= self.settings.store_batch;
            let due = full || ending || due_at.is_some_and(|due| due <= Instant::now());
            if due && pending.since.is_some() {
                last_insert = Some(Instant::now());
                let brought = self.bring(&mut pending, &mut intake).await;
                teller.add(&brought);
            }
            if pending.since.is_none() && intake.commit().await {
                pass(Step::AfterStoreCommit);
            }
            teller.tell(ending).await;
            intake.publish();
            if ending {
                return;
            }
        }
    }

    /// What the tables hold.
    async fn standing(&self) -> Standing {
        rebuild::store_standing(&self.store, &self.settings, &self.board).await
    }

    /// Rates what was read, up to an event whose prices are not loaded yet.
    async fn take(&self, intake: &mut Intake, pending: &mut Pending) {
        let mut not_yet = None;
        {
            let catalog = self.parts.catalog.load();
            while let Some(record) = intake.next() {
                if let Err(error) = pending.push(&record, &catalog) {
                    intake.put_back(record);
                    not_yet = Some(error);
                    break;
                }
                intake.taken(&record);
                pending.records.push(record);
            }
        }
        if let Some(error) = not_yet {
            self.board
                .waits(LANE, &error.to_string(), self.settings.alarm_after);
            tokio::time::sleep(CATALOG_PAUSE).await;
        }
    }

    /// Brings the batch into the tables, however long it takes, and empties it. Gives what it was.
    async fn bring(&self, pending: &mut Pending, intake: &mut Intake) -> Audit {
        for onward in intake.onward() {
            pending.batch.read_to(onward.partition, onward.to);
        }
        for (record, reason) in &pending.poison {
            self.bury(record, reason).await;
        }
        self.board
            .update(LANE, |status, _| status.oldest = pending.first_event);
        pass(Step::BeforeInsert);
        let mut refused = 0;
        if !self.insert(&pending.batch).await {
            (refused, pending.audit) = self.single_out(&pending.records).await;
            // A short cut only: the next batch brings it.
        } else {
            intake.applied();
        }
        pass(Step::AfterInsertBeforeCommit);
        self.board.goes_on(LANE);
        let audit = std::mem::take(&mut pending.audit);
        let marks = intake.marks();
        self.board.update(LANE, |status, blocks| {
            blocks.merge(audit.clone());
            status.events += pending.events - refused;
            status.unpriced += pending.unpriced;
            status.dead_letters += pending.poison.len() as u64 + refused;
            status.batches += 1;
            status.last_event = status.last_event.max(pending.last_event);
            status.oldest = None;
            status.marks = marks;
        });
        if pending.unpriced > 0 {
            tracing::error!(
                events = pending.unpriced,
                "events have no price: they stand in the tables as unpriced"
            );
        }
        pending.clear();
        audit
    }

    /// False when the tables refuse the rows themselves; anything else is tried again with the same batch.
    async fn insert(&self, batch: &Batch) -> bool {
        let mut patience = Patience::new(LANE, &self.board, &self.settings);
        loop {
            match self.store.insert(batch).await {
                Ok(()) => return true,
                Err(error) if error.is_poison() => {
                    tracing::error!("the tables refuse a batch: {error}");
                    return false;
                }
                Err(error) => patience.failed(error.to_string()).await,
            }
        }
    }

    /// Inserts a refused batch in halves, in order, until the rows that are refused stand alone; these
    /// become dead letters. Answers how many, and what was brought in the end.
    async fn single_out(&self, records: &[Record]) -> (u64, Audit) {
        let (mut refused, mut audit) = (0, Audit::default());
        let mut parts = vec![records];
        while let Some(part) = parts.pop() {
            let catalog = self.parts.catalog.load_full();
            let mut some = Pending::default();
            for record in part {
                // It was rated before, with a catalog that only grows.
                let _ = some.push(record, &catalog);
            }
            if self.insert(&some.batch).await {
                audit.merge(some.audit);
                continue;
            }
            if let [alone] = part {
                self.bury(alone, "the tables refuse its row").await;
                let mut mark = Batch::new();
                mark.passed(alone.identity);
                self.insert(&mark).await;
                audit.poison(&alone.identity);
                refused += 1;
            } else {
                let (first, second) = part.split_at(part.len() / 2);
                parts.push(second);
                parts.push(first);
            }
        }
        (refused, audit)
    }

    async fn bury(&self, record: &Record, reason: &str) {
        let patience = Patience::new(LANE, &self.board, &self.settings);
        self.dead_letters.bury(LANE, record, reason, patience).await;
    }
}

impl Pending {
    /// Rates a record and adds its rows.
    fn push(&mut self, record: &Record, catalog: &Catalog) -> Result<(), NotYet> {
        let mut older = Vec::new();
        match rate(&record.body, &mut older, catalog)? {
            Rated::Billed(billed) => {
                let (usage, cost) = rows(&record.identity, &billed);
                self.batch.push(&usage, &cost);
                self.audit.billed(&record.identity, billed.charge.amount);
                self.events += 1;
                self.unpriced += u64::from(billed.charge.unpriced.is_some());
                self.first_event.get_or_insert(billed.usage.event_time);
                self.last_event = self.last_event.max(Some(billed.usage.event_time));
            }
            Rated::Poison(poison) => {
                self.batch.passed(record.identity);
                self.audit.poison(&record.identity);
                self.poison.push((record.clone(), poison.reason));
            }
        }
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.audit = Audit::default();
        self.records.clear();
        self.poison.clear();
        (self.events, self.unpriced) = (0, 0);
        (self.first_event, self.last_event, self.since) = (None, None, None);
    }
}
