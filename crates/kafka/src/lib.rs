//! The log on a Kafka broker: the relay from the local journal, and the backend that consumers read.
//!
//! [`Relay`] brings a journal's records to the broker in their order, with the identities that the
//! journal gave them. [`Log`] is the seam's other backend: whoever has no journal of its own appends
//! there, and every consumer reads there. [`topics`] makes what both need.
//!
//! Exactly-once is not the broker's doing here: records carry their own contiguous sequence numbers, so
//! that a consumer drops what comes twice and sees what is missing. No transaction, no consumer position
//! and no producer id is relied on for that.

mod ahead;
mod append;
mod ask;
mod context;
mod desk;
mod error;
mod following;
pub mod framing;
mod garbage;
mod log;
mod member;
mod reader;
mod registry;
mod relay;
mod settings;
pub mod topics;
mod window;
mod worker;

pub use error::Error;
pub use following::Following;
pub use log::{Log, Stats};
pub use relay::{Drained, GROUP as RELAY_GROUP, Relay, RelayStatus};
pub use settings::Settings;
