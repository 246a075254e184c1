//! The cache over HTTP, for gateways in other processes: the role `tollgate cache`.
//!
//! An internal interface: it believes the scope that it is told, so it belongs on loopback or behind
//! its bearer token, never in front of clients. A ticket stays here between look-up and store, so
//! that a gateway need not carry vectors; one that never comes back is dropped after ten minutes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::ListenerExt;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::eligibility::Reason;
use crate::entries::{Answer, EntryId};
use crate::error::Error;
use crate::lookup::CacheService;
use crate::outcome::{Follower, Hit, Outcome, Stored, Ticket};
use crate::request::Lookup;
use crate::wire::{LookupReply, LookupRequest, StoreRequest, TicketRequest, WireAnswer};

/// Tickets that may be out; beyond, a miss carries none and its answer is not stored.
const TICKETS_MAX: usize = 10_000;
/// Longer than any call may take.
const TICKET_LIFE: Duration = Duration::from_secs(600);
/// Of a name that a gateway gives to a ticket.
const NAME_MAX: usize = 64;
/// Longer than a reply may still be on its way.
const RETURNED_LIFE: Duration = Duration::from_secs(60);
/// Of one request to this api: an answer with its wrapping.
const BODY_MAX: usize = 32 << 20;

struct Api {
    cache: Arc<CacheService>,
    held: Mutex<HashMap<String, (Held, Instant)>>,
    /// Tickets that were given back before they were out.
    returned: Mutex<HashMap<String, Instant>>,
    count: AtomicU64,
    /// Keyed at random, so that a ticket of an earlier process means nothing to this one.
    keyed: RandomState,
}

/// What a gateway will come back for.
enum Held {
    Ticket(Ticket),
    Place(Follower),
}

/// All routes. With a token every route but the health checks wants it as a bearer token.
pub fn router(cache: Arc<CacheService>, token: Option<String>) -> Router {
    let api = Arc::new(Api {
        cache,
        held: Mutex::default(),
        returned: Mutex::default(),
        count: AtomicU64::new(0),
        keyed: RandomState::new(),
    });
    let token: Option<Arc<str>> = token.map(Into::into);
    Router::new()
        .route("/v1/lookup", post(lookup))
        .route("/v1/wait", post(wait))
        .route("/v1/release", post(release))
        .route("/v1/store", post(store))
        .route("/v1/feedback", post(feedback))
        .route("/v1/entries/{id}", delete(remove))
        .route("/v1/clear", post(clear))
        .route("/cache/ping", get(ping))
        .route("/cache/delete", post(delete_keys))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let token = token.clone();
            async move {
                if let Some(token) = token
                    && !is_sent(&request, &token)
                {
                    return Error::Unauthorized.into_response();
                }
                next.run(request).await
            }
        }))
        .route("/health/liveliness", get(async || Json("I'm alive!")))
        .route("/health/readiness", get(readiness))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(api)
}

/// Serves all routes until `stop`, and the requests that are under way to their end.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    cache: Arc<CacheService>,
    token: Option<String>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Else the second write of a reply may wait 40 ms for an acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("cache: a connection without nodelay: {error}");
        }
    });
    axum::serve(listener, router(cache, token))
        .with_graceful_shutdown(stop)
        .await
}

fn is_sent(request: &Request, token: &str) -> bool {
    request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|sent| sent.ct_eq(token.as_bytes()).into())
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Request(e.to_string()))
}

