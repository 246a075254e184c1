//! An admitted call on its way: the cache asked, attempts sent, an answer taken or not, what is told about it.
//! Every one ends through its [`Call`], which writes the last record.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use config::FailureKind;
use http_body::Frame;
use http_body_util::StreamBody;
use routing::{Failure, Flight, Took};
use schemas::Outcome;

use crate::call::{InFlight, said};
use crate::endpoint::Endpoint;
use crate::failover::{Failed, Room};
use crate::headers::{self, Lines, Timing};
use crate::hedge::Aside;
use crate::models::{Served, Shown, Target};
use crate::plan::Plan;
use crate::providers::{demo, openai};
use crate::record::{Call, Closed, End, Settled, whole_micros};
use crate::reply::{Content, Reply};
use crate::request::{ModelRequest, Units};
use crate::semantic_cache::{Complete, Found, Hit, Lookup, Ticket};
use crate::synced::Synced;
use crate::upstream::{Answer, Fields, UpstreamError};
use crate::usage::Reading;
use crate::{Error, Worker, params, relay, stream};

/// An admitted call with its way.
pub struct Ready {
    pub call: Call,
    pub cap: Option<u64>,
    pub plan: Plan,
    pub served: Arc<Served>,
}

/// An attempt whose answer may go to the client.
pub enum Attempted {
    Whole(Reply),
    /// Its first bytes are there.
    Stream(Answer),
}

/// How a call without an answer ended.
#[derive(Default)]
pub struct Refused {
    pub said: Fields,
    pub settled: Option<Settled>,
}

/// An admitted call on its way.
pub struct Exchange {
    pub worker: Arc<Worker>,
    pub endpoint: Endpoint,
    /// What was asked for that is not counted in tokens.
    pub units: Units,
    /// Seconds of speech that were sent, at a guess.
    pub speech_estimate: u64,
    pub call: Call,
    pub plan: Plan,
    pub served: Arc<Served>,
    pub cap: Option<u64>,
    /// What the cache said, where one is asked.
    pub cache: Option<Cow<'static, str>>,
    /// Where the answer may be stored.
    pub ticket: Option<Ticket>,
    /// The whole call ends by then, however many attempts it takes.
    pub deadline: Instant,
    /// How long it may take.
    pub timeout: Duration,
    /// The first choice was made.
    pub routed: Instant,
    pub dispatched: Instant,
    /// What the last provider that refused said in its header, and what the call cost all the same.
    pub refusal: Option<Box<Refused>>,
    /// Other names that were tried so far.
    pub fallbacks: u32,
    /// The deployment is busy with it.
    pub going: Option<Flight>,
    /// Taken in the deployment's own limits.
    pub room: Option<Box<Room>>,
    /// Another attempt, on its way at the same time.
    pub aside: Option<Box<Aside>>,
    pub _flight: InFlight,
}

impl Exchange {
    /// `times`: when the call came, when its way was chosen, and how long it may take.
    pub fn of(
        worker: &Arc<Worker>,
        request: &ModelRequest,
        ready: Ready,
        times: (Instant, Instant, Duration),
        flight: InFlight,
    ) -> Self {
        let (started, routed, timeout) = times;
        Self {
            worker: worker.clone(),
            endpoint: request.endpoint,
            units: request.units,
            speech_estimate: request.speech_estimate(),
            call: ready.call,
            plan: ready.plan,
            served: ready.served,
            cap: ready.cap,
            cache: None,
            ticket: None,
            timeout,
            deadline: started + timeout,
            routed,
            dispatched: started,
            refusal: None,
            fallbacks: 0,
            going: None,
            room: None,
            aside: None,
            _flight: flight,
        }
    }

