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
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use schemas::{Outcome, Text};

use crate::admit::{self, Admission, Origin};
use crate::auth::authenticate;
use crate::endpoint::Endpoint;
use crate::headers::{self, List, Timing};
use crate::models::{Group, Served};
use crate::providers::{demo, openai};
use crate::record::{Call, Closed, End, Settled};
use crate::reply::Reply;
use crate::request::{ModelRequest, Units};
use crate::semantic_cache::{Complete, Found, Hit, Lookup, Ticket};
use crate::synced::Synced;
use crate::upstream::{Answer, Fields, UpstreamError};
use crate::usage::Reading;
use crate::{Error, Gateway, Worker, relay, stream};

/// Answers one call. `named` is the model that the path names.
pub async fn complete<B>(
    worker: &Arc<Worker>,
    request: Request<B>,
    endpoint: Endpoint,
    named: Option<Text>,
) -> Response<Reply>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let flight = InFlight::enter(&worker.gateway);
    let call_id = sent_id(request.headers());
    match run(worker, request, flight, endpoint, named).await {
        Ok(response) => response,
        Err(error) => refuse(&worker.gateway, error, call_id),
    }
}

async fn run<B>(
    worker: &Arc<Worker>,
    request: Request<B>,
    flight: InFlight,
    endpoint: Endpoint,
    named: Option<Text>,
) -> Result<Response<Reply>, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let gateway = &worker.gateway;
    let (now, started) = (gateway.now(), Instant::now());
    let (head, body) = request.into_parts();
    let caller = authenticate(gateway, &head.headers, now)?;
    let body = read(body, &head.headers, gateway.config.limits.body_bytes_max).await?;
    let request = match head.headers.get(header::CONTENT_TYPE) {
        Some(kind) if endpoint.is_form() => ModelRequest::parse_form(endpoint, body, kind, named)?,
        _ => ModelRequest::parse(endpoint, body, named)?,
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
    let timeout = timeout(&head.headers, &request, &served)?;
    let origin = Origin {
        caller: &caller,
        call_id: sent_id(&head.headers),
        end_user: end_user(&head.headers),
        tags: tags(&head.headers),
        now,
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

    async fn answer_from_cache(
        &mut self,
        hit: Hit,
        streamed: bool,
    ) -> Result<Response<Reply>, Error> {
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
        let mut response = Response::new(chunks(hit.chunks));
        *response.headers_mut() = self.worker.heads.make(&Fields::default(), |into| {
            headers::cached(into, &self.call, &self.group, &self.served, found, &hit.key);
            headers::cost(into, &self.call, &settled);
            headers::content_type(into, kind);
        });
        Ok(response)
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
    pub fn head(
        &self,
        upstream: &Fields,
        timing: Timing,
        more: impl FnOnce(&mut List),
    ) -> HeaderMap {
        self.worker.heads.make(upstream, |into| {
            headers::answered(
                into,
                &self.call,
                &self.group,
                &self.served,
                upstream,
                timing,
            );
            headers::output_cap(into, self.cap);
            headers::not_cached(into, self.cache.as_deref());
            more(into);
        })
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
fn refuse(gateway: &Gateway, error: Error, call_id: Option<Text>) -> Response<Reply> {
    let by_budget = matches!(error, Error::Refused(Refusal::Budget { .. }));
    let mut response = error.into_response().map(Reply::Routed);
    if by_budget && let Ok(status) = StatusCode::from_u16(gateway.config.budgets.refusal_status) {
        *response.status_mut() = status;
    }
    gateway.metrics.failed(response.status().as_u16());
    if let Some(id) = call_id {
        headers::refused(response.headers_mut(), &id);
    }
    response
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
fn sent_id(headers: &HeaderMap) -> Option<Text> {
    let id = headers.get("x-litellm-call-id")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= 256).then(|| id.into())
}

fn end_user(headers: &HeaderMap) -> Option<Text> {
    let value = headers
        .get("x-litellm-end-user-id")
        .or_else(|| headers.get("x-litellm-customer-id"))?;
    let text = value.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.into())
}

fn tags(headers: &HeaderMap) -> Vec<Text> {
    let Some(list) = headers
        .get("x-litellm-tags")
        .and_then(|value| value.to_str().ok())
    else {
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
    headers: &HeaderMap,
    request: &ModelRequest,
    served: &Served,
) -> Result<Duration, Error> {
    let timeouts = &served.deployment.entry.timeouts;
    let (limit, name) = if request.stream {
        (timeouts.total_stream, "x-litellm-stream-timeout")
    } else {
        (timeouts.total, "x-litellm-timeout")
    };
    let Some(value) = headers
        .get(name)
        .or_else(|| headers.get("x-litellm-timeout"))
    else {
        return Ok(limit);
    };
    let seconds: Option<f64> = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
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

fn chunks(mut chunks: Vec<Bytes>) -> Reply {
    if chunks.len() == 1 {
        return Reply::Whole(chunks.remove(0));
    }
    let frames = chunks
        .into_iter()
        .map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    Reply::Routed(Body::new(StreamBody::new(futures_util::stream::iter(
        frames,
    ))))
}
