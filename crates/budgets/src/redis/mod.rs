//! Budget state of many processes, in Redis: one function call for each move, so that every move is one
//! step for all of them and costs one round trip.
//!
//! **Fails closed.** A generation names a stretch of time in which nothing was lost. The server forgets it
//! when it restarts, and a flush takes it away; from that moment on hard budgets refuse, until every lane
//! has caught up again and every process that lives has told of its calls. Calls without a hard budget go
//! on, by local bounds when the server is out of reach. No call waits longer than it is told to.

mod book;
mod keeper;
mod library;
mod link;
mod settings;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::Cmd;
use async_trait::async_trait;
use parking_lot::Mutex;
use schemas::{Identity, Micros, NanoUsd, RequestId, Standing, Text};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::book::{Book, Known, Over, Where, places};
use self::keeper::View;
use self::link::{Link, Trouble};
use self::wire::{Answer, Arguments, Asked, field, window, write_delta};
use crate::limits::minute_end;
use crate::{
    Beginning, Budgets, CaughtUp, Error, Granted, LimitType, Memory, OVERDUE_S, Portion, Refusal,
    Reserve, Restored, Scope, ScopeState, SeenWindow, Settled, Settlement, Snapshot, Spend, Stats,
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
        let link = Link::new(&settings.url)?;
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

/// A reservation whose answer nobody waits for any more must not hold money.
struct Waits<'a> {
    shared: &'a Shared,
    hold: RequestId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.shared.book.lock().doubt(self.hold) {
            self.shared.wake.notify_one();
        }
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

    async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal> {
        let hard = request.scopes.iter().any(|scope| scope.limit.is_some());
        let (generation, new) = self.book.lock().ask(request.hold);
        let waits = Waits {
            shared: self,
            hold: request.hold,
        };
        if hard && generation.is_none() {
            self.book.lock().refuse(request.hold);
            return Err(self.unavailable("spend is not restored from the log yet"));
        }
        let (now, deadline) = match self.settings.clock {
            Clock::Caller => {
                *self.told_time.lock() = request.now;
                (Some(request.now), None)
            }
            Clock::Server => {
                let late = micros(self.settings.wait).saturating_add(LATE_US);
                let late = |now: Micros| Micros(now.0.saturating_add(late));
                (None, self.server_time().map(late))
            }
        };
        let asked = Asked {
            request,
            now,
            deadline,
            generation: generation.as_deref().unwrap_or(""),
            member: &self.member,
        };
        let mut command = self.function("reserve");
        asked.write(&mut command);
        let answer = self.link.call(&command, self.settings.wait).await;
        let answer = answer.and_then(|value| self.understand(request, Answer::of(value)?));
        let (answer, known) = match answer {
            Ok(answer) => answer,
            Err(trouble) => {
                drop(waits);
                return self.without_server(request, hard, &trouble).await;
            }
        };
        if let Some(known) = known {
            if !self.book.lock().grant(request.hold, known, hard) {
                self.wake.notify_one();
                return Err(self.unavailable("spend was lost meanwhile"));
            }
        } else if new {
            self.book.lock().refuse(request.hold);
        }
        answer
    }

    async fn without_server(
        &self,
        request: &Reserve<'_>,
        hard: bool,
        trouble: &Trouble,
    ) -> Result<Granted, Refusal> {
        if hard {
            return Err(self.unavailable(match trouble {
                Trouble::Away => "redis does not answer",
                Trouble::Refused(_) => "redis refused the call",
            }));
        }
        let granted = self.local.reserve(request).await?;
        self.book.lock().admit_locally(request.hold);
        self.counters
            .admitted_locally
            .fetch_add(1, Ordering::Relaxed);
        Ok(granted)
    }

    /// What `reserve` answered, and what of it to remember.
    fn understand(
        &self,
        request: &Reserve<'_>,
        answer: Answer,
    ) -> Result<(Result<Granted, Refusal>, Option<Known>), Trouble> {
        let kind = answer.kind();
        if kind == GRANT || kind == REPEAT {
            let amount = answer.money(3)?;
            let added = if kind == GRANT { amount } else { NanoUsd::ZERO };
            let state = |(at, scope): (usize, &Scope)| state_of(&answer, 4 + 6 * at, scope, added);
            let scopes = request.scopes.iter().enumerate().map(state);
            let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
            let minutes = (0..request.scopes.len()).map(|at| answer.number(9 + 6 * at));
            let known = Known {
                amount,
                tokens: request.tokens,
                expires: answer.instant(2)?,
                places: places(request.scopes, minutes),
                over: None,
            };
            return Ok((Ok(Granted { amount, scopes }), Some(known)));
        }
        let refusal = match kind {
            NO_MONEY | NO_RATE => {
                let place = answer.number(2).and_then(|at| usize::try_from(at - 1).ok());
                let scope = place.and_then(|place| request.scopes.get(place));
                let scope = scope.ok_or_else(Answer::odd)?;
                if kind == NO_MONEY {
                    no_money(&answer, scope, request)?
                } else {
                    no_rate(&answer, scope)?
                }
            }
            STALE => Refusal::Stale {
                now: answer.instant(1)?,
            },
            CLOSED if request.scopes.iter().all(|scope| scope.limit.is_none()) => {
                return Err(Trouble::Refused("the state is made anew".to_owned()));
            }
            CLOSED => {
                let mut view = self.view.lock();
                view.phase = answer.number(2).unwrap_or(0);
                view.told = false;
                drop(view);
                self.wake.notify_one();
                self.unavailable("spend is not restored from the log yet")
            }
            NO_RANGE => self.unavailable("a spend counter is at the end of its range"),
            _ => self.unavailable("redis came to it too late"),
        };
        Ok((Err(refusal), None))
    }

    async fn finish(&self, hold: RequestId, over: Over, now: Micros) -> Vec<NanoUsd> {
        let place = self.book.lock().finish(hold, over);
        if place == Where::Local {
            self.local
                .finish(hold, over.actual, over.tokens, now, None)
                .await;
            // What this process alone counted is not the spend.
            return Vec::new();
        }
        let Ok(answer) = self.tell_end(hold, &over).await else {
            return Vec::new();
        };
        if answer.number(1) == Some(1) && answer.kind() == 1 {
            self.counters.cost_over_hold.fetch_add(1, Ordering::Relaxed);
        }
        if answer.kind() != 1 {
            return Vec::new();
        }
        let spend = |at: usize| {
            Some(NanoUsd(answer.number(at)?).saturating_add(NanoUsd(answer.number(at + 1)?)))
        };
        (2..answer.0.len()).step_by(2).filter_map(spend).collect()
    }

    async fn ask(&self, command: &Cmd, patience: Duration) -> Result<Answer, Error> {
        let value = self.link.call(command, patience).await?;
        Ok(Answer::of(value)?)
    }

    async fn standing(&self) -> Result<Standing, Error> {
        let answer = self.ask(&self.function("standing"), BULK).await?;
        Ok(answer.standing()?)
    }

    async fn settle(&self, batch: &Settlement) -> Result<Settled, Error> {
        if batch.marks.is_empty() {
            return Err(Error::Unfenced);
        }
        let entries = batch.deltas.len() + batch.holds.len();
        if entries > SETTLE_MOST {
            return Err(Error::TooLarge {
                entries,
                most: SETTLE_MOST,
            });
        }
        let mut command = self.function("settle");
        for count in [
            batch.marks.len(),
            batch.next.len(),
            batch.deltas.len(),
            batch.holds.len(),
        ] {
            command.arg(count);
        }
        for mark in &batch.marks {
            command.text(&field(mark.source, mark.partition));
            command.count(mark.from.0).count(mark.to.0);
        }
        for onward in &batch.next {
            command.count(u64::from(onward.partition.0));
            match onward.from {
                Some(from) => command.count(from.0),
                None => command.nothing(),
            };
            command.count(onward.to.0);
        }
        for delta in &batch.deltas {
            write_delta(&mut command, delta);
        }
        for hold in &batch.holds {
            command.hold(hold.hold).number(hold.amount.0);
            command.count(u64::from(hold.last));
        }
        let answer = self.ask(&command, BULK).await?;
        match answer.kind() {
            APPLIED => {
                let add = |counter: &AtomicU64, at| {
                    counter.fetch_add(answer.count(at).unwrap_or(0), Ordering::Relaxed);
                };
                add(&self.counters.settled_without_hold, 1);
                add(&self.counters.over_limit, 2);
                self.book.lock().settled(&batch.holds);
                Ok(Settled::Applied)
            }
            REPEATED => {
                self.book.lock().settled(&batch.holds);
                Ok(Settled::Repeated)
            }
            OVERFLOWS => {
                let place = answer.count(1).and_then(|at| usize::try_from(at).ok());
                let delta = place.and_then(|at| batch.deltas.get(at));
                let budget = delta.map_or_else(|| "?".into(), |delta| delta.budget.budget.clone());
                Err(Error::Overflow { budget })
            }
            _ => Err(self.refused(&answer)),
        }
    }

    /// What a step on the state answered instead of doing it.
    fn refused(&self, answer: &Answer) -> Error {
        match answer.kind() {
            FENCED => answer
                .standing()
                .map_or_else(Error::from, |standing| Error::Fence { standing }),
            LOST => {
                self.close();
                Error::Lost
            }
            _ => Answer::odd().into(),
        }
    }

    /// The state is not what it was: the keeper looks at once.
    fn close(&self) {
        let mut view = self.view.lock();
        view.phase = 0;
        view.told = false;
        drop(view);
        self.wake.notify_one();
    }

    /// Lease and names of the processes that were seen alive.
    fn write_members(&self, command: &mut Cmd) {
        command.number(self.lease());
        for member in self.view.lock().members.keys() {
            command.text(member);
        }
    }

    /// What was answered, and whether the state was done by halves and has to go.
    async fn begin(&self, force: bool) -> Result<(i64, bool), Error> {
        let mut command = self.function("begin");
        command.text(&self.member);
        command
            .number(micros(RESTORE_LASTS))
            .count(u64::from(force));
        self.write_members(&mut command);
        let answer = self.ask(&command, BULK).await?;
        Ok((answer.kind(), answer.number(1) == Some(1)))
    }

    /// Throws everything away but who lives and who restores. Meanwhile the state takes nothing.
    async fn wipe(&self) -> Result<(), Error> {
        let base = self.state.trim_end_matches("state");
        let kept = ["state", "members", "steps"].map(|name| format!("{base}{name}"));
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{base}*"));
            scan.arg("COUNT").arg(1_000);
            let answer = self.ask(&scan, BULK).await?;
            cursor = answer.text(0).ok_or_else(Answer::odd)?.to_owned();
            let found = Answer(answer.list(1).unwrap_or_default().to_vec());
            let mut unlink = ::redis::cmd("UNLINK");
            let mut any = false;
            for key in (0..found.0.len()).filter_map(|at| found.bytes(at)) {
                if !kept.iter().any(|kept| kept.as_bytes() == key) {
                    unlink.arg(key);
                    any = true;
                }
            }
            if any {
                self.link.call(&unlink, BULK).await?;
            }
            if cursor == "0" {
                break;
            }
        }
        Ok(())
    }

    async fn restore(&self, state: &Restored) -> Result<(), Error> {
        let (_, by_halves) = self.begin(true).await?;
        self.close();
        if by_halves {
            tracing::warn!("budget state was cut within a step by a crash: it is made anew");
            self.wipe().await?;
        }
        let step = |name: &str| {
            let mut command = self.function(name);
            command.text(&self.member).number(micros(RESTORE_LASTS));
            command
        };
        let mut cursor = "0".to_owned();
        loop {
            let mut command = step("restore_nothing");
            command.text(&cursor);
            let answer = self.ask(&command, BULK).await?;
            if answer.kind() != APPLIED {
                return Err(self.refused(&answer));
            }
            cursor = answer.text(1).ok_or_else(Answer::odd)?.to_owned();
            if cursor == "0" {
                break;
            }
        }
        for windows in state.windows.chunks(RESTORE_AT_ONCE) {
            let mut command = step("restore_windows");
            for restored in windows {
                let budget = &restored.budget;
                command.text(&window(&budget.budget, budget.window_start));
                command.number(budget.window_end.0).number(restored.used.0);
            }
            let answer = self.ask(&command, BULK).await?;
            if answer.kind() != APPLIED {
                return Err(self.refused(&answer));
            }
        }
        let mut command = self.function("restore_end");
        command.text(&self.member).text(&fresh_generation());
        command.arg(state.standing.marks.len());
        for mark in &state.standing.marks {
            command.text(&field(mark.source_id, mark.partition));
            command.count(mark.pseq.0);
        }
        for (partition, offset) in &state.standing.next {
            command.count(u64::from(partition.0)).count(offset.0);
        }
        let answer = self.ask(&command, BULK).await?;
        self.wake.notify_one();
        match answer.kind() {
            APPLIED => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    async fn caught_up(&self, at: &CaughtUp) -> Result<bool, Error> {
        let mut command = self.function("caught_up");
        command
            .text(&fresh_generation())
            .number(micros(self.settings.pause));
        match &at.portion {
            Portion::All => {
                command.count(0).count(0);
            }
            Portion::Some { partitions, of } => {
                command.count(u64::from(*of)).arg(partitions.len());
                for partition in partitions {
                    command.count(u64::from(partition.0));
                }
            }
        }
        command.arg(at.marks.len());
        for mark in &at.marks {
            command.text(&field(mark.source_id, mark.partition));
            command.count(mark.pseq.0);
        }
        self.write_members(&mut command);
        // Once more after this process has told of its own calls.
        for round in 0..2 {
            let answer = self.ask(&command, BULK).await?;
            match answer.kind() {
                ADMITS if self.ready() => return Ok(true),
                ADMITS => self.keep_now().await?,
                WAITING if round == 0 => self.keep_now().await?,
                WAITING => return Ok(false),
                _ => return Err(self.refused(&answer)),
            }
        }
        self.keep_now().await?;
        Ok(self.ready())
    }
}

#[async_trait]
impl Budgets for Redis {
    async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal> {
        self.shared.reserve(request).await
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
        command.number(OVERDUE_S * 1_000_000);
        let answer = self.shared.ask(&command, BULK).await?;
        let windows = (5..answer.0.len()).step_by(4).map(|at| {
            let name = answer.text(at).ok_or_else(Answer::odd)?;
            let (start, budget) = name.split_once(':').ok_or_else(Answer::odd)?;
            let finished = answer.money(at + 3)?;
            Ok(SeenWindow {
                budget: budget.into(),
                start: Micros(start.parse().map_err(|_| Answer::odd())?),
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

/// One scope after a reservation that added so much to what is held.
fn state_of(
    answer: &Answer,
    at: usize,
    scope: &Scope,
    added: NanoUsd,
) -> Result<ScopeState, Trouble> {
    let (used, held, finished) = (
        answer.money(at)?,
        answer.money(at + 1)?,
        answer.money(at + 2)?,
    );
    let left = |limit: NanoUsd| {
        limit
            .saturating_sub(used)
            .saturating_sub(held.saturating_add(added))
    };
    let rate = |limit: Option<u64>, at| {
        let taken = answer.count(at)?;
        limit.map(|limit| limit.saturating_sub(taken))
    };
    let minute = answer.number(at + 5);
    Ok(ScopeState {
        spend: used.saturating_add(finished),
        left: scope.limit.map(left),
        rpm_left: rate(scope.rpm, at + 3),
        tpm_left: rate(scope.tpm, at + 4),
        rate_resets_at: minute.map_or(Micros(i64::MAX), minute_end),
    })
}

fn no_money(answer: &Answer, scope: &Scope, request: &Reserve<'_>) -> Result<Refusal, Trouble> {
    let (used, held, finished) = (answer.money(3)?, answer.money(4)?, answer.money(5)?);
    let most = request.amount.max(NanoUsd::ZERO);
    Ok(Refusal::Budget {
        kind: scope.kind,
        id: scope.id.clone(),
        used: used.saturating_add(finished),
        held: held.saturating_sub(finished),
        limit: scope.limit.ok_or_else(Answer::odd)?,
        needed: request.least.clamp(NanoUsd::ZERO, most),
        resets_at: scope.window.end,
        by_holds: answer.number(6) == Some(1),
    })
}

fn no_rate(answer: &Answer, scope: &Scope) -> Result<Refusal, Trouble> {
    let (limit_type, limit) = match answer.number(3) {
        Some(1) => (LimitType::Requests, scope.rpm),
        Some(2) => (LimitType::Tokens, scope.tpm),
        _ => (LimitType::MaxParallelRequests, scope.parallel),
    };
    let limit = limit.ok_or_else(Answer::odd)?;
    let taken = answer.count(4).ok_or_else(Answer::odd)?;
    let resets_at = match limit_type {
        // Slots have no schedule.
        LimitType::MaxParallelRequests => answer.instant(1)?.plus_secs(1),
        _ => minute_end(answer.number(5).ok_or_else(Answer::odd)?),
    };
    Ok(Refusal::Rate {
        kind: scope.kind,
        id: scope.id.clone(),
        limit_type,
        limit,
        remaining: limit.saturating_sub(taken),
        resets_at,
    })
}

fn fresh_generation() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
