//! What happens to a budget's window and to a hold on it, as pure transitions.
//!
//! TigerBeetle's pending transfers: reserve, then adjust or finish, then settle, release or expire. A
//! hold stands on every account of its call alike, so a transition of the hold yields one [`Change`]
//! that the caller applies to each of them. All is plain integers: nothing allocates, locks or fails.
//!
//! Defends `used + held <= limit`: a reservation is granted only inside the limit, and no later step
//! raises the sum as long as a call costs at most its hold. Never looks up or keeps holds: that is the
//! store's part, as is dropping events it has seen ([`offer`]).

use schemas::{Micros, NanoUsd, Pseq};

/// The sums of one window of one budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Settled from the log.
    pub used: NanoUsd,
    /// Of all holds, finished ones included.
    pub held: NanoUsd,
    /// The part of `held` whose calls are over: their cost is known, the log has yet to settle it.
    pub finished: NanoUsd,
}

/// What a transition adds to each account of its hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Change {
    pub used: i64,
    pub held: i64,
    pub finished: i64,
}

impl Change {
    /// What a repeated transition adds.
    pub const NONE: Self = Self {
        used: 0,
        held: 0,
        finished: 0,
    };
}

/// Why a reservation is not granted: the first account with the least room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// Its place among the rooms given.
    pub at: usize,
    /// What would still fit in it; negative when the limit is already passed.
    pub room: NanoUsd,
}

impl Account {
    /// What may still be held under a limit, negative when it is passed; no limit has room without end.
    #[must_use]
    pub const fn room(&self, limit: Option<NanoUsd>) -> Option<NanoUsd> {
        match limit {
            None => None,
            Some(limit) => Some(limit.saturating_sub(self.used).saturating_sub(self.held)),
        }
    }

    /// What calls have cost so far: settled, and finished but not settled yet.
    #[must_use]
    pub const fn spend(&self) -> NanoUsd {
        self.used.saturating_add(self.finished)
    }

    /// Whether an amount that does not fit would, were it not for holds of calls still open: then
    /// waiting helps, and a refusal is retryable.
    #[must_use]
    pub const fn blocked_by_holds(&self, limit: NanoUsd, needed: NanoUsd) -> bool {
        let fits_later = limit.0 >= self.spend().saturating_add(needed).0;
        let fits_now = limit.0 >= self.used.saturating_add(self.held).saturating_add(needed).0;
        fits_later && !fits_now
    }

    /// Applies a transition.
    pub const fn apply(&mut self, change: Change) {
        self.used = self.used.saturating_add(NanoUsd(change.used));
        self.held = self.held.saturating_add(NanoUsd(change.held));
        self.finished = self.finished.saturating_add(NanoUsd(change.finished));
    }
}

/// How much of a wanted amount all accounts can hold: the whole if it fits, else what fits as long as
/// that is at least `least`. An amount below zero counts as zero.
///
/// `rooms` are [`Account::room`] of every account, `None` for those without a limit. All or none: the
/// caller applies the grant to every account, within the same lock.
///
/// # Errors
/// [`Short`] when even `least` does not fit everywhere.
pub fn grant(
    want: NanoUsd,
    least: NanoUsd,
    rooms: impl IntoIterator<Item = Option<NanoUsd>>,
) -> Result<NanoUsd, Short> {
    let mut tightest: Option<Short> = None;
    for (at, room) in rooms.into_iter().enumerate() {
        let Some(room) = room else { continue };
        if tightest.is_none_or(|known| room < known.room) {
            tightest = Some(Short { at, room });
        }
    }
    let want = want.max(NanoUsd::ZERO);
    let least = least.clamp(NanoUsd::ZERO, want);
    match tightest {
        Some(short) if short.room < least => Err(short),
        Some(short) => Ok(want.min(short.room)),
        None => Ok(want),
    }
}

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The call runs.
    Open,
    /// The call is over; what is held is its cost, until the log settles it.
    Finished,
    /// Settled, released or expired: nothing is held, and no transition changes it any more.
    Gone,
}

/// One call's claim on every account it was checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Granted at first; what a repeated reservation answers.
    granted: NanoUsd,
    /// Still held.
    amount: NanoUsd,
    /// Already settled by records of earlier attempts.
    settled: NanoUsd,
    phase: Phase,
    expires: Micros,
}

impl Hold {
    /// Takes what [`grant`] granted.
    pub const fn reserve(granted: NanoUsd, expires: Micros) -> (Self, Change) {
        let hold = Self {
            granted,
            amount: granted,
            settled: NanoUsd::ZERO,
            phase: Phase::Open,
            expires,
        };
        let change = Change {
            held: granted.0,
            ..Change::NONE
        };
        (hold, change)
    }

