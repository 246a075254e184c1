//! What is asked of the budget state and what it answers.

use std::fmt;

use metering::Window;
use schemas::{Micros, NanoUsd, RequestId, Text};

/// What a budget belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeKind {
    Global,
    Organization,
    Team,
    User,
    /// Whom a call is made for (`user`), if it says so.
    Customer,
    Key,
    Tag,
    Model,
}

impl ScopeKind {
    /// The word in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Organization => "organization",
            Self::Team => "team",
            Self::User => "user",
            Self::Customer => "customer",
            Self::Key => "key",
            Self::Tag => "tag",
            Self::Model => "model",
        }
    }
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One budget that a call must pass, with its limits of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub kind: ScopeKind,
    /// Shown in messages.
    pub id: Text,
    /// Name of the counter: `key:<hash>`, `team:<id>`, `user:<id>`, `end_user:<id>`, `org:<id>`, `global`.
    pub budget: Text,
    /// Hard limit of the window; without one spend is counted all the same.
    pub limit: Option<NanoUsd>,
    /// The budget window around now.
    pub window: Window,
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Calls in flight.
    pub parallel: Option<u64>,
}

/// A reservation.
#[derive(Debug, Clone, Copy)]
pub struct Reserve<'a> {
    pub hold: RequestId,
    /// Wanted: the worst case of the call as it would like to be. Not negative.
    pub amount: NanoUsd,
    /// A grant below this is a refusal; equal to `amount` when the call cannot be made smaller.
    pub least: NanoUsd,
    /// Counted towards tokens a minute until the call tells its own number.
    pub tokens: u64,
    pub scopes: &'a [Scope],
    pub now: Micros,
    /// When an abandoned hold is given back: later than the call's deadline plus the lag of the lane.
    pub expires: Micros,
}

/// A reservation that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Held on every scope; between `least` and `amount`.
    pub amount: NanoUsd,
    /// In the order of the request's scopes.
    pub scopes: Vec<ScopeState>,
}

/// One scope right after the reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeState {
    /// Spend of the window, without open holds.
    pub spend: NanoUsd,
    /// Limit less spend and all holds; absent without a limit.
    pub left: Option<NanoUsd>,
    pub rpm_left: Option<u64>,
    pub tpm_left: Option<u64>,
    /// End of the minute that requests and tokens are counted in.
    pub rate_resets_at: Micros,
}

/// A budget window's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spend {
    /// Settled from the log.
    pub used: NanoUsd,
    /// Held by calls in progress.
    pub held: NanoUsd,
    /// Actual cost of finished calls that the lane has not settled yet.
    pub finished: NanoUsd,
}

impl Spend {
    /// What is shown as spend: `used + finished`.
    #[must_use]
    pub const fn shown(&self) -> NanoUsd {
        self.used.saturating_add(self.finished)
    }
}

/// For metrics. The first three are gauges, the rest count since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Holds of calls in progress.
    pub open: u64,
    /// Holds of finished calls that wait for the lane.
    pub finished: u64,
    /// Budget windows with a counter.
    pub windows: u64,
    pub expired: u64,
    /// Settlements of a hold that was gone: expired, or from before a restart.
    pub settled_without_hold: u64,
    /// Calls that cost more than was held for them: the worst case was wrong.
    pub cost_over_hold: u64,
    /// Settlements after which a window stood over its last seen limit.
    pub over_limit: u64,
    /// Calls without a hard budget that were admitted by local bounds, the state being out of reach.
    pub admitted_locally: u64,
    /// Calls that were refused because the state was out of reach or not restored.
    pub refused_unavailable: u64,
    /// Times that the connection to the state was lost.
    pub connections_lost: u64,
}
