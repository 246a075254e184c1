//! Connections over plain HTTP/1.1, kept open between calls.
//!
//! hyper splits a connection into a handle that sends and a future that does the work. That future is
//! usually a task of its own; here whoever uses the connection polls it, and an idle one is polled when
//! it is taken out again, which shows whether the provider has closed it meanwhile.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Peer, Stage, UpstreamError};

/// How long a connection is kept without use. Providers close theirs after 5 s (uvicorn) to minutes.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// Idle connections to one peer.
const IDLE_EACH: usize = 256;

/// A connection and its worker. Boxed: it goes from hand to hand with every call.
pub type Conn = Box<Connected>;

/// See [`Conn`].
#[derive(Debug)]
pub struct Connected {
    sender: SendRequest<Full<Bytes>>,
    driver: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    /// The driver has ended: it must not be polled again.
    ended: bool,
    used: Instant,
}

impl Connected {
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Does whatever can be done now. `Ready`: the connection is over.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let driven = Pin::new(&mut self.driver).poll(cx);
        self.ended = driven.is_ready();
        driven
    }
}

/// The idle connections of one serving thread.
#[derive(Debug, Default)]
pub struct Pool {
    // Never contended: one thread uses it. A lock, since the futures of handlers must be `Send`.
    idle: Mutex<HashMap<Arc<Peer>, Vec<Conn>>>,
}

impl Pool {
    /// Sends a request over a kept connection or a new one.
    pub async fn send(
        &self,
        peer: &Arc<Peer>,
        mut request: Request<Full<Bytes>>,
        connect: Duration,
    ) -> Result<(Response<Incoming>, Conn), UpstreamError> {
        while let Some(conn) = self.take(peer).await {
            match exchange(conn, request).await {
                Ok(done) => return Ok(done),
                // Closed under us before a byte of it was sent: safe to send again.
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(UpstreamError::of_hyper(&error)),
            }
        }
        let conn = tokio::time::timeout(connect, open(peer))
            .await
            .map_err(|_| UpstreamError::Timeout {
                stage: Stage::Connect,
                after: connect,
            })??;
        exchange(conn, request)
            .await
            .map_err(|(error, _)| UpstreamError::of_hyper(&error))
    }

    /// The connection used last, if it is still good.
    async fn take(&self, peer: &Arc<Peer>) -> Option<Conn> {
        loop {
            let mut conn = self.idle.lock().get_mut(peer)?.pop()?;
            if conn.used.elapsed() > IDLE_MAX {
                // Those below it are older still.
                self.idle.lock().remove(peer);
                return None;
            }
            let usable = poll_fn(|cx| {
                Poll::Ready(
                    conn.drive(cx).is_pending()
                        && matches!(conn.sender.poll_ready(cx), Poll::Ready(Ok(()))),
                )
            });
            if usable.await {
                return Some(conn);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end.
    pub fn give_back(&self, peer: &Arc<Peer>, mut conn: Conn) {
        // Nobody waits for it now: whatever it has to say is seen when it is taken out.
        if conn
            .drive(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return;
        }
        conn.used = Instant::now();
        let mut idle = self.idle.lock();
        if let Some(kept) = idle.get_mut(peer) {
            if kept
                .first()
                .is_some_and(|oldest| oldest.used.elapsed() > IDLE_MAX)
            {
                kept.retain(|conn| conn.used.elapsed() <= IDLE_MAX);
            }
            if kept.len() < IDLE_EACH {
                kept.push(conn);
            }
        } else {
            idle.insert(peer.clone(), vec![conn]);
        }
    }
}

async fn open(peer: &Peer) -> Result<Conn, UpstreamError> {
    let stream = TcpStream::connect((peer.host.as_str(), peer.port))
        .await
        .map_err(|e| UpstreamError::Connect(e.to_string()))?;
    stream
        .set_nodelay(true)
        .map_err(|e| UpstreamError::Connect(e.to_string()))?;
    let (sender, driver) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| UpstreamError::of_hyper(&e))?;
    Ok(Box::new(Connected {
        sender,
        driver,
        ended: false,
        used: Instant::now(),
    }))
}

type Unsent = (hyper::Error, Option<Request<Full<Bytes>>>);

/// Sends, and works on the connection until the head of the answer is there.
async fn exchange(
    mut conn: Conn,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Conn), Unsent> {
    let mut response = pin!(conn.sender.try_send_request(request));
    let response = poll_fn(|cx| {
        // Only the driver can complete it, and that is polled right here: it needs no waker.
        let mut unwoken = Context::from_waker(Waker::noop());
        if !conn.ended {
            conn.ended = Pin::new(&mut conn.driver).poll(cx).is_ready();
        }
        let polled = response.as_mut().poll(&mut unwoken);
        if polled.is_pending() && conn.ended {
            // The driver is gone and has dropped its end: the next poll says so.
            return response.as_mut().poll(cx);
        }
        polled
    })
    .await;
    match response {
        Ok(response) => Ok((response, conn)),
        Err(mut error) => {
            let unsent = error.take_message();
            Err((error.into_error(), unsent))
        }
    }
}