async fn lookup(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<LookupReply>, Error> {
    let started = Instant::now();
    let asked: LookupRequest = parse(&body)?;
    let budget = asked.budget_ms.map(Duration::from_millis);
    let outcome = api.cache.lookup_within(words(&asked), budget).await;
    match outcome {
        Outcome::Wait(follower) if budget.is_none() => {
            let outcome = api.cache.wait(follower).await;
            api.reply(outcome, asked.ticket)
        }
        // Nobody is there any more; what would be held for them goes free at once.
        Outcome::Miss(_, reason) if budget.is_some_and(|budget| started.elapsed() > budget) => {
            Ok(Json(miss(reason.as_str(), None)))
        }
        outcome => api.reply(outcome, asked.ticket),
    }
}

/// The second half of a look-up that was told to wait.
async fn wait(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<LookupReply>, Error> {
    let asked: TicketRequest = parse(&body)?;
    let Some(Held::Place(follower)) = api.take(&asked.ticket) else {
        return Err(Error::NotFound("ticket"));
    };
    let outcome = api.cache.wait(follower).await;
    api.reply(outcome, Some(asked.ticket))
}

/// No answer will come for this ticket.
async fn release(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response, Error> {
    let TicketRequest { ticket } = parse(&body)?;
    let released = api.take(&ticket).is_some();
    if !released {
        // It may be on its way out.
        let mut returned = api.returned.lock();
        if returned.len() >= TICKETS_MAX {
            returned.retain(|_, since| since.elapsed() < RETURNED_LIFE);
        }
        if returned.len() < TICKETS_MAX && ticket.len() <= NAME_MAX {
            returned.insert(ticket, Instant::now());
        }
    }
    Ok(Json(json!({"released": released})).into_response())
}

fn words(asked: &LookupRequest) -> Lookup<'_> {
    Lookup {
        scope: &asked.scope,
        model: &asked.model,
        body: asked.request.get().as_bytes(),
        controls: asked.controls.clone(),
        policy: &asked.policy,
    }
}

fn miss(reason: &str, ticket: Option<String>) -> LookupReply {
    LookupReply::Miss {
        reason: reason.to_owned(),
        ticket,
    }
}

fn hit_reply(hit: &Hit) -> Result<LookupReply, Error> {
    let answer = &hit.answer;
    let body: Box<RawValue> = serde_json::from_slice(&answer.body)
        .map_err(|_| Error::Request("the stored answer is not JSON".to_owned()))?;
    Ok(LookupReply::Hit {
        kind: hit.kind.as_str().to_owned(),
        similarity: hit.similarity,
        entry: hit.entry.to_string(),
        age_s: hit.age.as_secs(),
        answer: WireAnswer {
            body,
            usage: answer.usage,
            cost_nano: answer.cost_nano,
            model: answer.model.clone(),
            created: answer.created,
            provider: answer.provider.clone(),
        },
    })
}

impl Api {
    fn reply(&self, outcome: Outcome, name: Option<String>) -> Result<Json<LookupReply>, Error> {
        Ok(Json(match outcome {
            Outcome::Hit(hit) => hit_reply(&hit)?,
            Outcome::Miss(ticket, reason) => {
                miss(reason.as_str(), self.keep(Held::Ticket(ticket), name))
            }
            Outcome::Bypass(reason) => LookupReply::Bypass {
                reason: reason.as_str().to_owned(),
            },
            Outcome::Wait(follower) => match self.keep(Held::Place(follower), name) {
                Some(ticket) => LookupReply::Wait { ticket },
                None => miss(Reason::FollowerWait.as_str(), None),
            },
        }))
    }

    /// Holds something for a gateway under the name that it gave, or one of ours.
    fn keep(&self, what: Held, name: Option<String>) -> Option<String> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name =
            name.unwrap_or_else(|| format!("{number:x}-{:016x}", self.keyed.hash_one(number)));
        if name.len() > NAME_MAX || self.returned.lock().remove(&name).is_some() {
            return None;
        }
        let mut held = self.held.lock();
        if held.len() >= TICKETS_MAX || number.is_multiple_of(256) {
            held.retain(|_, (_, since)| since.elapsed() < TICKET_LIFE);
        }
        if held.len() >= TICKETS_MAX || held.contains_key(&name) {
            return None;
        }
        held.insert(name.clone(), (what, Instant::now()));
        Some(name)
    }

    fn take(&self, name: &str) -> Option<Held> {
        self.held.lock().remove(name).map(|(held, _)| held)
    }
}

async fn store(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response, Error> {
    let sent: StoreRequest = parse(&body)?;
    let held = sent.ticket.as_deref().and_then(|name| api.take(name));
    let again = || api.cache.ticket(&words(sent.lookup.as_ref()?));
    let ticket = match held {
        Some(Held::Ticket(ticket)) => Some(ticket),
        _ => again(),
    };
    let ticket = ticket.ok_or(Error::NotFound("ticket"))?;
    let answer = Answer {
        body: Bytes::copy_from_slice(sent.answer.body.get().as_bytes()),
        usage: sent.answer.usage,
        cost_nano: sent.answer.cost_nano,
        model: sent.answer.model,
        created: sent.answer.created,
        provider: sent.answer.provider,
    };
    Ok(match api.cache.store(ticket, answer).await {
        Stored::Kept(id) => Json(json!({"stored": true, "entry": id.to_string()})),
        Stored::Not(why) => Json(json!({"stored": false, "reason": why.as_str()})),
    }
    .into_response())
}

/// LiteLLM's `POST /cache/delete`; the keys are what hits show as theirs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<String>,
    /// Only entries of this tenant.
    scope: Option<String>,
}

async fn delete_keys(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response, Error> {
    let Keys { keys, scope } = parse(&body)?;
    let mut deleted = 0u64;
    for id in keys.iter().filter_map(|key| EntryId::parse(key)) {
        deleted += u64::from(api.cache.delete(id, scope.as_deref()).await?);
    }
    Ok(Json(json!({"deleted": deleted})).into_response())
}

/// What a user thought of a hit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    entry: String,
    verdict: Verdict,
    /// Only an entry of this tenant.
    scope: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Right,
    Wrong,
}

/// A wrong answer is deleted for everyone: the same question, and others like it, go upstream again.
async fn feedback(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response, Error> {
    let told: Feedback = parse(&body)?;
    let id = EntryId::parse(&told.entry).ok_or(Error::NotFound("entry"))?;
    let is_right = matches!(told.verdict, Verdict::Right);
    let known = api.cache.judge(id, is_right, told.scope.as_deref()).await?;
    if known {
        Ok(Json(json!({"deleted": !is_right})).into_response())
    } else {
        Err(Error::NotFound("entry"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    scope: Option<String>,
}

async fn remove(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Result<Response, Error> {
    let id = EntryId::parse(&id).ok_or(Error::NotFound("entry"))?;
    if api.cache.delete(id, of.scope.as_deref()).await? {
        Ok(Json(json!({"deleted": true})).into_response())
    } else {
        Err(Error::NotFound("entry"))
    }
}

async fn clear(State(api): State<Arc<Api>>) -> Result<Response, Error> {
    api.cache.clear().await?;
    Ok(Json(json!({"cleared": true})).into_response())
}

/// LiteLLM's `GET /cache/ping`, with what this cache is made of.
async fn ping(State(api): State<Arc<Api>>) -> Response {
    let ready = api.cache.readiness();
    let kind = match (ready.shared.is_some(), ready.semantic) {
        (false, false) => "local",
        (false, true) => "local-semantic",
        (true, false) => "redis",
        (true, true) => "redis-semantic",
    };
    let stats = api.cache.stats();
    Json(json!({
        "status": if ready.degraded { "degraded" } else { "healthy" },
        "cache_type": kind,
        "entries": stats.entries,
        "bytes": stats.bytes,
    }))
    .into_response()
}

/// Degraded is ready: every request is answered, if only word for word.
async fn readiness(State(api): State<Arc<Api>>) -> Response {
    let ready = api.cache.readiness();
    Json(json!({
        "status": if ready.degraded { "degraded" } else { "healthy" },
        "semantic": ready.semantic,
        "persistent": ready.persistent,
        "redis": ready.shared.map(|shared| match (shared.up, shared.warm) {
            (false, _) => "unreachable",
            (true, false) => "connected, reading",
            (true, true) => "connected",
        }),
        "warnings": ready.warnings,
    }))
    .into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        api.cache.prometheus(),
    )
        .into_response()
}
