//! Prometheus metrics under the names that LiteLLM's dashboards know: counters kept by hand, labels only
//! from small closed sets. Updating one is a relaxed atomic; nothing is allocated and nothing is locked.

mod deployments;
mod histogram;
mod text;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metering::Unpriced;
use schemas::{CacheKind, NanoUsd, Outcome, Usage};

pub use histogram::Histogram;
pub(crate) use text::plain;
pub use text::render;

/// Counters of one deployment.
#[derive(Debug, Default)]
pub struct DeploymentMetrics {
    pub requests: AtomicU64,
    pub successes: AtomicU64,
    pub failures: AtomicU64,
    /// Calls for another name that it answered, and such that ended with its failure.
    pub fallbacks: AtomicU64,
    pub failed_fallbacks: AtomicU64,
}

/// How calls ended, as `outcome` of events.
const OUTCOMES: [Outcome; 5] = [
    Outcome::Ok,
    Outcome::Error,
    Outcome::Cancelled,
    Outcome::Abandoned,
    Outcome::CacheHit,
];

/// Why a call was refused or failed, as a closed set of statuses.
const STATUSES: [u16; 17] = [
    400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 529,
];

/// All counters of the ingress.
#[derive(Debug, Default)]
pub struct Metrics {
    pub requests: AtomicU64,
    pub in_flight: AtomicU64,
    failed: [AtomicU64; STATUSES.len() + 1],
    closed: [AtomicU64; OUTCOMES.len()],
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    /// Nano-dollars.
    spend: AtomicU64,
    saved: AtomicU64,
    hits_exact: AtomicU64,
    hits_semantic: AtomicU64,
    unpriced: AtomicU64,
    mismatched: AtomicU64,
    estimated: AtomicU64,
    pub total: Histogram,
    pub overhead: Histogram,
    pub provider: Histogram,
    pub first_byte: Histogram,
}

impl Metrics {
    /// A call was answered with an error.
    pub fn failed(&self, status: u16) {
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len());
        self.failed[at].fetch_add(1, Relaxed);
    }

    /// An admitted call has ended.
    pub fn closed(&self, usage: &Usage, amount: NanoUsd) {
        self.attempted(usage, amount);
        if let Some(at) = OUTCOMES
            .iter()
            .position(|outcome| *outcome == usage.outcome)
        {
            self.closed[at].fetch_add(1, Relaxed);
        }
        self.total.observe_us(usage.duration_us);
        if usage.stream
            && let Some(first) = usage.first_byte_us
        {
            self.first_byte.observe_us(first);
        }
        match usage.cache {
            CacheKind::None => return,
            CacheKind::Exact => self.hits_exact.fetch_add(1, Relaxed),
            CacheKind::Semantic => self.hits_semantic.fetch_add(1, Relaxed),
        };
        self.saved.fetch_add(natural(usage.saved.0), Relaxed);
    }

    /// An attempt has been recorded.
    pub fn attempted(&self, usage: &Usage, amount: NanoUsd) {
        self.input_tokens
            .fetch_add(natural(usage.meters.input_tokens()), Relaxed);
        self.output_tokens
            .fetch_add(natural(usage.meters.output_tokens()), Relaxed);
        self.spend.fetch_add(natural(amount.0), Relaxed);
        if usage.mismatch {
            self.mismatched.fetch_add(1, Relaxed);
        }
        if usage.estimated {
            self.estimated.fetch_add(1, Relaxed);
        }
    }

    /// A call could not be priced.
    pub fn unpriced(&self, reason: &Unpriced) {
        if self.unpriced.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                "a call has no price: {reason}. It is charged its hold where a budget was checked, else nothing"
            );
        }
    }
}

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
