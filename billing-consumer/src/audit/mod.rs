//! Whether nothing is lost, nothing counted twice, and every place that knows a sum knows the same one.
//! Tolerance: no event and no nano-dollar.
//!
//! The lanes note what they have brought ([`Audit`], [`Notes`]) and tell it in the audit topic; [`Auditor`]
//! holds that, the heartbeats of the sources, the tables, the dead letters and the budget state against
//! each other. It changes nothing.

mod blocks;
mod checks;
mod evidence;
mod notes;
mod report;

pub use blocks::{Agreement, Audit, Block, BlockId};
pub use checks::{Auditor, Parts};
pub use evidence::EvidenceError;
pub use notes::{Notes, Span, bodies};
pub use report::{Check, Report, Verdict};
