//! Rows on their way into the tables, encoded once and kept until they are in.

use std::collections::BTreeMap;

use bytes::Bytes;
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
    /// Pieces of memory that earlier batches were written to. Fresh memory costs as much as what is written
    /// there.
    spare: Vec<Vec<u8>>,
}

/// Rows are written into pieces of about this size, which are sent as they lie.
const PIECE: usize = 1 << 20;
/// Pieces that are kept for the next batch.
const SPARE: usize = 48;

/// Rows of one month: one insert, since an insert is atomic only within one partition.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rows {
    full: Vec<Bytes>,
    open: Vec<u8>,
    pub count: u64,
}

impl Rows {
    fn of(months: &mut BTreeMap<i64, Self>, ts: Micros) -> &mut Self {
        let rows = months.entry(month_of(ts)).or_default();
        rows.count += 1;
        rows
    }

    /// Rows of a few bytes each.
    pub fn small(bytes: Vec<u8>) -> Self {
        Self {
            open: bytes,
            ..Self::default()
        }
    }

    /// Where the next row goes.
    fn room(&mut self, spare: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
        if self.open.len() >= PIECE {
            self.full.push(Bytes::from(std::mem::take(&mut self.open)));
        }
        if self.open.capacity() == 0 {
            // Room for the row that fills it.
            let fresh = || Vec::with_capacity(PIECE + PIECE / 64);
            self.open = spare.pop().unwrap_or_else(fresh);
        }
        &mut self.open
    }

    /// All bytes, piece by piece; only the last piece is copied.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + '_ {
        let last = Some(&self.open).filter(|open| !open.is_empty());
        let last = last.map(|open| Bytes::copy_from_slice(open));
        self.full.iter().cloned().chain(last)
    }

    fn len(&self) -> usize {
        self.full.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    /// Its memory, as far as nobody sends it any more.
    fn give_back(self, spare: &mut Vec<Vec<u8>>) {
        let full = self
            .full
            .into_iter()
            .filter_map(|piece| piece.try_into_mut().ok());
        for mut piece in full.map(Vec::from).chain([self.open]) {
            if spare.len() < SPARE && piece.capacity() > 0 {
                piece.clear();
                spare.push(piece);
            }
        }
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
        usage.encode(Rows::of(&mut self.usage, usage.ts).room(&mut self.spare));
        self.push_cost(cost);
        self.passed(Identity {
            source_id: usage.source_id,
            partition: usage.kpart,
            pseq: usage.pseq,
        });
    }

    /// A later rating of an event that is in already.
    pub fn push_cost(&mut self, cost: &CostRow<'_>) {
        cost.encode(Rows::of(&mut self.cost, cost.ts).room(&mut self.spare));
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
        let size = |months: &BTreeMap<i64, Rows>| months.values().map(Rows::len).sum::<usize>();
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
        // A month goes with its rows, rather than being sent empty for ever.
        let all = [&mut self.usage, &mut self.cost];
        for rows in all
            .into_iter()
            .flat_map(|months| std::mem::take(months).into_values())
        {
            rows.give_back(&mut self.spare);
        }
        self.marks.clear();
        self.next.clear();
    }
}
