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
use config::Dialect;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use schemas::{Micros, Outcome, Text};

use crate::admit::{self, Admission, Origin};
use crate::auth::{Sought, authenticate};
use crate::directory::Principal;
use crate::endpoint::Endpoint;
use crate::headers::{self, Lines, Timing};
use crate::models::{Group, Served};
use crate::providers::{demo, openai};
use crate::record::{Call, Closed, End, Settled};
use crate::reply::{Content, Reply};
use crate::request::{ModelRequest, Units};
use crate::semantic_cache::{Complete, Found, Hit, Lookup, Ticket};
use crate::synced::Synced;
use crate::upstream::{Answer, Fields, UpstreamError};
use crate::usage::Reading;
use crate::{Error, Gateway, Worker, relay, stream};

/// What a client may wait at most, plain and streamed.
const TIMEOUTS: [&str; 2] = ["x-litellm-timeout", "x-litellm-stream-timeout"];

/// What the headers of a call say, read before its body is.
pub struct Sent {
    caller: Result<Principal, Error>,
    now: Micros,
    started: Instant,
    call_id: Option<Text>,
    end_user: Option<Text>,
    tags: Vec<Text>,
    /// `x-litellm-timeout` and `x-litellm-stream-timeout`, as they stand.
    timeouts: [Option<Text>; 2],
    endpoint: Endpoint,
    /// The model that the path names.
    named: Option<Text>,
    /// What a form says of itself.
    form: Option<HeaderValue>,
}

impl Sent {
    /// Reads the headers of a chat call and finds its caller.
    pub fn read<H: Sought + ?Sized>(gateway: &Gateway, headers: &H) -> Self {
        let now = gateway.now();
        let text = |name| headers.first(name).map(Text::from);
        Self {
            caller: authenticate(gateway, headers, now),
            now,
            started: Instant::now(),
            call_id: sent_id(headers),
            end_user: end_user(headers),
            tags: tags(headers),
            timeouts: TIMEOUTS.map(text),
            endpoint: Endpoint::Chat,
            named: None,
            form: None,
        }
    }
}

