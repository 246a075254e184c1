//! What the scenarios share: the gateway as a process of its own, and a provider that keeps its own
//! books. Row 6 of the ladder: speaks to Tollgate only as its users do, over HTTP, the command line
//! and signals.

pub mod client;
pub mod gateway;
pub mod provider;
pub mod world;

pub use client::{Chat, Streamed};
pub use gateway::{Gateway, free_port};
pub use provider::{Books, Provider, Script};
pub use world::World;
