//! Holds and spend: what may still be spent, and by whom.
//!
//! A call reserves its worst case on every scope it belongs to, in one step, all or none; when it ends
//! its hold shrinks to the actual cost; and the budget lane, reading the log, turns that into spend.
//! **`used + held <= limit` holds at every instant.** State here is a projection of the log: it may be
//! thrown away and restored, and until that is done hard budgets refuse.
//!
//! ```text
//!            finish(actual)             settle(last)
//!   open ───────────────────► finished ─────────────► gone, `used` has it
//!    │ release / sweep                                   ▲
//!    ├──────────► gone           settle(last)            │ finish: gives back the slot only
//!    └─────────────────────────► settled ────────────────┘
//! ```
//!
//! Never reads a clock: every instant is an argument. Never prices anything: amounts come in.

use async_trait::async_trait;
use schemas::{Identity, Micros, NanoUsd, RequestId, Standing, Text};

pub mod conformance;
mod error;
mod limits;
pub mod measure;
mod memory;
pub mod redis;
mod refusal;
mod request;
mod settlement;

pub use error::Error;
pub use memory::Memory;
pub use redis::Redis;
pub use refusal::{LimitType, Refusal};
pub use request::{Granted, Reserve, Scope, ScopeKind, ScopeState, Spend, Stats};
pub use settlement::{
    Advance, Astray, Beginning, CaughtUp, Delta, HoldSettled, Onward, Portion, Restored,
    RestoredWindow, SeenWindow, Settled, Settlement, Snapshot,
};

/// Sweeps come about once a second; a hold that stands for so much longer is overdue, seconds.
const OVERDUE_S: i64 = 10;

/// The state of all budgets, wherever it is kept. Each backend passes [`conformance`].
#[async_trait]
pub trait Budgets: Send + Sync {
    /// Holds an amount, a request, its tokens and a slot on all scopes in one step, or on none.
    ///
    /// Asking again with a hold id that stands changes nothing and answers what was granted.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was taken. After [`Refusal::Stale`] make the windows anew for the instant that
    /// it tells, and ask once more.
    async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal>;

    /// Holds more for a call in progress, for one more attempt after one that may have cost: between
    /// `least` and `amount` on top of what it holds, on all scopes or on none. Counts no request and no
    /// tokens. Answers what was added.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was taken. [`Refusal::Unavailable`] where the hold is gone.
    async fn raise(&self, request: &Reserve<'_>) -> Result<NanoUsd, Refusal>;

    /// The call is over: the hold shrinks (or, if the worst case was none, grows) to `actual` and counts
    /// as spend, its slot comes back, its tokens are corrected to `tokens`. It stands until the lane
    /// settles it. After a settlement that came first, only slot and tokens are given back.
    ///
    /// Answers the spend of each scope of the reservation, in its order, this call included; nothing for
    /// a hold that is unknown (expired, or reserved before a restart). A repetition changes nothing.
    ///
    /// `event` is the call's last usage event, where it is known: state that was lost and restored tells
    /// by it whether the cost is in the restored sums. Without it the hold stands until it is settled.
    /// A hold of nothing (of limits alone) has nothing to settle, and is over at once.
    async fn finish(
        &self,
        hold: RequestId,
        actual: NanoUsd,
        tokens: u64,
        now: Micros,
        event: Option<Identity>,
    ) -> Vec<NanoUsd>;

    /// The call never happened: everything it took is given back, the counted request too. Does nothing
    /// to a hold that is finished.
    async fn release(&self, hold: RequestId);

    /// Turns a folded batch of the log into spend: adds to `used`, takes the same off the holds, and
    /// moves the high-water marks, in one step, so `used + held` never jumps. A replay is a no-op.
    ///
    /// # Errors
    /// [`Error::Fence`] when the batch does not start at the marks: read on from those of the answer.
    /// [`Error::Lost`] when the state is gone: [`begin`](Self::begin) again. [`Error::TooLarge`].
    async fn settle(&self, batch: &Settlement) -> Result<Settled, Error>;

    /// Spend of budget windows, each known by budget name and first instant. Zero where nothing is known.
    ///
    /// # Errors
    /// The backend cannot be reached.
    async fn spend(&self, windows: &[(Text, Micros)]) -> Result<Vec<Spend>, Error>;

    /// What has been settled.
    ///
    /// # Errors
    /// The backend cannot be reached.
    async fn standing(&self) -> Result<Standing, Error>;

    /// All spend with what has been settled, read in one step. It may keep everybody waiting for a moment.
    /// A hold is overdue when it stands longer than it should have at `now`, and a few seconds more.
    ///
    /// # Errors
    /// The backend cannot be reached.
    async fn snapshot(&self, now: Micros) -> Result<Snapshot, Error> {
        let _ = now;
        Err(Error::Unavailable(
            "this state does not show itself".to_owned(),
        ))
    }

    /// What a budget lane has to do before it reads. To be asked at its start and after [`Error::Lost`].
    ///
    /// # Errors
    /// The backend cannot be reached.
    async fn begin(&self) -> Result<Beginning, Error>;

    /// Replaces all spend and marks by absolute values, so doing it twice changes nothing. Holds that
    /// stand stay. Hard budgets refuse from here until the lanes have [caught up](Self::caught_up).
    ///
    /// # Errors
    /// The backend cannot be reached. [`Error::Lost`] when another process restores meanwhile.
    async fn restore(&self, state: &Restored) -> Result<(), Error>;

    /// A lane has settled all of its portion of the log. Once every portion is, and every process has
    /// told of its open calls, hard budgets admit: answers whether they do. To be called again and again
    /// while they do not.
    ///
    /// # Errors
    /// [`Error::Fence`] when the state stands before what the lane has settled: it was rolled back.
    /// [`Error::Lost`] when it is gone.
    async fn caught_up(&self, at: &CaughtUp) -> Result<bool, Error>;

    /// All of the log is settled, by one reader: from now on hard budgets admit.
    ///
    /// # Errors
    /// As [`caught_up`](Self::caught_up); [`Error::Unavailable`] while others are waited for.
    async fn open(&self) -> Result<(), Error> {
        if self.caught_up(&CaughtUp::default()).await? {
            return Ok(());
        }
        Err(Error::Unavailable(
            "other processes have yet to tell of their calls".to_owned(),
        ))
    }

    /// The instant that windows are chosen by: that of the state's own clock, where it has one.
    fn clock(&self, local: Micros) -> Micros {
        local
    }

    /// Drops open holds past their time and gives back their slots; forgets windows long past. To be
    /// called about once a second. Answers how many holds expired.
    async fn sweep(&self, now: Micros) -> u64;

    /// Whether hard budgets admit.
    fn ready(&self) -> bool;

    /// Counters since start and gauges of now, for metrics.
    fn stats(&self) -> Stats;
}
