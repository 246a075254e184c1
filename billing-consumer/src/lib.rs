//! From the log to money: two lanes read usage events, rate them with the same pure function, and
//! bring them to the budget state (within milliseconds) and to the usage tables (within a second).
//!
//! ```text
//!            ┌─ dedupe ─ rate ─ fold ─► budgets.settle ─► commit      budget lane, 10-50 ms
//!   log ─────┤                     └──► dead letters
//!            └─ dedupe ─ rate ─ rows ─► store.insert ───► commit      store lane, 0.5-1 s
//! ```
//! Each lane has its own position, and either goes on while the other's sink is down. A lane's position
//! moves only after its effect is durable, and each effect is a no-op when repeated, so a crash after
//! any step costs a re-read and changes no sum.
//!
//! Never skips an event: one that cannot be billed goes to the dead letters, whole; after one that is
//! missing its source is parked. Never on the path of a request. Never writes an event of its own but
//! dead letters and notes for the audit.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use budgets::Budgets;
use journal::EventLog;
use metering::Catalog;
use schemas::Micros;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub mod audit;
mod backoff;
mod budget_lane;
pub mod dead_letters;
pub mod dedupe;
mod error;
pub mod fail_point;
pub mod fold;
mod intake;
pub mod measure;
pub mod mend;
pub mod progress;
pub mod rated;
mod rebuild;
pub mod rows;
mod settings;
mod status;
mod store_lane;
mod teller;

pub use audit::{Agreement, Audit};
pub use error::Error;
pub use settings::Settings;
pub use status::{LaneStatus, Status};

use status::{Board, Name};

/// What the lanes work with.
#[derive(Clone)]
pub struct Parts {
    /// Holds the usage topic.
    pub log: Arc<dyn EventLog>,
    /// Takes what cannot be billed.
    pub dead_letters: Arc<dyn EventLog>,
    /// Takes what the lanes have brought, for `tollgate audit`. Absent: nobody is told.
    pub audit: Option<Arc<dyn EventLog>>,
    /// Followed by somebody else; the lanes wait for the version that an event pins.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Absent: no budget lane.
    pub budgets: Option<Arc<dyn Budgets>>,
    /// Absent: no store lane, and budget state is rebuilt from the whole log.
    pub store: Option<analytics::Store>,
}

/// The running lanes. Dropped, they stop at once; nothing is lost by it.
pub struct Billing {
    board: Arc<Board>,
    stop: watch::Sender<bool>,
    lanes: Vec<(&'static str, Lane)>,
}

/// Ends its task when dropped.
struct Lane(JoinHandle<()>);

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the lanes on the present runtime. Budget state is restored first, if it is not ready: from
/// the tables, then from the log after them; until then hard budgets refuse. Everything that must be
/// in the log for that (abandoned calls of the last run) is to be appended before.
///
/// Work comes in bursts of up to some milliseconds: a runtime that also serves requests should have a
/// thread to spare.
#[must_use]
pub fn start(settings: Settings, parts: Parts) -> Billing {
    fail_point::arm();
    let board = Arc::new(Board::new(parts.budgets.clone()));
    let (stop, stopped) = watch::channel(false);
    let mut lanes = Vec::new();
    let shared = Arc::new(dead_letters::DeadLetters::new(Arc::clone(
        &parts.dead_letters,
    )));
    if let Some(budgets) = parts.budgets.clone() {
        let lane = budget_lane::BudgetLane {
            settings: settings.clone(),
            parts: parts.clone(),
            budgets,
            dead_letters: Arc::clone(&shared),
            board: Arc::clone(&board),
            stop: stopped.clone(),
        };
        let run = seen_to_end(Name::Budget, Arc::clone(&board), lane.run());
        lanes.push(("budget", Lane(tokio::spawn(run))));
    }
    if let Some(store) = parts.store.clone() {
        let lane = store_lane::StoreLane {
            settings,
            parts,
            store,
            dead_letters: shared,
            board: Arc::clone(&board),
            stop: stopped,
        };
        let run = seen_to_end(Name::Store, Arc::clone(&board), lane.run());
        lanes.push(("store", Lane(tokio::spawn(run))));
    }
    Billing { board, stop, lanes }
}

/// Runs a lane. One that ends by a defect says so where everybody looks: nothing else would tell it from one
/// that has nothing to do.
async fn seen_to_end(lane: Name, board: Arc<Board>, run: impl Future<Output = ()>) {
    let _witness = Witness { lane, board };
    run.await;
}

struct Witness {
    lane: Name,
    board: Arc<Board>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.board.waits(
                self.lane,
                "it has stopped: see the log, and restart",
                Duration::ZERO,
            );
        }
    }
}

impl Billing {
    /// How far the lanes are and what holds them up.
    #[must_use]
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// A handle that tells the status while the lanes are owned elsewhere.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.board))
    }

    /// Brings everything that is in the log to its sinks, commits, and ends. Call it when nothing is
    /// appended any more.
    ///
    /// # Errors
    /// [`Error::Undrained`] when a lane needs longer: it is then stopped where it is, and goes on from
    /// there at the next start.
    pub async fn drain(self, within: Duration) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + within;
        self.stop.send_replace(true);
        let mut late = None;
        for (name, mut lane) in self.lanes {
            match tokio::time::timeout_at(until, &mut lane.0).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => late = Some(Error::Stopped { lane: name }),
                Err(_) => late = Some(Error::Undrained { lane: name, within }),
            }
        }
        late.map_or(Ok(()), Err)
    }
}

/// See [`Billing::watch`].
#[derive(Clone)]
pub struct Watch(Arc<Board>);

impl Watch {
    /// As [`Billing::status`].
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }
}

/// The time of the wall clock.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
