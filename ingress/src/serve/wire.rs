//! A connection of a client, as long as it asks for plain chat calls: a request in, its answer out in one
//! write, nothing between them and the call.
//!
//! Our own, since a general server's map of headers, channel for the body and timer for each head are a
//! fifth of what a call costs outside of the kernel. It takes only what [`head::judge`] is certain of;
//! with the first other request the connection, and what was read of it, goes to the general server for
//! good. A client that hangs up ends its call at once.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::Stop;
use super::date::http_date;
use super::head::{self, FIELDS_MAX, HEAD_MAX, Judged};
use super::stall::{self, Stall};
use crate::Worker;
use crate::call;
use crate::headers::decimal;
use crate::reply::{Content, Reply};
use crate::sent::Sent;

/// A client that has not sent the whole of its next request by then is not going to; while a body comes,
/// from its last bytes on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Room for one read.
const READ: usize = 8 << 10;
/// What is read of further requests while one is answered: enough to notice that the client is gone.
const EARLY_MAX: usize = HEAD_MAX;
/// Bodies up to this size leave behind their head in one piece.
const JOIN_MAX: usize = 64 << 10;
/// Room for writing that is kept for the next answer.
const OUT_KEPT: usize = 16 << 10;

/// A connection that the general server has to go on with, and what was read of it.
pub struct Rest {
    pub stream: TcpStream,
    pub read: BytesMut,
}

/// Serves until the connection ends, or something else than a plain call comes.
pub async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    worker: &Arc<Worker>,
    stopped: &watch::Receiver<Stop>,
) -> Option<Rest> {
    let mut wire = Wire {
        stream,
        peer,
        input: BytesMut::new(),
        awaited: 0,
        out: Vec::new(),
        heard: Instant::now(),
        patience: PATIENCE,
        stall: Stall::new(stall::PATIENCE),
    };
    let mut patience = pin!(tokio::time::sleep(PATIENCE));
    let mut stop = stopped.clone();
    // The sender is dropped only after it has said more than `No`.
    let mut gently = pin!(stop.wait_for(|stop| *stop != Stop::No));
    let mut stopping = false;
    loop {
        let next = poll_fn(|cx| {
            let next = wire.poll_request(cx, worker);
            if next.is_ready() {
                return next;
            }
            stopping = stopping || gently.as_mut().poll(cx).is_ready();
            if stopping && wire.input.is_empty()
                || wire.poll_patience(cx, patience.as_mut()).is_ready()
            {
                return Poll::Ready(Err(No::More));
            }
            Poll::Pending
        })
        .await;
        let Request { sent, body, keep } = match next {
            Ok(request) => request,
            Err(No::Call) => {
                return Some(Rest {
                    stream: wire.stream,
                    read: wire.input,
                });
            }
            Err(No::More) => return None,
        };
        let reply = {
            let mut call = pin!(call::complete(worker, sent, body));
            poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(reply) => Poll::Ready(Some(reply)),
                // Dropping the call ends it.
                Poll::Pending => wire.poll_hung_up(cx).map(|()| None),
            })
            .await
        }?;
        let keep = keep && *stopped.borrow() == Stop::No;
        wire.answer(reply, keep).await.ok()?;
        if !keep {
            // It may be gone already.
            let _ = wire.stream.shutdown().await;
            return None;
        }
        wire.heard = Instant::now();
    }
}

/// A plain chat call.
struct Request {
    sent: Sent,
    body: Bytes,
    /// The connection is kept after the answer.
    keep: bool,
}

/// Why there is no call.
enum No {
    /// Something else came, or what looks like it.
    Call,
    /// The connection is over.
    More,
}

struct Wire {
    stream: TcpStream,
    /// Who is at its other end.
    peer: IpAddr,
    /// What was read and not taken yet.
    input: BytesMut,
    /// Bytes of the request whose body is awaited; 0 while its head is.
    awaited: usize,
    /// What is to be written. Kept for its room.
    out: Vec<u8>,
    /// When the last answer had gone out, or the last piece of a body had come.
    heard: Instant,
    patience: Duration,
    stall: Stall,
}

impl Wire {
    /// The next request, once it is whole.
    fn poll_request(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<Result<Request, No>> {
        loop {
            if let Some(next) = self.take_request(worker) {
                return Poll::Ready(next);
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(No::More)),
                Ok(_) if self.awaited > 0 => self.heard = Instant::now(),
                Ok(_) => {}
            }
        }
    }

    fn take_request(&mut self, worker: &Worker) -> Option<Result<Request, No>> {
        if self.input.is_empty() || self.input.len() < self.awaited {
            return None;
        }
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let head = match head::judge(&self.input, &mut room) {
            Judged::More => return None,
            Judged::General => return Some(Err(No::Call)),
            Judged::Call(head) => head,
        };
        let (length, whole, keep) = (head.length, head.length + head.body, head.keep);
        if self.input.len() < whole {
            self.awaited = whole;
            self.input.reserve(whole - self.input.len());
            return None;
        }
        self.awaited = 0;
        let sent = Sent::read(&worker.gateway, head.fields, self.peer);
        let mut body = self.input.split_to(whole);
        body.advance(length);
        Some(Ok(Request {
            sent,
            body: body.freeze(),
            keep,
        }))
    }

