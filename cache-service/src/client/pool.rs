//! Connections to a cache, kept open between requests.
//!
//! A connection is driven by the very task that waits for its reply, so nothing runs while it is idle
//! and none outlives its owner. Each thread takes those that it opened, since their sockets belong to
//! its runtime. Never sends a request twice.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::thread::ThreadId;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;

/// Idle connections that a thread keeps; a burst beyond closes its own again.
const IDLE_MAX: usize = 64;

/// What went wrong on the way. Holds no address and no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("no connection")]
    Connect,
    #[error("the connection broke")]
    Broken,
    #[error("not a reply that a cache gives")]
    Reply,
}

type Body = Full<Bytes>;

struct Connection {
    sender: SendRequest<Body>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Body>>>,
}

/// The connections to one host and port.
pub(super) struct Pool {
    host: String,
    port: u16,
    idle: Mutex<HashMap<ThreadId, Vec<Connection>>>,
    opened: AtomicU64,
}

impl Pool {
    pub(super) fn new(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            idle: Mutex::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// Connections opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Sends a request and reads its whole reply, of at most `reply_max` bytes. Dropping the future
    /// closes the connection.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        reply_max: usize,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let mut connection = match self.take().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let reply = connection.exchange(request, reply_max).await?;
        self.put(connection);
        Ok(reply)
    }

    /// An idle connection that the other side has not closed.
    async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self
                .idle
                .lock()
                .get_mut(&std::thread::current().id())?
                .pop()?;
            if connection.is_ready().await {
                return Some(connection);
            }
        }
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        let own = idle.entry(std::thread::current().id()).or_default();
        if own.len() < IDLE_MAX {
            own.push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|_| Fault::Connect)?;
        // Else the second write of a request may wait for an acknowledgement.
        stream.set_nodelay(true).map_err(|_| Fault::Connect)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Fault::Connect)?;
        self.opened.fetch_add(1, Relaxed);
        let mut connection = Connection {
            sender,
            driver: Box::pin(driver),
        };
        if connection.is_ready().await {
            Ok(connection)
        } else {
            Err(Fault::Connect)
        }
    }
}

impl Connection {
    /// Lets the connection see what has happened to it, without waiting.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            if self.driver.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            Poll::Ready(matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(()))))
        })
        .await
    }

    async fn exchange(
        &mut self,
        request: Request<Body>,
        reply_max: usize,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let Self { sender, driver } = self;
        let reply = async {
            let reply = sender
                .send_request(request)
                .await
                .map_err(|_| Fault::Broken)?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), reply_max)
                .collect()
                .await
                .map_err(|_| Fault::Reply)?;
            Ok((status, body.to_bytes()))
        };
        let mut reply = pin!(reply);
        let mut ended = false;
        poll_fn(|cx| {
            // The reply's last bytes may come with the connection's end.
            ended = ended || driver.as_mut().poll(cx).is_ready();
            match reply.as_mut().poll(cx) {
                Poll::Pending if ended => Poll::Ready(Err(Fault::Broken)),
                other => other,
            }
        })
        .await
    }
}
