//! Which calls are open, as places in the journal: before the oldest of them nothing needs to be read
//! at the next start.

use std::collections::VecDeque;

use journal::{Journal, Position};
use parking_lot::Mutex;

/// A call's place among the open ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u64);

/// The open calls, in the order in which they came.
#[derive(Debug, Default)]
pub struct OpenCalls(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Number of the first entry.
    first: u64,
    /// A place that the call's ADMIT does not lie before, and whether the call is open.
    entries: VecDeque<(Position, bool)>,
    open: u64,
}

impl OpenCalls {
    /// A call is about to write its ADMIT.
    pub fn enter(&self, journal: &Journal) -> Slot {
        let mut inner = self.0.lock();
        // Read under the lock: no later answer of `low_water` can lie behind it.
        let floor = journal.end_position();
        inner.entries.push_back((floor, true));
        inner.open += 1;
        Slot(inner.first + inner.entries.len() as u64 - 1)
    }

    /// A call has written its USAGE, or could not write its ADMIT.
    pub fn leave(&self, slot: Slot) {
        let mut inner = self.0.lock();
        let at = slot
            .0
            .checked_sub(inner.first)
            .and_then(|at| usize::try_from(at).ok());
        let Some((_, open)) = at.and_then(|at| inner.entries.get_mut(at)) else {
            return;
        };
        if std::mem::replace(open, false) {
            inner.open -= 1;
        }
        while matches!(inner.entries.front(), Some((_, false))) {
            inner.entries.pop_front();
            inner.first += 1;
        }
    }

    /// Every call admitted before this place is closed.
    #[must_use]
    pub fn low_water(&self, journal: &Journal) -> Position {
        let inner = self.0.lock();
        inner
            .entries
            .front()
            .map_or_else(|| journal.end_position(), |(floor, _)| *floor)
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lock().open
    }
}
