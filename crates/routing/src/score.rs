//! How good a deployment is for a call: the lowest number is chosen.

use config::Strategy;

use crate::{Ask, Class, Member};
use crate::{Deployment, Moment};

/// Tokens of an answer where nobody knows, for comparing speeds.
const ANSWER_TOKENS: u64 = 256;
/// What a call to a deployment of unknown speed is reckoned at, where there is reason to wait with it: more
/// than any that is known.
const UNKNOWN_S: f64 = 1e6;

/// A number for one deployment under a strategy; `draw` is random for it alone.
pub(crate) fn score<T>(
    strategy: Strategy,
    member: &Member<T>,
    weight: f64,
    ask: &Ask<'_, T>,
    now: Moment,
    draw: u64,
) -> f64 {
    let deployment = &*member.deployment;
    match strategy {
        // Exponential race: each wins as often as its share of the weights says.
        Strategy::SimpleShuffle | Strategy::WeightedRoundRobin => race(draw, weight),
        Strategy::LeastBusy => f64::from(deployment.in_flight()),
        Strategy::Latency => latency(deployment, ask, now),
        Strategy::Usage => usage(deployment, ask, now),
        Strategy::Cost => cost(member, ask),
        Strategy::Capability => -capability(deployment, ask),
    }
}

/// For the session of a call: the same deployment each time, while it may be chosen at all; shares by weight.
pub(crate) fn sticky(deployment: &Deployment, session: u64, weight: f64) -> f64 {
    race(mix(session ^ deployment.hash), weight)
}

fn race(draw: u64, weight: f64) -> f64 {
    if weight <= 0.0 {
        return f64::MAX;
    }
    // 53 bits, from above 0 to 1.
    let unit = ((draw >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -unit.ln() / weight
}

/// Seconds until the whole answer is there, times the calls that share it: an idle one is preferred to one
/// that is a little faster and busy. One that nobody knows gets one call first, so that it becomes known; until
/// that is back, or where it failed, no other this minute while there is one that is known: it may hang.
fn latency<T>(deployment: &Deployment, ask: &Ask<'_, T>, now: Moment) -> f64 {
    let Some(first) = deployment.first_token(now) else {
        let doubts = deployment.in_flight().saturating_add(deployment.fails(now));
        return f64::from(doubts) * UNKNOWN_S;
    };
    let tokens = if ask.output == 0 {
        ANSWER_TOKENS
    } else {
        ask.output.min(ANSWER_TOKENS)
    };
    let rest = deployment.per_token(now).unwrap_or(0.0) * tokens as f32;
    f64::from(first + rest) * f64::from(deployment.in_flight().saturating_add(1))
}

/// Share of its limits used in this minute; without limits, tokens alone. Calls in flight tell their tokens at
/// their end: until then each is taken to be like this one, or all that come at once would go to one place.
fn usage<T>(deployment: &Deployment, ask: &Ask<'_, T>, now: Moment) -> f64 {
    let share = |used: u64, limit: Option<u64>| limit.map(|l| used as f64 / l.max(1) as f64);
    let each = ask.tokens.saturating_add(match ask.output {
        0 => ANSWER_TOKENS,
        output => output.min(ANSWER_TOKENS),
    });
    let open = u64::from(deployment.in_flight()).saturating_mul(each);
    let used = deployment.tokens(now).saturating_add(open);
    let tokens = share(used, deployment.spec.tpm);
    let calls = share(deployment.calls(now), deployment.spec.rpm);
    match (tokens, calls) {
        (Some(tokens), Some(calls)) => tokens.max(calls),
        (Some(one), None) | (None, Some(one)) => one,
        // Far below any share that matters, and still in order.
        (None, None) => (used as f64 + deployment.calls(now) as f64 * 1e-3) * 1e-12,
    }
}

/// Price of this very call; the file's hint where the catalog has none.
pub(crate) fn cost<T>(member: &Member<T>, ask: &Ask<'_, T>) -> f64 {
    if let Some(price) = ask.cost.and_then(|cost| cost(&member.served)) {
        return price.0 as f64;
    }
    let tokens = ask.tokens.saturating_add(ask.output.max(1));
    member
        .deployment
        .spec
        .cost
        .map_or(f64::MAX, |each| each.0 as f64 * tokens as f64 / 1_000.0)
}

/// How much of what the call needs is there.
fn capability<T>(deployment: &Deployment, ask: &Ask<'_, T>) -> f64 {
    let has = |need: &&str| {
        let known = &deployment.spec.capabilities;
        known.iter().any(|word| same(word, need))
    };
    ask.needs.iter().filter(|need| has(need)).count() as f64
}

/// `long-context` and `long_context` are one word.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let plain = |c: u8| match c {
        b'-' => b'_',
        other => other.to_ascii_lowercase(),
    };
    a.bytes().map(plain).eq(b.bytes().map(plain))
}

/// What a class prefers before the strategy is asked.
pub(crate) fn of_class<T>(member: &Member<T>, ask: &Ask<'_, T>) -> Option<f64> {
    match ask.class {
        Class::Ordinary => None,
        Class::Small => Some(cost(member, ask)),
        Class::Long => {
            let known = &member.deployment.spec.capabilities;
            let long = known.iter().any(|word| same(word, "long-context"));
            Some(if long { 0.0 } else { 1.0 })
        }
    }
}

/// `SplitMix64`'s finalizer: every bit of the input changes half of the output's.
pub(crate) const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
