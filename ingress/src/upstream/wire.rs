//! One connection over plain HTTP/1.1: a request out, the head of its answer in.
//!
//! Our own, since a general client moves each answer through a task, channels and a hash map of headers,
//! which is most of what a call costs beside the kernel. Knows what a gateway needs: a request whole at
//! hand, an answer read as it comes. Never follows, never upgrades, never sends a second request before
//! the first is answered.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fields::Fields;
use super::framing::{Chunk, Framing};

/// The largest head of an answer.
const HEAD_MAX: usize = 64 << 10;
/// Header fields of an answer at most.
const FIELDS_MAX: usize = 128;
/// Room for one read.
const READ: usize = 8 << 10;
/// Bodies up to this size are copied behind the head and leave in one piece.
const JOIN_MAX: usize = 16 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum WireError {
    /// Closed before a byte of the request was sent: it may be sent again elsewhere.
    Unsent,
    Closed,
    Malformed(&'static str),
}

impl From<io::Error> for WireError {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub fields: Fields,
    pub framing: Framing,
    /// The connection may be used again after the body.
    pub keep: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// What was read and not taken yet.
    pub buffer: BytesMut,
    /// The request, or its head if the body is large. Kept for its room.
    out: Vec<u8>,
    /// When it was last given back.
    pub used: Instant,
}

impl Wire {
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            out: Vec::new(),
            used: Instant::now(),
        }
    }

    /// Whether an idle connection is still open and silent, as it has to be.
    pub fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.buffer.is_empty() && self.poll_read(cx).is_pending()
    }

    /// Sends a request and reads the head of its answer. `head` ends behind `content-length: `.
    ///
    /// Reads while it still writes: a provider that refuses a large request does so before its end.
    pub async fn exchange(&mut self, head: &[u8], body: &Bytes) -> Result<Head, WireError> {
        let length = body.len();
        self.out.clear();
        self.out.extend_from_slice(head);
        decimal(&mut self.out, length);
        self.out.extend_from_slice(b"\r\n\r\n");
        let joined = length <= JOIN_MAX;
        if joined {
            self.out.extend_from_slice(body);
        }
        let tail: &[u8] = if joined { &[] } else { body };
        let mut sent = 0;
        std::future::poll_fn(|cx| {
            let written = self.poll_write(cx, tail, &mut sent);
            loop {
                if let Some(head) = self.take_head()? {
                    return Poll::Ready(Ok(Head {
                        // What is left of the request is not sent any more.
                        keep: head.keep && written.is_ready(),
                        ..head
                    }));
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(0)) if sent == 0 => return Poll::Ready(Err(WireError::Unsent)),
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(WireError::Closed)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => {
                        return match written {
                            Poll::Ready(Err(_)) if sent == 0 => Poll::Ready(Err(WireError::Unsent)),
                            Poll::Ready(Err(_)) => Poll::Ready(Err(WireError::Closed)),
                            _ => Poll::Pending,
                        };
                    }
                }
            }
        })
        .await
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        tail: &[u8],
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        let all = self.out.len() + tail.len();
        while *sent < all {
            let stream = Pin::new(&mut self.stream);
            let count = match self.out.get(*sent..).filter(|rest| !rest.is_empty()) {
                Some(rest) => ready!(stream.poll_write(cx, rest))?,
                None => ready!(stream.poll_write(cx, &tail[*sent - self.out.len()..]))?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there; 0 at the connection's end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(READ);
        // The future has no state of its own: a new one goes on where the last one was.
        pin!(self.stream.read_buf(&mut self.buffer)).poll(cx)
    }

    /// The head, once it is whole.
    fn take_head(&mut self) -> Result<Option<Head>, WireError> {
        loop {
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
            let mut response = httparse::Response::new(&mut []);
            let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
                &mut response,
                &self.buffer,
                &mut room,
            );
            let length = match parsed {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if self.buffer.len() > HEAD_MAX => {
                    return Err(WireError::Malformed("its head is too large"));
                }
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(_) => return Err(WireError::Malformed("it is not HTTP")),
            };
            let status = response.code.unwrap_or(0);
            if (100..200).contains(&status) && status != 101 {
                // An interim answer: the real one follows.
                let _ = self.buffer.split_to(length);
                continue;
            }
            let base = self.buffer.as_ptr() as usize;
            let version = response.version.unwrap_or(0);
            let places: Vec<_> = response
                .headers
                .iter()
                .map(|header| {
                    let at = |bytes: &[u8]| {
                        let start = bytes.as_ptr() as usize - base;
                        start..start + bytes.len()
                    };
                    (at(header.name.as_bytes()), at(header.value))
                })
                .collect();
            let raw = self.buffer.split_to(length).freeze();
            let mut fields = Fields::with_capacity(places.len());
            for (name, value) in places {
                // httparse has checked the value more strictly than this does.
                let Ok(value) = HeaderValue::from_maybe_shared(raw.slice(value)) else {
                    return Err(WireError::Malformed("a header is not what it should be"));
                };
                fields.push(raw.slice(name), value);
            }
            return head(status, version, fields).map(Some);
        }
    }
}

/// What the fields say of the body and the connection. RFC 9112, sections 6.3 and 9.3.
fn head(status: u16, version: u8, fields: Fields) -> Result<Head, WireError> {
    let status =
        StatusCode::from_u16(status).map_err(|_| WireError::Malformed("it has no status"))?;
    let (mut length, mut chunked, mut keep) = (None, false, version == 1);
    for (name, value) in fields.iter() {
        let value = value.as_bytes();
        if name.eq_ignore_ascii_case(b"content-length") {
            let text = std::str::from_utf8(value).ok().map(str::trim);
            // Digits alone: a number may have a sign, too.
            let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let told = text.and_then(|text| text.parse::<u64>().ok());
            let Some(told) = told.filter(|told| length.is_none_or(|known| known == *told)) else {
                return Err(WireError::Malformed("its length is unclear"));
            };
            length = Some(told);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.to_ascii_lowercase().ends_with(b"chunked") {
                return Err(WireError::Malformed("its transfer encoding is unknown"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            let says = |word: &[u8]| {
                value
                    .split(|b| *b == b',')
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(word))
            };
            keep = (keep || says(b"keep-alive")) && !says(b"close");
        }
    }
    let framing = match (chunked, length) {
        _ if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED => {
            Framing::Length(0)
        }
        (true, told) => {
            // Two answers to one question: the second reader of this connection might get another.
            keep &= told.is_none();
            Framing::Chunked(Chunk::Size)
        }
        (false, Some(length)) => Framing::Length(length),
        (false, None) => {
            keep = false;
            Framing::UntilClose
        }
    };
    Ok(Head {
        status,
        fields,
        framing,
        keep,
    })
}

fn decimal(out: &mut Vec<u8>, number: usize) {
    use std::io::Write as _;
    // A vector takes whatever is written.
    let _ = write!(out, "{number}");
}
