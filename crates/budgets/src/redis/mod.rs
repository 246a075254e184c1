//! Budget state of many processes, in Redis: one function call for each move, so that every move is one
//! step for all of them and costs one round trip.
//!
//! **Fails closed.** A generation names a stretch of time in which nothing was lost. The server forgets it
//! when it restarts, and a flush takes it away; from that moment on hard budgets refuse, until every lane
//! has caught up again and every process that lives has told of its calls. Calls without a hard budget go
//! on, by local bounds when the server is out of reach. No call waits longer than it is told to.

mod book;
mod calls;
mod keeper;
mod library;
mod link;
mod settings;
mod steps;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::Cmd;
use async_trait::async_trait;
use parking_lot::Mutex;
use schemas::{Identity, Micros, NanoUsd, RequestId, Standing, Text};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::book::{Book, Over, Where};
use self::keeper::View;
use self::link::{Link, Trouble};
use self::wire::{Answer, Arguments, window};
use crate::{
    Beginning, Budgets, CaughtUp, Error, Granted, Memory, OVERDUE_S, Refusal, Reserve, Restored,
    SeenWindow, Settled, Settlement, Snapshot, Spend, Stats,
};

pub use settings::{Clock, Settings};

// What the library answers; see there.
const GRANT: i64 = 1;
const REPEAT: i64 = 2;
const NO_MONEY: i64 = 3;
const NO_RATE: i64 = 4;
const CLOSED: i64 = 5;
const STALE: i64 = 6;
const NO_RANGE: i64 = 7;
const NO_HOLD: i64 = 9;

const LOST: i64 = 0;
const APPLIED: i64 = 1;
const REPEATED: i64 = 2;
const FENCED: i64 = 3;
const OVERFLOWS: i64 = 4;
const WAITING: i64 = 5;
const ADMITS: i64 = 6;

const RESTORING: i64 = 3;
const OPEN: i64 = 4;

/// Longest wait for what no client waits for.
const BULK: Duration = Duration::from_secs(5);
/// Windows and holds in one settlement: a step of some 100 ms for everybody.
const SETTLE_MOST: usize = 50_000;
/// Windows in one step of a restoration.
const RESTORE_AT_ONCE: usize = 1_000;
/// How long one process restores before another may take over, renewed with each step.
const RESTORE_LASTS: Duration = Duration::from_secs(30);
/// Holds that a snapshot adds up: a step of some 100 ms for everybody.
const COUNTED_MOST: u64 = 20_000;
const SWEEP_AT_ONCE: u64 = 500;
const SWEEPS: u64 = 20;
/// A reservation that the server does later than this after its call gave up is not done at all.
const LATE_US: i64 = 500_000;

/// Budget state in Redis, as one process uses it. Not ready until the state is.
pub struct Redis {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    settings: Settings,
    link: Link,
    /// The key that all others are named after.
    state: String,
    /// This life of this process.
    member: String,
    book: Mutex<Book>,
    view: Mutex<View>,
    /// Bounds of calls without a hard budget while the server is out of reach.
    local: Memory,
    counters: Counters,
    wake: Notify,
    keeping: tokio::sync::Mutex<()>,
    /// The last instant that a caller gave, where callers move time.
    told_time: Mutex<Micros>,
    /// The generation in which nothing is left of former lives.
    cleared: Mutex<Option<Text>>,
    /// When this life began.
    began: Instant,
}

#[derive(Default)]
struct Counters {
    expired: AtomicU64,
    settled_without_hold: AtomicU64,
    cost_over_hold: AtomicU64,
    over_limit: AtomicU64,
    admitted_locally: AtomicU64,
    refused_unavailable: AtomicU64,
}

