//! Many events, one settlement: costs are added up per budget window before the budget state is
//! touched, so its work grows with the windows of a batch and not with its events.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use budgets::{Advance, Delta, HoldSettled, Onward, Settlement};
use schemas::{BudgetRef, Identity, NanoUsd, Partition, Pseq, RequestId, SourceId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::rated::Billed;

/// A sum beyond this ends the batch: one more event's cost still fits into its counter.
const SUM_MAX: u64 = 1 << 62;

/// Hashes budget names; they are ours, not a stranger's.
#[derive(Default)]
struct Xxh3(u64);

impl Hasher for Xxh3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }
    fn write_i64(&mut self, number: i64) {
        self.0 = (self.0 ^ number.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A batch in the making.
#[derive(Default)]
pub struct Fold {
    sums: HashMap<BudgetRef, i64, BuildHasherDefault<Xxh3>>,
    holds: Vec<HoldSettled>,
    spans: BTreeMap<(SourceId, Partition), (Pseq, Pseq)>,
    full: bool,
}

impl Fold {
    /// Adds a billed event. Events of a source come in order, without a gap.
    pub fn add(&mut self, identity: &Identity, billed: &Billed) {
        let Billed { usage, charge } = billed;
        let amount = charge.amount;
        if amount != NanoUsd::ZERO {
            for window in &usage.budgets {
                let sum = match self.sums.get_mut(window) {
                    Some(sum) => sum,
                    None => self.sums.entry(window.clone()).or_default(),
                };
                // In range: below `SUM_MAX` before, and an event's cost below 2⁶⁰.
                *sum = sum.saturating_add(amount.0);
                self.full |= sum.unsigned_abs() > SUM_MAX;
            }
        }
        self.holds.push(HoldSettled {
            hold: usage.request_id,
            amount,
            last: usage.last,
        });
        self.pass(identity, None);
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
        let delta = |(budget, sum)| Delta {
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