    /// Ready when the client has been silent for too long.
    fn poll_patience(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            ready!(timer.as_mut().poll(cx));
            let due = self.heard + self.patience;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            // Something came since: the timer is put off only now, not with every request.
            timer.as_mut().reset(due);
        }
    }

    /// Ready when the client is gone. What it sends ahead of its answer is kept.
    fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < EARLY_MAX {
            match ready!(self.poll_read(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Reads what is there; 0 at the connection's end. Takes no room while there is nothing.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_read_ready(cx))?;
        self.input.reserve(READ);
        // The future has no state of its own. It takes a short read for the last one, which saves asking
        // the kernel again while the call goes on.
        pin!(self.stream.read_buf(&mut self.input)).poll(cx)
    }

    /// Writes an answer to its end.
    async fn answer(&mut self, reply: Reply, keep: bool) -> io::Result<()> {
        let Reply { status, head, body } = reply;
        let length = body.size_hint().exact();
        self.begin(status, &head, length, keep);
        drop(head);
        match body {
            Content::Whole(text) => self.whole(text).await?,
            body => self.frames(body, length.is_none()).await?,
        }
        if self.out.capacity() > OUT_KEPT {
            self.out = Vec::new();
        }
        Ok(())
    }

    fn begin(
        &mut self,
        status: http::StatusCode,
        head: &crate::headers::Lines,
        length: Option<u64>,
        keep: bool,
    ) {
        let out = &mut self.out;
        out.clear();
        if status == http::StatusCode::OK {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(head.as_bytes());
        match length {
            Some(length) => {
                out.extend_from_slice(b"content-length: ");
                decimal(out, length);
            }
            None => out.extend_from_slice(b"transfer-encoding: chunked"),
        }
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(&http_date(crate::clock::now()));
        out.extend_from_slice(if keep {
            b"\r\n\r\n"
        } else {
            b"\r\nconnection: close\r\n\r\n"
        });
    }

    async fn whole(&mut self, mut text: Bytes) -> io::Result<()> {
        if text.len() <= JOIN_MAX {
            self.out.extend_from_slice(&text);
            text = Bytes::new();
        }
        let (mut head, mut rest) = (0, 0);
        poll_fn(|cx| {
            ready!(self.poll_write(cx, None, &mut head))?;
            self.poll_write(cx, Some(&text), &mut rest)
        })
        .await
    }

    /// Writes what is left of a text, or of [`Self::out`], behind `sent`.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        text: Option<&[u8]>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        let text = text.unwrap_or(&self.out);
        while *sent < text.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &text[*sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    *sent += count;
                    self.stall.over();
                }
                Poll::Pending => {
                    ready!(self.stall.poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Frames as they come, those that are there in one write; the next ones only when that has gone out.
    async fn frames(&mut self, mut body: Content, chunked: bool) -> io::Result<()> {
        let (mut sent, mut ended) = (0, false);
        poll_fn(|cx| {
            loop {
                while sent == 0 && !ended && self.out.len() < JOIN_MAX {
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            if let Ok(data) = frame.into_data() {
                                self.append(&data, chunked);
                            }
                        }
                        // Its end would look like a good one.
                        Poll::Ready(Some(Err(error))) => {
                            return Poll::Ready(Err(io::Error::other(error)));
                        }
                        Poll::Ready(None) => {
                            ended = true;
                            if chunked {
                                self.out.extend_from_slice(b"0\r\n\r\n");
                            }
                        }
                        Poll::Pending if self.out.is_empty() => return self.poll_gone(cx),
                        Poll::Pending => break,
                    }
                }
                if self.poll_write(cx, None, &mut sent)?.is_pending() {
                    return self.poll_gone(cx);
                }
                if ended {
                    return Poll::Ready(Ok(()));
                }
                self.out.clear();
                sent = 0;
            }
        })
        .await
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_hung_up(cx)
            .map(|()| Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn append(&mut self, data: &[u8], chunked: bool) {
        if data.is_empty() {
            // An empty chunk would be the end.
            return;
        }
        if !chunked {
            self.out.extend_from_slice(data);
            return;
        }
        hex(&mut self.out, data.len());
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(b"\r\n");
    }
}

fn hex(out: &mut Vec<u8>, number: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut started = false;
    for shift in (0..usize::BITS / 4).rev() {
        let digit = (number >> (shift * 4)) & 0xf;
        started |= digit != 0 || shift == 0;
        if started {
            out.push(DIGITS[digit]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(stream: TcpStream, patience: Duration) -> Wire {
        Wire {
            stream,
            peer: IpAddr::from([127, 0, 0, 1]),
            input: BytesMut::new(),
            awaited: 0,
            out: Vec::new(),
            heard: Instant::now(),
            patience,
            stall: Stall::new(patience),
        }
    }

    #[tokio::test]
    async fn a_client_that_falls_silent_is_given_up_and_one_that_is_heard_is_not() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let patience = Duration::from_millis(30);
        let mut wire = wire(stream, patience);
        let begun = wire.heard;
        let mut timer = pin!(tokio::time::sleep(patience));
        wire.heard += Duration::from_millis(50);
        poll_fn(|cx| wire.poll_patience(cx, timer.as_mut())).await;
        assert!(begun.elapsed() >= Duration::from_millis(80));
    }

    /// More than all buffers between the two hold.
    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_millis(30);
        for streamed in [false, true] {
            let mut wire = wire(TcpStream::connect(address).await.unwrap(), patience);
            let (_silent, _) = listener.accept().await.unwrap();
            let text = Bytes::from(vec![b'x'; 32 << 20]);
            let written = match streamed {
                false => wire.whole(text).await,
                true => wire.frames(Content::Whole(text), true).await,
            };
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn sizes_of_chunks_are_hex() {
        for number in [0, 1, 15, 16, 255, 256, 65_536, usize::MAX] {
            let mut out = Vec::new();
            hex(&mut out, number);
            assert_eq!(out, format!("{number:x}").as_bytes());
        }
    }
}
