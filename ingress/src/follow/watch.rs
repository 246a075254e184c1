//! How far a follower is, for those who wait for it or tell about it.

use std::time::Duration;

use schemas::Micros;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout_at};

/// What is known, and how well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Of the last record in force.
    pub version: u64,
    /// Of the newest record on the log, as last heard.
    pub newest: u64,
    /// Whether the log was ever heard.
    pub heard: bool,
    /// Up to here nothing more came, though `newest` is after `version`: the end was compacted away.
    pub empty_up_to: u64,
    /// There is something to serve by: a snapshot, or all that the log holds.
    pub grounded: bool,
    /// Everything that was on the log when this process started is in force.
    pub caught_up: bool,
    /// When everything on the log was last known to be in force. None: never.
    pub as_of: Option<Micros>,
    /// What keeps it from following, in words.
    pub problem: Option<String>,
    /// Records without effect, because they could not be read.
    pub stepped_over: u64,
}

/// A look at a follower.
#[derive(Debug, Clone)]
pub struct Watch(Receiver<State>);

impl Watch {
    pub(super) fn new(state: Receiver<State>) -> Self {
        Self(state)
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// Whether there is something to serve by.
    #[must_use]
    pub fn is_grounded(&self) -> bool {
        self.0.borrow().grounded
    }

    /// Waits until everything that was on the log at the start is in force; `false` when time is up.
    pub async fn caught_up(&self, within: Duration) -> bool {
        self.until(Instant::now() + within, |state| state.caught_up)
            .await
    }

    /// Waits for a snapshot or the log, whichever is there; `false` when time is up.
    pub async fn grounded(&self, within: Duration) -> bool {
        self.until(Instant::now() + within, |state| state.grounded)
            .await
    }

    /// Waits until a version is in force; `false` when time is up.
    pub async fn applied(&self, version: u64, until: Instant) -> bool {
        self.until(until, |state| state.version >= version).await
    }

    /// Waits until something keeps it from following.
    pub async fn troubled(&self) {
        let mut state = self.0.clone();
        // Nobody follows any more: that, too.
        let _ = state.wait_for(|state| state.problem.is_some()).await;
    }

    async fn until(&self, until: Instant, reached: impl FnMut(&State) -> bool) -> bool {
        let mut state = self.0.clone();
        // The sender goes with its follower: nothing more comes then.
        matches!(timeout_at(until, state.wait_for(reached)).await, Ok(Ok(_)))
    }
}
