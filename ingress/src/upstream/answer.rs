//! An answer as it comes in. Dropping one that is not at its end closes the connection, which tells the
//! provider to stop.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::{Conn, Pool};
use super::{Peer, Stage, UpstreamError};

/// Head and body of an answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    source: Source,
    deadline: Instant,
    idle: Duration,
    /// The last time something came.
    heard: Instant,
    /// Made when there is first something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
}

enum Source {
    Pooled {
        body: Incoming,
        /// Gone once it has been given back.
        conn: Option<Conn>,
        pool: Arc<Pool>,
        peer: Arc<Peer>,
    },
    Reqwest(Box<reqwest::Body>),
    Local(VecDeque<Bytes>),
    Ended,
}

impl Answer {
    fn new(head: http::response::Parts, source: Source) -> Self {
        let now = Instant::now();
        Self {
            status: head.status,
            headers: head.headers,
            source,
            deadline: now,
            idle: Duration::MAX,
            heard: now,
            timer: None,
        }
    }

    pub(super) fn pooled(
        head: http::response::Parts,
        body: Incoming,
        conn: Conn,
        pool: Arc<Pool>,
        peer: Arc<Peer>,
    ) -> Self {
        Self::new(
            head,
            Source::Pooled {
                body,
                conn: Some(conn),
                pool,
                peer,
            },
        )
    }

    pub(super) fn reqwest(head: http::response::Parts, body: reqwest::Body) -> Self {
        Self::new(head, Source::Reqwest(Box::new(body)))
    }

    /// An answer made in this process, through the same code as any other.
    #[must_use]
    pub fn local(
        status: StatusCode,
        headers: HeaderMap,
        chunks: VecDeque<Bytes>,
        deadline: Instant,
    ) -> Self {
        let (mut head, ()) = http::Response::new(()).into_parts();
        (head.status, head.headers) = (status, headers);
        Self::new(head, Source::Local(chunks)).bounded(deadline, Duration::MAX)
    }

    pub(super) fn bounded(mut self, deadline: Instant, idle: Duration) -> Self {
        (self.deadline, self.idle) = (deadline, idle);
        self
    }

    /// The next bytes, as they arrived; `None` at the end. Never waits for more than there is.
    pub fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        let polled = self.source.poll_data(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                // Read from the clock only where a timer will ask.
                if self.timer.is_some() {
                    self.heard = Instant::now();
                }
                polled
            }
            Poll::Ready(_) => {
                self.source = Source::Ended;
                polled
            }
            Poll::Pending => self.poll_timer(cx).map(|error| Some(Err(error))),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamError> {
        let due = |heard: Instant| {
            heard
                .checked_add(self.idle)
                .map_or(self.deadline, |idle| idle.min(self.deadline))
        };
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => {
                self.heard = Instant::now();
                none.insert(Box::pin(tokio::time::sleep_until(due(self.heard))))
            }
        };
        loop {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let next = due(self.heard);
            let now = Instant::now();
            if next <= now {
                let (stage, after) = if now >= self.deadline {
                    (Stage::Total, now.duration_since(self.heard))
                } else {
                    (Stage::Idle, self.idle)
                };
                self.source = Source::Ended;
                return Poll::Ready(UpstreamError::Timeout { stage, after });
            }
            // Something came since: the timer is put off only now, not with every chunk.
            timer.as_mut().reset(next);
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// As reading goes, or when it is larger than `limit` bytes.
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, UpstreamError> {
        let Some(first) = poll_fn(|cx| self.poll_data(cx)).await.transpose()? else {
            return Ok(Bytes::new());
        };
        let Some(second) = poll_fn(|cx| self.poll_data(cx)).await.transpose()? else {
            // The usual case: one read brought it all.
            return Ok(first);
        };
        let mut all = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if all.len() + chunk.len() > limit {
                return Err(UpstreamError::TooLarge(limit));
            }
            all.extend_from_slice(&chunk);
            next = poll_fn(|cx| self.poll_data(cx)).await.transpose()?;
        }
        Ok(all.freeze())
    }

    /// Reads to the end what nobody needs any more, so that the connection can be used again.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.poll_data(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What is left to read of an answer that is over for its reader, to be drained elsewhere.
    pub fn take_rest(&mut self) -> Option<Self> {
        if matches!(self.source, Source::Ended) {
            return None;
        }
        Some(Self {
            status: self.status,
            headers: HeaderMap::new(),
            source: std::mem::replace(&mut self.source, Source::Ended),
            deadline: self.deadline,
            idle: self.idle,
            heard: self.heard,
            timer: None,
        })
    }
}

impl Source {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        match self {
            Self::Pooled {
                body,
                conn,
                pool,
                peer,
            } => poll_pooled(body, conn, pool, peer, cx),
            Self::Reqwest(body) => loop {
                let frame = std::task::ready!(Pin::new(&mut **body).poll_frame(cx));
                match frame {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => {
                        return Poll::Ready(Some(Err(UpstreamError::of_reqwest(
                            error,
                            Duration::ZERO,
                        ))));
                    }
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                }
            },
            Self::Local(chunks) => Poll::Ready(chunks.pop_front().map(Ok)),
            Self::Ended => Poll::Ready(None),
        }
    }
}

fn poll_pooled(
    body: &mut Incoming,
    conn: &mut Option<Conn>,
    pool: &Pool,
    peer: &Arc<Peer>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, UpstreamError>>> {
    // Only the driver can bring more, and that is polled right here: the body needs no waker.
    let mut unwoken = Context::from_waker(Waker::noop());
    let mut driven = false;
    loop {
        let mut take = || Pin::new(&mut *body).poll_frame(&mut unwoken);
        let taken = match &conn {
            Some(conn) => conn.muffled(take),
            None => take(),
        };
        match taken {
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(UpstreamError::of_hyper(&error))));
            }
            Poll::Ready(None) => {
                if let Some(conn) = conn.take() {
                    pool.give_back(peer, conn);
                }
                return Poll::Ready(None);
            }
            Poll::Pending => {
                let Some(conn) = conn else {
                    return Poll::Ready(None);
                };
                if driven {
                    return if conn.is_ended() {
                        Poll::Ready(Some(Err(UpstreamError::Closed)))
                    } else {
                        Poll::Pending
                    };
                }
                // If it ends now it closes the body: the next round sees that.
                let _ = conn.drive(cx);
                driven = true;
            }
        }
    }
}
