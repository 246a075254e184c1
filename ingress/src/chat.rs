//! The life of one call, to whichever endpoint.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::IntoResponse;
use budgets::Refusal;
use bytes::{Bytes, BytesMut};
use config::{Dialect, FailureKind};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use routing::{Failure, Flight, Member, Place, Step, Took};
use schemas::{Micros, Outcome, RequestId, Stages, Text};

use crate::admit::{self, Admission, Origin};
use crate::auth::{Sought, authenticate};
use crate::directory::Principal;
use crate::endpoint::Endpoint;
use crate::failover::{Failed, Room};
use crate::headers::{self, Lines, Timing};
use crate::models::{Group, Models, Served, Shown, Target};
use crate::plan::{Came, Event, Plan, Wishes};
use crate::providers::{demo, openai};
use crate::record::{Call, Closed, End, Settled, whole_micros};
use crate::reply::{Content, Reply};
use crate::request::{ModelRequest, Units};
use crate::semantic_cache::{Complete, Found, Hit, Lookup, Ticket};
use crate::synced::Synced;
use crate::upstream::{Answer, Fields, UpstreamError};
use crate::usage::Reading;
use crate::{Error, Gateway, Worker, demands, params, probe, relay, shorten, stream};

/// What a client may wait at most, plain and streamed.
const TIMEOUTS: [&str; 2] = ["x-litellm-timeout", "x-litellm-stream-timeout"];

/// What the caller wants to find again with its call in the logs: a JSON object.
const METADATA: &str = "x-litellm-spend-logs-metadata";
/// A row of the logs holds so much of it.
const METADATA_MAX: usize = 16 << 10;

/// What the headers of a call say, read before its body is.
pub struct Sent {
    caller: Result<Principal, Error>,
    now: Micros,
    started: Instant,
    /// Finding the caller took so long.
    auth: Duration,
    call_id: Option<Text>,
    end_user: Option<Text>,
    tags: Vec<Text>,
    /// `x-litellm-spend-logs-metadata`, as it stands.
    metadata: Option<Text>,
    /// `x-litellm-timeout` and `x-litellm-stream-timeout`, as they stand.
    timeouts: [Option<Text>; 2],
    wishes: Result<Wishes, Error>,
    endpoint: Endpoint,
    /// The model that the path names.
    named: Option<Text>,
    /// What a form says of itself.
    form: Option<HeaderValue>,
    /// The call that this one is made for, in this process.
    parent: Option<RequestId>,
}

impl Sent {
    /// Reads the headers of a chat call and finds its caller.
    pub fn read<H: Sought + ?Sized>(gateway: &Gateway, headers: &H) -> Self {
        let (now, started) = (gateway.now(), Instant::now());
        let text = |name| headers.first(name).map(Text::from);
        Self {
            caller: authenticate(gateway, headers, now),
            now,
            started,
            auth: started.elapsed(),
            call_id: sent_id(headers),
            end_user: end_user(gateway, headers),
            tags: tags(headers),
            metadata: text(METADATA),
            timeouts: TIMEOUTS.map(text),
            wishes: wishes(headers),
            endpoint: Endpoint::Chat,
            named: None,
            form: None,
            parent: None,
        }
    }

    /// Since it came.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A call that this one needs, of the same caller, within `left`.
    pub fn within(
        &self,
        worker: &Worker,
        caller: &Principal,
        parent: RequestId,
        left: Duration,
    ) -> Self {
        Self {
            caller: Ok(caller.clone()),
            now: worker.gateway.now(),
            started: Instant::now(),
            auth: Duration::ZERO,
            call_id: None,
            end_user: self.end_user.clone(),
            tags: self.tags.clone(),
            metadata: None,
            timeouts: [Some(left.as_secs_f64().to_string().into()), None],
            wishes: Ok(Wishes::default()),
            endpoint: Endpoint::Chat,
            named: None,
            form: None,
            parent: Some(parent),
        }
    }
}

/// Answers one call whose body is whole.
pub async fn complete(worker: &Arc<Worker>, mut sent: Sent, body: Bytes) -> Reply {
    let flight = InFlight::enter(&worker.gateway);
    match run(worker, &mut sent, body, flight).await {
        Ok(reply) => reply,
        Err(error) => refuse(&worker.gateway, error, &sent),
    }
}

