//! The words of Tollgate: ids, tokens, money, and the events that every other crate speaks in.
//!
//! Row 1 of the ladder: does no IO, reads no clock, knows no other crate of ours.

pub mod codec;
pub mod events;
pub mod ids;
pub mod money;
pub mod registry;
pub mod topic;
pub mod usage;

pub use codec::{DecodeError, Event, Viewed};
pub use events::{
    Admitted, Attempt, AttemptView, Attribution, AttributionView, AuditBlock, AuditEvent,
    AuditKind, BudgetRef, BudgetRefView, CacheKind, CatalogEvent, Compression, CompressionView,
    ConfigEntity, ConfigEvent, ConfigOp, CostEvent, CostLine, DeadLetter, LastPseq, OrgId, Outcome,
    PriceEntry, Progress, Rate, Stages, StreamMark, Usage, UsageView,
};
pub use ids::{
    Identity, KeyHash, Micros, Offset, Partition, Pseq, RequestId, SourceId, Standing, Text,
};
pub use money::{AttoUsd, MoneyError, NanoUsd};
pub use topic::Topic;
pub use usage::{Meter, Meters, Quantity};
