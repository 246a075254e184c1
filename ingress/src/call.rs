//! The life of one call, to whichever endpoint, in its order: who it is, what is asked, where it goes, what it
//! may cost, the answer.
//!
//! What happens between a request that goes out and its answer stands in [`crate::exchange`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::response::IntoResponse;
use budgets::Refusal;
use bytes::Bytes;
use config::Dialect;
use http::{Request, StatusCode, header};
use routing::{Place, Step};
use schemas::{Stages, Text};

use crate::admit::{self, Admission, Origin};
use crate::endpoint::Endpoint;
use crate::exchange::{Attempted, Exchange, Ready};
use crate::plan::{Came, Event, Plan, Wishes};
use crate::record::whole_micros;
use crate::reply::Reply;
use crate::request::ModelRequest;
use crate::semantic_cache::Found;
use crate::sent::{self, Sent};
use crate::{Error, Gateway, Worker, access, body, demands, headers, params, shorten, stream};

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
    peer: IpAddr,
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
        ..Sent::read(&worker.gateway, &head.headers, peer)
    };
    let body = match &sent.caller {
        Ok(_) => {
            body::read(
                body,
                &head.headers,
                worker.gateway.models.load().config.limits.body_bytes_max,
                body::PATIENCE,
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
    let models = gateway.models.load_full();
    let limit = models.config.limits.body_bytes_max;
    if body.len() as u64 > limit {
        return Err(Error::BodyTooLarge { limit });
    }
    let (endpoint, named) = (sent.endpoint, sent.named.take());
    let server = &models.config.server;
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
        access::call(&server.access, &caller, endpoint)?;
        caller.may_use(&request.model)?;
    }
    for name in request.fallbacks.iter().flatten() {
        caller.may_use(name)?;
    }
    let asked = models.find(&request.model)?;
    let timeout = sent::timeout(&sent.timeouts, &request, &models, &asked)?;
    let mut shortened = None;
    if let Some(rule) = &models.config.long_context
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
    let mut plan = Plan::new(gateway, models, asked, came).await;
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
        metadata: sent::metadata(sent.metadata.take().or_else(|| request.logged.clone()))?,
        now: sent.now,
        started,
        timeout,
        budgets: &plan.config().budgets,
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
    // Whoever waited for the same call of another may have no time left for its own.
    if exchange.cache.is_some() && Instant::now() >= exchange.deadline {
        return Ok(Box::pin(exchange.too_late()).await);
    }
    let show_usage =
        request.include_usage || exchange.plan.config().server.always_include_stream_usage;
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

/// Counts a call from its arrival to the last byte of its answer.
pub struct InFlight(Arc<Gateway>);

impl InFlight {
    pub fn enter(gateway: &Arc<Gateway>) -> Self {
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
pub fn said(gateway: &Gateway, error: Error) -> Reply {
    let by_budget = matches!(error, Error::Refused(Refusal::Budget { .. }));
    if let (Some(alerts), Error::Refused(refusal)) = (&gateway.alerts, &error) {
        alerts.refused(refusal);
    }
    let mut response = error.into_response();
    if by_budget && let Ok(status) = StatusCode::from_u16(gateway.config().budgets.refusal_status) {
        *response.status_mut() = status;
    }
    gateway.metrics.failed(response.status().as_u16());
    Reply::from(response)
}
