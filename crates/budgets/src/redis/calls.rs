//! Calls: what a reservation and its end say to the server, and what becomes of them when it is silent.

use std::sync::atomic::Ordering;

use schemas::{Micros, NanoUsd, RequestId};

use super::book::{Known, Over, Where, places};
use super::link::Trouble;
use super::wire::{Answer, Arguments as _, Asked, optional};
use super::{
    CLOSED, Clock, GRANT, LATE_US, NO_HOLD, NO_MONEY, NO_RANGE, NO_RATE, REPEAT, STALE, Shared,
    micros,
};
use crate::limits::minute_end;
use crate::{Budgets as _, Granted, LimitType, Refusal, Reserve, Scope, ScopeState};

const HOLD_GONE: &str = "the call's hold is gone";

/// A reservation whose answer nobody waits for any more must not hold money.
struct Waits<'a> {
    shared: &'a Shared,
    hold: RequestId,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.shared.book.lock().doubt(self.hold) {
            self.shared.wake.notify_one();
        }
    }
}

impl Shared {
    pub(super) async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal> {
        let hard = request.scopes.iter().any(|scope| scope.limit.is_some());
        let (generation, new) = self.book.lock().ask(request.hold);
        let waits = Waits {
            shared: self,
            hold: request.hold,
        };
        if hard && generation.is_none() {
            self.book.lock().refuse(request.hold);
            return Err(self.unavailable("spend is not restored from the log yet"));
        }
        let (now, deadline) = match self.settings.clock {
            Clock::Caller => {
                *self.told_time.lock() = request.now;
                (Some(request.now), None)
            }
            Clock::Server => {
                let late = micros(self.settings.wait).saturating_add(LATE_US);
                let late = |now: Micros| Micros(now.0.saturating_add(late));
                (None, self.server_time().map(late))
            }
        };
        let asked = Asked {
            request,
            now,
            deadline,
            generation: generation.as_deref().unwrap_or(""),
            member: &self.member,
        };
        let mut command = self.function("reserve");
        asked.write(&mut command);
        let answer = self.link.call(&command, self.settings.wait).await;
        let answer = answer.and_then(|value| self.understand(request, Answer::of(value)?));
        let (answer, known) = match answer {
            Ok(answer) => answer,
            Err(trouble) => {
                drop(waits);
                return self.without_server(request, hard, &trouble).await;
            }
        };
        if let Some(known) = known {
            if !self.book.lock().grant(request.hold, known, hard) {
                self.wake.notify_one();
                return Err(self.unavailable("spend was lost meanwhile"));
            }
        } else if new {
            self.book.lock().refuse(request.hold);
        }
        answer
    }

    /// A call that was admitted by local bounds has no hard budget to be held against.
    pub(super) async fn raise(&self, request: &Reserve<'_>) -> Result<NanoUsd, Refusal> {
        if self.book.lock().is_local(request.hold) {
            return self.local.raise(request).await;
        }
        let Some((before, generation)) = self.book.lock().ask_more(request.hold) else {
            return Err(self.unavailable(HOLD_GONE));
        };
        let hard = request.scopes.iter().any(|scope| scope.limit.is_some());
        let amount = request.amount.max(NanoUsd::ZERO);
        let least = request.least.clamp(NanoUsd::ZERO, amount);
        let mut command = self.function("raise");
        command.hold(request.hold).number(before.0);
        command.number(amount.0).number(least.0);
        command.text(generation.as_deref().unwrap_or(""));
        for scope in request.scopes {
            optional(&mut command, scope.limit.map(|limit| limit.0));
        }
        let answer = self.link.call(&command, self.settings.wait).await;
        let answer = answer.and_then(|value| self.understand_raise(request, &Answer::of(value)?));
        match answer {
            Ok(added) => {
                let added = added?;
                let counts = self
                    .book
                    .lock()
                    .raise(request.hold, added, generation.as_ref());
                if hard && !counts {
                    return Err(self.unavailable("spend was lost meanwhile"));
                }
                Ok(added)
            }
            Err(_) if !hard => Ok(amount),
            Err(trouble) => Err(self.unavailable(why(&trouble))),
        }
    }

    fn understand_raise(
        &self,
        request: &Reserve<'_>,
        answer: &Answer,
    ) -> Result<Result<NanoUsd, Refusal>, Trouble> {
        Ok(match answer.kind() {
            GRANT | REPEAT => Ok(answer.money(2)?),
            NO_MONEY => Err(no_money(answer, scope_at(answer, request)?, request)?),
            CLOSED => Err(self.closed(answer)),
            NO_HOLD => Err(self.unavailable(HOLD_GONE)),
            _ => Err(self.unavailable("a spend counter is at the end of its range")),
        })
    }

    async fn without_server(
        &self,
        request: &Reserve<'_>,
        hard: bool,
        trouble: &Trouble,
    ) -> Result<Granted, Refusal> {
        if hard {
            return Err(self.unavailable(why(trouble)));
        }
        let granted = self.local.reserve(request).await?;
        self.book.lock().admit_locally(request.hold);
        self.counters
            .admitted_locally
            .fetch_add(1, Ordering::Relaxed);
        Ok(granted)
    }