impl Redis {
    /// Connects and goes on connecting, on the present runtime. A server that is out of reach is no
    /// error: hard budgets refuse until it comes.
    ///
    /// # Errors
    /// [`Error::Unusable`]: a server that evicts or is too old, a refused login, an unusable URL.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let link = Link::new(&settings.url, settings.ca.as_deref())?;
        let shared = Arc::new(Shared {
            state: format!("{{{}}}:state", settings.prefix),
            member: format!("{}/{:016x}", settings.name, rand::random::<u64>()),
            settings,
            link,
            book: Mutex::default(),
            view: Mutex::default(),
            local: Memory::new(),
            counters: Counters::default(),
            wake: Notify::new(),
            keeping: tokio::sync::Mutex::default(),
            told_time: Mutex::default(),
            cleared: Mutex::default(),
            began: Instant::now(),
        });
        match shared.link.connect().await {
            Ok(()) => {
                // The keeper tries again.
                let _ = shared.keep_now().await;
            }
            Err(error @ Error::Unusable(_)) => return Err(error),
            Err(error) => tracing::warn!("budget state is out of reach: {error}"),
        }
        let keeper = tokio::spawn(keeper::run(Arc::clone(&shared)));
        Ok(Self { shared, keeper })
    }

    /// Processes that were seen alive, this one included.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.shared.view.lock().members.len()
    }

    /// The process ends by itself: nobody has to wait for it. Calls still open are lost to the state
    /// when it is lost.
    pub async fn leave(&self) {
        let mut command = self.shared.function("leave");
        command.text(&self.shared.member);
        // The lease ends as well.
        let _ = self
            .shared
            .link
            .call(&command, self.shared.settings.wait)
            .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    fn function(&self, name: &str) -> Cmd {
        library::call(name, &self.state)
    }

    fn lease(&self) -> i64 {
        micros(self.settings.lease)
    }

    fn server_time(&self) -> Option<Micros> {
        let (read, at) = self.view.lock().clock?;
        Some(Micros(read.0.saturating_add(micros(at.elapsed()))))
    }

    /// Where callers move time, the time.
    fn caller_time(&self) -> Option<Micros> {
        match self.settings.clock {
            Clock::Server => None,
            Clock::Caller => Some(*self.told_time.lock()),
        }
    }

    fn ready(&self) -> bool {
        let view = self.view.lock();
        view.phase == OPEN && view.told && self.link.is_open()
    }

    fn unavailable(&self, reason: &'static str) -> Refusal {
        self.counters
            .refused_unavailable
            .fetch_add(1, Ordering::Relaxed);
        Refusal::Unavailable { reason }
    }

    async fn ask(&self, command: &Cmd, patience: Duration) -> Result<Answer, Error> {
        let value = self.link.call(command, patience).await?;
        Ok(Answer::of(value)?)
    }
}

#[async_trait]
impl Budgets for Redis {
    async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal> {
        self.shared.reserve(request).await
    }

    async fn raise(&self, request: &Reserve<'_>) -> Result<NanoUsd, Refusal> {
        self.shared.raise(request).await
    }

    async fn finish(
        &self,
        hold: RequestId,
        actual: NanoUsd,
        tokens: u64,
        now: Micros,
        event: Option<Identity>,
    ) -> Vec<NanoUsd> {
        let over = Over {
            actual,
            tokens,
            event,
            told: false,
        };
        self.shared.finish(hold, over, now).await
    }

    async fn release(&self, hold: RequestId) {
        let shared = &self.shared;
        let place = shared.book.lock().release(hold);
        if place == Where::Local {
            return shared.local.release(hold).await;
        }
        let mut command = shared.function("release");
        command.hold(hold);
        // What is not heard is said again by the keeper.
        if shared
            .link
            .call(&command, shared.settings.wait)
            .await
            .is_ok()
        {
            shared.book.lock().released(&[hold]);
        }
    }

    async fn settle(&self, batch: &Settlement) -> Result<Settled, Error> {
        self.shared.settle(batch).await
    }

