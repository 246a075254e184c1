//! What an answer tells in its headers, under the names that LiteLLM's clients read. Unset ones are
//! left out. Money is exact decimal text.

mod heads;

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemas::{CacheKind, NanoUsd, Text};

use crate::models::{Group, Served};
use crate::record::{Call, Settled};
use crate::upstream::Fields;

pub use heads::{Heads, List};

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(static $name: HeaderName = HeaderName::from_static($text);)*
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
    into: &mut List,
    call: &Call,
    group: &Group,
    served: &Served,
    upstream: &Fields,
    timing: Timing,
) {
    identity(into, call, group, served);
    let limited = limits(into, call, group);
    if !limited {
        // The key has none: the provider's own are what the client runs into.
        for name in [
            &LIMIT_REQUESTS,
            &LIMIT_TOKENS,
            &LEFT_REQUESTS,
            &LEFT_TOKENS,
            &RESET_REQUESTS,
            &RESET_TOKENS,
        ] {
            if let Some(value) = upstream.get(name.as_str()) {
                into.insert(name.clone(), value.clone());
            }
        }
    }
    into.insert(RETRIES.clone(), HeaderValue::from_static("0"));
    into.insert(FALLBACKS.clone(), HeaderValue::from_static("0"));
    // What the gateway added: all but the time between the request's leaving and the answer's coming.
    let now = Instant::now();
    let whole = now.duration_since(timing.started);
    let provider = timing.answered.saturating_duration_since(timing.dispatched);
    into.insert(DURATION.clone(), millis(whole));
    into.insert(OVERHEAD.clone(), millis(whole.saturating_sub(provider)));
}

/// Headers of a cached answer.
pub fn cached(
    into: &mut List,
    call: &Call,
    group: &Group,
    served: &Served,
    hit: (CacheKind, f32),
    key: &str,
) {
    identity(into, call, group, served);
    limits(into, call, group);
    let (kind, similarity) = hit;
    let told = format!("hit; kind={}; similarity={similarity:.4}", kind.name());
    for (name, text) in [
        (&CACHE, told.as_str()),
        (&CACHE_KEY, key),
        (&SIMILARITY, format!("{similarity:.4}").as_str()),
    ] {
        if let Ok(value) = HeaderValue::try_from(text) {
            into.insert(name.clone(), value);
        }
    }
    into.insert(DURATION.clone(), millis(call.started().elapsed()));
}

/// Why a provider was asked, where a cache might have answered.
pub fn not_cached(into: &mut List, word: Option<&str>) {
    if let Some(value) = word.and_then(|word| HeaderValue::from_str(word).ok()) {
        into.insert(CACHE.clone(), value);
    }
}

/// What the call cost and what its key has spent, once that is known.
pub fn cost(into: &mut List, call: &Call, settled: &Settled) {
    into.insert(COST.clone(), money(settled.amount));
    let spend = call.key_scope().and_then(|at| settled.spends.get(at));
    if let Some(spend) = spend {
        into.insert(KEY_SPEND.clone(), money(*spend));
    }
}

/// The cap that we set.
pub fn output_cap(into: &mut List, cap: Option<u64>) {
    if let Some(cap) = cap {
        into.insert(OUTPUT_CAP.clone(), number(cap));
    }
}

/// What the body is.
pub fn content_type(into: &mut List, kind: &'static str) {
    into.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
}

/// As the provider said.
pub fn content_type_of(into: &mut List, kind: HeaderValue) {
    into.insert(header::CONTENT_TYPE, kind);
}

/// A stream is not for caches between us and the client.
pub fn no_cache(into: &mut List) {
    into.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
}

/// The id of a call, on a refusal.
pub fn refused(into: &mut HeaderMap, id: &Text) {
    if let Ok(value) = HeaderValue::try_from(&**id) {
        into.insert(CALL_ID.clone(), value);
    }
}

fn identity(into: &mut List, call: &Call, group: &Group, served: &Served) {
    let usage = call.usage();
    match &usage.call_id {
        Some(id) => {
            if let Ok(value) = HeaderValue::try_from(&**id) {
                into.insert(CALL_ID.clone(), value);
            }
        }
        None => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let text = uuid::Uuid::from_bytes(usage.request_id.0)
                .hyphenated()
                .encode_lower(&mut text);
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                into.insert(CALL_ID.clone(), value);
            }
        }
    }
    into.insert(
        VERSION.clone(),
        HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
    );
    into.insert(MODEL_ID.clone(), served.deployment.shown_id.clone());
    if let Some(base) = &served.deployment.shown_base {
        into.insert(MODEL_BASE.clone(), base.clone());
    }
    if let Some(name) = &group.shown_name {
        into.insert(MODEL_GROUP.clone(), name.clone());
    }
}

