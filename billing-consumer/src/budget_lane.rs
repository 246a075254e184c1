//! The lane that turns usage into spend within milliseconds, so that budgets are true. It goes on while
//! the tables are down.
//!
//! Per batch: dead letters, settle, commit. Settling carries the batch's high-water marks and offsets, so
//! a batch that comes again changes nothing; what a crash after each step costs stands in
//! [`crate::fail_point`].
//!
//! Several processes share the work, a part of the partitions each. The state itself knows where it stands:
//! the lane asks it whenever partitions were dealt anew, the state was lost, or it refuses a batch, and
//! reads on from there. It never trusts its own memory against the state's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use budgets::{Budgets, CaughtUp, Portion, Settled, Settlement};
use journal::{Dealt, Record};
use schemas::{Micros, Standing};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::backoff::Patience;
use crate::dead_letters::DeadLetters;
use crate::fail_point::{Step, pass};
use crate::fold::Fold;
use crate::intake::{Fill, Intake, Owner};
use crate::rated::{Rated, rate};
use crate::status::{Board, Name};
use crate::teller::Teller;
use crate::{Parts, Settings, now, rebuild};

const LANE: Name = Name::Budget;
/// Longest wait for an event: holds are swept in between.
const IDLE: Duration = Duration::from_millis(200);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Pause until a catalog that is behind is looked at again.
const CATALOG_PAUSE: Duration = Duration::from_millis(10);
/// How often the state is asked to open.
const OPEN_EVERY: Duration = Duration::from_millis(20);

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
    first_event: Option<Micros>,
    last_event: Option<Micros>,
}

/// What became of a settlement.
enum Outcome {
    Settled,
    /// The state stands elsewhere than the lane thought.
    Elsewhere(Standing),
    /// The state is gone, has the batch already, or takes smaller ones: ask it where to go on.
    Anew,
}

/// Where the lane is between two looks at the log.
struct Course {
    /// Everything that was in the log by then has to be settled before hard budgets may admit.
    since: Micros,
    /// End of the last call that was settled since then.
    last_event: Option<Micros>,
    ready: bool,
    /// Most events of one settlement.
    most: usize,
    settled: Option<Instant>,
    teller: Teller,
    asked: Option<Instant>,
}

impl BudgetLane {
    pub(crate) async fn run(self) {
        let mut course = Course {
            since: now(),
            last_event: None,
            ready: self.budgets.ready(),
            most: self.settings.budget_batch,
            settled: None,
            teller: Teller::new(LANE, self.parts.audit.clone(), self.settings.audit_every),
            asked: None,
        };
        let standing = self.standing().await;
        let owner = Owner {
            lane: LANE,
            group: &self.settings.budget_group,
            pause: self.settings.budget_every,
            settings: &self.settings,
            board: &self.board,
            stop: &self.stop,
        };
        let mut intake = Intake::open(owner, &*self.parts.log, &standing).await;
        let (mut swept, mut committed) = (Instant::now(), Instant::now());
        loop {
            let was_ready = std::mem::replace(&mut course.ready, self.budgets.ready());
            if was_ready && !course.ready {
                tracing::warn!("the budget state is not open any more: asking where it stands");
                self.go_on(&mut intake, &mut course).await;
            }
            self.pace(&course, intake.is_stopping()).await;
            // Until the log is read to its end every moment counts: hard budgets refuse.
            let wait = if course.ready { IDLE } else { CATALOG_PAUSE };
            if intake.fill(course.most, wait).await == Fill::Reassigned {
                self.go_on(&mut intake, &mut course).await;
                continue;
            }
            let batch = self.take(&mut intake);
            if !batch.fold.is_empty() {
                self.bring(batch, &mut intake, &mut course).await;
            } else if intake.is_blocked() {
                tokio::time::sleep(CATALOG_PAUSE).await;
            }
            // Of state that was made anew, what lies behind a missing event is not known to anybody: hard budgets
            // stay closed until it comes, or an operator accepts that it is lost.
            let settled = !intake.is_parked() && intake.has_passed(course.since, course.last_event);
            if !self.budgets.ready() && settled {
                self.open(&mut intake, &mut course).await;
            }
            if swept.elapsed() >= SWEEP_EVERY {
                self.budgets.sweep(now()).await;
                swept = Instant::now();
            }
            let ending = intake.is_ending();
            let due = committed.elapsed() >= self.settings.budget_commit_every;
            let stored = if ending {
                intake.commit().await
            } else if intake.is_committing() || (intake.is_dirty() && due) {
                committed = Instant::now();
                intake.commit_aside().await
            } else {
                false
            };
            if stored {
                pass(Step::AfterBudgetCommit);
            }
            course.teller.tell(ending).await;
            intake.publish();
            if ending {
                return;
            }
        }
    }

    /// Where the state stands, restored first if need be.
    async fn standing(&self) -> Standing {
        let store = self.parts.store.as_ref();
        rebuild::budget_standing(&*self.budgets, store, &self.settings, &self.board).await
    }

    /// Drops what was read, and goes on from where the state stands.
    async fn go_on(&self, intake: &mut Intake, course: &mut Course) {
        course.since = now();
        course.last_event = None;
        self.board.update(LANE, |status, _| status.oldest = None);
        intake.restart_after(&self.standing().await);
    }

