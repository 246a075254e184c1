//! The other end of [`crate::api`]: a cache in another process, as a gateway asks it.
//!
//! A look-up never waits longer than its time limit, is never sent twice, and is never an error:
//! whatever goes wrong is a miss. After a few failures in a row nobody asks for a while (see
//! [`crate::breaker`]). Tickets whose call came to nothing are given back in the background, so that
//! requests which wait for them go ahead.

mod counters;
mod pool;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::breaker::{Breaker, State};
use crate::eligibility::Reason;
use crate::entries::{Answer, EntryId};
use crate::error::Error;
use crate::outcome::HitKind;
use crate::request::Lookup;
use crate::wire::{AnyReply, LookupRequest, StoreRequest, TicketRequest, WireAnswer};
use counters::Counters;
use pool::{Fault, Pool};

/// Of a reply: an answer with its wrapping.
const REPLY_MAX: usize = 32 << 20;
/// Off the client's way; the cache may embed meanwhile.
const STORE: Duration = Duration::from_secs(10);
/// Of small messages.
const SHORT: Duration = Duration::from_secs(1);
/// A little longer than the cache lets a request wait for an identical one (10 s).
const WAIT: Duration = Duration::from_secs(11);
/// Tickets that wait to be given back; beyond, the cache finds out by itself.
const RELEASES: usize = 4_096;
/// Why a request is a miss while the cache cannot be asked.
pub const UNAVAILABLE: &str = "cache-unavailable";

/// Where the cache is, and how long it is waited for.
#[derive(Clone)]
pub struct ClientConfig {
    /// `http://host:port`.
    pub url: String,
    /// The cache's bearer token. Never shown.
    pub token: Option<String>,
    /// Longest wait of a look-up. Default 60 ms.
    pub timeout: Duration,
    /// Larger request bodies are not sent, in bytes. Default 256 KiB, as the cache's own.
    pub body_bytes_max: usize,
}

impl ClientConfig {
    /// The defaults, for the cache at this address.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            timeout: Duration::from_millis(60),
            body_bytes_max: 256 << 10,
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("url", &self.url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What a look-up came to.
#[derive(Debug)]
pub enum Reply {
    /// Here is the answer.
    Hit {
        /// Which tier.
        kind: HitKind,
        /// Cosine of the two questions.
        similarity: f32,
        /// The entry's id.
        entry: String,
        /// The answer.
        answer: Answer,
    },
    /// Ask the provider, then [`Client::store`].
    Miss(RemoteTicket, &'static str),
    /// Ask the provider; nothing is to be stored.
    Bypass(&'static str),
}

/// What a miss remembers. Dropping it tells the cache that no answer will come.
#[derive(Default)]
pub struct RemoteTicket {
    /// `None`: nothing to store, or nowhere.
    held: Option<Held>,
}

struct Held {
    name: String,
    lookup: LookupRequest,
    releases: mpsc::Sender<String>,
}

impl Drop for RemoteTicket {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // Full or closed: the cache lets others go ahead after a while anyway.
            let _ = held.releases.try_send(held.name);
        }
    }
}

impl fmt::Debug for RemoteTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTicket")
            .field("held", &self.held.is_some())
            .finish()
    }
}

/// A cache in another process. Shared by all threads of a gateway.
pub struct Client {
    inner: Arc<Inner>,
    releases: mpsc::Sender<String>,
    /// Gives tickets back.
    releaser: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    pool: Pool,
    host: HeaderValue,
    token: Option<HeaderValue>,
    timeout: Duration,
    body_bytes_max: usize,
    breaker: Breaker,
    /// Makes the names of tickets, which no other gateway uses.
    names: RandomState,
    named: AtomicU64,
    counters: Counters,
}

/// Why a request brought nothing.
enum Unanswered {
    Late,
    Fault(Fault),
    Status(StatusCode),
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(releaser) = self.releaser.lock().take() {
            releaser.abort();
        }
    }
}

