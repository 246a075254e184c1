//! Many events, one settlement: costs are added up per budget window before the budget state is
//! touched, so its work grows with the windows of a batch and not with its events.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use budgets::{Advance, Delta, HoldSettled, Onward, Settlement};
use schemas::{
    BudgetRef, BudgetRefView, Identity, NanoUsd, Partition, Pseq, RequestId, SourceId, Viewed,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::rated::Billed;

/// A sum beyond this ends the batch: one more event's cost still fits into its counter.
const SUM_MAX: u64 = 1 << 62;

/// Keys are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A batch in the making.
#[derive(Default)]
pub struct Fold {
    /// By the hash of their window, or one of the numbers after it.
    sums: HashMap<u64, (BudgetRef, i64), BuildHasherDefault<Hashed>>,
    holds: Vec<HoldSettled>,
    spans: BTreeMap<(SourceId, Partition), (Pseq, Pseq)>,
    full: bool,
}

impl Fold {
    /// Adds a billed event. Events of a source come in order, without a gap.
    pub fn add(&mut self, identity: &Identity, billed: &Billed<'_>) {
        let Billed { usage, charge } = billed;
        let amount = charge.amount;
        if amount != NanoUsd::ZERO {
            for window in &usage.budgets {
                let sum = self.sum(window);
                // In range: below `SUM_MAX` before, and an event's cost below 2⁶⁰.
                *sum = sum.saturating_add(amount.0);
                let full = sum.unsigned_abs() > SUM_MAX;
                self.full |= full;
            }
        }
        self.holds.push(HoldSettled {
            hold: usage.request_id,
            amount,
            last: usage.last,
        });
        self.pass(identity, None);
    }

    /// The sum of a window. No name is copied where one is known.
    fn sum(&mut self, window: &BudgetRefView<'_>) -> &mut i64 {
        let seed = window.window_start.0.cast_unsigned();
        let mut at = xxh3_64_with_seed(window.budget.as_bytes(), seed);
        while let Some((known, _)) = self.sums.get(&at)
            && !is(known, window)
        {
            at = at.wrapping_add(1);
        }
        let none = || (BudgetRef::owned(window), 0);
        &mut self.sums.entry(at).or_insert_with(none).1
    }

    /// Goes past an event that is not billed, and gives its hold back.
    pub fn pass(&mut self, identity: &Identity, ends: Option<RequestId>) {
        let source = (identity.source_id, identity.partition);
        let before = Pseq(identity.pseq.0.saturating_sub(1));
        self.spans.entry(source).or_insert((before, before)).1 = identity.pseq;
        self.holds.extend(ends.map(|hold| HoldSettled {
            hold,
            amount: NanoUsd::ZERO,
            last: true,
        }));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Settle before adding more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// The settlement of all that was added, which brings the log's partitions so far.
    #[must_use]
    pub fn settlement(self, next: Vec<Onward>) -> Settlement {
        let mark = |((source, partition), (from, to))| Advance {
            source,
            partition,
            from,
            to,
        };
        let delta = |(_, (budget, sum))| Delta {
            budget,
            amount: NanoUsd(sum),
        };
        Settlement {
            marks: self.spans.into_iter().map(mark).collect(),
            next,
            deltas: self.sums.into_iter().map(delta).collect(),
            holds: self.holds,
        }
    }
}

fn is(known: &BudgetRef, window: &BudgetRefView<'_>) -> bool {
    known.window_start == window.window_start
        && known.window_end == window.window_end
        && *known.budget == *window.budget
}