/// Answers one call whose body is whole.
pub async fn complete(worker: &Arc<Worker>, mut sent: Sent, body: Bytes) -> Reply {
    let flight = InFlight::enter(&worker.gateway);
    let call_id = sent.call_id.clone();
    match run(worker, &mut sent, body, flight).await {
        Ok(reply) => reply,
        Err(error) => refuse(&worker.gateway, error, call_id),
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
            refuse(&worker.gateway, error, sent.call_id)
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
    let request = match &sent.form {
        Some(kind) => ModelRequest::parse_form(endpoint, body, kind, named)?,
        None => ModelRequest::parse(endpoint, body, named)?,
    };
    caller.may_use(&request.model)?;
    let (group, served) = gateway.models.load().choose(&request.model)?;
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
    let timeout = timeout(&sent.timeouts, &request, &served)?;
    let origin = Origin {
        caller: &caller,
        call_id: sent.call_id.take(),
        end_user: sent.end_user.take(),
        tags: std::mem::take(&mut sent.tags),
        now: sent.now,
        started,
        timeout,
    };
    let Admission { call, cap } = admit::admit(gateway, origin, &request, &served).await?;
    let mut exchange = Exchange {
        worker: worker.clone(),
        endpoint,
        units: request.units,
        speech_estimate: request.speech_estimate(),
        call,
        group,
        served,
        cap,
        cache: None,
        ticket: None,
        dispatched: started,
        _flight: flight,
    };
    match exchange.look_up(&request).await {
        // Boxed, as are refusals: their room is not taken from calls that need none of it.
        Some(Found::Hit(hit)) => {
            return Box::pin(exchange.answer_from_cache(hit, request.stream)).await;
        }
        Some(Found::Miss(ticket)) => {
            exchange.ticket = Some(ticket);
            exchange.cache = Some("miss".into());
        }
        Some(Found::Bypass(why)) => exchange.cache = Some(format!("bypass; reason={why}").into()),
        None => {}
    }
    let mut answer = exchange.dispatch(&request, started + timeout).await?;
    if !answer.status.is_success() {
        return Err(Box::pin(relay::refusal(&mut exchange, &mut answer)).await);
    }
    if !request.stream {
        return relay::plain(&mut exchange, &mut answer).await;
    }
    if !is_event_stream(&answer.fields) {
        let error =
            UpstreamError::Malformed("a stream was asked for, and something else came".to_owned());
        let error = error.into_error(&exchange);
        return Err(Box::pin(exchange.fail(error, Reading::default())).await);
    }
    let show_usage = request.include_usage || gateway.config.server.always_include_stream_usage;
    Ok(stream::relay(exchange, answer, show_usage))
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
    group: Arc<Group>,
    served: Arc<Served>,
    cap: Option<u64>,
    /// What the cache said, where one is asked.
    cache: Option<Cow<'static, str>>,
    /// Where the answer may be stored.
    pub ticket: Option<Ticket>,
    pub dispatched: Instant,
    _flight: InFlight,
}

impl Exchange {
    async fn look_up(&self, request: &ModelRequest) -> Option<Found> {
        if self.endpoint != Endpoint::Chat {
            return None;
        }
        let cache = self.worker.gateway.cache.as_ref()?;
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
                || self
                    .worker
                    .gateway
                    .config
                    .server
                    .always_include_stream_usage,
        };
        Some(cache.lookup(lookup).await)
    }

    async fn dispatch(
        &mut self,
        request: &ModelRequest,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let served = self.served.clone();
        let target = served.target(self.endpoint, request.form.as_ref())?;
        let body = openai::body(request, &served, self.cap);
        let deployment = &self.served.deployment;
        deployment.metrics.requests.fetch_add(1, Relaxed);
        self.dispatched = Instant::now();
        self.worker
            .gateway
            .metrics
            .overhead
            .observe(self.dispatched - self.call.started());
        self.call.dispatched();
        let answer = match target {
            None => Ok(demo::answer(&body, deadline.into())),
            Some(target) => {
                self.worker
                    .upstream
                    .call(&target, deployment, body, deadline.into())
                    .await
            }
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(source) => {
                let reading = if source.may_cost() {
                    self.call.estimate(0)
                } else {
                    Reading::default()
                };
                let error = source.into_error(self);
                Err(self.fail(error, reading).await)
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
    pub async fn fail(&mut self, error: Error, reading: Reading) -> Error {
        self.failed();
        match self.settle(End::failed(&error, reading)).await {
            Ok(_) => error,
            Err(unrecorded) => unrecorded,
        }
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
        headers::cached(
            &mut head,
            &self.call,
            &self.group,
            &self.served,
            found,
            &hit.key,
        );
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
        headers::answered(
            &mut head,
            &self.call,
            &self.group,
            &self.served,
            upstream,
            timing,
        );
        headers::output_cap(&mut head, self.cap);
        headers::not_cached(&mut head, self.cache.as_deref());
        more(&mut head);
        headers::provider(&mut head, upstream);
        head
    }

    /// Counts a success of the deployment.
    pub fn succeeded(&self, answered: Instant) {
        self.served
            .deployment
            .metrics
            .successes
            .fetch_add(1, Relaxed);
        let elapsed = answered.saturating_duration_since(self.dispatched);
        self.worker.gateway.metrics.provider.observe(elapsed);
    }

    /// Counts a failure of the deployment.
    pub fn failed(&self) {
        self.served
            .deployment
            .metrics
            .failures
            .fetch_add(1, Relaxed);
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

/// Counts a refusal, and says it as the operator wants it said.
fn refuse(gateway: &Gateway, error: Error, call_id: Option<Text>) -> Reply {
    let by_budget = matches!(error, Error::Refused(Refusal::Budget { .. }));
    let mut response = error.into_response();
    if by_budget && let Ok(status) = StatusCode::from_u16(gateway.config.budgets.refusal_status) {
        *response.status_mut() = status;
    }
    gateway.metrics.failed(response.status().as_u16());
    let mut reply = Reply::from(response);
    if let Some(id) = call_id {
        headers::refused(&mut reply.head, &id);
    }
    reply
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

fn end_user<H: Sought + ?Sized>(headers: &H) -> Option<Text> {
    let text = headers
        .first("x-litellm-end-user-id")
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

/// The deployment's limit, or less where the client says so.
fn timeout(
    asked: &[Option<Text>; 2],
    request: &ModelRequest,
    served: &Served,
) -> Result<Duration, Error> {
    let limits = &served.deployment.entry.timeouts;
    let [plain, streamed] = asked;
    let (limit, name, text) = match (request.stream, streamed) {
        (true, Some(streamed)) => (limits.total_stream, TIMEOUTS[1], Some(streamed)),
        (true, None) => (limits.total_stream, TIMEOUTS[0], plain.as_ref()),
        (false, _) => (limits.total, TIMEOUTS[0], plain.as_ref()),
    };
    let Some(text) = text else {
        return Ok(limit);
    };
    let seconds: Option<f64> = text.trim().parse().ok();
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(asked) if !asked.is_zero() => Ok(asked.min(limit)),
        _ => Err(Error::bad_request(
            format!("{name} must be a number of seconds above 0"),
            name,
        )),
    }
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