impl Client {
    /// Connects to nothing yet. Needs a runtime, for a task that lives as long as the client.
    ///
    /// # Errors
    /// The address or the token cannot be meant.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let bad = |name, problem: &str| Error::Config {
            name,
            problem: problem.to_owned(),
        };
        let uri: Uri = config
            .url
            .parse()
            .map_err(|_| bad("url", "not an address"))?;
        let authority = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) if uri.path().trim_matches('/').is_empty() => authority,
            _ => return Err(bad("url", "not of the form http://host:port")),
        };
        if authority.as_str().contains('@') {
            return Err(bad("url", "holds a password: use the token"));
        }
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| bad("url", "not a host and port"))?;
        let mut token = config
            .token
            .map(|token| HeaderValue::try_from(format!("Bearer {token}")))
            .transpose()
            .map_err(|_| bad("token", "has characters that no header may have"))?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        if config.timeout.is_zero() {
            return Err(bad("timeout_ms", "must not be zero"));
        }
        let inner = Arc::new(Inner {
            pool: Pool::new(
                authority.host().trim_matches(['[', ']']).to_owned(),
                authority.port_u16().unwrap_or(80),
            ),
            host,
            token,
            timeout: config.timeout,
            body_bytes_max: config.body_bytes_max,
            breaker: Breaker::default(),
            names: RandomState::new(),
            named: AtomicU64::new(0),
            counters: Counters::default(),
        });
        let (releases, waiting) = mpsc::channel(RELEASES);
        let releaser = tokio::spawn(release(Arc::clone(&inner), waiting));
        Ok(Self {
            inner,
            releases,
            releaser: Mutex::new(Some(releaser)),
        })
    }

    /// Looks for an answer. Returns within the time limit, or, where the same request is under way,
    /// once that has its answer.
    pub async fn lookup(&self, lookup: &Lookup<'_>) -> Reply {
        let inner = &self.inner;
        if lookup.body.len() > inner.body_bytes_max {
            return Reply::Bypass(Reason::TooLarge.as_str());
        }
        let Ok(request) = serde_json::from_slice::<Box<RawValue>>(lookup.body) else {
            return Reply::Bypass(Reason::Unreadable.as_str());
        };
        let Some(pass) = inner.breaker.pass(Instant::now()) else {
            inner.counters.skipped.fetch_add(1, Relaxed);
            return unavailable();
        };
        let budget_ms = u64::try_from(inner.timeout.as_millis()).unwrap_or(u64::MAX);
        let asked = LookupRequest {
            scope: lookup.scope.to_owned(),
            model: lookup.model.to_owned(),
            request,
            controls: lookup.controls.clone(),
            policy: lookup.policy.clone(),
            budget_ms: Some(budget_ms.max(1)),
            ticket: Some(inner.name()),
        };
        // From here on a ticket may be out over there.
        let mut ticket = self.hold(asked);
        let Some(held) = &ticket.held else {
            return unavailable();
        };
        let started = Instant::now();
        let reply = inner
            .post("/v1/lookup", &held.lookup, inner.timeout)
            .await
            .and_then(read);
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        inner.counters.micros.fetch_add(micros, Relaxed);
        let reply = match reply {
            Ok(reply) => {
                pass.succeeded();
                inner.counters.answered.fetch_add(1, Relaxed);
                reply
            }
            Err(why) => {
                match why {
                    Unanswered::Late => inner.counters.timeouts.fetch_add(1, Relaxed),
                    _ => inner.counters.failed.fetch_add(1, Relaxed),
                };
                if pass.failed(Instant::now()) {
                    tracing::warn!("the answer cache is left alone for a while: {why}");
                }
                return unavailable();
            }
        };
        if reply.outcome != "wait" {
            return self.read(reply, ticket);
        }
        let queue = TicketRequest {
            ticket: reply.ticket.unwrap_or_default(),
        };
        match inner.post("/v1/wait", &queue, WAIT).await.and_then(read) {
            Ok(reply) => self.read(reply, ticket),
            Err(_) => {
                // Nobody waits for this one, and it waits for nobody.
                ticket.held = None;
                Reply::Miss(ticket, UNAVAILABLE)
            }
        }
    }

    /// Keeps an answer. Not on a client's way: the cache may embed.
    pub async fn store(&self, mut ticket: RemoteTicket, answer: Answer) {
        let stored = match ticket.held.take() {
            Some(held) => self.inner.store(held, &answer).await,
            None => false,
        };
        let counters = &self.inner.counters;
        let counter = if stored {
            &counters.stored
        } else {
            &counters.not_stored
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Deletes an entry for everyone. Returns whether there was one; an error tells that the cache
    /// cannot be asked.
    ///
    /// # Errors
    /// The cache, or its store, does not answer.
    pub async fn delete(&self, entry: EntryId, scope: Option<&str>) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct Delete<'a> {
            keys: [String; 1],
            #[serde(skip_serializing_if = "Option::is_none")]
            scope: Option<&'a str>,
        }
        let keys = [entry.to_string()];
        let sent = self
            .inner
            .post("/cache/delete", &Delete { keys, scope }, SHORT * 5)
            .await;
        let (_, body) = sent.map_err(|_| Error::StoreDown)?;
        let reply: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(reply.get("deleted").and_then(serde_json::Value::as_u64) > Some(0))
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.breaker.state()
    }

    /// Waits until the tickets that were dropped are given back; call it before the process ends.
    pub async fn drain(&self) {
        let Some(releaser) = self.releaser.lock().take() else {
            return;
        };
        // Tickets that are still out hold the channel open, so its end is not waited for.
        let until = Instant::now() + SHORT;
        while self.releases.capacity() < RELEASES && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        releaser.abort();
    }

    /// For the metrics.
    pub fn prometheus(&self, out: &mut String) {
        let inner = &self.inner;
        inner
            .counters
            .write(out, &inner.breaker, inner.pool.opened());
    }

    fn hold(&self, lookup: LookupRequest) -> RemoteTicket {
        let held = lookup.ticket.clone().map(|name| Held {
            name,
            lookup,
            releases: self.releases.clone(),
        });
        RemoteTicket { held }
    }

    /// Reads a reply; a ticket that is not out over there is not given back.
    fn read(&self, reply: AnyReply, mut ticket: RemoteTicket) -> Reply {
        let reason = Reason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .find(|reason| *reason == reply.reason)
            .unwrap_or("unknown");
        match (reply.outcome.as_str(), reply.answer) {
            ("hit", Some(answer)) => {
                ticket.held = None;
                Reply::Hit {
                    kind: if reply.kind == HitKind::Exact.as_str() {
                        HitKind::Exact
                    } else {
                        HitKind::Semantic
                    },
                    similarity: reply.similarity,
                    entry: reply.entry,
                    answer: Answer {
                        body: Bytes::copy_from_slice(answer.body.get().as_bytes()),
                        usage: answer.usage,
                        cost_nano: answer.cost_nano,
                        model: answer.model,
                        created: answer.created,
                        provider: answer.provider,
                    },
                }
            }
            ("miss", _) => {
                match (reply.ticket, &mut ticket.held) {
                    (Some(name), Some(held)) => held.name = name,
                    _ => ticket.held = None,
                }
                Reply::Miss(ticket, reason)
            }
            ("bypass", _) => {
                ticket.held = None;
                Reply::Bypass(reason)
            }
            _ => Reply::Miss(ticket, UNAVAILABLE),
        }
    }
}

