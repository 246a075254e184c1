//! What follows an attempt that failed before its answer reached the client: another one, or the end.
//!
//! Each attempt that may have cost is a usage record of its own. **Nothing goes out that the call's hold does
//! not cover**: before another attempt the hold is raised by what earlier ones have cost.

use std::sync::Arc;
use std::time::Duration;

use budgets::{Refusal, Reserve, Scope};
use config::FailureKind;
use http::HeaderValue;
use routing::{Failure, Step, Try};
use schemas::{Micros, NanoUsd, RequestId};

use crate::error::ProviderError;
use crate::exchange::Exchange;
use crate::models::Served;
use crate::plan::Event;
use crate::record::{End, Onward};
use crate::request::ModelRequest;
use crate::upstream::UpstreamError;
use crate::usage::Reading;
use crate::{Error, Gateway, admit, clock};

/// An attempt without an answer.
pub struct Failed {
    pub error: Error,
    /// What is billed for it.
    pub reading: Reading,
    /// None where nothing may follow: the call is closed already.
    pub failure: Option<Failure>,
}

impl Failed {
    pub fn new(error: Error, failure: Failure, reading: Reading) -> Box<Self> {
        Box::new(Self {
            error,
            reading,
            failure: Some(failure),
        })
    }

    /// A provider that did not answer.
    pub fn upstream(exchange: &Exchange, source: UpstreamError, reading: Reading) -> Box<Self> {
        let failure = Failure::of(source.failure());
        Self::new(source.into_error(exchange), failure, reading)
    }

    /// A provider that answered with an error: nothing was produced, so nothing is billed.
    pub fn provider(exchange: &Exchange, mut error: ProviderError) -> Box<Self> {
        let failure = failure_of(&error);
        // Some repeat the key that they refuse. Short ones are words: they stand in many messages.
        let key = exchange.served.deployment.entry.api_key.as_ref();
        let key = key.map(config::Secret::expose).filter(|key| key.len() >= 8);
        if let Some(key) = key.filter(|key| error.message.contains(*key)) {
            error.message = error.message.replace(key, "[redacted]");
        }
        Self::new(
            Error::Provider(Box::new(error)),
            failure,
            Reading::default(),
        )
    }

    /// The call is over, and this is what the client is told.
    pub fn over(error: Error) -> Box<Self> {
        Box::new(Self {
            error,
            reading: Reading::default(),
            failure: None,
        })
    }
}

/// A deployment's own limits, taken by one attempt; given back when dropped, all but what a minute counts.
pub struct Room {
    gateway: Arc<Gateway>,
    hold: RequestId,
    pub tokens: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        let budgets = self.gateway.budgets.clone();
        let (hold, tokens) = (self.hold, self.tokens);
        self.gateway.detach(async move {
            budgets
                .finish(hold, NanoUsd::ZERO, tokens, clock::now(), None)
                .await;
        });
    }
}

impl Exchange {
    /// Takes room in the chosen deployment's own limits, or turns to one that has room.
    ///
    /// # Errors
    /// None has: the call is closed, and the client is told of the limit that ends first.
    pub async fn make_room(&mut self, request: &ModelRequest) -> Result<(), Error> {
        let mut first = None;
        while self.room.is_none()
            && let Some(scope) = self.served.deployment.limits.clone()
        {
            let gateway = self.call.gateway().clone();
            let refusal = match self.take_room(scope).await {
                Ok(room) => {
                    self.room = Some(room);
                    return Ok(());
                }
                Err(refusal) => refusal,
            };
            let sooner = |first: &Refusal| ends(&refusal) < ends(first);
            let told = match first.take() {
                Some(first) if !sooner(&first) => first,
                _ => refusal,
            };
            match self.plan.step(&gateway, &Event::Full) {
                Step::GiveUp(_) => {
                    return Err(self.end(told.into(), Reading::default()).await);
                }
                Step::Try(next) => {
                    first = Some(told);
                    if let Err(error) = self.turn_to(&next, request, None).await {
                        return Err(self.end(error, Reading::default()).await);
                    }
                }
            }
        }
        Ok(())
    }

    /// Room in a deployment's own limits.
    ///
    /// # Errors
    /// There is none.
    pub async fn take_room(&self, scope: Scope) -> Result<Box<Room>, Refusal> {
        let gateway = self.call.gateway().clone();
        let now = gateway.budgets.clock(clock::now());
        let hold = admit::fresh_id(now);
        let tokens = self.call.expected_tokens();
        let lasts = self.deadline.saturating_duration_since(self.dispatched);
        let reserve = Reserve {
            hold,
            amount: NanoUsd::ZERO,
            least: NanoUsd::ZERO,
            tokens,
            scopes: &[scope],
            now,
            expires: now.plus_secs(60 + i64::try_from(lasts.as_secs()).unwrap_or(3_600)),
        };
        gateway.budgets.reserve(&reserve).await?;
        Ok(Box::new(Room {
            gateway,
            hold,
            tokens,
        }))
    }

