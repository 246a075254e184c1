//! Hedged requests, where the file asks for them: an attempt whose answer has not begun by a given time is joined
//! by one at another deployment of the same name, and the first answer is used.
//!
//! Both may charge, so both are billed, and **the second one goes out only when the call's hold covers both at
//! their worst**. It counts against the request's one budget of attempts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use routing::{Flight, Step};

use crate::exchange::Exchange;
use crate::failover::{Failed, Room};
use crate::models::{Served, Target};
use crate::plan::Event;
use crate::providers::openai;
use crate::record::{End, Onward};
use crate::request::ModelRequest;
use crate::upstream::{Answer, UpstreamError};
use crate::{admit, params};

/// The attempt that is not the present one.
pub struct Aside {
    served: Arc<Served>,
    cap: Option<u64>,
    dispatched: Instant,
    going: Option<Flight>,
    room: Option<Box<Room>>,
}

/// Until an answer has begun. The error says whether it had.
type Begin = Pin<Box<dyn Future<Output = Result<Answer, (UpstreamError, bool)>> + Send>>;

impl Exchange {
    /// Sends the present attempt, and another one beside it once it has taken longer than `after`. Answers with
    /// the first that begins well, which is the present attempt then.
    ///
    /// # Errors
    /// Both failed: the failure of the one that is the present attempt.
    pub async fn hedged(
        &mut self,
        request: &ModelRequest,
        target: Target,
        after: Duration,
    ) -> Result<Answer, Box<Failed>> {
        let mut first = self.begin(request, target);
        if let Ok(ended) = tokio::time::timeout(after, &mut first).await {
            return ended.map_err(|(source, begun)| self.lost(source, begun));
        }
        let Some(mut second) = self.send_beside(request).await else {
            let ended = first.await;
            return ended.map_err(|(source, begun)| self.lost(source, begun));
        };
        let (ended, left) = tokio::select! {
            ended = &mut first => {
                self.swap();
                (ended, second)
            }
            ended = &mut second => (ended, first),
        };
        // A stream that begins with an error is no answer, whatever its status says.
        let error = |answer: &Answer| openai::first_error(answer.peeked());
        match ended {
            Ok(answer) if answer.status.is_success() && error(&answer).is_none() => {
                drop(left);
                self.give_up_aside()?;
                Ok(answer)
            }
            failed => {
                let failed = match failed {
                    Ok(mut answer) => match error(&answer) {
                        Some(error) => Failed::provider(self, error),
                        None => crate::relay::refusal(self, &mut answer).await,
                    },
                    Err((source, begun)) => self.lost(source, begun),
                };
                self.lose(*failed)?;
                let ended = left.await;
                ended.map_err(|(source, begun)| self.lost(source, begun))
            }
        }
    }

    /// The present attempt goes out.
    fn begin(&mut self, request: &ModelRequest, target: Target) -> Begin {
        let body = openai::body(request, &self.served, self.cap);
        let deadline = self.go_out(request);
        let (worker, served) = (self.worker.clone(), self.served.clone());
        let (sent, streamed) = (self.dispatched, request.stream);
        Box::pin(async move {
            let upstream = &worker.upstream;
            let deployment = &served.deployment;
            let answer = upstream.call(&target, deployment, body, sent.into(), deadline.into());
            let mut answer = answer.await.map_err(|source| (source, false))?;
            // A plain answer has begun with its head: providers send it when they are done.
            if streamed && answer.status.is_success() {
                let until = deployment.first_byte_by(sent);
                answer
                    .peek(until, true)
                    .await
                    .map_err(|source| (source, true))?;
            }
            Ok(answer)
        })
    }

