//! One call's hold and the counters of one budget window: the rules' [`Hold`](budget::Hold) and
//! [`Account`](budget::Account) with what the lookup needs around them.

use metering::budget::{self, Change};
use schemas::{Identity, Micros, NanoUsd};

use super::keyed::Slot;

/// Counters of one budget window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purse {
    pub account: budget::Account,
    /// Holds that point here: while there are any it is not forgotten.
    pub holds: u32,
    pub ends: Micros,
    /// The hard limit that a reservation came with last; for the count of windows over it only.
    pub limit: Option<NanoUsd>,
}

impl Purse {
    pub(super) fn new(ends: Micros) -> Self {
        Self {
            account: budget::Account::default(),
            holds: 0,
            ends,
            limit: None,
        }
    }

    /// What calls in progress hold.
    pub(super) const fn open(&self) -> NanoUsd {
        self.account.held.saturating_sub(self.account.finished)
    }

    /// Whether every sum stays in range with `amount` more.
    pub(super) fn has_room(&self, amount: NanoUsd) -> bool {
        let all = [
            self.account.used.0.saturating_abs(),
            self.account.held.0,
            amount.0,
        ];
        all.into_iter().try_fold(0_i64, i64::checked_add).is_some()
    }

    /// Takes a hold's change. What was used comes folded, with the batch.
    pub(super) const fn apply(&mut self, change: Change) {
        self.account.apply(Change { used: 0, ..change });
    }
}

/// The counters of one scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub purse: Slot,
    /// [`Slot::NONE`] when the scope has no rate or parallel limit.
    pub gauge: Slot,
    /// The minute that the call was counted in.
    pub minute: i64,
    /// An earlier scope of the hold has the same window: its money is taken there, once.
    pub shares_purse: bool,
    pub shares_gauge: bool,
}

/// A hold is rarely on more scopes than there are kinds of them; more go to the heap.
const INLINE: usize = 6;
const NO_PART: Part = Part {
    purse: Slot::NONE,
    gauge: Slot::NONE,
    minute: 0,
    shares_purse: false,
    shares_gauge: false,
};

/// The scopes of a hold, in the order of the request.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    first: [Part; INLINE],
    more: Vec<Part>,
    len: usize,
}

impl Parts {
    pub(super) const fn new() -> Self {
        Self {
            first: [NO_PART; INLINE],
            more: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn push(&mut self, part: Part) {
        match self.first.get_mut(self.len) {
            Some(place) => *place = part,
            None => self.more.push(part),
        }
        self.len += 1;
    }

    /// The windows that money is taken from.
    pub(super) fn purses(&self) -> impl Iterator<Item = Slot> {
        self.iter()
            .filter(|part| !part.shares_purse)
            .map(|part| part.purse)
    }

    /// The gauges that the call is counted on, each with the minute.
    pub(super) fn gauges(&self) -> impl Iterator<Item = (Slot, i64)> {
        self.iter()
            .filter(|part| !part.shares_gauge)
            .map(|part| (part.gauge, part.minute))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        self.first.iter().take(self.len).chain(&self.more)
    }
}

/// A hold: the same money stands on all of its purses.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub money: budget::Hold,
    /// Its slot is taken and its tokens are an estimate. Outlives the money when the lane is faster.
    pub running: bool,
    pub tokens: u64,
    /// Of a finished call: what its settlement comes with, where that is known.
    pub event: Option<Identity>,
    pub parts: Parts,
}

impl Call {
    /// Nothing is left to wait for.
    pub(super) fn is_over(&self) -> bool {
        !self.running && self.money.phase() == budget::Phase::Gone
    }
}