impl Inner {
    fn name(&self) -> String {
        let number = self.named.fetch_add(1, Relaxed);
        format!("{number:x}-{:016x}", self.names.hash_one(number))
    }

    async fn store(&self, held: Held, answer: &Answer) -> bool {
        let Ok(body) = serde_json::from_slice::<Box<RawValue>>(&answer.body) else {
            return false;
        };
        let Held {
            name,
            lookup,
            releases,
        } = held;
        let mut store = StoreRequest {
            ticket: Some(name.clone()),
            lookup: None,
            answer: WireAnswer {
                body,
                usage: answer.usage,
                cost_nano: answer.cost_nano,
                model: answer.model.clone(),
                created: answer.created,
                provider: answer.provider.clone(),
            },
        };
        if self.breaker.state() != State::Closed {
            return false;
        }
        match self.post("/v1/store", &store, STORE).await {
            Ok(_) => true,
            // Another cache behind the same address, or one that has started anew.
            Err(Unanswered::Status(StatusCode::NOT_FOUND)) => {
                (store.ticket, store.lookup) = (None, Some(lookup));
                self.post("/v1/store", &store, STORE).await.is_ok()
            }
            Err(_) => {
                // As when a ticket is dropped.
                let _ = releases.try_send(name);
                false
            }
        }
    }

    async fn post(
        &self,
        path: &'static str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        let broken = |_| Unanswered::Fault(Fault::Reply);
        let body = serde_json::to_vec(body).map_err(broken)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        match tokio::time::timeout(timeout, self.pool.send(request, REPLY_MAX)).await {
            Err(_) => Err(Unanswered::Late),
            Ok(Err(fault)) => Err(Unanswered::Fault(fault)),
            Ok(Ok((status, _))) if !status.is_success() => Err(Unanswered::Status(status)),
            Ok(Ok(reply)) => Ok(reply),
        }
    }
}

/// Gives tickets back, one after another.
async fn release(inner: Arc<Inner>, mut waiting: mpsc::Receiver<String>) {
    while let Some(ticket) = waiting.recv().await {
        if inner.breaker.state() == State::Closed {
            // Where it fails, the cache lets others go ahead after a while.
            let _ = inner
                .post("/v1/release", &TicketRequest { ticket }, SHORT)
                .await;
        }
    }
}

fn read((_, body): (StatusCode, Bytes)) -> Result<AnyReply, Unanswered> {
    serde_json::from_slice(&body).map_err(|_| Unanswered::Fault(Fault::Reply))
}

fn unavailable() -> Reply {
    Reply::Miss(RemoteTicket::default(), UNAVAILABLE)
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("it does not answer in time"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Status(StatusCode::UNAUTHORIZED) => f.write_str("it refuses our token"),
            Self::Status(status) => write!(f, "it answers {status}"),
        }
    }
}
