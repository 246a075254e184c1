//! The semantic cache: the same question again is answered without a provider call, and so is the
//! same question in other words where that is safe.
//!
//! One path: [`eligibility`] decides which tiers a request may use, [`key`] which answers it may
//! share, [`lookup`] asks the exact tier, then [`embed`] and [`index`] for neighbours and [`guards`]
//! whether one of them means the same. [`entries`] holds the answers, `persist` keeps them across
//! restarts, `shared` among several caches, [`replay`] turns one into what the client asked for, [`api`] is all of it over HTTP
//! and [`client`] its other end.
//!
//! No tenant ever sees another tenant's answer: the scope is part of every key and is compared again
//! before an answer is served. Nothing that fails here fails a request.

mod answer;
pub mod api;
pub mod breaker;
pub mod client;
mod codec;
pub mod config;
pub mod distance;
pub mod eligibility;
pub mod embed;
pub mod entries;
pub mod error;
mod flight;
pub mod guards;
pub mod index;
mod json;
mod keep;
pub mod key;
pub mod lookup;
pub mod measure;
mod open;
pub mod outcome;
mod persist;
pub mod replay;
mod request;
mod shared;
mod shelf;
pub mod stats;
pub mod wire;

pub use client::{Client, ClientConfig};
pub use config::{CacheConfig, Clock, Controls, Mode, Policy, SharedConfig};
pub use eligibility::Reason;
pub use entries::{Answer, EntryId, Tokens};
pub use error::Error;
pub use lookup::CacheService;
pub use outcome::{
    Follower, Hit, HitKind, NotStored, Outcome, Readiness, SharedState, Stored, Ticket,
};
pub use request::Lookup;
pub use stats::Stats;
