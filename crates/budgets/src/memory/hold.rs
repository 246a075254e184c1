//! One call's hold, and the counters of one budget window. Moves are of one hold on one window; taking
//! them on all of a hold's windows together is [`super::state`]'s.

use schemas::Micros;

use super::keyed::Slot;

/// Counters of one budget window, nano-USD.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purse {
    pub used: i64,
    pub open: i64,
    pub finished: i64,
    /// Holds that point here: while there are any it is not forgotten.
    pub holds: u32,
    pub ends: Micros,
    /// The hard limit that a reservation came with last; for the count of windows over it only.
    pub limit: Option<i64>,
}

impl Purse {
    pub(super) const fn new(ends: Micros) -> Self {
        Self {
            used: 0,
            open: 0,
            finished: 0,
            holds: 0,
            ends,
            limit: None,
        }
    }

    pub(super) fn spend(&self) -> i64 {
        self.used.saturating_add(self.finished)
    }

    /// Limit less everything taken; wide, since all of it may be near the range's end.
    pub(super) fn left(&self, limit: i64) -> i128 {
        i128::from(limit)
            - i128::from(self.used)
            - i128::from(self.open)
            - i128::from(self.finished)
    }

    /// Whether every sum stays in range with `amount` more.
    pub(super) fn has_room(&self, amount: i64) -> bool {
        let all = [self.used.saturating_abs(), self.open, self.finished, amount];
        all.into_iter().try_fold(0_i64, i64::checked_add).is_some()
    }
}

/// How far a hold has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The call runs: worst case held, slot taken.
    Open,
    /// The call is over: actual cost held until the lane brings it.
    Finished,
    /// The lane was faster than the call: no money held, slot still taken.
    Settled,
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

/// A hold. The same amount stands on all of its purses.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub stage: Stage,
    /// What stands now: of the worst case while open, of the actual cost when finished; nano-USD.
    pub amount: i64,
    /// What the lane has brought of it already, of a call with several attempts; nano-USD.
    pub settled: i64,
    pub tokens: u64,
    pub expires: Micros,
    pub parts: Parts,
}