/// Answers one call whose body is still to come. It is read only once the caller is
/// known. `named` is the model that the path names.
pub async fn receive<B>(
    worker: &Arc<Worker>,
    request: Request<B>,
    endpoint: Endpoint,
    named: Option<Text>,
) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (head, body) = request.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE);
    let sent = Sent {
        endpoint,
        named,
        form: kind.filter(|_| endpoint.is_form()).cloned(),
        ..Sent::read(&worker.gateway, &head.headers)
    };
    let body = match &sent.caller {
        Ok(_) => {
            read(
                body,
                &head.headers,
                worker.gateway.config.limits.body_bytes_max,
            )
            .await
        }
        // Whoever it is, it will not be served.
        Err(_) => Ok(Bytes::new()),
    };
    match body {
        Ok(body) => complete(worker, sent, body).await,
        Err(error) => {
            let _flight = InFlight::enter(&worker.gateway);
            refuse(&worker.gateway, error, &sent)
        }
    }
}

async fn run(
    worker: &Arc<Worker>,
    sent: &mut Sent,
    body: Bytes,
    flight: InFlight,
) -> Result<Reply, Error> {
    let gateway = &worker.gateway;
    let started = sent.started;
    let caller = std::mem::replace(&mut sent.caller, Err(Error::NoKey))?;
    if body.len() as u64 > gateway.config.limits.body_bytes_max {
        let limit = gateway.config.limits.body_bytes_max;
        return Err(Error::BodyTooLarge { limit });
    }
    let (endpoint, named) = (sent.endpoint, sent.named.take());
    let server = &gateway.config.server;
    let default = demands::default_model(&server.default_models, endpoint);
    let mut request = match (&sent.form, default) {
        (Some(kind), _) => ModelRequest::parse_form(endpoint, body, kind, named)?,
        (None, None) => ModelRequest::parse(endpoint, body, named)?,
        (None, Some(default)) => demands::parse_or_default(endpoint, body, named, default)?,
    };
    // Whatever a call needs is the operator's choice.
    if sent.parent.is_none() {
        if !server.demands.is_empty() {
            demands::check(&server.demands, &request, sent.end_user.is_some())?;
        }
        caller.may_use(&request.model)?;
    }
    for name in request.fallbacks.iter().flatten() {
        caller.may_use(name)?;
    }
    let models = gateway.models.load_full();
    let asked = models.find(&request.model)?;
    let timeout = timeout(&sent.timeouts, &request, &models, &asked)?;
    let mut shortened = None;
    if let Some(rule) = &gateway.config.long_context
        && sent.parent.is_none()
        && shorten::concerns(rule, &request)
    {
        let from = shorten::From {
            caller: &caller,
            sent,
            timeout,
        };
        let shorten = Box::pin(shorten::shorten(worker, rule, from, &asked, request));
        (request, shortened) = shorten.await;
    }
    let tags = std::mem::take(&mut sent.tags);
    let came = Came {
        request: &request,
        caller: &caller,
        wishes: std::mem::replace(&mut sent.wishes, Ok(Wishes::default()))?,
        tags: &tags,
        started,
        timeout,
    };
    let mut plan = Plan::new(gateway, &models, asked, came).await;
    let first = match plan.step(gateway, &Event::Begun) {
        Step::Try(first) => first,
        Step::GiveUp(why) => return Err(plan.refusal(gateway, why)),
    };
    let routed = Instant::now();
    let steered = first.place == Place::Elsewhere;
    let served = first
        .group
        .members()
        .get(first.at)
        .map(|m| m.served.clone());
    let served =
        served.ok_or_else(|| Error::internal("a deployment that is not there was chosen"))?;
    if let Dialect::Unsupported(reason) = served.deployment.entry.dialect {
        return Err(Error::Unsupported {
            model: request.model.to_string(),
            reason,
        });
    }
    if served.target.is_none() && endpoint != Endpoint::Chat {
        return Err(Error::Unsupported {
            model: request.model.to_string(),
            reason: "the built-in model answers chat only",
        });
    }
    params::check(&request, &served)?;
    let origin = Origin {
        caller: &caller,
        id: shortened.as_ref().map(|shortened| shortened.id),
        call_id: sent.call_id.clone(),
        end_user: sent.end_user.take(),
        tags,
        metadata: metadata(sent.metadata.take().or_else(|| request.logged.clone()))?,
        now: sent.now,
        started,
        timeout,
        stages: Stages {
            auth_us: whole_micros(sent.auth),
            route_us: whole_micros(routed.saturating_duration_since(plan.began(routed))),
            ..Stages::default()
        },
    };
    let Admission { mut call, cap } = admit::admit(gateway, origin, &request, &served).await?;
    if steered {
        call.steered();
    }
    if shortened.is_some() || sent.parent.is_some() {
        call.relates(shortened.map(|shortened| shortened.saving), sent.parent);
    }
    let ready = Ready {
        call,
        cap,
        plan,
        served,
    };
    let times = (started, routed, timeout);
    let mut exchange = Exchange::of(worker, &request, ready, times, flight);
    match exchange.look_up(&request).await {
        // Boxed, as are failures: their room is not taken from calls that need none of it.
        Some(Found::Hit(hit)) => {
            let reply = Box::pin(exchange.answer_from_cache(hit, request.stream)).await;
            return Ok(reply.unwrap_or_else(|error| exchange.refuse(error)));
        }
        Some(Found::Miss(ticket)) => {
            exchange.ticket = Some(ticket);
            exchange.cache = Some("miss".into());
        }
        Some(Found::Bypass(why)) => exchange.cache = Some(format!("bypass; reason={why}").into()),
        None => {}
    }
    let show_usage = request.include_usage || gateway.config.server.always_include_stream_usage;
    loop {
        if exchange.served.deployment.limits.is_some()
            && let Err(error) = Box::pin(exchange.make_room(&request)).await
        {
            return Ok(exchange.refuse(error));
        }
        match exchange.attempt(&request).await {
            Ok(Attempted::Whole(response)) => return Ok(response),
            Ok(Attempted::Stream(answer)) => {
                return Ok(stream::relay(exchange, answer, show_usage));
            }
            Err(failed) => {
                if let Err(error) = Box::pin(exchange.fail_over(failed, &request)).await {
                    return Ok(exchange.refuse(error));
                }
            }
        }
    }
}

