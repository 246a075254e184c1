//! What an answer tells in its headers, under the names that LiteLLM's clients read. Unset ones are
//! left out. Money is exact decimal text.

mod lines;

use std::time::Instant;

use budgets::{LimitType, Refusal, ScopeKind};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemas::{CacheKind, Compression, Micros, NanoUsd, Text};

use crate::exchange::Exchange;
use crate::models::{Served, Shown};
use crate::record::{Call, Settled};
use crate::upstream::Fields;
use crate::{Error, admit, clock};

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
    MODEL_REGION = "x-litellm-model-region";
    VERSION = "x-litellm-version";
    COST = "x-litellm-response-cost";
    KEY_SPEND = "x-litellm-key-spend";
    KEY_BUDGET = "x-litellm-key-max-budget";
    KEY_RPM = "x-litellm-key-rpm-limit";
    KEY_TPM = "x-litellm-key-tpm-limit";
    DURATION = "x-litellm-response-duration-ms";
    OVERHEAD = "x-litellm-overhead-duration-ms";
    TIMEOUT = "x-litellm-timeout";
    RETRIES = "x-litellm-attempted-retries";
    FALLBACKS = "x-litellm-attempted-fallbacks";
    MAX_FALLBACKS = "x-litellm-max-fallbacks";
    CACHE_KEY = "x-litellm-cache-key";
    SIMILARITY = "x-litellm-semantic-similarity";
    COMPRESSION = "x-tollgate-compression";
    OUTPUT_CAP = "x-tollgate-output-cap";
    CACHE = "x-tollgate-cache";
    LIMIT_REQUESTS = "x-ratelimit-limit-requests";
    LIMIT_TOKENS = "x-ratelimit-limit-tokens";
    LEFT_REQUESTS = "x-ratelimit-remaining-requests";
    LEFT_TOKENS = "x-ratelimit-remaining-tokens";
    RESET_REQUESTS = "x-ratelimit-reset-requests";
    RESET_TOKENS = "x-ratelimit-reset-tokens";
}

/// What tells of a limit: of the key, the same in OpenAI's words, what is left, and when it is whole again.
const OF_REQUESTS: [&str; 4] = [KEY_RPM, LIMIT_REQUESTS, LEFT_REQUESTS, RESET_REQUESTS];
const OF_TOKENS: [&str; 4] = [KEY_TPM, LIMIT_TOKENS, LEFT_TOKENS, RESET_TOKENS];

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
pub fn answered(into: &mut Lines, exchange: &Exchange, upstream: &Fields, timing: Timing) {
    told_of(into, exchange, upstream);
    // What the gateway added: all but the time between the request's leaving and the answer's coming.
    let now = Instant::now();
    let whole = now.duration_since(timing.started);
    let provider = timing.answered.saturating_duration_since(timing.dispatched);
    into.millis(DURATION, whole);
    into.millis(OVERHEAD, whole.saturating_sub(provider));
}

/// Headers of an admitted call that ended without an answer; `said` is the header of a provider's refusal.
pub fn failed(into: &mut Lines, exchange: &Exchange, settled: Option<&Settled>, said: &Fields) {
    told_of(into, exchange, said);
    into.millis(DURATION, exchange.call.started().elapsed());
    if let Some(settled) = settled {
        cost(into, &exchange.call, settled);
    }
    provider(into, said);
}

/// What every admitted call tells.
fn told_of(into: &mut Lines, exchange: &Exchange, upstream: &Fields) {
    let (call, plan) = (&exchange.call, &exchange.plan);
    identity(into, call, &exchange.served);
    let limited = limits(into, call, exchange.asked());
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
    into.decimal_seconds(TIMEOUT, exchange.timeout);
    if let Some(saving) = &call.usage().compression {
        let Compression {
            strategy,
            tokens_before,
            tokens_after,
            messages_before,
            messages_after,
        } = saving;
        let told = format!(
            "{strategy}; tokens={tokens_before}>{tokens_after}; messages={messages_before}>{messages_after}"
        );
        into.text(COMPRESSION, &told);
    }
}

