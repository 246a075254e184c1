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
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use crate::config::{Controls, Policy};
use crate::entries::{Answer, EntryId, Tokens};
use crate::error::Error;
use crate::lookup::{CacheService, Ticket};
use crate::outcome::{Hit, Lookup, Outcome, Stored};

/// Tickets that may be out; beyond, a miss carries none and its answer is not stored.
const TICKETS_MAX: usize = 10_000;
/// Longer than any call may take.
const TICKET_LIFE: Duration = Duration::from_secs(600);
/// Of one request to this api: an answer with its wrapping.
const BODY_MAX: usize = 32 << 20;

/// What a gateway sends to `POST /v1/lookup`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// The tenant, from the authenticated key only.
    pub scope: String,
    /// The model that the request was resolved to.
    pub model: String,
    /// The client's chat request as it came.
    pub request: Box<RawValue>,
    /// What the client asks of the cache.
    #[serde(default)]
    pub controls: Controls,
    /// What the operator allows.
    #[serde(default)]
    pub policy: Policy,
}

/// What it gets back.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum LookupReply {
    /// Here is the answer.
    Hit {
        /// `exact` or `semantic`.
        kind: String,
        /// Cosine of the two questions.
        similarity: f32,
        /// The entry's id.
        entry: String,
        /// Seconds since it was stored.
        age_s: u64,
        /// The answer.
        answer: WireAnswer,
    },
    /// Ask the provider, then `POST /v1/store` with the ticket, if there is one.
    Miss {
        /// Why.
        reason: String,
        /// Names what the cache remembers of the request.
        ticket: Option<String>,
    },
    /// Ask the provider; nothing will be stored.
    Bypass {
        /// Why.
        reason: String,
    },
}

/// An [`Answer`] as JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WireAnswer {
    /// The provider's `chat.completion` object.
    pub body: Box<RawValue>,
    /// What the provider counted.
    #[serde(default)]
    pub usage: Tokens,
    /// What the call cost, in nano-dollars.
    #[serde(default)]
    pub cost_nano: i64,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// When, in seconds since the Unix epoch.
    #[serde(default)]
    pub created: i64,
    /// Who answered.
    #[serde(default)]
    pub provider: String,
}

/// What a gateway sends to `POST /v1/store`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRequest {
    /// From the miss.
    pub ticket: String,
    /// The complete answer.
    pub answer: WireAnswer,
}

struct Api {
    cache: Arc<CacheService>,
    tickets: Mutex<HashMap<String, (Ticket, Instant)>>,
    count: AtomicU64,
    /// Keyed at random, so that a ticket of an earlier process means nothing to this one.
    keyed: RandomState,
}

/// All routes. With a token every route but the health checks wants it as a bearer token.
pub fn router(cache: Arc<CacheService>, token: Option<String>) -> Router {
    let api = Arc::new(Api {
        cache,
        tickets: Mutex::default(),
        count: AtomicU64::new(0),
        keyed: RandomState::new(),
    });
    let token: Option<Arc<str>> = token.map(Into::into);
    Router::new()
        .route("/v1/lookup", post(lookup))
        .route("/v1/store", post(store))
        .route("/v1/entries/{id}", delete(remove))
        .route("/v1/clear", post(clear))
        .route("/cache/ping", get(ping))
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

fn is_sent(request: &Request, token: &str) -> bool {
    request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|sent| sent.ct_eq(token.as_bytes()).into())
}

async fn lookup(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<LookupReply>, Error> {
    let asked: LookupRequest =
        serde_json::from_slice(&body).map_err(|e| Error::Request(e.to_string()))?;
    let mut outcome = api
        .cache
        .lookup(Lookup {
            scope: &asked.scope,
            model: &asked.model,
            body: asked.request.get().as_bytes(),
            controls: asked.controls,
            policy: &asked.policy,
        })
        .await;
    if let Outcome::Wait(follower) = outcome {
        outcome = api.cache.wait(follower).await;
    }
    Ok(Json(match outcome {
        Outcome::Hit(hit) => hit_reply(&hit)?,
        Outcome::Miss(ticket, reason) => LookupReply::Miss {
            reason: reason.as_str().to_owned(),
            ticket: api.keep(ticket),
        },
        Outcome::Bypass(reason) => LookupReply::Bypass {
            reason: reason.as_str().to_owned(),
        },
        // `wait` gives none again; were it to, the request would go upstream.
        Outcome::Wait(_) => LookupReply::Miss {
            reason: "follower-wait".to_owned(),
            ticket: None,
        },
    }))
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
    fn keep(&self, ticket: Ticket) -> Option<String> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number:x}-{:016x}", self.keyed.hash_one(number));
        let mut tickets = self.tickets.lock();
        if tickets.len() >= TICKETS_MAX || number.is_multiple_of(256) {
            tickets.retain(|_, (_, since)| since.elapsed() < TICKET_LIFE);
        }
        if tickets.len() >= TICKETS_MAX {
            return None;
        }
        tickets.insert(name.clone(), (ticket, Instant::now()));
        Some(name)
    }
}

async fn store(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response, Error> {
    let sent: StoreRequest =
        serde_json::from_slice(&body).map_err(|e| Error::Request(e.to_string()))?;
    let (ticket, _) = api
        .tickets
        .lock()
        .remove(&sent.ticket)
        .ok_or(Error::NotFound("ticket"))?;
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
    if api.cache.delete(id, of.scope.as_deref()).await {
        Ok(Json(json!({"deleted": true})).into_response())
    } else {
        Err(Error::NotFound("entry"))
    }
}

async fn clear(State(api): State<Arc<Api>>) -> Response {
    api.cache.clear().await;
    Json(json!({"cleared": true})).into_response()
}

/// LiteLLM's `GET /cache/ping`, with what this cache is made of.
async fn ping(State(api): State<Arc<Api>>) -> Response {
    let ready = api.cache.readiness();
    let kind = if ready.semantic {
        "local-semantic"
    } else {
        "local"
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
        "warnings": ready.warnings,
    }))
    .into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        api.cache.stats().prometheus(),
    )
        .into_response()
}