/// A call of ours to one deployment, to see whether it answers: admitted, recorded and billed like any other, to
/// the operator. None: it could not be made, so nothing is known.
pub async fn look(
    worker: &Arc<Worker>,
    request: &ModelRequest,
    served: Arc<Served>,
    timeout: Duration,
) -> Option<bool> {
    let gateway = &worker.gateway;
    let flight = InFlight::enter(gateway);
    let (now, started) = (gateway.now(), Instant::now());
    let models = gateway.models.load_full();
    let member = Member {
        deployment: served.deployment.state.clone(),
        served: served.clone(),
    };
    let name = served.shown.name.clone();
    let group = Group::new(name, vec![member], &models.rules, None);
    let deadline = gateway.moment_of(started).plus(timeout);
    let mut plan = Plan::alone(&models, Arc::new(group), deadline);
    if let Step::GiveUp(_) = plan.step(gateway, &Event::Begun) {
        return None;
    }
    let origin = Origin {
        caller: &Principal::master(),
        id: None,
        call_id: None,
        end_user: None,
        tags: vec![probe::TAG.into()],
        metadata: None,
        now,
        started,
        timeout,
        stages: Stages::default(),
    };
    let admission = admit::admit(gateway, origin, request, &served).await;
    let Admission { call, cap } = admission.ok()?;
    let ready = Ready {
        call,
        cap,
        plan,
        served,
    };
    let times = (started, started, timeout);
    let mut exchange = Exchange::of(worker, request, ready, times, flight);
    if exchange.served.deployment.limits.is_some() {
        // Without room for it, it is busy: that is no illness.
        exchange.make_room(request).await.ok()?;
    }
    let failed = match exchange.attempt(request).await {
        Ok(_) => return Some(true),
        Err(failed) => *failed,
    };
    let Failed {
        error,
        reading,
        failure,
    } = failed;
    let failure = failure?;
    exchange.count_failure(failure.kind, error.status().as_u16());
    let (took, now) = (exchange.dispatched.elapsed(), gateway.moment());
    exchange.plan.attempts().broke(&failure, took, now);
    exchange.end(error, reading).await;
    Some(failure.kind == FailureKind::RateLimit || !failure.is_deployments())
}

/// An admitted call with its way.
struct Ready {
    call: Call,
    cap: Option<u64>,
    plan: Plan,
    served: Arc<Served>,
}

/// An attempt whose answer may go to the client.
enum Attempted {
    Whole(Reply),
    /// Its first bytes are there.
    Stream(Answer),
}

/// How a call without an answer ended.
#[derive(Default)]
struct Refused {
    said: Fields,
    settled: Option<Settled>,
}

/// An admitted call on its way.
pub struct Exchange {
    worker: Arc<Worker>,
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
    cache: Option<Cow<'static, str>>,
    /// Where the answer may be stored.
    pub ticket: Option<Ticket>,
    /// The whole call ends by then, however many attempts it takes.
    pub deadline: Instant,
    /// How long it may take.
    pub timeout: Duration,
    /// The first choice was made.
    routed: Instant,
    pub dispatched: Instant,
    /// What the last provider that refused said in its header, and what the call cost all the same.
    refusal: Option<Box<Refused>>,
    /// Other names that were tried so far.
    pub fallbacks: u32,
    /// The deployment is busy with it.
    pub going: Option<Flight>,
    /// Taken in the deployment's own limits.
    pub room: Option<Box<Room>>,
    _flight: InFlight,
}

