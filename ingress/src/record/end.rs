//! How an attempt or a call ended, and what that was worth.

use std::time::Instant;

use journal::Position;
use schemas::{CacheKind, Identity, NanoUsd, Outcome, Text};

use crate::Error;
use crate::usage::Reading;

/// How an attempt ended.
#[derive(Debug)]
pub struct End {
    pub outcome: Outcome,
    pub status: u16,
    pub error_code: Option<Text>,
    pub finish_reason: Option<Text>,
    pub service_tier: Option<Text>,
    pub reading: Reading,
    /// A hit of the cache: which tier, how near, and what it saved.
    pub hit: Option<(CacheKind, f32, NanoUsd)>,
    /// When; unless it is now.
    pub at: Option<Instant>,
}

impl End {
    /// A complete answer.
    #[must_use]
    pub fn ok(reading: Reading, finish_reason: Option<Text>, service_tier: Option<Text>) -> Self {
        Self {
            outcome: Outcome::Ok,
            status: 200,
            error_code: None,
            finish_reason,
            service_tier,
            reading,
            hit: None,
            at: None,
        }
    }

    /// Nobody waited for the answer.
    #[must_use]
    pub fn cancelled(reading: Reading) -> Self {
        Self {
            outcome: Outcome::Cancelled,
            // The status that nginx made known for a client that went away.
            status: 499,
            ..Self::ok(reading, None, None)
        }
    }

    /// No complete answer; `reading` is what is billed all the same.
    #[must_use]
    pub fn failed(error: &Error, reading: Reading) -> Self {
        Self {
            outcome: Outcome::Error,
            status: error.status().as_u16(),
            error_code: Some(error.code().as_ref().into()),
            ..Self::ok(reading, None, None)
        }
    }
}

/// A closed call: what it cost, and from when on it is durable.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    /// All attempts together.
    pub amount: NanoUsd,
    /// The last attempt alone.
    pub own: NanoUsd,
    pub tokens: u64,
    pub position: Position,
    /// The record's name in the log.
    pub event: Identity,
}

/// A call whose record is durable.
#[derive(Debug)]
pub struct Settled {
    /// All attempts together.
    pub amount: NanoUsd,
    /// The last attempt alone.
    pub own: NanoUsd,
    /// In the order of the scopes; empty when the hold was gone.
    pub spends: Vec<NanoUsd>,
}