    pub async fn look_up(&mut self, request: &ModelRequest) -> Option<Found> {
        // What was made up is nobody else's answer.
        if self.endpoint != Endpoint::Chat || request.mock.is_some() {
            return None;
        }
        let gateway = self.worker.gateway.clone();
        let cache = gateway.cache.as_ref()?;
        let controls = request
            .cache_at
            .clone()
            .and_then(|at| std::str::from_utf8(&request.body[at]).ok());
        let lookup = Lookup {
            attribution: &self.call.usage().attribution,
            model: &request.model,
            body: &request.body,
            controls,
            stream: request.stream,
            include_usage: request.include_usage
                || self.plan.config().server.always_include_stream_usage,
        };
        let began = Instant::now();
        // It may wait for an identical call that is on its way: never longer than this one may take.
        let found = tokio::time::timeout_at(self.deadline.into(), cache.lookup(lookup)).await;
        let found = found.unwrap_or(Found::Bypass("deadline"));
        let stages = self.call.stages();
        stages.admit_us = whole_micros(began.saturating_duration_since(self.routed));
        stages.cache_us = whole_micros(began.elapsed());
        Some(found)
    }

    /// Its time is over before anything was sent.
    pub async fn too_late(&mut self) -> Reply {
        let error = Error::TooLate(self.timeout);
        let error = self.end(error, Reading::default()).await;
        self.refuse(error)
    }

    /// One attempt, up to an answer that the client may see.
    pub async fn attempt(&mut self, request: &ModelRequest) -> Result<Attempted, Box<Failed>> {
        let served = self.served.clone();
        let target = match served.target(self.endpoint, request.form.as_ref()) {
            Ok(target) => target,
            // Refused by us: nothing was sent, and nothing else would be.
            Err(error) => {
                let failure = Failure::of(FailureKind::BadRequest);
                return Err(Failed::new(error, failure, Reading::default()));
            }
        };
        // The first one was looked at before it was admitted.
        if self.call.usage().attempt_no > 1
            && let Err(error) = params::check(request, &served)
        {
            let failure = Failure::of(FailureKind::BadRequest);
            return Err(Failed::new(error, failure, Reading::default()));
        }
        let slow = self.plan.attempts().rules().0.hedge_after;
        let mocked = request.mock.is_some() || served.deployment.entry.mock.is_some();
        let mut answer = match (slow, target) {
            // Rare: its room is not taken from calls that need none of it.
            (Some(after), Some(target)) if !mocked => {
                Box::pin(self.hedged(request, target.into_owned(), after)).await?
            }
            (_, target) => match self.dispatch(request, target).await {
                Ok(answer) => answer,
                Err(source) => return Err(self.lost(source, false)),
            },
        };
        if let Some(took) = answer.connected {
            self.call.stages().connect_us = Some(whole_micros(took));
        }
        if !answer.status.is_success() {
            return Err(Box::pin(relay::refusal(self, &mut answer)).await);
        }
        // Sound that comes as sound, whatever was asked for, is as good.
        let whole = self.endpoint == Endpoint::Speech && !is_event_stream(&answer.fields);
        if !request.stream || whole {
            return relay::plain(self, &mut answer).await.map(Attempted::Whole);
        }
        if !is_event_stream(&answer.fields) {
            return Err(Box::pin(relay::no_stream(self, &mut answer)).await);
        }
        let until = served.deployment.first_byte_by(self.dispatched);
        // Where a first token is waited for only so long, a keep-alive is none.
        let begun = answer.peek(until, until.is_some()).await;
        match begun.map(openai::first_error) {
            Ok(None) => Ok(Attempted::Stream(answer)),
            Ok(Some(error)) => Err(Failed::provider(self, error)),
            Err(source) => Err(self.lost(source, true)),
        }
    }

    /// No answer came, or it broke off after it had `begun`: then the provider charges.
    pub fn lost(&self, source: UpstreamError, begun: bool) -> Box<Failed> {
        let reading = if begun || source.may_cost() {
            self.call.estimate(0)
        } else {
            Reading::default()
        };
        Failed::upstream(self, source, reading)
    }

    async fn dispatch(
        &mut self,
        request: &ModelRequest,
        target: Option<Cow<'_, Target>>,
    ) -> Result<Answer, UpstreamError> {
        let body = openai::body(request, &self.served, self.cap);
        let deadline = self.go_out(request);
        let deployment = &self.served.deployment;
        if let Some(text) = request.mock.as_ref().or(deployment.entry.mock.as_ref()) {
            return Ok(demo::mocked(&body, text, deadline.into()));
        }
        match target {
            None => Ok(demo::answer(&body, deadline.into())),
            Some(target) => {
                self.worker
                    .upstream
                    .call(
                        &target,
                        deployment,
                        body,
                        self.dispatched.into(),
                        deadline.into(),
                    )
                    .await
            }
        }
    }

