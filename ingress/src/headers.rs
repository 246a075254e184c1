//! What an answer tells in its headers, under the names that LiteLLM's clients read. Unset ones are
//! left out. Money is exact decimal text.

mod lines;

use std::time::Instant;

use http::{HeaderName, HeaderValue};
use schemas::{CacheKind, Text};

use crate::models::{Served, Shown};
use crate::plan::Plan;
use crate::record::{Call, Settled};
use crate::upstream::Fields;

pub use lines::{Lines, decimal};

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(const $name: &str = $text;)*
    };
}
names! {
    CALL_ID = "x-litellm-call-id";
    MODEL_ID = "x-litellm-model-id";
    MODEL_GROUP = "x-litellm-model-group";
    MODEL_BASE = "x-litellm-model-api-base";
    VERSION = "x-litellm-version";
    COST = "x-litellm-response-cost";
    KEY_SPEND = "x-litellm-key-spend";
    KEY_BUDGET = "x-litellm-key-max-budget";
    KEY_RPM = "x-litellm-key-rpm-limit";
    KEY_TPM = "x-litellm-key-tpm-limit";
    DURATION = "x-litellm-response-duration-ms";
    OVERHEAD = "x-litellm-overhead-duration-ms";
    RETRIES = "x-litellm-attempted-retries";
    FALLBACKS = "x-litellm-attempted-fallbacks";
    MAX_FALLBACKS = "x-litellm-max-fallbacks";
    CACHE_KEY = "x-litellm-cache-key";
    SIMILARITY = "x-litellm-semantic-similarity";
    OUTPUT_CAP = "x-tollgate-output-cap";
    CACHE = "x-tollgate-cache";
    LIMIT_REQUESTS = "x-ratelimit-limit-requests";
    LIMIT_TOKENS = "x-ratelimit-limit-tokens";
    LEFT_REQUESTS = "x-ratelimit-remaining-requests";
    LEFT_TOKENS = "x-ratelimit-remaining-tokens";
    RESET_REQUESTS = "x-ratelimit-reset-requests";
    RESET_TOKENS = "x-ratelimit-reset-tokens";
}

/// Times of one call.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub started: Instant,
    /// The request went out.
    pub dispatched: Instant,
    /// The answer (its head, for a stream) was there.
    pub answered: Instant,
}

/// Headers of an answer that a provider gave.
pub fn answered(
    into: &mut Lines,
    call: &Call,
    asked: &Shown,
    served: &Served,
    plan: &Plan,
    upstream: &Fields,
    timing: Timing,
) {
    identity(into, call, served);
    let limited = limits(into, call, asked);
    if !limited {
        // The key has none: the provider's own are what the client runs into.
        for name in [
            LIMIT_REQUESTS,
            LIMIT_TOKENS,
            LEFT_REQUESTS,
            LEFT_TOKENS,
            RESET_REQUESTS,
            RESET_TOKENS,
        ] {
            if let Some(value) = upstream.get(name) {
                into.put(name, value);
            }
        }
    }
    let attempts = plan.attempts();
    into.number(RETRIES, attempts.retries().into());
    into.number(FALLBACKS, attempts.fallbacks().into());
    if plan.max_fallbacks > 0 {
        into.number(MAX_FALLBACKS, plan.max_fallbacks.into());
    }
    // What the gateway added: all but the time between the request's leaving and the answer's coming.
    let now = Instant::now();
    let whole = now.duration_since(timing.started);
    let provider = timing.answered.saturating_duration_since(timing.dispatched);
    into.millis(DURATION, whole);
    into.millis(OVERHEAD, whole.saturating_sub(provider));
}

/// Headers of a cached answer.
pub fn cached(
    into: &mut Lines,
    call: &Call,
    asked: &Shown,
    served: &Served,
    hit: (CacheKind, f32),
    key: &str,
) {
    identity(into, call, served);
    limits(into, call, asked);
    let (kind, similarity) = hit;
    let told = format!("hit; kind={}; similarity={similarity:.4}", kind.name());
    into.text(CACHE, &told);
    into.text(CACHE_KEY, key);
    into.text(SIMILARITY, &format!("{similarity:.4}"));
    into.millis(DURATION, call.started().elapsed());
}