/// Writes the key's limits; whether it has any.
fn limits(into: &mut List, call: &Call, group: &Group) -> bool {
    let Some(at) = call.key_scope() else {
        return false;
    };
    let (Some(scope), Some(state)) = (call.scopes.get(at), call.granted.scopes.get(at)) else {
        return false;
    };
    if let Some(limit) = scope.limit {
        into.insert(KEY_BUDGET.clone(), money(limit));
    }
    let reset = reset_in(state.rate_resets_at.0 - call.usage().admitted_at.0);
    let [left_requests, left_tokens] = match &group.remaining {
        Some([requests, tokens]) => [Some(requests), Some(tokens)],
        None => [None, None],
    };
    let mut one = |limit: Option<u64>,
                   left: Option<u64>,
                   names: [&HeaderName; 4],
                   per_model: Option<&HeaderName>| {
        let Some(limit) = limit else {
            return false;
        };
        let [key, ratelimit, remaining, resets] = names;
        let limit = number(limit);
        into.insert(key.clone(), limit.clone());
        into.insert(ratelimit.clone(), limit);
        into.insert(resets.clone(), reset.clone());
        if let Some(left) = left {
            let left = number(left);
            if let Some(name) = per_model {
                into.insert(name.clone(), left.clone());
            }
            into.insert(remaining.clone(), left);
        }
        true
    };
    let requests = [&KEY_RPM, &LIMIT_REQUESTS, &LEFT_REQUESTS, &RESET_REQUESTS];
    let tokens = [&KEY_TPM, &LIMIT_TOKENS, &LEFT_TOKENS, &RESET_TOKENS];
    let by_requests = one(scope.rpm, state.rpm_left, requests, left_requests);
    let by_tokens = one(scope.tpm, state.tpm_left, tokens, left_tokens);
    by_requests || by_tokens
}

/// OpenAI's form: `12s`, never less than one.
fn reset_in(micros: i64) -> HeaderValue {
    let seconds = micros.div_euclid(1_000_000).max(0) + 1;
    let mut text = Digits::default();
    text.number(seconds.unsigned_abs());
    text.push(b's');
    text.value()
}

/// `HeaderValue::from` makes two allocations of it.
fn number(number: u64) -> HeaderValue {
    let mut text = Digits::default();
    text.number(number);
    text.value()
}

/// Milliseconds with three decimals.
fn millis(elapsed: Duration) -> HeaderValue {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let mut text = Digits::default();
    text.number(micros / 1_000);
    text.fraction(micros % 1_000, 3);
    text.value()
}

/// An amount as in `NanoUsd`'s own text, without its allocations: three of these stand on every answer.
#[must_use]
pub fn money(amount: NanoUsd) -> HeaderValue {
    const UNIT: u64 = 1_000_000_000;
    let mut text = Digits::default();
    if amount.0 < 0 {
        text.push(b'-');
    }
    let magnitude = amount.0.unsigned_abs();
    text.number(magnitude / UNIT);
    text.fraction(magnitude % UNIT, 9);
    text.value()
}

/// A decimal number on the stack: a sign, 20 digits, a point and 9 digits at most.
#[derive(Default)]
struct Digits {
    text: [u8; 32],
    length: usize,
}

impl Digits {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn number(&mut self, mut number: u64) {
        let mut reversed = [0; 20];
        let mut count = 0;
        loop {
            reversed[count] = b'0' + (number % 10) as u8;
            number /= 10;
            count += 1;
            if number == 0 {
                break;
            }
        }
        for digit in reversed[..count].iter().rev() {
            self.push(*digit);
        }
    }

    /// A point and `places` digits without trailing zeros, but for the first.
    fn fraction(&mut self, mut fraction: u64, places: u32) {
        self.push(b'.');
        let mut unit = 10_u64.pow(places - 1);
        loop {
            self.push(b'0' + (fraction / unit) as u8);
            fraction %= unit;
            if fraction == 0 {
                return;
            }
            unit /= 10;
        }
    }

    fn value(&self) -> HeaderValue {
        // Digits, a sign and a point are always a valid value.
        HeaderValue::from_bytes(&self.text[..self.length])
            .unwrap_or(HeaderValue::from_static("0.0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_as_everywhere_else() {
        for amount in [
            0,
            1,
            10,
            999_999_999,
            1_000_000_000,
            1_050_000_000,
            -40,
            i64::MAX,
            i64::MIN + 1,
        ] {
            let amount = NanoUsd(amount);
            assert_eq!(money(amount).to_str().unwrap(), amount.to_string());
        }
        assert_eq!(millis(Duration::from_micros(12_345)), "12.345");
        assert_eq!(millis(Duration::from_micros(500)), "0.5");
    }
}
