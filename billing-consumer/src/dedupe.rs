//! Each event once, none skipped: the journal's rule per (source, partition), and what follows from a
//! gap: that source is parked, the others go on.

use std::collections::BTreeMap;

use journal::{HighWater, Mark, Verdict};
use schemas::{Identity, Partition, Pseq, SourceId, Topic};

/// A hole in a source's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub source: SourceId,
    pub partition: Partition,
    /// The event that should have come.
    pub expected: Pseq,
    /// The first one that came instead.
    pub got: Pseq,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            source,
            partition,
            expected,
            got,
        } = self;
        write!(
            f,
            "source {:016x} partition {} lacks events {} to {}: it is parked, nothing after them is applied",
            source.0,
            partition.0,
            expected.0,
            got.0.saturating_sub(1)
        )
    }
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Apply it, then [`Dedupe::raise`].
    Apply,
    /// The missing event of a parked source: apply it, and read again what came after it.
    Heals,
    /// Seen before.
    Duplicate,
    /// Newly found: alarm.
    Gap(Gap),
    /// Behind a gap that is known.
    Parked,
}

/// One lane's memory of what it has applied.
#[derive(Debug, Clone, Default)]
pub struct Dedupe {
    marks: HighWater,
    parked: BTreeMap<(SourceId, Partition), Gap>,
}

impl Dedupe {
    /// Goes on after these events.
    #[must_use]
    pub fn after(marks: &[Identity]) -> Self {
        let usage = |&identity: &Identity| Mark {
            topic: Topic::Usage,
            identity,
        };
        Self {
            marks: marks.iter().map(usage).collect(),
            parked: BTreeMap::new(),
        }
    }

    /// Judges an event; only a gap changes anything.
    pub fn judge(&mut self, identity: &Identity) -> Judged {
        let source = (identity.source_id, identity.partition);
        match self.marks.judge(Topic::Usage, identity) {
            Verdict::Duplicate => Judged::Duplicate,
            Verdict::Apply if self.parked.remove(&source).is_some() => Judged::Heals,
            Verdict::Apply => Judged::Apply,
            Verdict::Gap { .. } if self.parked.contains_key(&source) => Judged::Parked,
            Verdict::Gap { expected } => {
                let (source_id, partition) = source;
                let gap = Gap {
                    source: source_id,
                    partition,
                    expected,
                    got: identity.pseq,
                };
                self.parked.insert(source, gap);
                Judged::Gap(gap)
            }
        }
    }

    /// Remembers that an event is applied.
    pub fn raise(&mut self, identity: &Identity) {
        self.marks.raise(Topic::Usage, identity);
    }

    /// While a source is parked, the log's position must not move: it would pass unapplied events.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.parked.values().copied().collect()
    }

    /// The last applied event of each source and partition.
    #[must_use]
    pub fn marks(&self) -> Vec<Identity> {
        self.marks.marks().map(|mark| mark.identity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: u64, pseq: u64) -> Identity {
        Identity {
            source_id: SourceId(source),
            partition: Partition(0),
            pseq: Pseq(pseq),
        }
    }

    #[test]
    fn a_gap_parks_its_source_only_until_it_is_filled() {
        let mut dedupe = Dedupe::after(&[event(1, 10)]);
        let mut offer = |source, pseq| {
            let judged = dedupe.judge(&event(source, pseq));
            if matches!(judged, Judged::Apply | Judged::Heals) {
                dedupe.raise(&event(source, pseq));
            }
            judged
        };
        assert_eq!(offer(1, 10), Judged::Duplicate);
        assert_eq!(offer(1, 11), Judged::Apply);
        let gap = Gap {
            source: SourceId(1),
            partition: Partition(0),
            expected: Pseq(12),
            got: Pseq(13),
        };
        assert_eq!(offer(1, 13), Judged::Gap(gap));
        assert_eq!(offer(1, 14), Judged::Parked);
        assert_eq!(offer(2, 1), Judged::Apply);
        assert_eq!(offer(1, 11), Judged::Duplicate);
        assert_eq!(offer(1, 12), Judged::Heals);
        assert_eq!(offer(1, 13), Judged::Apply);
        assert!(!dedupe.is_parked());
    }
}
