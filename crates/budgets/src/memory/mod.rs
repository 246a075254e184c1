//! Budget state of one process, in memory: a projection of the log that is rebuilt at every start.
//!
//! One short lock around every move. A reservation hashes its keys before it takes the lock, and
//! allocates only its answer and, now and then, room for more holds. Nothing here ever waits.

mod hold;
mod keyed;
mod state;

use async_trait::async_trait;
use parking_lot::Mutex;
use schemas::{Identity, Micros, NanoUsd, RequestId, Standing, Text};

use self::state::{Hashes, State};
use crate::{
    Beginning, Budgets, CaughtUp, Error, Granted, Refusal, Reserve, Restored, Scope, Settled,
    Settlement, Snapshot, Spend, Stats,
};

/// So many scopes are hashed before the lock is taken, the rest under it.
const HASHED_AHEAD: usize = 8;

/// Budget state in memory. Not ready until [`Budgets::open`].
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

impl Memory {
    /// Empty state, not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Budgets for Memory {
    async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal> {
        let answer = Vec::with_capacity(request.scopes.len());
        let mut ahead = [Hashes::default(); HASHED_AHEAD];
        for (place, scope) in ahead.iter_mut().zip(request.scopes) {
            *place = Hashes::of(scope);
        }
        let hashes =
            |at: usize, scope: &Scope| ahead.get(at).copied().unwrap_or_else(|| Hashes::of(scope));
        self.state.lock().reserve(request, hashes, answer)
    }

    async fn raise(&self, request: &Reserve<'_>) -> Result<NanoUsd, Refusal> {
        self.state.lock().raise(request)
    }

    async fn finish(
        &self,
        hold: RequestId,
        actual: NanoUsd,
        tokens: u64,
        _now: Micros,
        event: Option<Identity>,
    ) -> Vec<NanoUsd> {
        self.state.lock().finish(hold, actual, tokens, event)
    }

    async fn release(&self, hold: RequestId) {
        self.state.lock().release(hold);
    }

    async fn settle(&self, batch: &Settlement) -> Result<Settled, Error> {
        self.state.lock().settle(batch)
    }

    async fn spend(&self, windows: &[(Text, Micros)]) -> Result<Vec<Spend>, Error> {
        let state = self.state.lock();
        Ok(windows
            .iter()
            .map(|(name, start)| state.spend(name, *start))
            .collect())
    }

    async fn standing(&self) -> Result<Standing, Error> {
        Ok(self.state.lock().standing())
    }

    async fn restore(&self, restored: &Restored) -> Result<(), Error> {
        self.state.lock().restore(restored);
        Ok(())
    }

    async fn snapshot(&self, now: Micros) -> Result<Snapshot, Error> {
        Ok(self.state.lock().snapshot(now))
    }

    async fn begin(&self) -> Result<Beginning, Error> {
        let state = self.state.lock();
        Ok(if state.ready {
            Beginning::Follow(state.standing())
        } else {
            Beginning::Rebuild
        })
    }

    async fn caught_up(&self, at: &CaughtUp) -> Result<bool, Error> {
        self.state.lock().caught_up(at)?;
        Ok(true)
    }

    async fn sweep(&self, now: Micros) -> u64 {
        self.state.lock().sweep(now)
    }

    fn ready(&self) -> bool {
        self.state.lock().ready
    }

    fn stats(&self) -> Stats {
        self.state.lock().stats()
    }
}