    /// The request goes out now. Answers when its answer must be whole.
    pub fn go_out(&mut self, request: &ModelRequest) -> Instant {
        let deployment = &self.served.deployment;
        let gateway = &self.worker.gateway;
        deployment.metrics.requests.fetch_add(1, Relaxed);
        self.dispatched = Instant::now();
        self.going = Some(deployment.state.begin(gateway.moment_of(self.dispatched)));
        if self.call.usage().attempt_no == 1 {
            let overhead = self.dispatched - self.call.started();
            gateway.metrics.overhead.observe(overhead);
            let since = whole_micros(self.dispatched.saturating_duration_since(self.routed));
            let stages = self.call.stages();
            stages.admit_us = since.saturating_sub(stages.cache_us);
        }
        let timeouts = &deployment.entry.timeouts;
        let own = if request.stream {
            timeouts.total_stream
        } else {
            timeouts.total
        };
        let deadline = self.deadline.min(self.dispatched + own);
        self.call.dispatched(self.dispatched);
        tracing::debug!(
            request.id = %self.call.usage().request_id,
            deployment = %deployment.id,
            model = %self.served.upstream_model,
            "a call goes out"
        );
        deadline
    }

    /// Closes the call and waits until that is durable.
    ///
    /// # Errors
    /// The journal failed: the client must not get the answer.
    pub async fn settle(&mut self, end: End) -> Result<Settled, Error> {
        self.call.settle(end, &self.worker.syncs).await
    }

    /// Resolves when the record of a closed call is durable.
    pub fn synced(&self, closed: Closed) -> Synced {
        self.call.synced(closed, &self.worker.syncs)
    }

    /// Ends the call without an answer. What it returns is what the client is told.
    pub async fn end(&mut self, error: Error, reading: Reading) -> Error {
        if self.fallbacks > 0 {
            let failed = &self.served.deployment.metrics.failed_fallbacks;
            failed.fetch_add(1, Relaxed);
        }
        if let Some(alerts) = &self.worker.gateway.alerts {
            let asked = &self.call.usage().model_requested;
            alerts.failed(asked, &self.served.deployment.id, &error);
        }
        match self.settle(End::failed(&error, reading)).await {
            Ok(settled) => {
                self.refusal.get_or_insert_default().settled = Some(settled);
                error
            }
            Err(unrecorded) => unrecorded,
        }
    }

    /// A provider has refused; what it says of itself is passed on, should no other answer.
    pub fn heard(&mut self, said: Fields) {
        self.refusal.get_or_insert_default().said = said;
    }

    /// What the client is told of a call that ended without an answer.
    pub fn refuse(&self, error: Error) -> Reply {
        let mut reply = said(&self.worker.gateway, error);
        let empty = Refused::default();
        let Refused { said, settled } = self.refusal.as_deref().unwrap_or(&empty);
        headers::failed(&mut reply.head, self, settled.as_ref(), said);
        reply
    }

    pub async fn answer_from_cache(&mut self, hit: Hit, streamed: bool) -> Result<Reply, Error> {
        let mut reading = Reading::estimate(hit.input_tokens, hit.output_tokens);
        reading.estimated = false;
        let found = (hit.kind, hit.similarity);
        let end = End {
            outcome: Outcome::CacheHit,
            hit: Some((hit.kind, hit.similarity, hit.cost)),
            ..End::ok(reading, Some("stop".into()), None)
        };
        let settled = self.settle(end).await?;
        let kind = if streamed {
            "text/event-stream; charset=utf-8"
        } else {
            "application/json"
        };
        let mut head = Lines::new();
        headers::cached(&mut head, self, found, &hit.key);
        headers::cost(&mut head, &self.call, &settled);
        headers::content_type(&mut head, kind);
        let mut frames = hit.chunks;
        if streamed && self.plan.config().server.cost_in_stream_usage {
            for frame in &mut frames {
                *frame = stream::priced(frame, settled.amount);
            }
        }
        Ok(Reply::ok(head, chunks(frames)))
    }

