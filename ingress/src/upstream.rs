//! The HTTP client: one request to one provider, its answer as bytes.
//!
//! Two ways out behind one interface. Plain HTTP (vLLM, Ollama, a local gateway) goes through a pool of
//! its own, whose connections are driven by the very task that waits for the answer: no task switch, no
//! channel between tasks. HTTPS and proxied hosts go through reqwest. One [`Upstream`] belongs to one
//! serving thread. Redirects are never followed, and no error ever shows a URL, a header or a key.

mod answer;
mod error;
mod fields;
mod framing;
mod pool;
mod timers;
pub mod trust;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

pub use answer::Answer;
pub use error::{Stage, UpstreamError};
pub use fields::Fields;

use crate::models::{Deployment, Target};
use pool::Pool;
use timers::Timers;
use trust::Clients;

/// A host and port that connections are kept to.
#[derive(Debug)]
pub struct Peer {
    /// No other peer of this process has it.
    pub id: u64,
    pub host: String,
    pub port: u16,
    /// `Host` of requests.
    pub shown: HeaderValue,
    /// Goes through reqwest.
    pub indirect: bool,
}

impl Peer {
    /// The peer of a URL; `None` when it is not HTTP.
    #[must_use]
    pub fn of(url: &reqwest::Url) -> Option<Self> {
        let host = url.host_str()?;
        let port = url.port_or_known_default()?;
        let shown = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let indirect = match url.scheme() {
            "http" => !url.username().is_empty() || proxied(host),
            "https" => true,
            _ => return None,
        };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Some(Self {
            id: NEXT.fetch_add(1, Relaxed),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            shown: HeaderValue::try_from(shown).ok()?,
            indirect,
        })
    }
}

impl Deployment {
    /// When the first bytes of an answer must be there, for a request that goes out now.
    #[must_use]
    pub fn first_byte_by(&self, dispatched: std::time::Instant) -> Option<Instant> {
        let limit = self.entry.timeouts.first_byte;
        limit.map(|limit| (dispatched + limit).into())
    }
}

impl Peer {
    /// Whether connections to one serve the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.host, self.port, self.indirect) == (&other.host, other.port, other.indirect)
    }
}

/// Whether plain HTTP to a host might have to go through a proxy: reqwest then decides.
fn proxied(host: &str) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let local = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    !local
        && ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
            .into_iter()
            .any(set)
}

/// The client of one serving thread.
#[derive(Debug, Default)]
pub struct Upstream {
    pool: Arc<Pool>,
    clients: Clients,
    timers: Timers,
}

impl Upstream {
    /// Sends a request, at `now`, and waits for the head of its answer.
    ///
    /// # Errors
    /// No connection, no answer in time, or something that is not HTTP.
    pub async fn call(
        &self,
        target: &Target,
        deployment: &Deployment,
        body: Bytes,
        now: Instant,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let timeouts = &deployment.entry.timeouts;
        let (until, stage) = match timeouts.first_byte {
            Some(limit) if now + limit < deadline => (now + limit, Stage::FirstByte),
            _ => (deadline, Stage::Total),
        };
        let answer = pin!(async {
            match &deployment.peer {
                Some(peer) if !peer.indirect => {
                    self.direct(peer, timeouts.connect, target, body, now).await
                }
                // Rare enough, or encrypted: a box more is not seen, and its room is saved elsewhere.
                _ => Box::pin(self.through_reqwest(target, deployment, body)).await,
            }
        });
        match self.timers.within(until, answer).await {
            Ok(answer) => answer.map(|answer| answer.bounded(deadline, timeouts.idle)),
            Err(timers::Elapsed) => Err(UpstreamError::Timeout {
                stage,
                after: now.elapsed(),
            }),
        }
    }

    async fn direct(
        &self,
        peer: &Arc<Peer>,
        connect: Duration,
        target: &Target,
        body: Bytes,
        now: Instant,
    ) -> Result<Answer, UpstreamError> {
        let (head, conn, connected) = self
            .pool
            .send(peer, &target.head, &body, connect, now)
            .await?;
        let mut answer = Answer::pooled(head, conn, self.pool.clone(), peer.clone());
        answer.connected = connected;
        Ok(answer)
    }

    async fn through_reqwest(
        &self,
        target: &Target,
        deployment: &Deployment,
        body: Bytes,
    ) -> Result<Answer, UpstreamError> {
        let connect = deployment.entry.timeouts.connect;
        let client = self
            .clients
            .get(
                &deployment.entry.shape.trust,
                deployment.authorities.as_ref(),
                connect,
            )
            .map_err(|e| UpstreamError::of_reqwest(e, connect))?;
        let mut headers = deployment.headers.clone();
        if let Some(form) = &target.form {
            headers.insert(http::header::CONTENT_TYPE, form.clone());
        }
        let response = client
            .post(target.url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(|e| UpstreamError::of_reqwest(e, connect))?;
        let (head, body) = http::Response::from(response).into_parts();
        Ok(Answer::reqwest(&head, body))
    }
}
