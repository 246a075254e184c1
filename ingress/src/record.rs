//! The two records of every call, ADMIT and USAGE, and the guard that writes the second one whatever
//! happens. **Every admitted call ends in exactly one final usage record.**
//!
//! A crash between the two leaves an ADMIT that [`crate::recovery`] closes at the next start.

mod aside;
mod attempts;
mod end;
mod open;
mod progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::FailureKind;

use budgets::{Granted, Scope, ScopeKind};
use journal::fail_point::pass;
use schemas::{
    Admitted, BudgetRef, CacheKind, Compression, Event, Meters, Micros, NanoUsd, Outcome,
    Partition, RequestId, Stages, Text, Topic, Usage,
};

use crate::synced::{Synced, Syncs};
use crate::usage::Reading;
use crate::{Error, Gateway, alerts};

pub use aside::HEDGED;
pub use attempts::Onward;
pub use end::{Closed, End, Settled};
pub use open::{OpenCalls, Slot};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Admitted,
    /// The provider has the request, so it may charge.
    Dispatched,
    Closed,
}

/// An admitted call. Dropped while open (the client hung up), it bills what was produced so far.
pub struct Call {
    gateway: Arc<Gateway>,
    /// Filled in as the call goes on.
    usage: Box<Usage>,
    partition: Partition,
    slot: Slot,
    state: State,
    started: Instant,
    /// Bounds that an estimate never passes: the hold covers no more.
    input_bound: u64,
    output_bound: Option<u64>,
    /// Estimates of the prompt, and of the output so far.
    input_estimate: u64,
    output_estimate: u64,
    /// Usage that the provider has already told of a stream.
    told: Option<Reading>,
    choices: u32,
    /// What earlier attempts cost, and their tokens.
    spent: NanoUsd,
    spent_tokens: u64,
    expires: Micros,
    /// Of the present attempt: when it went out, how it failed.
    sent_at: Instant,
    failed: Option<(FailureKind, u16)>,
    /// What led to it, and how long it was waited for.
    why: &'static str,
    waited: Duration,
    /// Another attempt, on its way at the same time.
    aside: Option<Box<aside::Aside>>,
    pub scopes: Vec<Scope>,
    pub granted: Granted,
}

/// What a call is opened with.
pub struct Opening {
    pub admitted: Admitted,
    pub call_id: Option<Text>,
    pub choices: u32,
    pub input_estimate: u64,
    pub scopes: Vec<Scope>,
    pub granted: Granted,
    pub expires: Micros,
    pub started: Instant,
    pub stages: Stages,
    pub metadata: Option<Text>,
}

impl Call {
    /// Writes ADMIT. The reservation stands already.
    ///
    /// # Errors
    /// The journal is full or failed: nothing was written, and nothing may be sent to a provider.
    pub fn open(gateway: &Arc<Gateway>, opening: Opening) -> Result<Self, Error> {
        let Opening {
            admitted,
            call_id,
            choices,
            input_estimate,
            scopes,
            granted,
            expires,
            started,
            stages,
            metadata,
        } = opening;
        let partition = partition(&admitted, gateway.partitions);
        let slot = gateway.open_calls.enter(&gateway.journal);
        match gateway
            .journal
            .append(Topic::Requests, partition, &admitted.body())
        {
            // Nobody waits for it: the disk works while the provider does.
            Ok(appended) => gateway.journal.sync_soon(appended.position),
            Err(error) => {
                gateway.open_calls.leave(slot);
                return Err(error.into());
            }
        }
        // Nothing was sent: the next start closes the call as abandoned.
        pass("after_admit");
        Ok(Self {
            gateway: gateway.clone(),
            partition,
            slot,
            state: State::Admitted,
            started,
            input_bound: admitted.input_bound,
            output_bound: admitted
                .output_cap
                .map(|cap| cap.saturating_mul(u64::from(choices))),
            input_estimate,
            output_estimate: 0,
            told: None,
            choices,
            spent: NanoUsd::ZERO,
            spent_tokens: 0,
            expires,
            sent_at: started,
            failed: None,
            why: "first",
            waited: Duration::ZERO,
            aside: None,
            scopes,
            granted,
            usage: Box::new(Usage {
                event_time: admitted.event_time,
                admitted_at: admitted.event_time,
                request_id: admitted.request_id,
                call_id,
                attribution: admitted.attribution,
                attempt_no: 1,
                last: true,
                outcome: Outcome::Cancelled,
                estimated: false,
                mismatch: false,
                stream: admitted.stream,
                status: 0,
                error_code: None,
                finish_reason: None,
                model_requested: admitted.model_requested,
                provider: admitted.provider,
                model: admitted.model,
                deployment: admitted.deployment,
                service_tier: None,
                meters: Meters::default(),
                provider_usage: schemas::codec::Blob::default(),
                hold: admitted.hold,
                budgets: admitted.budgets,
                catalog_version: admitted.catalog_version,
                cache: CacheKind::None,
                cache_similarity: 0.0,
                saved: NanoUsd::ZERO,
                first_byte_us: None,
                duration_us: 0,
                stages,
                attempts: Vec::new(),
                compression: None,
                parent: None,
                metadata,
            }),
        })
    }

