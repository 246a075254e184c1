//! Rows on their way into the tables, encoded once and kept until they are in.

use std::collections::BTreeMap;

use schemas::{Identity, Micros, Offset, Partition, Pseq, SourceId};

use crate::rows::{CostRow, UsageRow, month_of};

/// Rows of both tables, and how far they bring each source. Sent as often as needed: a repetition
/// changes no sum. At most a million rows; the lanes cut at 100,000 or after a second.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) usage: BTreeMap<i64, Rows>,
    pub(crate) cost: BTreeMap<i64, Rows>,
    pub(crate) marks: BTreeMap<(SourceId, Partition), Pseq>,
    pub(crate) next: BTreeMap<Partition, Offset>,
}

/// Rows of one month: one insert, since an insert is atomic only within one partition.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rows {
    pub bytes: Vec<u8>,
    pub count: u64,
}

impl Rows {
    fn of(months: &mut BTreeMap<i64, Self>, ts: Micros) -> &mut Self {
        let rows = months.entry(month_of(ts)).or_default();
        rows.count += 1;
        rows
    }
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One rated event. Events of a source come in the order of their numbers, without a gap:
    /// what is pushed or passed here counts as handled, with all before it.
    pub fn push(&mut self, usage: &UsageRow<'_>, cost: &CostRow<'_>) {
        usage.encode(&mut Rows::of(&mut self.usage, usage.ts).bytes);
        self.push_cost(cost);
        self.passed(Identity {
            source_id: usage.source_id,
            partition: usage.kpart,
            pseq: usage.pseq,
        });
    }

    /// A later rating of an event that is in already.
    pub fn push_cost(&mut self, cost: &CostRow<'_>) {
        cost.encode(&mut Rows::of(&mut self.cost, cost.ts).bytes);
    }

    /// An event that leaves no row: a dead letter, or one that is not about usage.
    pub fn passed(&mut self, identity: Identity) {
        let key = (identity.source_id, identity.partition);
        let mark = self.marks.entry(key).or_insert(identity.pseq);
        *mark = identity.pseq.max(*mark);
    }

    /// Everything before this place of a broker's partition is in this batch, or was in the tables before.
    pub fn read_to(&mut self, partition: Partition, next: Offset) {
        self.next.insert(partition, next);
    }

    /// Rows in both tables together.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let count =
            |months: &BTreeMap<i64, Rows>| months.values().map(|rows| rows.count).sum::<u64>();
        count(&self.usage) + count(&self.cost)
    }

    /// Encoded size, the measure to cut by.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let size = |months: &BTreeMap<i64, Rows>| {
            months.values().map(|rows| rows.bytes.len()).sum::<usize>()
        };
        size(&self.usage) + size(&self.cost)
    }

    /// Nothing to send, not even a mark.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usage.is_empty()
            && self.cost.is_empty()
            && self.marks.is_empty()
            && self.next.is_empty()
    }

    /// Empties it for the next batch and keeps its memory.
    pub fn clear(&mut self) {
        // An old month is rare; its buffer goes rather than being sent empty for ever.
        self.usage.clear();
        self.cost.clear();
        self.marks.clear();
        self.next.clear();
    }
}
