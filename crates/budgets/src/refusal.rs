//! Why a call is not admitted, with the numbers that a client needs to know.

use std::fmt;

use schemas::{Micros, NanoUsd, Text};

use crate::ScopeKind;

/// What a rate limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitType {
    Requests,
    Tokens,
    MaxParallelRequests,
}

impl LimitType {
    /// The word in messages and headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::MaxParallelRequests => "max_parallel_requests",
        }
    }
}

impl fmt::Display for LimitType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refused reservation. When several scopes refuse, the answer is the one that lasts longest: spend,
/// then a rate, then open holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "budget of {kind} {id} is exhausted: {used} USD spent, {held} USD held by open calls, \
         {needed} USD needed, limit {limit} USD"
    )]
    Budget {
        kind: ScopeKind,
        id: Text,
        /// Spend in the window: settled, and finished calls that are not settled yet.
        used: NanoUsd,
        /// Held by calls in progress.
        held: NanoUsd,
        limit: NanoUsd,
        /// The least that the call would have taken.
        needed: NanoUsd,
        /// End of the window; `i64::MAX` for a lifetime budget.
        resets_at: Micros,
        /// It would fit if the open holds were gone: worth another try soon.
        by_holds: bool,
    },
    #[error("rate limit of {kind} {id}: {limit_type} limit {limit}, {remaining} left")]
    Rate {
        kind: ScopeKind,
        id: Text,
        limit_type: LimitType,
        limit: u64,
        /// What is left in the window, too little for this call.
        remaining: u64,
        /// End of the minute; for parallel calls, a second from now.
        resets_at: Micros,
    },
    /// A window of the request does not hold the present instant, by the clock of the state: clocks differ,
    /// or the window ended on the way.
    #[error("a budget window of the call does not hold the present instant")]
    Stale {
        /// The state's clock.
        now: Micros,
    },
    /// Hard budgets fail closed while their state is unknown.
    #[error("budget state is unavailable: {reason}")]
    Unavailable { reason: &'static str },
}