    /// One settlement covers what comes within some milliseconds: it costs a round trip, whatever its size.
    async fn pace(&self, course: &Course, stopping: bool) {
        if let Some(settled) = course.settled
            && course.ready
            && !stopping
        {
            let due = settled + self.settings.budget_every;
            tokio::time::sleep_until(due.into()).await;
        }
    }

    /// Rates what was read, up to an event whose prices are not loaded yet.
    fn take(&self, intake: &mut Intake) -> Batch {
        let mut batch = Batch::default();
        let catalog = self.parts.catalog.load();
        while !batch.fold.is_full()
            && let Some(record) = intake.next()
        {
            let mut older = Vec::new();
            match rate(&record.body, &mut older, &catalog) {
                Ok(Rated::Billed(billed)) => {
                    batch.fold.add(&record.identity, &billed);
                    batch.audit.billed(&record.identity, billed.charge.amount);
                    batch.events += 1;
                    batch.unpriced += u64::from(billed.charge.unpriced.is_some());
                    batch.first_event.get_or_insert(billed.usage.event_time);
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

    async fn bring(&self, batch: Batch, intake: &mut Intake, course: &mut Course) {
        let Batch {
            fold,
            audit,
            poison,
            events,
            unpriced,
            first_event,
            last_event,
        } = batch;
        self.board
            .update(LANE, |status, _| status.oldest = first_event);
        for (record, reason) in &poison {
            self.bury(record, reason).await;
        }
        pass(Step::BeforeSettle);
        match self.settle(&fold.settlement(intake.onward()), course).await {
            Outcome::Settled => intake.applied(),
            Outcome::Elsewhere(standing) => return self.fenced(&standing, intake, course),
            Outcome::Anew => return self.go_on(intake, course).await,
        }
        pass(Step::AfterSettle);
        self.board.goes_on(LANE);
        // A batch that is nearly full is followed by another at once.
        course.settled = (events < course.most as u64 / 2).then(Instant::now);
        course.last_event = course.last_event.max(last_event);
        course.teller.add(&audit);
        let marks = intake.marks();
        self.board.update(LANE, |status, blocks| {
            blocks.merge(audit);
            status.events += events;
            status.unpriced += unpriced;
            status.dead_letters += poison.len() as u64;
            status.batches += 1;
            status.last_event = status.last_event.max(last_event);
            status.oldest = None;
            status.marks = marks;
        });
    }

    async fn bury(&self, record: &Record, reason: &str) {
        let patience = Patience::new(LANE, &self.board, &self.settings);
        self.dead_letters.bury(LANE, record, reason, patience).await;
    }

    /// Settles, however long it takes.
    async fn settle(&self, settlement: &Settlement, course: &mut Course) -> Outcome {
        let mut patience = Patience::new(LANE, &self.board, &self.settings);
        let mut failed = false;
        loop {
            match self.budgets.settle(settlement).await {
                Ok(Settled::Applied) => return Outcome::Settled,
                // The answer to an earlier try was lost, or another consumer brought it.
                Ok(Settled::Repeated) if failed => return Outcome::Settled,
                Ok(Settled::Repeated) => return Outcome::Anew,
                Err(budgets::Error::Fence { standing }) => return Outcome::Elsewhere(standing),
                Err(budgets::Error::Lost) => return Outcome::Anew,
                Err(error @ budgets::Error::TooLarge { .. }) if course.most > 1 => {
                    course.most /= 2;
                    tracing::warn!("{error}: cut to {} events from now on", course.most);
                    return Outcome::Anew;
                }
                Err(error) => {
                    failed = true;
                    patience.failed(error.to_string()).await;
                }
            }
        }
    }

    /// Another consumer was here, or the state was rolled back.
    fn fenced(&self, standing: &Standing, intake: &mut Intake, course: &mut Course) {
        tracing::warn!(
            "the budget state is elsewhere than the budget lane thought: reading on from there"
        );
        self.board.update(LANE, |status, _| {
            status.fenced += 1;
            status.oldest = None;
        });
        course.since = now();
        course.last_event = None;
        intake.restart_after(standing);
    }

    /// Tells that this lane's portion is settled; hard budgets admit once all are.
    async fn open(&self, intake: &mut Intake, course: &mut Course) {
        if course
            .asked
            .is_some_and(|asked| asked.elapsed() < OPEN_EVERY)
        {
            return;
        }
        course.asked = Some(Instant::now());
        match self.budgets.caught_up(&caught_up(intake)).await {
            Ok(admits) => {
                // It answers again, should it not have done so.
                self.board.goes_on(LANE);
                if admits {
                    tracing::info!("budget state is restored: hard budgets admit");
                }
            }
            Err(budgets::Error::Fence { standing }) => self.fenced(&standing, intake, course),
            Err(budgets::Error::Lost) => self.go_on(intake, course).await,
            // The next round tries again.
            Err(error) => self
                .board
                .waits(LANE, &error.to_string(), self.settings.alarm_after),
        }
    }
}

fn caught_up(intake: &Intake) -> CaughtUp {
    let mut marks = intake.marks();
    let portion = match intake.dealt() {
        Dealt::All => Portion::All,
        Dealt::Partitions { mine, of } => {
            marks.retain(|mark| mine.contains(&mark.partition));
            Portion::Some {
                partitions: mine,
                of,
            }
        }
    };
    CaughtUp { portion, marks }
}
