//! An answer as it comes in. Dropping one that is not at its end closes the connection, which tells the
//! provider to stop.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use tokio::time::{Instant, Sleep};

use super::fields::Fields;
use super::framing::{Framing, Step};
use super::pool::{Conn, Pool};
use super::wire::Head;
use super::{Peer, Stage, UpstreamError};
use crate::sse;

/// A first frame is waited for up to this size.
const FIRST_MAX: usize = 64 << 10;

/// Head and body of an answer.
pub struct Answer {
    pub status: StatusCode,
    pub fields: Fields,
    /// How long a new connection took; none where one was kept.
    pub connected: Option<Duration>,
    source: Source,
    deadline: Instant,
    idle: Duration,
    /// The last time something came.
    heard: Instant,
    /// Made when there is first something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Read ahead by [`Answer::peek`].
    ahead: Option<Bytes>,
}

enum Source {
    Pooled {
        conn: Conn,
        framing: Framing,
        /// The connection may be used again.
        keep: bool,
        pool: Arc<Pool>,
        peer: Arc<Peer>,
    },
    Reqwest(Box<reqwest::Body>),
    Local(VecDeque<Bytes>),
    Ended,
}

impl Answer {
    fn new(status: StatusCode, fields: Fields, source: Source) -> Self {
        let now = Instant::now();
        Self {
            status,
            fields,
            connected: None,
            source,
            deadline: now,
            idle: Duration::MAX,
            heard: now,
            timer: None,
            ahead: None,
        }
    }

    pub(super) fn pooled(head: Head, conn: Conn, pool: Arc<Pool>, peer: Arc<Peer>) -> Self {
        let Head {
            status,
            fields,
            framing,
            keep,
        } = head;
        Self::new(
            status,
            fields,
            Source::Pooled {
                conn,
                framing,
                keep,
                pool,
                peer,
            },
        )
    }

    pub(super) fn reqwest(head: &http::response::Parts, body: reqwest::Body) -> Self {
        Self::new(
            head.status,
            Fields::from(&head.headers),
            Source::Reqwest(Box::new(body)),
        )
    }

    /// An answer made in this process, through the same code as any other.
    #[must_use]
    pub fn local(headers: &HeaderMap, chunks: VecDeque<Bytes>, deadline: Instant) -> Self {
        Self::new(StatusCode::OK, Fields::from(headers), Source::Local(chunks))
            .bounded(deadline, Duration::MAX)
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
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(Ok(ahead)));
        }
        let polled = self.source.poll_data(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                // Read from the clock only where a timer will ask.
                if self.timer.is_some() {
                    self.heard = Instant::now();
                }
                polled
            }
            Poll::Ready(end) => {
                let source = std::mem::replace(&mut self.source, Source::Ended);
                if end.is_none() {
                    source.give_back();
                }
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

    /// Waits for the first frame of a stream, by `until` where that is told, and leaves it to be read. `tokens`:
    /// one that is more than a keep-alive. Answers the bytes from there on.
    ///
    /// # Errors
    /// As reading goes; an answer without any was broken off.
    pub async fn peek(
        &mut self,
        until: Option<Instant>,
        tokens: bool,
    ) -> Result<&[u8], UpstreamError> {
        let began = Instant::now();
        let mut before: Option<BytesMut> = None;
        loop {
            let next = poll_fn(|cx| self.poll_data(cx));
            let next = match until {
                None => next.await,
                Some(until) => match tokio::time::timeout_at(until, next).await {
                    Ok(next) => next,
                    Err(_) => {
                        return Err(UpstreamError::Timeout {
                            stage: Stage::FirstByte,
                            after: began.elapsed(),
                        });
                    }
                },
            };
            let ended = next.is_none();
            let all = match (before.take(), next) {
                (None, None) => return Err(UpstreamError::Closed),
                (Some(all), None) => all.freeze(),
                (None, Some(next)) => next?,
                (Some(mut all), Some(next)) => {
                    all.extend_from_slice(&next?);
                    all.freeze()
                }
            };
            let at = sse::behind_comments(&all);
            let begun = match all.len() - at {
                0 => !tokens,
                // A frame as large as that is no error.
                length => length >= FIRST_MAX || sse::end(&all[at..]).is_some(),
            };
            if begun || (ended && at < all.len()) {
                return Ok(&self.ahead.insert(all)[at..]);
            }
            if ended {
                return Err(UpstreamError::Closed);
            }
            before = Some(BytesMut::from(all));
        }
    }

    /// What [`Self::peek`] has read, behind comments; nothing before it.
    #[must_use]
    pub fn peeked(&self) -> &[u8] {
        let ahead = self.ahead.as_deref().unwrap_or_default();
        &ahead[sse::behind_comments(ahead)..]
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
            fields: Fields::default(),
            connected: None,
            source: std::mem::replace(&mut self.source, Source::Ended),
            deadline: self.deadline,
            idle: self.idle,
            heard: self.heard,
            timer: None,
            ahead: None,
        })
    }
}

impl Source {
    /// The answer has been read to its end.
    fn give_back(self) {
        if let Self::Pooled {
            conn,
            keep: true,
            pool,
            peer,
            ..
        } = self
        {
            pool.give_back(&peer, conn);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        match self {
            Self::Pooled { conn, framing, .. } => poll_pooled(conn, framing, cx),
            Self::Reqwest(body) => loop {
                let frame = ready!(Pin::new(&mut **body).poll_frame(cx));
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
    conn: &mut Conn,
    framing: &mut Framing,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, UpstreamError>>> {
    loop {
        match framing.step(&mut conn.buffer) {
            Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(data))),
            Ok(Step::End) => return Poll::Ready(None),
            Ok(Step::More) => {}
            Err(why) => return Poll::Ready(Some(Err(UpstreamError::Malformed(why.to_owned())))),
        }
        match ready!(conn.poll_read(cx)) {
            Ok(0) if framing.may_close() => return Poll::Ready(None),
            Ok(0) | Err(_) => return Poll::Ready(Some(Err(UpstreamError::Closed))),
            Ok(_) => {}
        }
    }
}
