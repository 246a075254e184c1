//! One deployment: what the file says of it, and what is known of its health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use config::{Cooldown as CooldownRules, ModelEntry};
use schemas::{NanoUsd, Text};

use crate::cooldown::Cooldown;
use crate::decayed::Decayed;
use crate::{Failure, Moment};

/// An answer that came whole does not tell when its first token was there: it is taken to have cost the time of
/// so many further ones, so that a long answer does not pass for a slow beginning.
const FIRST_WORTH: f32 = 50.0;

/// What does not change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {
    pub id: Text,
    /// Share of calls: `weight`, else `rpm`, else `tpm`.
    pub weight: Option<f64>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    /// Lower ones first.
    pub order: u32,
    pub tags: Vec<Text>,
    pub region: Option<Text>,
    /// Context window in tokens.
    pub window: Option<u64>,
    pub capabilities: Vec<Text>,
    pub lacks: Vec<Text>,
    /// To the first token, until it is measured.
    pub latency: Option<Duration>,
    /// USD per 1,000 tokens, where no price is known.
    pub cost: Option<NanoUsd>,
    pub retries: Option<u32>,
    pub cooldown: Option<Duration>,
}

impl Spec {
    /// What an entry of the file says.
    #[must_use]
    pub fn of(entry: &ModelEntry) -> Self {
        let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
        let (limits, hints) = (&entry.limits, &entry.hints);
        Self {
            id: entry.deployment_id.as_str().into(),
            weight: hints.weight,
            rpm: limits.rpm,
            tpm: limits.tpm,
            order: hints.order,
            tags: texts(&hints.tags),
            region: hints.region.as_deref().map(Text::from),
            window: limits.max_input_tokens.map(u64::from),
            capabilities: texts(&hints.capabilities),
            lacks: texts(&hints.lacks),
            latency: hints.latency,
            cost: hints.cost,
            retries: hints.retries,
            cooldown: hints.cooldown,
        }
    }
}

/// What the last active check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Probe {
    Unknown = 0,
    Up = 1,
    Down = 2,
}

/// How a deployment does: the numbers of `litellm_deployment_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    Healthy = 0,
    /// Some calls of this minute failed.
    Partial = 1,
    /// Left alone, or found down by a check.
    Down = 2,
}

/// A deployment and its state. Shared by all serving threads.
#[derive(Debug, Default)]
pub struct Deployment {
    pub spec: Spec,
    /// Fixed per id, for choices that must not change between processes.
    pub(crate) hash: u64,
    in_flight: AtomicU32,
    cooldown: Cooldown,
    first_token: Decayed,
    per_token: Decayed,
    /// Tokens and calls of a minute: minute and count in one word.
    tokens: AtomicU64,
    calls: AtomicU64,
    probe: AtomicU8,
    /// When the last check came back, in microseconds; 0 before the first.
    probed: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
}

/// A deployment as it stands, for `/health` and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub in_flight: u32,
    /// What is left of its cooldown.
    pub cooled_for: Option<Duration>,
    pub probe: Probe,
    /// How long ago the last check came back.
    pub checked: Option<Duration>,
    pub health: Health,
    /// Seconds, decayed.
    pub first_token_s: Option<f32>,
    pub per_token_s: Option<f32>,
    pub successes: u64,
    pub failures: u64,
    /// How often it was left alone.
    pub cooldowns: u64,
    /// Of this minute.
    pub tokens: u64,
    pub calls: u64,
}