    async fn spend(&self, windows: &[(Text, Micros)]) -> Result<Vec<Spend>, Error> {
        let mut command = self.shared.function("spend");
        for (budget, start) in windows {
            command.text(&window(budget, *start));
        }
        let answer = self.shared.ask(&command, self.shared.settings.wait).await?;
        let spend = |at: usize| -> Result<Spend, Error> {
            let finished = answer.money(3 * at + 2)?;
            Ok(Spend {
                used: answer.money(3 * at)?,
                held: answer.money(3 * at + 1)?.saturating_sub(finished),
                finished,
            })
        };
        (0..windows.len()).map(spend).collect()
    }

    async fn standing(&self) -> Result<Standing, Error> {
        self.shared.standing().await
    }

    async fn snapshot(&self, now: Micros) -> Result<Snapshot, Error> {
        let mut command = self.shared.function("snapshot");
        match self.shared.settings.clock {
            Clock::Caller => command.number(now.0),
            Clock::Server => command.nothing(),
        };
        command.number(OVERDUE_S * 1_000_000).count(COUNTED_MOST);
        let answer = self.shared.ask(&command, BULK).await?;
        let windows = (6..answer.0.len()).step_by(4).map(|at| {
            let (budget, start) = answer.window(at)?;
            let finished = answer.money(at + 3)?;
            Ok(SeenWindow {
                budget,
                start,
                spend: Spend {
                    used: answer.money(at + 1)?,
                    held: answer.money(at + 2)?.saturating_sub(finished),
                    finished,
                },
            })
        });
        Ok(Snapshot {
            standing: answer.standing()?,
            windows: windows.collect::<Result<_, Trouble>>()?,
            holds: answer.count(3).unwrap_or(0),
            overdue: answer.count(4).unwrap_or(0),
            astray: answer.astray(5)?,
        })
    }

    async fn begin(&self) -> Result<Beginning, Error> {
        match self.shared.begin(false).await?.0 {
            APPLIED => Ok(Beginning::Follow(self.shared.standing().await?)),
            WAITING => Ok(Beginning::Wait),
            _ => Ok(Beginning::Rebuild),
        }
    }

    async fn restore(&self, state: &Restored) -> Result<(), Error> {
        self.shared.restore(state).await
    }

    async fn caught_up(&self, at: &CaughtUp) -> Result<bool, Error> {
        self.shared.caught_up(at).await
    }

    fn clock(&self, local: Micros) -> Micros {
        match self.shared.settings.clock {
            Clock::Caller => local,
            Clock::Server => self.shared.server_time().unwrap_or(local),
        }
    }

    async fn sweep(&self, now: Micros) -> u64 {
        let shared = &self.shared;
        shared.local.sweep(now).await;
        let now = match shared.settings.clock {
            Clock::Caller => Some(now),
            Clock::Server => None,
        };
        let mut command = shared.function("sweep");
        match now {
            Some(now) => command.number(now.0),
            None => command.nothing(),
        };
        command.count(SWEEP_AT_ONCE);
        let mut expired = 0;
        for _ in 0..SWEEPS {
            // Late holds wait for the next sweep.
            let Ok(redis::Value::Int(swept)) =
                shared.link.call(&command, shared.settings.wait).await
            else {
                break;
            };
            let swept = u64::try_from(swept).unwrap_or(0);
            expired += swept;
            if swept < SWEEP_AT_ONCE {
                break;
            }
        }
        if let Some(now) = now.or_else(|| shared.server_time()) {
            shared.book.lock().forget(&[], now);
        }
        shared
            .counters
            .expired
            .fetch_add(expired, Ordering::Relaxed);
        expired
    }

    fn ready(&self) -> bool {
        self.shared.ready()
    }

    fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (open, finished) = shared.book.lock().counts();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &shared.counters;
        Stats {
            open,
            finished,
            windows: shared.view.lock().windows,
            expired: read(&counters.expired),
            settled_without_hold: read(&counters.settled_without_hold),
            cost_over_hold: read(&counters.cost_over_hold),
            over_limit: read(&counters.over_limit),
            admitted_locally: read(&counters.admitted_locally),
            refused_unavailable: read(&counters.refused_unavailable),
            connections_lost: read(&shared.link.lost),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