    #[must_use]
    pub const fn granted(&self) -> NanoUsd {
        self.granted
    }

    #[must_use]
    pub const fn amount(&self) -> NanoUsd {
        self.amount
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    #[must_use]
    pub const fn expires(&self) -> Micros {
        self.expires
    }

    /// The call goes on for longer than thought.
    pub fn extend(&mut self, expires: Micros) {
        self.expires = self.expires.max(expires);
    }

    /// Gives back all but `amount` of an open hold, e.g. when a cheaper deployment took the call.
    /// Never raises it: more room needs another [`grant`].
    pub fn adjust(&mut self, amount: NanoUsd) -> Change {
        if self.phase != Phase::Open {
            return Change::NONE;
        }
        let amount = amount.clamp(NanoUsd::ZERO, self.amount);
        self.set_held(amount)
    }

    /// Takes what another [`grant`] granted, for one more attempt of an open call.
    pub fn raise(&mut self, by: NanoUsd) -> Change {
        if self.phase != Phase::Open {
            return Change::NONE;
        }
        self.granted = self.granted.saturating_add(by);
        self.set_held(self.amount.saturating_add(by))
    }

    /// The call is over and cost `actual`, all its attempts together: frees the rest at once.
    ///
    /// A cost above the hold is held as it is: the limit may then be passed, which the caller counts
    /// ([`Account::room`] below zero). Hiding it would only move it to the settlement.
    pub fn finish(&mut self, actual: NanoUsd) -> Change {
        if self.phase != Phase::Open {
            return Change::NONE;
        }
        self.phase = Phase::Finished;
        let left = actual.saturating_sub(self.settled).max(NanoUsd::ZERO);
        let mut change = self.set_held(left);
        change.finished = left.0;
        change
    }

    /// A usage record of the call arrived through the log: `amount` is used from now on. The `last` one
    /// takes the hold with it; an earlier attempt's is taken out of it, so that nothing counts twice.
    ///
    /// Usage counts however late it comes: on a hold that is gone, or for a call that has none
    /// ([`settle_unheld`]), it is used all the same. Repeats are dropped before, by [`offer`].
    pub fn settle(&mut self, amount: NanoUsd, last: bool) -> Change {
        if self.phase == Phase::Gone {
            return settle_unheld(amount);
        }
        let left = if last {
            NanoUsd::ZERO
        } else {
            self.amount
                .saturating_sub(amount)
                .clamp(NanoUsd::ZERO, self.amount)
        };
        self.settled = self.settled.saturating_add(amount);
        let mut change = self.set_held(left);
        change.used = amount.0;
        if self.phase == Phase::Finished {
            change.finished = change.held;
        }
        if last {
            self.phase = Phase::Gone;
        }
        change
    }

    /// Nothing was used: gives everything back. A finished call is not released: its cost is real.
    pub fn release(&mut self) -> Change {
        if self.phase != Phase::Open {
            return Change::NONE;
        }
        self.phase = Phase::Gone;
        self.set_held(NanoUsd::ZERO)
    }

    /// Gives an open hold back once its time is over. A finished one waits for the log: its record is
    /// durable, so the settlement comes.
    pub fn expire(&mut self, now: Micros) -> Change {
        if self.phase == Phase::Open && self.expires <= now {
            return self.release();
        }
        Change::NONE
    }

    fn set_held(&mut self, amount: NanoUsd) -> Change {
        let before = std::mem::replace(&mut self.amount, amount);
        Change {
            held: amount.saturating_sub(before).0,
            ..Change::NONE
        }
    }
}

/// Usage of a call that no hold is known for.
pub const fn settle_unheld(amount: NanoUsd) -> Change {
    Change {
        used: amount.0,
        ..Change::NONE
    }
}

/// What to do with the next event of a (source, partition).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The one that follows: apply it, and move the mark to it.
    Apply,
    /// Applied before: drop it.
    Repeated,
    /// Events in between are missing: stop, alarm, never skip.
    Gap { expected: Pseq },
}

/// Judges an event by the high-water mark of its (source, partition), `Pseq(0)` at the beginning.
pub const fn offer(mark: Pseq, next: Pseq) -> Verdict {
    let expected = Pseq(mark.0.saturating_add(1));
    if next.0 < expected.0 {
        Verdict::Repeated
    } else if next.0 == expected.0 {
        Verdict::Apply
    } else {
        Verdict::Gap { expected }
    }
}