/// A call in flight; over when dropped.
#[derive(Debug)]
pub struct Flight(Arc<Deployment>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Deployment {
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self {
            hash: fnv(spec.id.as_bytes()),
            spec,
            ..Self::default()
        }
    }

    /// A call goes out.
    #[must_use]
    pub fn begin(self: &Arc<Self>, now: Moment) -> Flight {
        self.in_flight.fetch_add(1, Relaxed);
        count(&self.calls, 1, now);
        Flight(self.clone())
    }

    /// A call was answered.
    pub fn succeeded(&self, took: Took, now: Moment) {
        self.successes.fetch_add(1, Relaxed);
        self.cooldown.succeeded();
        let (first, per_token) = took.speeds();
        self.first_token.add(first, now);
        if took.tokens > 0 {
            self.per_token.add(per_token, now);
        }
        count(&self.tokens, took.tokens.saturating_add(took.prompt), now);
        if self.probe.load(Relaxed) == Probe::Down as u8 {
            self.probe.store(Probe::Unknown as u8, Relaxed);
        }
    }

    /// A call failed after `took`. `alone`: its name has no other deployment.
    pub fn failed(
        &self,
        failure: &Failure,
        took: Duration,
        rules: &CooldownRules,
        alone: bool,
        now: Moment,
    ) {
        self.failures.fetch_add(1, Relaxed);
        if failure.kind == config::FailureKind::Timeout {
            // Slow is what it was, even if it would have answered at last.
            self.first_token.add(took.as_secs_f32(), now);
        }
        let calls = self.calls(now);
        self.cooldown
            .failed(failure, rules, self.spec.cooldown, alone, calls, now);
    }

    /// A call was given up after `took`, since another deployment had answered meanwhile.
    pub fn outrun(&self, took: Duration, now: Moment) {
        self.first_token.add(took.as_secs_f32(), now);
    }

    /// An active check came back.
    pub fn probed(&self, up: bool, now: Moment) {
        let found = if up { Probe::Up } else { Probe::Down };
        self.probe.store(found as u8, Relaxed);
        self.probed.store(now.0.max(1), Relaxed);
    }

    /// How well it does.
    #[must_use]
    pub fn health(&self, now: Moment) -> Health {
        if self.cooled_until(now).is_some() || self.probe() == Probe::Down {
            Health::Down
        } else if self.fails(now) > 0 {
            Health::Partial
        } else {
            Health::Healthy
        }
    }

    #[must_use]
    pub fn probe(&self) -> Probe {
        match self.probe.load(Relaxed) {
            1 => Probe::Up,
            2 => Probe::Down,
            _ => Probe::Unknown,
        }
    }

    /// Until when it is left alone, if it is.
    #[must_use]
    pub fn cooled_until(&self, now: Moment) -> Option<Moment> {
        self.cooldown.until(now)
    }

    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Seconds to the first token: measured, else as the file says.
    pub(crate) fn first_token(&self, now: Moment) -> Option<f32> {
        let hint = || self.spec.latency.map(|hint| hint.as_secs_f32());
        self.first_token.get(now).or_else(hint)
    }

    pub(crate) fn per_token(&self, now: Moment) -> Option<f32> {
        self.per_token.get(now)
    }

    /// Failures of this minute.
    pub(crate) fn fails(&self, now: Moment) -> u32 {
        self.cooldown.fails(now)
    }

    /// Tokens of this minute.
    pub(crate) fn tokens(&self, now: Moment) -> u64 {
        counted(&self.tokens, now)
    }

    pub(crate) fn calls(&self, now: Moment) -> u64 {
        counted(&self.calls, now)
    }

    #[must_use]
    pub fn status(&self, now: Moment) -> Status {
        Status {
            in_flight: self.in_flight(),
            cooled_for: self.cooled_until(now).map(|until| until.since(now)),
            probe: self.probe(),
            checked: match self.probed.load(Relaxed) {
                0 => None,
                at => Some(now.since(Moment(at))),
            },
            health: self.health(now),
            first_token_s: self.first_token.get(now),
            per_token_s: self.per_token.get(now),
            successes: self.successes.load(Relaxed),
            failures: self.failures.load(Relaxed),
            cooldowns: self.cooldown.times(),
            tokens: self.tokens(now),
            calls: self.calls(now),
        }
    }
}

/// How long an answer took, and how large it was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// From dispatch to the first byte of a stream; none where the answer came whole.
    pub first: Option<Duration>,
    /// From dispatch to the end.
    pub whole: Duration,
    /// Tokens of the answer.
    pub tokens: u64,
    /// Tokens of the prompt.
    pub prompt: u64,
}

impl Took {
    /// Seconds to the first token, and for each further one.
    fn speeds(&self) -> (f32, f32) {
        let tokens = self.tokens as f32;
        match self.first {
            Some(first) => {
                // Never below zero: the whole includes the first token.
                let rest = self.whole.saturating_sub(first).as_secs_f32();
                (first.as_secs_f32(), rest / tokens.max(1.0))
            }
            None => {
                let each = self.whole.as_secs_f32() / (tokens + FIRST_WORTH);
                (each * FIRST_WORTH, each)
            }
        }
    }
}

fn count(word: &AtomicU64, more: u64, now: Moment) {
    let minute = u64::from(now.minute()) << 32;
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    let next = |word: u64| {
        let same = word & !u64::from(u32::MAX) == minute;
        let before = if same { word as u32 } else { 0 };
        Some(minute | u64::from(before.saturating_add(more)))
    };
    // Always answers `Some`.
    let _ = word.fetch_update(Relaxed, Relaxed, next);
}

fn counted(word: &AtomicU64, now: Moment) -> u64 {
    let word = word.load(Relaxed);
    if (word >> 32) as u32 == now.minute() {
        u64::from(word as u32)
    } else {
        0
    }
}

/// FNV-1a: fixed for ever, unlike the standard library's hasher.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
