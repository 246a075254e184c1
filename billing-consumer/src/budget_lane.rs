//! The lane that turns usage into spend within milliseconds, so that budgets are true. It goes on while
//! the tables are down.
//!
//! Per batch: dead letters, settle, commit. Settling carries the batch's high-water marks, so a batch
//! that comes again changes nothing; what a crash after each step costs stands in [`crate::fail_point`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use budgets::{Budgets, Settlement};
use journal::Record;
use schemas::{Identity, Micros};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::backoff::Patience;
use crate::dead_letters::DeadLetters;
use crate::fail_point::{Step, pass};
use crate::fold::Fold;
use crate::intake::{Intake, Owner};
use crate::rated::{Rated, rate};
use crate::status::{Board, Name};
use crate::{Parts, Settings, now, rebuild};

const LANE: Name = Name::Budget;
/// Longest wait for an event: holds are swept in between.
const IDLE: Duration = Duration::from_millis(200);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Pause until a catalog that is behind is looked at again.
const CATALOG_PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct BudgetLane {
    pub settings: Settings,
    pub parts: Parts,
    pub budgets: Arc<dyn Budgets>,
    pub dead_letters: Arc<DeadLetters>,
    pub board: Arc<Board>,
    pub stop: watch::Receiver<bool>,
}

/// One settlement in the making.
#[derive(Default)]
struct Batch {
    fold: Fold,
    audit: Audit,
    poison: Vec<(Record, String)>,
    events: u64,
    unpriced: u64,
    last_event: Option<Micros>,
}

impl BudgetLane {
    pub(crate) async fn run(self) {
        let started = now();
        let store = self.parts.store.as_ref();
        let marks = rebuild::budget_marks(&*self.budgets, store, &self.settings, &self.board).await;
        let owner = Owner {
            lane: LANE,
            group: &self.settings.budget_group,
            settings: &self.settings,
            board: &self.board,
            stop: &self.stop,
        };
        let mut intake = Intake::open(owner, &*self.parts.log, &marks).await;
        let (mut swept, mut committed) = (Instant::now(), Instant::now());
        loop {
            // Until the log is read to its end every moment counts: hard budgets refuse.
            let wait = if self.budgets.ready() {
                IDLE
            } else {
                CATALOG_PAUSE
            };
            intake.fill(self.settings.budget_batch, wait).await;
            let batch = self.take(&mut intake);
            let last_event = batch.last_event;
            let idle = batch.fold.is_empty();
            if !idle {
                self.bring(batch, &mut intake).await;
            } else if intake.is_blocked() {
                tokio::time::sleep(CATALOG_PAUSE).await;
            }
            if !self.budgets.ready()
                && (intake.is_at_end() || last_event.is_some_and(|end| end > started))
            {
                self.open().await;
            }
            if swept.elapsed() >= SWEEP_EVERY {
                self.budgets.sweep(now()).await;
                swept = Instant::now();
            }
            let ending = intake.is_stopping() && intake.is_at_end();
            let due = committed.elapsed() >= self.settings.budget_commit_every || ending;
            if intake.is_dirty() && due {
                committed = Instant::now();
                if intake.commit().await {
                    pass(Step::AfterBudgetCommit);
                }
            }
            let lag = intake.lag();
            self.board.update(LANE, |status, _| status.lag = Some(lag));
            if ending {
                return;
            }
        }
    }

    /// Rates what was read, up to an event whose prices are not loaded yet.
    fn take(&self, intake: &mut Intake) -> Batch {
        let mut batch = Batch::default();
        let catalog = self.parts.catalog.load();
        while !batch.fold.is_full()
            && let Some(record) = intake.next()
        {
            match rate(&record.body, &catalog) {
                Ok(Rated::Billed(billed)) => {
                    batch.fold.add(&record.identity, &billed);
                    batch.audit.billed(&record.identity, billed.charge.amount);
                    batch.events += 1;
                    batch.unpriced += u64::from(billed.charge.unpriced.is_some());
                    batch.last_event = batch.last_event.max(Some(billed.usage.event_time));
                    intake.taken(&record);
                }
                Ok(Rated::Poison(poison)) => {
                    batch.fold.pass(&record.identity, poison.ends);
                    batch.audit.poison(&record.identity);
                    intake.taken(&record);
                    batch.poison.push((record, poison.reason));
                }
                Err(not_yet) => {
                    intake.put_back(record);
                    self.board
                        .waits(LANE, &not_yet.to_string(), self.settings.alarm_after);
                    break;
                }
            }
        }
        batch
    }

    async fn bring(&self, batch: Batch, intake: &mut Intake) {
        let Batch {
            fold,
            audit,
            poison,
            events,
            unpriced,
            last_event,
        } = batch;
        let mut patience = Patience::new(LANE, &self.board, &self.settings);
        for (record, reason) in &poison {
            while let Err(error) = self
                .dead_letters
                .put(LANE.text(), record, reason, now())
                .await
            {
                patience
                    .failed(format!("the dead letters cannot be written: {error}"))
                    .await;
            }
        }
        pass(Step::BeforeSettle);
        if let Err(marks) = self.settle(&fold.settlement()).await {
            tracing::warn!(
                "the budget state is elsewhere than the budget lane thought: reading on from there"
            );
            intake.restart_after(&marks);
            return;
        }
        pass(Step::AfterSettle);
        self.board.goes_on(LANE);
        let marks = intake.marks();
        self.board.update(LANE, |status, blocks| {
            blocks.merge(audit);
            status.events += events;
            status.unpriced += unpriced;
            status.dead_letters += poison.len() as u64;
            status.batches += 1;
            status.last_event = status.last_event.max(last_event);
            status.marks = marks;
        });
    }

    /// Settles, however long it takes. `Err` is where the state stands instead.
    async fn settle(&self, settlement: &Settlement) -> Result<(), Vec<Identity>> {
        let mut patience = Patience::new(LANE, &self.board, &self.settings);
        loop {
            match self.budgets.settle(settlement).await {
                Ok(_) => return Ok(()),
                Err(budgets::Error::Fence { standing }) => return Err(standing.marks),
                Err(error) => patience.failed(error.to_string()).await,
            }
        }
    }

    async fn open(&self) {
        match self.budgets.open().await {
            Ok(()) => tracing::info!("budget state is restored: hard budgets admit"),
            // The next round tries again.
            Err(error) => self
                .board
                .waits(LANE, &error.to_string(), self.settings.alarm_after),
        }
    }
}
