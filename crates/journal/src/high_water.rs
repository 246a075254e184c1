//! The consumer's rule against duplicates and losses: one number per (topic, source, partition).
//!
//! Never decides what to do about a gap: that is the consumer's (stop that source, raise an alarm,
//! never skip). Pure: no IO, no clock.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use schemas::{Identity, Partition, Pseq, SourceId, Topic};

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Seen before: drop it.
    Duplicate,
    /// The next one: apply it, then [`HighWater::raise`].
    Apply,
    /// Records are missing between `expected` and this one: stop this source.
    Gap {
        /// The sequence number that should have come.
        expected: Pseq,
    },
}

/// The highest applied sequence number per (topic, source, partition).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HighWater {
    marks: HashMap<(Topic, SourceId, Partition), Pseq, BuildHasherDefault<Mixed>>,
}

/// Hashes our own numbers, of which nobody chooses many; looked up for every record.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        // The table takes its bits from both ends.
        self.0 ^ (self.0 >> 32)
    }
}

impl HighWater {
    /// The highest applied sequence number; 0 where nothing was.
    #[must_use]
    pub fn get(&self, topic: Topic, source: SourceId, partition: Partition) -> Pseq {
        self.marks
            .get(&(topic, source, partition))
            .copied()
            .unwrap_or(Pseq(0))
    }

    /// Judges a record without changing anything.
    #[must_use]
    pub fn judge(&self, topic: Topic, identity: &Identity) -> Verdict {
        let Pseq(applied) = self.get(topic, identity.source_id, identity.partition);
        let Pseq(pseq) = identity.pseq;
        match pseq.checked_sub(applied) {
            None | Some(0) => Verdict::Duplicate,
            Some(1) => Verdict::Apply,
            Some(_) => Verdict::Gap {
                expected: Pseq(applied + 1),
            },
        }
    }

    /// Remembers that the record and all before it are applied. Never lowers a mark.
    pub fn raise(&mut self, topic: Topic, identity: &Identity) {
        let mark = self
            .marks
            .entry((topic, identity.source_id, identity.partition))
            .or_insert(Pseq(0));
        if identity.pseq.0 > mark.0 {
            *mark = identity.pseq;
        }
    }

    /// [`judge`](Self::judge), and [`raise`](Self::raise) when the record is to be applied.
    pub fn advance(&mut self, topic: Topic, identity: &Identity) -> Verdict {
        let verdict = self.judge(topic, identity);
        if verdict == Verdict::Apply {
            self.raise(topic, identity);
        }
        verdict
    }

    /// All marks, in no order: what a consumer stores, and what `Start::After` takes.
    pub fn marks(&self) -> impl Iterator<Item = crate::Mark> + '_ {
        self.marks
            .iter()
            .map(|(&(topic, source_id, partition), &pseq)| crate::Mark {
                topic,
                identity: Identity {
                    source_id,
                    partition,
                    pseq,
                },
            })
    }
}

impl FromIterator<crate::Mark> for HighWater {
    fn from_iter<I: IntoIterator<Item = crate::Mark>>(marks: I) -> Self {
        let mut all = Self::default();
        for mark in marks {
            all.raise(mark.topic, &mark.identity);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(source: u64, partition: u16, pseq: u64) -> Identity {
        Identity {
            source_id: SourceId(source),
            partition: Partition(partition),
            pseq: Pseq(pseq),
        }
    }

    #[test]
    fn the_rule() {
        let mut marks = HighWater::default();
        let one = identity(7, 0, 1);
        assert_eq!(marks.advance(Topic::Usage, &one), Verdict::Apply);
        assert_eq!(marks.advance(Topic::Usage, &one), Verdict::Duplicate);
        assert_eq!(
            marks.advance(Topic::Usage, &identity(7, 0, 3)),
            Verdict::Gap { expected: Pseq(2) }
        );
        // Another topic, source and partition count for themselves.
        assert_eq!(marks.advance(Topic::Cost, &one), Verdict::Apply);
        assert_eq!(
            marks.advance(Topic::Usage, &identity(8, 0, 1)),
            Verdict::Apply
        );
        assert_eq!(
            marks.advance(Topic::Usage, &identity(7, 1, 1)),
            Verdict::Apply
        );
    }

    proptest! {
        /// Whatever is repeated and wherever a relay resumes, each record is applied once, in order.
        #[test]
        fn any_replay_applies_each_record_once(
            restarts in prop::collection::vec((0u64..60, 0u64..60), 0..20),
            partitions in 1u16..4,
        ) {
            let mut marks = HighWater::default();
            let mut applied = vec![0u64; usize::from(partitions)];
            for (from, count) in restarts.into_iter().chain([(1, 80)]) {
                for pseq in from.max(1)..from.max(1) + count {
                    for partition in 0..partitions {
                        let done = &mut applied[usize::from(partition)];
                        match marks.advance(Topic::Usage, &identity(1, partition, pseq)) {
                            Verdict::Apply => { prop_assert_eq!(pseq, *done + 1); *done = pseq; }
                            Verdict::Duplicate => prop_assert!(pseq <= *done),
                            Verdict::Gap { expected } => {
                                prop_assert_eq!(expected.0, *done + 1);
                                prop_assert!(pseq > *done + 1);
                            }
                        }
                    }
                }
            }
            prop_assert!(applied.iter().all(|&done| done >= 80));
            let copied: HighWater = marks.marks().collect();
            prop_assert_eq!(copied, marks);
        }
    }
}
