//! What the budget lane brings from the log.

use schemas::{
    BudgetRef, Identity, Micros, NanoUsd, Offset, Partition, Pseq, RequestId, SourceId, Standing,
    Text,
};

use crate::Spend;

/// A folded batch of usage events. Applied whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Which events it is made of. At least one.
    pub marks: Vec<Advance>,
    /// Where to read on after it, where the log is on a broker; kept with the marks, and a fence as they
    /// are.
    pub next: Vec<Onward>,
    /// Cost per budget window, each window once.
    pub deltas: Vec<Delta>,
    /// The holds that these events touch, in the order of the events.
    pub holds: Vec<HoldSettled>,
}

/// The events `(from, to]` of one source and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    pub source: SourceId,
    pub partition: Partition,
    /// The last event before the batch; 0 at the beginning.
    pub from: Pseq,
    /// The last event of the batch.
    pub to: Pseq,
}

/// The records `[from, to)` of one partition of a broker: those of the batch, and some that were known.
///
/// The marks of a batch say nothing about the other sources of its partition. `from` does: where the
/// state was rolled back or restored meanwhile, it stands elsewhere, and `to` would pass records that
/// are not applied any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Onward {
    pub partition: Partition,
    /// What the state has for this partition before the batch; `None` where it has nothing.
    pub from: Option<Offset>,
    pub to: Offset,
}

/// What is added to one window. Negative for a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    pub budget: BudgetRef,
    pub amount: NanoUsd,
}

/// What one event does to its hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldSettled {
    pub hold: RequestId,
    /// The event's cost: the hold shrinks by it, never below zero.
    pub amount: NanoUsd,
    /// The last event of its call: what is left of the hold goes.
    pub last: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Applied,
    /// All of it had been settled before; nothing changed.
    Repeated,
}

/// Absolute state, summed up from the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Every other window is zero.
    pub windows: Vec<RestoredWindow>,
    /// Up to where the sums go.
    pub standing: Standing,
}

/// Spend of one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredWindow {
    pub budget: BudgetRef,
    pub used: NanoUsd,
}

/// Everything at one instant, for an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What of the log is in `windows`.
    pub standing: Standing,
    /// Every window that is known.
    pub windows: Vec<SeenWindow>,
    /// Calls that hold money or a slot, or whose cost waits for its settlement.
    pub holds: u64,
    /// Those of them that should have expired.
    pub overdue: u64,
    /// Windows that hold something else than their calls do: none, unless there is a defect. Absent where that was
    /// not counted: of very many holds, and in memory.
    pub astray: Option<Vec<Astray>>,
}

/// A window that holds money for no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    pub budget: Text,
    pub start: Micros,
    /// Held beyond what its calls hold; negative where they hold more.
    pub held: NanoUsd,
}

/// Spend of one window, as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenWindow {
    pub budget: Text,
    pub start: Micros,
    pub spend: Spend,
}

/// What a budget lane does before it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// The state stands, though perhaps rolled back by a crash: read on from there.
    Follow(Standing),
    /// Nothing is known. The asker is the one to sum up the tables and [`restore`](crate::Budgets::restore);
    /// others are told to wait for a while.
    Rebuild,
    /// Another process restores: ask again soon.
    Wait,
}

/// How far a lane is, once it has read its portion of the log to the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaughtUp {
    pub portion: Portion,
    /// The last event settled of each source and partition of the portion.
    pub marks: Vec<Identity>,
}

/// How much of the log a lane reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Portion {
    #[default]
    All,
    /// Some partitions of a topic that has `of`.
    Some { partitions: Vec<Partition>, of: u16 },
}