    /// The request goes out: from here on a hang-up costs. Where it goes after another attempt is marked,
    /// so that a crash bills the right one.
    pub fn dispatched(&mut self, at: Instant) {
        self.state = State::Dispatched;
        self.sent_at = at;
        if self.usage.attempt_no > 1 {
            self.mark();
        }
    }

    /// Where the time went.
    pub fn stages(&mut self) -> &mut Stages {
        &mut self.usage.stages
    }

    /// Its prompt was made shorter, or it was made for another call.
    pub fn relates(&mut self, saving: Option<Compression>, parent: Option<RequestId>) {
        (self.usage.compression, self.usage.parent) = (saving, parent);
    }

    /// Writes USAGE: the call is over.
    ///
    /// # Errors
    /// The journal failed. The client must not get the answer: nobody could bill it. The hold stands
    /// until the next start closes the call as abandoned.
    pub fn close(&mut self, end: End) -> Result<Closed, Error> {
        if !self.usage.attempts.is_empty() && self.state == State::Dispatched {
            let last = self.attempt(u32::from(end.status));
            self.usage.attempts.push(last);
        }
        self.state = State::Closed;
        let own = self.fill(end);
        let usage = &self.usage;
        let appended =
            self.gateway
                .journal
                .append_final(Topic::Usage, self.partition, &usage.body());
        // The client has not seen the end, and the event is in the page cache: it is billed.
        pass("after_usage");
        self.gateway.open_calls.leave(self.slot);
        let tokens = self.spent_tokens.saturating_add(tokens(usage));
        self.gateway.metrics.closed(usage, own);
        if self.gateway.models.load().config.log.calls {
            log_call(usage, self.spent.saturating_add(own));
        }
        let appended = appended?;
        Ok(Closed {
            amount: self.spent.saturating_add(own),
            own,
            tokens,
            position: appended.position,
            event: appended.identity,
        })
    }

    /// Puts the end of an attempt into its record. Answers what it costs.
    fn fill(&mut self, end: End) -> NanoUsd {
        let usage = &mut self.usage;
        let at = end.at.unwrap_or_else(Instant::now);
        usage.duration_us = whole_micros(at.saturating_duration_since(self.started));
        // Both clocks were read when the call came.
        let after = i64::try_from(usage.duration_us).unwrap_or(i64::MAX);
        usage.event_time = Micros(usage.admitted_at.0.saturating_add(after));
        usage.outcome = end.outcome;
        usage.status = u32::from(end.status);
        usage.error_code = end.error_code;
        usage.finish_reason = end.finish_reason;
        usage.service_tier = end.service_tier;
        usage.estimated = end.reading.estimated;
        usage.mismatch = end.reading.mismatch;
        usage.meters = end.reading.meters;
        usage.provider_usage = schemas::codec::Blob(end.reading.raw);
        if let Some((kind, similarity, saved)) = end.hit {
            (usage.cache, usage.cache_similarity, usage.saved) = (kind, similarity, saved);
        }
        let (amount, unpriced) = self.charge(&self.usage);
        if let Some(reason) = &unpriced {
            self.gateway.metrics.unpriced(reason);
        }
        amount
    }

    fn charge(&self, usage: &Usage) -> (NanoUsd, Option<metering::Unpriced>) {
        match metering::charge(usage, &self.gateway.catalog.load()) {
            Ok(charge) => (charge.amount, charge.unpriced),
            // The pinned version was loaded when the call came, and versions only rise.
            Err(metering::NotYet { .. }) => (usage.hold, None),
        }
    }

    /// The scopes whose spend somebody wants to be told of; none where nobody does.
    #[must_use]
    pub fn watched_scopes(&self) -> Vec<Scope> {
        match self.gateway.alerts {
            Some(_) => self.scopes.clone(),
            None => Vec::new(),
        }
    }

