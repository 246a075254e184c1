//! Requests and tokens a minute, and calls in flight, of one budget name.
//!
//! Minutes are fixed windows aligned to the clock: which one an instant is in is a function of time, so
//! nothing is ever reset. Knows no money and no names.

use schemas::Micros;

use crate::{LimitType, Scope};

const MINUTE_US: i64 = 60_000_000;
/// A refused call for want of a slot may try again after this, µs: slots have no schedule.
const SLOT_RETRY_US: i64 = 1_000_000;

/// Number of the minute around an instant.
pub(crate) const fn minute_of(now: Micros) -> i64 {
    now.0.div_euclid(MINUTE_US)
}

/// First instant after a minute.
pub(crate) const fn minute_end(minute: i64) -> Micros {
    Micros(minute.saturating_add(1).saturating_mul(MINUTE_US))
}

/// Counters of one budget name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauge {
    minute: i64,
    requests: u64,
    tokens: u64,
    in_flight: u64,
}

/// A limit that does not let a call pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    pub limit_type: LimitType,
    pub limit: u64,
    pub remaining: u64,
    pub resets_at: Micros,
}

impl Gauge {
    /// Goes on to the minute of `now`. A clock that is a little behind (another thread's reading) counts
    /// in the present minute; one that was set back for good starts over.
    pub(crate) fn roll(&mut self, now: Micros) {
        let minute = minute_of(now);
        if minute > self.minute || minute < self.minute - 1 {
            (self.minute, self.requests, self.tokens) = (minute, 0, 0);
        }
    }

    pub(crate) const fn minute(&self) -> i64 {
        self.minute
    }

    /// First instant after the present minute.
    pub(crate) const fn resets_at(&self) -> Micros {
        minute_end(self.minute)
    }

    /// Whether one more call with that many tokens passes. [`roll`](Self::roll) first.
    pub(crate) fn check(&self, scope: &Scope, tokens: u64, now: Micros) -> Result<(), Reached> {
        let reached = |limit_type, limit: u64, taken: u64, resets_at| {
            Err(Reached {
                limit_type,
                limit,
                remaining: limit.saturating_sub(taken),
                resets_at,
            })
        };
        if let Some(limit) = scope.rpm
            && self.requests >= limit
        {
            return reached(LimitType::Requests, limit, self.requests, self.resets_at());
        }
        if let Some(limit) = scope.tpm
            && self.tokens.saturating_add(tokens) > limit
        {
            return reached(LimitType::Tokens, limit, self.tokens, self.resets_at());
        }
        if let Some(limit) = scope.parallel
            && self.in_flight >= limit
        {
            let soon = Micros(now.0.saturating_add(SLOT_RETRY_US));
            return reached(LimitType::MaxParallelRequests, limit, self.in_flight, soon);
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, tokens: u64) {
        self.requests = self.requests.saturating_add(1);
        self.tokens = self.tokens.saturating_add(tokens);
        self.in_flight = self.in_flight.saturating_add(1);
    }

    pub(crate) fn rpm_left(&self, limit: Option<u64>) -> Option<u64> {
        limit.map(|limit| limit.saturating_sub(self.requests))
    }

    pub(crate) fn tpm_left(&self, limit: Option<u64>) -> Option<u64> {
        limit.map(|limit| limit.saturating_sub(self.tokens))
    }

    /// The call is over: its slot comes back, and if its minute still runs its tokens are corrected.
    pub(crate) fn finish(&mut self, minute: i64, reserved: u64, actual: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if minute == self.minute {
            self.tokens = self.tokens.saturating_sub(reserved).saturating_add(actual);
        }
    }

    /// The call never was.
    pub(crate) fn undo(&mut self, minute: i64, reserved: u64) {
        self.finish(minute, reserved, 0);
        if minute == self.minute {
            self.requests = self.requests.saturating_sub(1);
        }
    }

    /// The call was lost: only its slot comes back.
    pub(crate) fn expire(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Whether forgetting it changes nothing.
    pub(crate) fn is_idle(&self, now: Micros) -> bool {
        self.in_flight == 0 && minute_of(now) > self.minute
    }
}
