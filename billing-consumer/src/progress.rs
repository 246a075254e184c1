//! Where to read on in each partition of a broker. An offset stands here once everything before it is
//! applied or was known before, and never passes a record that has to be read again. Pure.

use std::collections::{BTreeMap, BTreeSet};

use budgets::Onward;
use schemas::{Offset, Partition, Standing};

/// One lane's offsets; empty over a log that has none.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// What the sink has.
    stored: BTreeMap<Partition, Offset>,
    /// What it will have after the batch in the making.
    reached: BTreeMap<Partition, Offset>,
    /// A source of theirs is parked: what came after its gap must be read again.
    held: BTreeSet<Partition>,
}

impl Progress {
    /// Goes on from what a sink has.
    #[must_use]
    pub fn after(standing: &Standing) -> Self {
        Self {
            stored: standing.next.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// The record before `next` is part of the batch, or is known.
    pub fn pass(&mut self, partition: Partition, next: Offset) {
        if !self.held.contains(&partition) {
            self.reached.insert(partition, next);
        }
    }

    /// A record of the partition is left out.
    pub fn hold(&mut self, partition: Partition) {
        self.held.insert(partition);
    }

    /// What was left out is read again.
    pub fn release(&mut self) {
        self.held.clear();
    }

    /// What the batch in the making adds.
    pub fn onward(&self) -> impl Iterator<Item = Onward> + '_ {
        let onward = |(&partition, &to): (&Partition, &Offset)| Onward {
            partition,
            from: self.stored.get(&partition).copied(),
            to,
        };
        self.reached.iter().map(onward)
    }

    /// The sink has the batch.
    pub fn stored(&mut self) {
        self.stored.append(&mut self.reached);
    }

    /// Where to read on after the batch in the making.
    #[must_use]
    pub fn next(&self) -> Vec<(Partition, Offset)> {
        let mut next = self.stored.clone();
        next.extend(self.reached.iter().map(|(&partition, &to)| (partition, to)));
        next.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition(3);

    #[test]
    fn offsets_go_from_what_the_sink_has() {
        let standing = Standing {
            marks: Vec::new(),
            next: vec![(P, Offset(10))],
        };
        let mut progress = Progress::after(&standing);
        progress.pass(P, Offset(11));
        progress.pass(P, Offset(14));
        progress.pass(Partition(4), Offset(1));
        let onward: Vec<_> = progress.onward().collect();
        let of = |partition, from, to| Onward {
            partition,
            from,
            to: Offset(to),
        };
        assert_eq!(
            onward,
            [of(P, Some(Offset(10)), 14), of(Partition(4), None, 1)]
        );
        progress.stored();
        assert_eq!(progress.onward().count(), 0);
        progress.pass(P, Offset(15));
        let onward: Vec<_> = progress.onward().collect();
        assert_eq!(onward, [of(P, Some(Offset(14)), 15)]);
    }

    #[test]
    fn what_is_left_out_is_not_passed() {
        let mut progress = Progress::default();
        progress.pass(P, Offset(5));
        progress.hold(P);
        progress.pass(P, Offset(7));
        progress.pass(Partition(4), Offset(9));
        assert_eq!(progress.next(), [(P, Offset(5)), (Partition(4), Offset(9))]);
    }
}