impl Exchange {
    /// `times`: when the call came, when its way was chosen, and how long it may take.
    fn of(
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
            _flight: flight,
        }
    }

    async fn look_up(&mut self, request: &ModelRequest) -> Option<Found> {
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
                || gateway.config.server.always_include_stream_usage,
        };
        let began = Instant::now();
        let found = cache.lookup(lookup).await;
        let stages = self.call.stages();
        stages.admit_us = whole_micros(began.saturating_duration_since(self.routed));
        stages.cache_us = whole_micros(began.elapsed());
        Some(found)
    }

    /// One attempt, up to an answer that the client may see.
    async fn attempt(&mut self, request: &ModelRequest) -> Result<Attempted, Box<Failed>> {
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
        let mut answer = match self.dispatch(request, target).await {
            Ok(answer) => answer,
            Err(source) => {
                let reading = if source.may_cost() {
                    self.call.estimate(0)
                } else {
                    Reading::default()
                };
                return Err(Failed::upstream(self, source, reading));
            }
        };
        if let Some(took) = answer.connected {
            self.call.stages().connect_us = Some(whole_micros(took));
        }
        if !answer.status.is_success() {
            return Err(Box::pin(relay::refusal(self, &mut answer)).await);
        }
        if !request.stream {
            return relay::plain(self, &mut answer).await.map(Attempted::Whole);
        }
        if !is_event_stream(&answer.fields) {
            let what = "a stream was asked for, and something else came".to_owned();
            let source = UpstreamError::Malformed(what);
            return Err(Failed::upstream(self, source, Reading::default()));
        }
        let until = self.worker.upstream.first_byte_by(self.dispatched);
        match answer.peek(until).await.map(openai::first_error) {
            Ok(None) => Ok(Attempted::Stream(answer)),
            Ok(Some(error)) => Err(Failed::provider(error)),
            // It had begun to answer, so it charges.
            Err(source) => {
                let reading = self.call.estimate(0);
                Err(Failed::upstream(self, source, reading))
            }
        }
    }

    async fn dispatch(
        &mut self,
        request: &ModelRequest,
        target: Option<Cow<'_, Target>>,
    ) -> Result<Answer, UpstreamError> {
        let body = openai::body(request, &self.served, self.cap);
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
    fn refuse(&self, error: Error) -> Reply {
        let mut reply = said(&self.worker.gateway, error);
        let empty = Refused::default();
        let Refused { said, settled } = self.refusal.as_deref().unwrap_or(&empty);
        headers::failed(&mut reply.head, self, settled.as_ref(), said);
        reply
    }

    async fn answer_from_cache(&mut self, hit: Hit, streamed: bool) -> Result<Reply, Error> {
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
        Ok(Reply::ok(head, chunks(hit.chunks)))
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

    /// Counts a success of the deployment, and what it tells of its speed.
    pub fn succeeded(&mut self, first: Instant, answered: Instant, tokens: (i64, i64)) {
        let deployment = &self.served.deployment;
        deployment.metrics.successes.fetch_add(1, Relaxed);
        let whole = answered.saturating_duration_since(self.dispatched);
        let gateway = &self.worker.gateway;
        gateway.metrics.provider.observe(whole);
        let natural = |tokens: i64| u64::try_from(tokens).unwrap_or(0);
        let took = Took {
            first: first.saturating_duration_since(self.dispatched),
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

/// Counts a call from its arrival to the last byte of its answer.
struct InFlight(Arc<Gateway>);

impl InFlight {
    fn enter(gateway: &Arc<Gateway>) -> Self {
        gateway.metrics.requests.fetch_add(1, Relaxed);
        gateway.metrics.in_flight.fetch_add(1, Relaxed);
        Self(gateway.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.fetch_sub(1, Relaxed);
    }
}

/// What the client is told of a call that was not admitted.
fn refuse(gateway: &Gateway, error: Error, sent: &Sent) -> Reply {
    let limits = headers::Limits::of(&error);
    let mut reply = said(gateway, error);
    let into = &mut reply.head;
    headers::refused(into, sent.call_id.as_ref(), sent.started, limits);
    reply
}

/// Counts a refusal, and says it as the operator wants it said.
fn said(gateway: &Gateway, error: Error) -> Reply {
    let by_budget = matches!(error, Error::Refused(Refusal::Budget { .. }));
    if let (Some(alerts), Error::Refused(refusal)) = (&gateway.alerts, &error) {
        alerts.refused(refusal);
    }
    let mut response = error.into_response();
    if by_budget && let Ok(status) = StatusCode::from_u16(gateway.config.budgets.refusal_status) {
        *response.status_mut() = status;
    }
    gateway.metrics.failed(response.status().as_u16());
    Reply::from(response)
}

/// The whole body, if it is not too large.
async fn read<B>(mut body: B, headers: &HeaderMap, limit: u64) -> Result<Bytes, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let too_large = || Error::BodyTooLarge { limit };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::BadRequest {
            message: "the request body ended early".to_owned(),
            param: None,
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if (all.len() + first.as_ref().map_or(0, Bytes::len) + data.len()) as u64 > limit {
            return Err(too_large());
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(begin) => {
                let whole = declared
                    .and_then(|length| usize::try_from(length).ok())
                    .unwrap_or(0);
                // No more than has come is promised by a header: the rest of the room grows as needed.
                all.reserve(whole.min(1 << 20).max(begin.len() + data.len()));
                all.extend_from_slice(&begin);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// The client's own id of the call.
fn sent_id<H: Sought + ?Sized>(headers: &H) -> Option<Text> {
    let id = headers.first("x-litellm-call-id")?;
    (!id.is_empty() && id.len() <= 256).then(|| id.into())
}

fn end_user<H: Sought + ?Sized>(gateway: &Gateway, headers: &H) -> Option<Text> {
    let own = gateway.config.server.user_header.as_deref();
    let text = own
        .and_then(|name| headers.first(name))
        .or_else(|| headers.first("x-litellm-end-user-id"))
        .or_else(|| headers.first("x-litellm-customer-id"))?
        .trim();
    (!text.is_empty()).then(|| text.into())
}

fn tags<H: Sought + ?Sized>(headers: &H) -> Vec<Text> {
    let Some(list) = headers.first("x-litellm-tags") else {
        return Vec::new();
    };
    list.split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(Text::from)
        .collect()
}

/// JSON for the logs.
fn metadata(sent: Option<Text>) -> Result<Option<Text>, Error> {
    let Some(text) = sent else {
        return Ok(None);
    };
    let wrong = |what: &str| Err(Error::bad_request(format!("{METADATA} {what}"), METADATA));
    if text.len() > METADATA_MAX {
        return wrong(&format!("is longer than {METADATA_MAX} bytes"));
    }
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
    match object {
        Ok(_) => Ok(Some(text)),
        Err(_) => wrong("must be a JSON object"),
    }
}

/// The limit of the whole call, or less where the client says so.
fn timeout(
    asked: &[Option<Text>; 2],
    request: &ModelRequest,
    models: &Models,
    group: &Group,
) -> Result<Duration, Error> {
    let rules = &models.rules.0;
    let own = group.members().first();
    let own = own.map(|member| &member.served.deployment.entry.timeouts);
    let [plain, streamed] = asked;
    let (limit, own, name, text) = match (request.stream, streamed) {
        (true, streamed) => (
            rules.deadline_stream,
            own.map(|own| own.total_stream),
            TIMEOUTS[usize::from(streamed.is_some())],
            streamed.as_ref().or(plain.as_ref()),
        ),
        (false, _) => (
            rules.deadline,
            own.map(|own| own.total),
            TIMEOUTS[0],
            plain.as_ref(),
        ),
    };
    let limit = limit.max(own.unwrap_or_default());
    let seconds: Option<f64> = match (text, request.timeout) {
        (Some(text), _) => text.trim().parse().ok(),
        (None, Some(seconds)) => Some(seconds),
        (None, None) => return Ok(limit),
    };
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(asked) if !asked.is_zero() => Ok(asked.min(limit)),
        _ => Err(Error::bad_request(
            format!("{name} must be a number of seconds above 0"),
            name,
        )),
    }
}

/// What the headers say for routing.
fn wishes<H: Sought + ?Sized>(headers: &H) -> Result<Wishes, Error> {
    let name = "x-litellm-num-retries";
    let retries = match headers.first(name) {
        None => None,
        Some(text) => Some(text.trim().parse().map_err(|_| {
            Error::bad_request(format!("{name} must be a number of retries"), name)
        })?),
    };
    Ok(Wishes {
        retries,
        session: headers.first("x-litellm-session-id").map(Text::from),
        region: headers.first("x-tollgate-region").map(Text::from),
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
