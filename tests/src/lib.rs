//! What the scenarios and fault proofs share: Tollgate in processes of its own, in one or in many, and a
//! provider that keeps its own books. Row 6 of the ladder: speaks to Tollgate only as its users do, over
//! HTTP, the command line and signals.

pub mod build;
pub mod client;
pub mod gateway;
pub mod parts;
pub mod provider;
pub mod shape;
pub mod tables;
pub mod tls;
pub mod topics;
pub mod world;

/// Longest wait for anything that has to come: machines differ, and it costs nothing when all is well.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

pub use client::{Chat, Streamed};
pub use gateway::{Gateway, free_port};
pub use provider::{Books, Provider, Script};
pub use shape::Shape;
pub use world::World;