/// Headers of a cached answer.
pub fn cached(into: &mut Lines, exchange: &Exchange, hit: (CacheKind, f32), key: &str) {
    let call = &exchange.call;
    identity(into, call, &exchange.served);
    limits(into, call, exchange.asked());
    let (kind, similarity) = hit;
    let told = format!("hit; kind={}; similarity={similarity:.4}", kind.name());
    into.text(CACHE, &told);
    into.text(CACHE_KEY, key);
    into.text(SIMILARITY, &format!("{similarity:.4}"));
    into.decimal_seconds(TIMEOUT, exchange.timeout);
    let whole = call.started().elapsed();
    into.millis(DURATION, whole);
    into.millis(OVERHEAD, whole);
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

/// What its key has spent before this call: a stream's head leaves before its own cost is known.
pub fn spend_before(into: &mut Lines, call: &Call) {
    let state = call.key_scope().and_then(|at| call.granted.scopes.get(at));
    if let Some(state) = state {
        into.money(KEY_SPEND, state.spend);
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

/// Whom an answer without a call is from.
pub fn version(into: &mut HeaderMap) {
    let name = HeaderName::from_static(VERSION);
    into.insert(name, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
}

/// What a refusal by a key's own limit tells of it.
pub struct Limits(Option<Told>);

enum Told {
    Spend {
        spend: NanoUsd,
        limit: NanoUsd,
    },
    Rate {
        names: [&'static str; 4],
        limit: u64,
        left: u64,
        resets_at: Micros,
    },
}

impl Limits {
    #[must_use]
    pub const fn of(error: &Error) -> Self {
        Self(match error {
            Error::Refused(Refusal::Budget {
                kind: ScopeKind::Key,
                used,
                limit,
                ..
            }) => Some(Told::Spend {
                spend: *used,
                limit: *limit,
            }),
            Error::Refused(Refusal::Rate {
                kind: ScopeKind::Key,
                limit_type,
                limit,
                remaining,
                resets_at,
                ..
            }) => match limit_type {
                LimitType::Requests => rate(OF_REQUESTS, *limit, *remaining, *resets_at),
                LimitType::Tokens => rate(OF_TOKENS, *limit, *remaining, *resets_at),
                LimitType::MaxParallelRequests => None,
            },
            _ => None,
        })
    }
}

const fn rate(names: [&'static str; 4], limit: u64, left: u64, resets_at: Micros) -> Option<Told> {
    Some(Told::Rate {
        names,
        limit,
        left,
        resets_at,
    })
}

/// Headers of a call that was not admitted. It has an id all the same, by which it can be spoken of.
pub fn refused(into: &mut Lines, id: Option<&Text>, started: Instant, limits: Limits) {
    match id {
        Some(id) => into.text(CALL_ID, id),
        None => into.text(CALL_ID, &admit::fresh_id(clock::now()).to_string()),
    }
    into.text(VERSION, env!("CARGO_PKG_VERSION"));
    into.millis(DURATION, started.elapsed());
    match limits.0 {
        None => {}
        Some(Told::Spend { spend, limit }) => {
            into.money(KEY_SPEND, spend);
            into.money(KEY_BUDGET, limit);
        }
        Some(Told::Rate {
            names: [key, ratelimit, remaining, reset],
            limit,
            left,
            resets_at,
        }) => {
            into.number(key, limit);
            into.number(ratelimit, limit);
            into.number(remaining, left);
            into.seconds(reset, reset_in(resets_at.0 - clock::now().0));
        }
    }
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
    if let Some(region) = &served.deployment.shown_region {
        into.put(MODEL_REGION, region);
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
    let by_requests = one(scope.rpm, state.rpm_left, OF_REQUESTS, left_requests);
    let by_tokens = one(scope.tpm, state.tpm_left, OF_TOKENS, left_tokens);
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
