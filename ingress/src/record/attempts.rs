//! The attempts of one call: each that may have cost is its own USAGE, all under the one hold.

use std::time::Duration;

use budgets::Reserve;
use config::FailureKind;
use schemas::{Attempt, Event, Meters, NanoUsd, Text, Topic};

use super::{Call, End, State, micros, tokens, whole_micros};
use crate::usage::Reading;
use crate::{Error, clock};

/// What another attempt goes to, and what bounds it.
pub struct Onward<'a> {
    pub attempt_no: u32,
    /// `first`, `retry` or `fallback`.
    pub why: &'static str,
    /// Waited before it.
    pub after: Duration,
    pub provider: &'a Text,
    pub model: &'a Text,
    pub deployment: &'a Text,
    /// Tokens.
    pub input_bound: u64,
    /// Tokens of one choice.
    pub output_cap: Option<u64>,
}

impl Call {
    /// The present attempt failed; it may be followed by another.
    pub fn failed(&mut self, kind: FailureKind, status: u16) {
        self.failed = Some((kind, status));
    }

    /// The call was sent where a threshold wants it.
    pub fn steered(&mut self) {
        self.why = "threshold";
    }

    /// The present attempt, as it ended.
    pub(super) fn attempt(&self, status: u32) -> Attempt {
        let usage = &self.usage;
        Attempt {
            deployment: usage.deployment.clone(),
            provider: usage.provider.clone(),
            model: usage.model.clone(),
            why: self.why.into(),
            failure: self.failed.map(|(kind, _)| kind.name().into()),
            status,
            wait_us: whole_micros(self.waited),
            took_us: micros(self.sent_at),
        }
    }

    /// What an attempt that ends so would be charged.
    #[must_use]
    pub fn would_cost(&self, reading: &Reading) -> NanoUsd {
        let mut usage = (*self.usage).clone();
        usage.last = false;
        usage.meters = reading.meters.clone();
        self.charge(&usage).0
    }

    /// Writes the USAGE of an attempt that was not the last: one that may have cost, or one after which more
    /// is held, for its record tells the next start what is held from here on. The call goes on.
    ///
    /// # Errors
    /// The journal failed: nobody could bill what has been used, so nothing more may be.
    pub fn attempt_over(&mut self, end: End) -> Result<(), Error> {
        self.usage.last = false;
        let own = self.fill(end);
        self.spent = self.spent.saturating_add(own);
        self.spent_tokens = self.spent_tokens.saturating_add(tokens(&self.usage));
        self.usage.hold = self.room();
        let attempts = std::mem::take(&mut self.usage.attempts);
        let appended =
            self.gateway
                .journal
                .append(Topic::Usage, self.partition, &self.usage.body());
        self.usage.last = true;
        self.usage.attempts = attempts;
        self.gateway.journal.sync_soon(appended?.position);
        self.gateway.metrics.attempted(&self.usage, own);
        Ok(())
    }

    /// Turns to another deployment; nothing has been sent there yet.
    pub fn onward(&mut self, to: &Onward<'_>) {
        self.state = State::Admitted;
        // None where a deployment had no room: nothing went out.
        if let Some((_, status)) = self.failed {
            let ended = self.attempt(u32::from(status));
            self.usage.attempts.push(ended);
            self.failed = None;
        }
        (self.why, self.waited) = (to.why, to.after);
        self.usage.stages.connect_us = None;
        self.input_bound = to.input_bound;
        self.output_bound = to
            .output_cap
            .map(|cap| cap.saturating_mul(u64::from(self.choices)));
        (self.output_estimate, self.told) = (0, None);
        let hold = self.room();
        let usage = &mut self.usage;
        usage.hold = hold;
        usage.attempt_no = to.attempt_no;
        usage.provider = to.provider.clone();
        usage.model = to.model.clone();
        usage.deployment = to.deployment.clone();
        (usage.first_byte_us, usage.meters) = (None, Meters::default());
    }

    /// Tokens of prompt and answer that a limit counts until the call tells its own.
    #[must_use]
    pub fn expected_tokens(&self) -> u64 {
        self.input_estimate
            .saturating_add(self.output_bound.unwrap_or(0))
    }

    /// Held for the call and not spent by its earlier attempts. Nothing where no limit is checked.
    #[must_use]
    pub fn room(&self) -> NanoUsd {
        let left = self.granted.amount.saturating_sub(self.spent);
        left.max(NanoUsd::ZERO)
    }

    /// Whether a budget with a limit is checked.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.scopes.iter().any(|scope| scope.limit.is_some())
    }

    /// Holds more, at least `least`, on the call's own scopes.
    ///
    /// # Errors
    /// There is no room; what is held stays held.
    pub async fn raise(&mut self, amount: NanoUsd, least: NanoUsd) -> Result<(), Error> {
        let more = Reserve {
            hold: self.usage.request_id,
            amount,
            least,
            tokens: 0,
            scopes: &self.scopes,
            now: clock::now(),
            expires: self.expires,
        };
        let added = self.gateway.budgets.raise(&more).await?;
        self.granted.amount = self.granted.amount.saturating_add(added);
        Ok(())
    }
}