    /// Another attempt beside the present one, and the present one from now on. None where no deployment, no
    /// attempt or no room is left.
    async fn send_beside(&mut self, request: &ModelRequest) -> Option<Begin> {
        let gateway = self.call.gateway().clone();
        let Step::Try(next) = self.plan.step(&gateway, &Event::Slow) else {
            return None;
        };
        let served = next.group.members().get(next.at)?.served.clone();
        let Some((target, room, again)) = self.prepare(request, &served).await else {
            self.plan.attempts_mut().unhedge();
            return None;
        };
        tracing::info!(
            request.id = %self.call.usage().request_id,
            deployment = %self.served.deployment.id,
            other = %served.deployment.id,
            attempt = next.number,
            "an answer is slow to begin, and another deployment is asked as well"
        );
        self.call.beside(&Onward {
            attempt_no: next.number,
            why: "hedge",
            after: Duration::ZERO,
            provider: &served.deployment.provider,
            model: &served.priced_as,
            deployment: &served.deployment.id,
            input_bound: again.input_bound,
            output_cap: again.output_cap,
        });
        self.aside = Some(Box::new(Aside {
            served: std::mem::replace(&mut self.served, served),
            cap: std::mem::replace(&mut self.cap, again.cap),
            dispatched: self.dispatched,
            going: self.going.take(),
            room: std::mem::replace(&mut self.room, room),
        }));
        self.plan.attempts_mut().swap();
        Some(self.begin(request, target))
    }

    /// Address, room in the deployment's own limits, and a hold that covers it beside the present attempt.
    async fn prepare(
        &mut self,
        request: &ModelRequest,
        served: &Arc<Served>,
    ) -> Option<(Target, Option<Box<Room>>, admit::Again)> {
        if served.deployment.entry.mock.is_some() {
            return None;
        }
        let target = served.target(self.endpoint, request.form.as_ref()).ok()??;
        params::check(request, served).ok()?;
        let room = match served.deployment.limits.clone() {
            None => None,
            Some(scope) => Some(self.take_room(scope).await.ok()?),
        };
        // All that is held is the present attempt's.
        let held = self.call.room();
        let ceiling = self.plan.config().budgets.unpriced_ceiling;
        let again = admit::again(&mut self.call, request, served, held, ceiling).await;
        let again = again.ok()?;
        if again.raised {
            self.call.held_more().ok()?;
        }
        Some((target.into_owned(), room, again))
    }

    /// The attempt aside is the present one, and the other way round.
    fn swap(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        std::mem::swap(&mut aside.served, &mut self.served);
        std::mem::swap(&mut aside.cap, &mut self.cap);
        std::mem::swap(&mut aside.dispatched, &mut self.dispatched);
        std::mem::swap(&mut aside.going, &mut self.going);
        std::mem::swap(&mut aside.room, &mut self.room);
        self.call.swap();
        self.plan.attempts_mut().swap();
    }

    /// The present attempt has an answer: the other one is not waited for.
    fn give_up_aside(&mut self) -> Result<(), Box<Failed>> {
        self.swap();
        let (reading, took) = (self.call.estimate(0), self.dispatched.elapsed());
        self.swap();
        self.aside = None;
        let now = self.call.gateway().moment();
        self.plan.attempts_mut().aside_over(None, took, now);
        let recorded = self.call.aside_over(Some(End::cancelled(reading)));
        recorded.map_err(Failed::over)
    }

    /// The present attempt has failed: the other one, still on its way, is the present one.
    fn lose(&mut self, failed: Failed) -> Result<(), Box<Failed>> {
        let (error, reading) = (failed.error, failed.reading);
        let took = self.dispatched.elapsed();
        if let Some(failure) = &failed.failure {
            self.count_failure(failure.kind, error.status().as_u16());
        }
        self.swap();
        let room = self.aside.take().and_then(|aside| aside.room);
        if let Some(mut room) = room
            && reading.meters.0.is_empty()
        {
            // As with any attempt that failed without an answer.
            room.tokens = 0;
        }
        let now = self.call.gateway().moment();
        let attempts = self.plan.attempts_mut();
        attempts.aside_over(failed.failure.as_ref(), took, now);
        let end = (!reading.meters.0.is_empty()).then(|| End::failed(&error, reading));
        self.call.aside_over(end).map_err(Failed::over)
    }
}