    /// Another attempt, or the end of the call.
    ///
    /// # Errors
    /// Nothing follows: what the client is told.
    pub async fn fail_over(
        &mut self,
        failed: Box<Failed>,
        request: &ModelRequest,
    ) -> Result<(), Error> {
        let Failed {
            error,
            reading,
            failure,
        } = *failed;
        self.going = None;
        if let Some(mut room) = self.room.take()
            && reading.meters.0.is_empty()
        {
            // Nothing was produced, so nothing of its tokens a minute is gone.
            room.tokens = 0;
        }
        let Some(failure) = failure else {
            return Err(error);
        };
        self.count_failure(failure.kind, error.status().as_u16());
        let gateway = self.call.gateway().clone();
        let took = self.dispatched.elapsed();
        let next = match self.plan.step(&gateway, &Event::Failed(&failure, took)) {
            Step::GiveUp(_) => return Err(self.end(error, reading).await),
            Step::Try(next) => next,
        };
        tracing::info!(
            request.id = %self.call.usage().request_id,
            deployment = %self.served.deployment.id,
            attempt = next.number,
            wait_ms = u64::try_from(next.after.as_millis()).unwrap_or(u64::MAX),
            error.code = failure.kind.name(),
            "an attempt failed, and another follows: {error}"
        );
        match self.turn_to(&next, request, Some((&error, &reading))).await {
            Ok(()) => {}
            // No room for another in a budget: the answer is the failure that there was.
            Err(Error::Refused(_) | Error::Unpriced { .. }) => {
                return Err(self.end(error, reading).await);
            }
            Err(unrecorded) => return Err(unrecorded),
        }
        if next.after > Duration::ZERO {
            tokio::time::sleep(next.after).await;
        }
        Ok(())
    }

    /// Makes the call one at another deployment. `before` is the attempt that ends with it.
    async fn turn_to(
        &mut self,
        next: &Try<Arc<Served>>,
        request: &ModelRequest,
        before: Option<(&Error, &Reading)>,
    ) -> Result<(), Error> {
        let member = next.group.members().get(next.at);
        let Some(served) = member.map(|member| member.served.clone()) else {
            return Err(Error::internal("a deployment that is not there was chosen"));
        };
        let spent = before.map_or(NanoUsd::ZERO, |(_, reading)| self.call.would_cost(reading));
        let ceiling = self.plan.config().budgets.unpriced_ceiling;
        let again = admit::again(&mut self.call, request, &served, spent, ceiling).await?;
        if let Some((error, reading)) = before
            && (again.raised || !reading.meters.0.is_empty())
        {
            self.call
                .attempt_over(End::failed(error, reading.clone()))?;
        }
        let fallbacks = self.plan.attempts().fallbacks();
        let why = match next.number {
            _ if fallbacks > self.fallbacks => "fallback",
            // The one before it had no room, so nothing was tried.
            1 => "first",
            _ => "retry",
        };
        self.fallbacks = fallbacks;
        self.call.onward(&Onward {
            attempt_no: next.number,
            why,
            after: next.after,
            provider: &served.deployment.provider,
            model: &served.priced_as,
            deployment: &served.deployment.id,
            input_bound: again.input_bound,
            output_cap: again.output_cap,
        });
        self.cap = again.cap;
        self.served = served;
        Ok(())
    }
}

/// When it is worth another try.
const fn ends(refusal: &Refusal) -> Micros {
    match refusal {
        Refusal::Budget { resets_at, .. } | Refusal::Rate { resets_at, .. } => *resets_at,
        Refusal::Stale { now } => *now,
        Refusal::Unavailable { .. } => Micros(i64::MAX),
    }
}

/// As routing sees a provider's error. Not all of them have codes for what is the prompt's own fault.
pub(crate) fn failure_of(error: &ProviderError) -> Failure {
    let code = error.code.as_deref().or(error.kind.as_deref());
    let wait = error.retry_after.as_ref().and_then(seconds);
    let failure = Failure::of_status(error.status.as_u16(), code.unwrap_or_default(), wait);
    if failure.kind != FailureKind::BadRequest {
        return failure;
    }
    let message = error.message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let kind = if says(&[
        "maximum context length",
        "context window",
        "context length",
        "prompt is too long",
        "too many tokens",
        "input is too long",
    ]) {
        FailureKind::ContextWindow
    } else if says(&[
        "content policy",
        "content management policy",
        "content_filter",
    ]) {
        FailureKind::ContentPolicy
    } else {
        FailureKind::BadRequest
    };
    Failure { kind, ..failure }
}

/// `retry-after`: seconds, or a date.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = at.as_microsecond().saturating_sub(clock::now().0);
    Some(Duration::from_micros(u64::try_from(left).unwrap_or(0)))
}
