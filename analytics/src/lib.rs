//! The usage tables: one client path to ClickHouse, and the embedded engine that speaks like it.
//!
//! Every table here is a projection of the log and can be rebuilt from it. Money leaves as exact
//! integers. Never on the path of a request.

pub mod embedded;

mod batch;
mod error;
mod evidence;
mod questions;
mod rows;
mod store;

pub use batch::Batch;
pub use error::Error;
pub use evidence::{EventSpan, Presence, SpanSum};
pub use questions::{
    Caller, DayRow, Dimension, LogFilter, LogRow, Span, SpendRow, UnknownDimension,
};
pub use rows::{CostRow, Names, Starts, UsageRow};
pub use store::{Answer, Store};