    /// Tells the budgets. Answers the spend per scope, this call included.
    pub async fn finish(&self, closed: Closed) -> Vec<NanoUsd> {
        let (hold, now) = (self.usage.request_id, self.usage.event_time);
        alerts::finish(&self.gateway, hold, closed, now, &self.scopes).await
    }

    /// Closes and waits until that is durable: what every path to a client ends in.
    ///
    /// # Errors
    /// As [`Call::close`], and when the sync fails.
    pub async fn settle(&mut self, end: End, syncs: &Arc<Syncs>) -> Result<Settled, Error> {
        let closed = self.close(end)?;
        let spends = self.finish(closed).await;
        self.synced(closed, syncs).await?;
        Ok(Settled {
            amount: closed.amount,
            own: closed.own,
            spends,
        })
    }

    /// Resolves when the record is durable.
    pub fn synced(&self, closed: Closed, syncs: &Arc<Syncs>) -> Synced {
        Synced::new(syncs, self.gateway.journal.durable(closed.position))
    }

    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Place of the key's scope among the scopes.
    #[must_use]
    pub fn key_scope(&self) -> Option<usize> {
        self.scopes
            .iter()
            .position(|scope| scope.kind == ScopeKind::Key)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.drop_aside();
        let reading = match self.state {
            State::Closed => return,
            // Nothing was sent, so nothing was used.
            State::Admitted => Reading::default(),
            State::Dispatched => self
                .told
                .take()
                .unwrap_or_else(|| self.estimate(self.output_estimate)),
        };
        match self.close(End::cancelled(reading)) {
            Ok(closed) => {
                // Nobody waits for this record, and the lanes read only what is durable.
                self.gateway.journal.sync_soon(closed.position);
                let gateway = self.gateway.clone();
                let (hold, now) = (self.usage.request_id, self.usage.event_time);
                let scopes = std::mem::take(&mut self.scopes);
                self.gateway.detach(async move {
                    alerts::finish(&gateway, hold, closed, now, &scopes).await;
                });
            }
            Err(error) => {
                tracing::error!(request.id = %self.usage.request_id, "a cancelled call could not be recorded: {error}");
            }
        }
    }
}

/// `log_completion_tokens`: what a call has used, in a line of the log. Never what was said.
#[cold]
fn log_call(usage: &Usage, cost: NanoUsd) {
    tracing::info!(
        request.id = %usage.request_id,
        key.alias = usage.attribution.key_alias.as_deref(),
        model = %usage.model,
        provider = %usage.provider,
        outcome = usage.outcome.name(),
        status = usage.status,
        tokens.input = usage.meters.input_tokens(),
        tokens.output = usage.meters.output_tokens(),
        cost_usd = %cost,
        duration_ms = usage.duration_us / 1_000,
        "a call has ended"
    );
}

fn tokens(usage: &Usage) -> u64 {
    let tokens = usage
        .meters
        .input_tokens()
        .saturating_add(usage.meters.output_tokens());
    u64::try_from(tokens).unwrap_or(0)
}

/// The windows that a call was checked against, for its events.
#[must_use]
pub fn budget_refs(scopes: &[Scope]) -> Vec<BudgetRef> {
    scopes
        .iter()
        .map(|scope| BudgetRef {
            budget: scope.budget.clone(),
            window_start: scope.window.start,
            window_end: scope.window.end,
        })
        .collect()
}

/// One payer's events stay in one partition, in order.
fn partition(admitted: &Admitted, partitions: u16) -> Partition {
    // FNV-1a, 64 bit: fixed for ever, unlike the standard library's hasher.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    eat(admitted.attribution.org.0.as_bytes());
    if let Some(key) = &admitted.attribution.key {
        eat(&key.0);
    }
    // The low bits of FNV are its weakest.
    let folded = hash ^ (hash >> 32);
    Partition(u16::try_from(folded % u64::from(partitions.max(1))).unwrap_or(0))
}

fn micros(since: Instant) -> u64 {
    whole_micros(since.elapsed())
}

#[must_use]
pub fn whole_micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The later of a call's deadline and the time that its billing may take.
#[must_use]
pub fn hold_expires(now: Micros, deadline: Micros, hold: std::time::Duration) -> Micros {
    let seconds = i64::try_from(hold.as_secs()).unwrap_or(i64::MAX);
    now.plus_secs(seconds).max(deadline.plus_secs(60))
}
