//! Connections over plain HTTP/1.1, kept open between calls.
//!
//! hyper splits a connection into a handle that sends and a future that does the work. That future is
//! usually a task of its own; here whoever uses the connection polls it, and an idle one is polled when
//! it is taken out again, which shows whether the provider has closed it meanwhile.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
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
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
    /// The driver has ended: it must not be polled again.
    ended: bool,
    used: Instant,
}

/// Wakes whoever uses a connection, unless that is who rings: a user that takes from the connection
/// makes it ring for itself, and polls it again anyway.
#[derive(Debug)]
struct Bell {
    user: Mutex<Waker>,
    muffled: AtomicBool,
}

impl Bell {
    fn muffled<T>(&self, take: impl FnOnce() -> T) -> T {
        self.muffled.store(true, Relaxed);
        let taken = take();
        self.muffled.store(false, Relaxed);
        taken
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.muffled.load(Relaxed) {
            self.user.lock().wake_by_ref();
        }
    }
}

impl Connected {
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Does whatever can be done now. `Ready`: the connection is over.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        self.bell.user.lock().clone_from(cx.waker());
        let driven = Pin::new(&mut self.driver).poll(&mut Context::from_waker(&self.waker));
        self.ended = driven.is_ready();
        driven.map(drop)
    }

    /// Takes something from the connection. Whoever does must drive it before it waits.
    pub fn muffled<T>(&self, take: impl FnOnce() -> T) -> T {
        self.bell.muffled(take)
    }
}

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
    /// Sends a request over a kept connection or a new one.
    pub async fn send(
        &self,
        peer: &Peer,
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
    async fn take(&self, peer: &Peer) -> Option<Conn> {
        loop {
            let mut conn = self.idle.lock().get_mut(&peer.id)?.pop()?;
            if conn.used.elapsed() > IDLE_MAX {
                // Those below it are older still.
                self.idle.lock().remove(&peer.id);
                return None;
            }
            let usable = poll_fn(|cx| {
                let open = conn.drive(cx).is_pending();
                let Connected { sender, bell, .. } = &mut *conn;
                let ready = bell.muffled(|| sender.poll_ready(cx));
                Poll::Ready(open && matches!(ready, Poll::Ready(Ok(()))))
            });
            if usable.await {
                return Some(conn);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end.
    pub fn give_back(&self, peer: &Peer, mut conn: Conn) {
        // Nobody waits for it now: whatever it has to say is seen when it is taken out.
        if conn
            .drive(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return;
        }
        conn.used = Instant::now();
        let mut idle = self.idle.lock();
        if let Some(kept) = idle.get_mut(&peer.id) {
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
            idle.insert(peer.id, vec![conn]);
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
    let bell = Arc::new(Bell {
        user: Mutex::new(Waker::noop().clone()),
        muffled: AtomicBool::new(false),
    });
    Ok(Box::new(Connected {
        sender,
        driver,
        waker: bell.clone().into(),
        bell,
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
    let Connected { sender, bell, .. } = &mut *conn;
    let mut response = pin!(bell.muffled(|| sender.try_send_request(request)));
    let response = poll_fn(|cx| {
        let over = conn.drive(cx).is_ready();
        // Only the driver can complete it, and that was polled right here: it needs no waker.
        let mut unwoken = Context::from_waker(Waker::noop());
        let polled = conn.muffled(|| response.as_mut().poll(&mut unwoken));
        if polled.is_pending() && over {
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