    /// Stores a complete answer, off the client's way.
    pub fn remember(&mut self, complete: Complete) {
        if let (Some(ticket), Some(cache)) = (self.ticket.take(), self.worker.gateway.cache.clone())
        {
            self.worker
                .gateway
                .detach(async move { cache.store(ticket, complete).await });
        }
    }

    /// The head of an answer that a provider gave.
    pub fn head(&self, upstream: &Fields, timing: Timing, more: impl FnOnce(&mut Lines)) -> Lines {
        let mut head = Lines::new();
        headers::answered(&mut head, self, upstream, timing);
        headers::output_cap(&mut head, self.cap);
        headers::not_cached(&mut head, self.cache.as_deref());
        more(&mut head);
        headers::provider(&mut head, upstream);
        head
    }

    /// The name that was asked for.
    pub fn asked(&self) -> &Shown {
        let asked = self.plan.attempts().asked();
        asked
            .members()
            .first()
            .map_or(&self.served.shown, |member| &member.served.shown)
    }

    /// Counts a success of the deployment, and what it tells of its speed. `first`: when a stream began.
    pub fn succeeded(&mut self, first: Option<Instant>, answered: Instant, tokens: (i64, i64)) {
        let deployment = &self.served.deployment;
        deployment.metrics.successes.fetch_add(1, Relaxed);
        if self.fallbacks > 0 {
            deployment.metrics.fallbacks.fetch_add(1, Relaxed);
        }
        let whole = answered.saturating_duration_since(self.dispatched);
        let gateway = &self.worker.gateway;
        gateway.metrics.provider.observe(whole);
        let natural = |tokens: i64| u64::try_from(tokens).unwrap_or(0);
        let took = Took {
            first: first.map(|first| first.saturating_duration_since(self.dispatched)),
            whole,
            prompt: natural(tokens.0),
            tokens: natural(tokens.1),
        };
        deployment
            .state
            .succeeded(took, gateway.moment_of(answered));
        self.going = None;
        if let Some(mut room) = self.room.take() {
            room.tokens = took.prompt.saturating_add(took.tokens);
        }
    }

    /// Counts a failure of the deployment.
    pub fn count_failure(&mut self, kind: FailureKind, status: u16) {
        self.call.failed(kind, status);
        let failures = &self.served.deployment.metrics.failures;
        failures.fetch_add(1, Relaxed);
    }

    /// The answer broke off when the client had begun to see it.
    pub fn broke(&mut self, kind: FailureKind) {
        self.count_failure(kind, 200);
        (self.going, self.room) = (None, None);
        let (took, now) = (self.dispatched.elapsed(), self.worker.gateway.moment());
        self.plan.attempts().broke(&Failure::of(kind), took, now);
    }

    /// `OpenAI` of `OpenAIException`.
    #[must_use]
    pub fn exception(&self) -> String {
        let provider = &*self.served.deployment.provider;
        match provider {
            "openai" | "custom_openai" => "OpenAI".to_owned(),
            "" => "Provider".to_owned(),
            other => {
                let mut name: String = other.split('_').map(capital).collect();
                name.retain(char::is_alphanumeric);
                name
            }
        }
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn is_event_stream(fields: &Fields) -> bool {
    let kind = fields
        .get("content-type")
        .map_or(&b""[..], |kind| kind.as_bytes());
    let wanted = b"text/event-stream";
    kind.get(..wanted.len())
        .is_some_and(|kind| kind.eq_ignore_ascii_case(wanted))
}

fn chunks(mut chunks: Vec<Bytes>) -> Content {
    if chunks.len() == 1 {
        return Content::Whole(chunks.remove(0));
    }
    let frames = chunks
        .into_iter()
        .map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    Content::Routed(Body::new(StreamBody::new(futures_util::stream::iter(
        frames,
    ))))
}
