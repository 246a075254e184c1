//! Connections over plain HTTP/1.1, kept open between calls. Whoever uses one does its work; nobody
//! watches an idle one, which is looked at when it is taken out again.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::wire::{Head, Wire, WireError};
use super::{Peer, Stage, UpstreamError};

/// How long a connection is kept without use. Providers close theirs after 5 s (uvicorn) to minutes.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// Idle connections to one peer.
const IDLE_EACH: usize = 256;

/// A connection that goes from hand to hand.
pub type Conn = Box<Wire>;

/// The idle connections of one serving thread.
#[derive(Debug, Default)]
pub struct Pool {
    // Never contended: one thread uses it. A lock, since the futures of handlers must be `Send`.
    idle: Mutex<HashMap<u64, Vec<Conn>, ById>>,
}

/// Peers are numbered: their numbers need no hashing.
type ById = BuildHasherDefault<Id>;

#[derive(Debug, Default)]
pub struct Id(u64);

impl Hasher for Id {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, number: u64) {
        // Spread over the bits that a table looks at.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Pool {
    /// Sends a request over a kept connection or a new one. Answers how long a new one took.
    pub async fn send(
        &self,
        peer: &Peer,
        head: &[u8],
        body: &Bytes,
        connect: Duration,
        now: Instant,
    ) -> Result<(Head, Conn, Option<Duration>), UpstreamError> {
        while let Some(mut conn) = self.take(peer, now).await {
            match conn.exchange(head, body).await {
                Ok(head) => return Ok((head, conn, None)),
                Err(WireError::Unsent) => {}
                // Closed by the provider in this very moment, perhaps. What it had read of the request by then
                // nobody knows, so it is not sent again: the client is told, and decides.
                Err(error) => return Err(error.into()),
            }
        }
        let began = Instant::now();
        let wire = tokio::time::timeout(connect, open(peer))
            .await
            .map_err(|_| UpstreamError::Timeout {
                stage: Stage::Connect,
                after: connect,
            })??;
        let took = began.elapsed();
        let mut conn = Box::new(wire);
        let head = conn.exchange(head, body).await?;
        Ok((head, conn, Some(took)))
    }

    /// The connection used last, if it is still good.
    async fn take(&self, peer: &Peer, now: Instant) -> Option<Conn> {
        loop {
            let mut conn = self.idle.lock().get_mut(&peer.id)?.pop()?;
            if now.saturating_duration_since(conn.used) > IDLE_MAX {
                // Those below it are older still.
                self.idle.lock().remove(&peer.id);
                return None;
            }
            if poll_fn(|cx| Poll::Ready(conn.is_idle(cx))).await {
                return Some(conn);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end.
    pub fn give_back(&self, peer: &Peer, mut conn: Conn) {
        if !conn.buffer.is_empty() {
            // More than was asked for: whatever it is, the next answer would not be one.
            return;
        }
        let now = Instant::now();
        conn.used = now;
        let old = |conn: &Conn| now.saturating_duration_since(conn.used) > IDLE_MAX;
        let mut idle = self.idle.lock();
        if !idle.contains_key(&peer.id) {
            // A peer that no deployment has any more is never asked for: its last connection tells.
            idle.retain(|_, kept| kept.last().is_some_and(|conn| !old(conn)));
        }
        let kept = idle.entry(peer.id).or_default();
        if kept.first().is_some_and(old) {
            kept.retain(|conn| !old(conn));
        }
        if kept.len() < IDLE_EACH {
            kept.push(conn);
        }
    }
}

impl From<WireError> for UpstreamError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Unsent | WireError::Closed => Self::Closed,
            WireError::Malformed(why) => Self::Malformed(why.to_owned()),
        }
    }
}

async fn open(peer: &Peer) -> Result<Wire, UpstreamError> {
    let failed = |error: std::io::Error| UpstreamError::Connect(error.to_string());
    let stream = TcpStream::connect((peer.host.as_str(), peer.port))
        .await
        .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(Wire::new(stream))
}