    /// What `reserve` answered, and what of it to remember.
    fn understand(
        &self,
        request: &Reserve<'_>,
        answer: Answer,
    ) -> Result<(Result<Granted, Refusal>, Option<Known>), Trouble> {
        let kind = answer.kind();
        if kind == GRANT || kind == REPEAT {
            let amount = answer.money(3)?;
            let added = if kind == GRANT { amount } else { NanoUsd::ZERO };
            let state = |(at, scope): (usize, &Scope)| state_of(&answer, 4 + 6 * at, scope, added);
            let scopes = request.scopes.iter().enumerate().map(state);
            let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
            let minutes = (0..request.scopes.len()).map(|at| answer.number(9 + 6 * at));
            let known = Known {
                amount,
                tokens: request.tokens,
                expires: answer.instant(2)?,
                places: places(request.scopes, minutes),
                over: None,
            };
            return Ok((Ok(Granted { amount, scopes }), Some(known)));
        }
        let refusal = match kind {
            NO_MONEY | NO_RATE => {
                let scope = scope_at(&answer, request)?;
                if kind == NO_MONEY {
                    no_money(&answer, scope, request)?
                } else {
                    no_rate(&answer, scope)?
                }
            }
            STALE => Refusal::Stale {
                now: answer.instant(1)?,
            },
            CLOSED if request.scopes.iter().all(|scope| scope.limit.is_none()) => {
                return Err(Trouble::Refused("the state is made anew".to_owned()));
            }
            CLOSED => self.closed(&answer),
            NO_RANGE => self.unavailable("a spend counter is at the end of its range"),
            _ => self.unavailable("redis came to it too late"),
        };
        Ok((Err(refusal), None))
    }

    /// The state is not as it was thought to be.
    fn closed(&self, answer: &Answer) -> Refusal {
        let mut view = self.view.lock();
        view.phase = answer.number(2).unwrap_or(0);
        view.told = false;
        drop(view);
        self.wake.notify_one();
        self.unavailable("spend is not restored from the log yet")
    }

    pub(super) async fn finish(&self, hold: RequestId, over: Over, now: Micros) -> Vec<NanoUsd> {
        let place = self.book.lock().finish(hold, over);
        if place == Where::Local {
            self.local
                .finish(hold, over.actual, over.tokens, now, None)
                .await;
            // What this process alone counted is not the spend.
            return Vec::new();
        }
        let Ok(answer) = self.tell_end(hold, &over).await else {
            return Vec::new();
        };
        if answer.number(1) == Some(1) && answer.kind() == 1 {
            self.counters.cost_over_hold.fetch_add(1, Ordering::Relaxed);
        }
        if answer.kind() != 1 {
            return Vec::new();
        }
        let spend = |at: usize| {
            Some(NanoUsd(answer.number(at)?).saturating_add(NanoUsd(answer.number(at + 1)?)))
        };
        (2..answer.0.len()).step_by(2).filter_map(spend).collect()
    }
}

const fn why(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Away => "redis does not answer",
        Trouble::Refused(_) => "redis refused the call",
    }
}

/// The scope that a refusal is about.
fn scope_at<'a>(answer: &Answer, request: &Reserve<'a>) -> Result<&'a Scope, Trouble> {
    let place = answer.number(2).and_then(|at| usize::try_from(at - 1).ok());
    let scope = place.and_then(|place| request.scopes.get(place));
    scope.ok_or_else(Answer::odd)
}

/// One scope after a reservation that added so much to what is held.
fn state_of(
    answer: &Answer,
    at: usize,
    scope: &Scope,
    added: NanoUsd,
) -> Result<ScopeState, Trouble> {
    let (used, held, finished) = (
        answer.money(at)?,
        answer.money(at + 1)?,
        answer.money(at + 2)?,
    );
    let left = |limit: NanoUsd| {
        limit
            .saturating_sub(used)
            .saturating_sub(held.saturating_add(added))
    };
    let rate = |limit: Option<u64>, at| {
        let taken = answer.count(at)?;
        limit.map(|limit| limit.saturating_sub(taken))
    };
    let minute = answer.number(at + 5);
    Ok(ScopeState {
        spend: used.saturating_add(finished),
        left: scope.limit.map(left),
        rpm_left: rate(scope.rpm, at + 3),
        tpm_left: rate(scope.tpm, at + 4),
        rate_resets_at: minute.map_or(Micros(i64::MAX), minute_end),
    })
}

fn no_money(answer: &Answer, scope: &Scope, request: &Reserve<'_>) -> Result<Refusal, Trouble> {
    let (used, held, finished) = (answer.money(3)?, answer.money(4)?, answer.money(5)?);
    let most = request.amount.max(NanoUsd::ZERO);
    Ok(Refusal::Budget {
        kind: scope.kind,
        id: scope.id.clone(),
        used: used.saturating_add(finished),
        held: held.saturating_sub(finished),
        limit: scope.limit.ok_or_else(Answer::odd)?,
        needed: request.least.clamp(NanoUsd::ZERO, most),
        resets_at: scope.window.end,
        by_holds: answer.number(6) == Some(1),
    })
}

fn no_rate(answer: &Answer, scope: &Scope) -> Result<Refusal, Trouble> {
    let (limit_type, limit) = match answer.number(3) {
        Some(1) => (LimitType::Requests, scope.rpm),
        Some(2) => (LimitType::Tokens, scope.tpm),
        _ => (LimitType::MaxParallelRequests, scope.parallel),
    };
    let limit = limit.ok_or_else(Answer::odd)?;
    let taken = answer.count(4).ok_or_else(Answer::odd)?;
    let resets_at = match limit_type {
        // Slots have no schedule.
        LimitType::MaxParallelRequests => answer.instant(1)?.plus_secs(1),
        _ => minute_end(answer.number(5).ok_or_else(Answer::odd)?),
    };
    Ok(Refusal::Rate {
        kind: scope.kind,
        id: scope.id.clone(),
        limit_type,
        limit,
        remaining: limit.saturating_sub(taken),
        resets_at,
    })
}