/// Why a provider was asked, where a cache might have answered.
pub fn not_cached(into: &mut Lines, word: Option<&str>) {
    if let Some(word) = word {
        into.text(CACHE, word);
    }
}

/// What the call cost and what its key has spent, once that is known.
pub fn cost(into: &mut Lines, call: &Call, settled: &Settled) {
    into.money(COST, settled.amount);
    let spend = call.key_scope().and_then(|at| settled.spends.get(at));
    if let Some(spend) = spend {
        into.money(KEY_SPEND, *spend);
    }
}

/// The cap that we set.
pub fn output_cap(into: &mut Lines, cap: Option<u64>) {
    if let Some(cap) = cap {
        into.number(OUTPUT_CAP, cap);
    }
}

/// What the body is.
pub fn content_type(into: &mut Lines, kind: &'static str) {
    into.text("content-type", kind);
}

/// As the provider said.
pub fn content_type_of(into: &mut Lines, kind: &HeaderValue) {
    into.put("content-type", kind);
}

/// A stream is not for caches between us and the client.
pub fn no_cache(into: &mut Lines) {
    into.text("cache-control", "no-cache");
}

/// The id of a call, on a refusal.
pub fn refused(into: &mut Lines, id: &Text) {
    into.text(CALL_ID, id);
}

fn identity(into: &mut Lines, call: &Call, served: &Served) {
    let usage = call.usage();
    match &usage.call_id {
        Some(id) => into.text(CALL_ID, id),
        None => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let id = uuid::Uuid::from_bytes(usage.request_id.0);
            into.text(CALL_ID, id.hyphenated().encode_lower(&mut text));
        }
    }
    into.text(VERSION, env!("CARGO_PKG_VERSION"));
    into.put(MODEL_ID, &served.deployment.shown_id);
    if let Some(base) = &served.deployment.shown_base {
        into.put(MODEL_BASE, base);
    }
    if let Some(name) = &served.shown.group {
        into.put(MODEL_GROUP, name);
    }
}

/// Writes the key's limits; whether it has any.
fn limits(into: &mut Lines, call: &Call, asked: &Shown) -> bool {
    let Some(at) = call.key_scope() else {
        return false;
    };
    let (Some(scope), Some(state)) = (call.scopes.get(at), call.granted.scopes.get(at)) else {
        return false;
    };
    if let Some(limit) = scope.limit {
        into.money(KEY_BUDGET, limit);
    }
    let resets = reset_in(state.rate_resets_at.0 - call.usage().admitted_at.0);
    let [left_requests, left_tokens] = match &asked.remaining {
        Some([requests, tokens]) => [Some(requests), Some(tokens)],
        None => [None, None],
    };
    let mut one = |limit: Option<u64>,
                   left: Option<u64>,
                   names: [&str; 4],
                   per_model: Option<&HeaderName>| {
        let Some(limit) = limit else {
            return false;
        };
        let [key, ratelimit, remaining, reset] = names;
        into.number(key, limit);
        into.number(ratelimit, limit);
        into.seconds(reset, resets);
        if let Some(left) = left {
            if let Some(name) = per_model {
                into.number(name.as_str(), left);
            }
            into.number(remaining, left);
        }
        true
    };
    let requests = [KEY_RPM, LIMIT_REQUESTS, LEFT_REQUESTS, RESET_REQUESTS];
    let tokens = [KEY_TPM, LIMIT_TOKENS, LEFT_TOKENS, RESET_TOKENS];
    let by_requests = one(scope.rpm, state.rpm_left, requests, left_requests);
    let by_tokens = one(scope.tpm, state.tpm_left, tokens, left_tokens);
    by_requests || by_tokens
}

/// Seconds, never less than one.
fn reset_in(micros: i64) -> u64 {
    (micros.div_euclid(1_000_000).max(0) + 1).unsigned_abs()
}

/// A provider's own headers, each again as `llm_provider-<name>`.
pub fn provider(into: &mut Lines, upstream: &Fields) {
    for (name, value) in upstream.iter() {
        if !stays_behind(name) {
            into.copy("llm_provider-", name, value.as_bytes());
        }
    }
}

/// About the connection or the framing, not the answer; and cookies, which are the gateway's own.
fn stays_behind(name: &[u8]) -> bool {
    [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "set-cookie",
        "upgrade",
        "trailer",
        "te",
    ]
    .iter()
    .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}
