//! One keep-alive HTTP/1.1 connection, without waiting: writes prebuilt bytes, finds the end of an
//! answer, and looks at no more of it than the measurement needs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Result, bail};

use crate::bodies::{STAMP, STAMP_DIGITS};

pub struct Connection {
    pub stream: TcpStream,
    /// What was read of the head, while it is incomplete; afterwards the last bytes of the body.
    kept: Vec<u8>,
    body: Body,
}

enum Body {
    /// The head is not complete yet.
    Unknown,
    /// So many bytes are missing.
    Length(usize),
    /// Until the empty chunk.
    Chunked,
}

/// What a read told about an answer.
#[derive(Debug, Default)]
pub struct Seen {
    /// The answer is complete.
    pub complete: bool,
    /// Server-sent events that began in it.
    pub events: u64,
}

/// The end of a chunked body.
const END: &[u8] = b"\r\n0\r\n\r\n";

impl Connection {
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            kept: Vec::with_capacity(4096),
            body: Body::Unknown,
        })
    }

    /// Sends a request. A request is smaller than any socket's buffer, so it never has to wait.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        self.kept.clear();
        self.body = Body::Unknown;
        match self.stream.write(request) {
            Ok(sent) if sent == request.len() => Ok(()),
            Ok(sent) => bail!(
                "only {sent} of {} bytes of a request were taken",
                request.len()
            ),
            Err(error) => bail!("send a request: {error}"),
        }
    }

    /// Reads what has arrived. `delays` receives, for each stamped chunk, how long ago it was sent, µs.
    pub fn receive(&mut self, buffer: &mut [u8], mut stamped: impl FnMut(u64)) -> Result<Seen> {
        let mut read = Seen::default();
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => bail!("the connection was closed in the middle of an answer"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(read),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => bail!("read an answer: {error}"),
            };
            self.take(&buffer[..count], &mut read, &mut stamped)?;
            // A short read emptied the socket: asking again would be a system call for nothing.
            if read.complete || count < buffer.len() {
                return Ok(read);
            }
        }
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        read: &mut Seen,
        stamped: &mut impl FnMut(u64),
    ) -> Result<()> {
        if let Body::Unknown = self.body {
            let known = self.kept.len();
            self.kept.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&self.kept, b"\r\n\r\n") else {
                return Ok(());
            };
            if !self.kept.starts_with(b"HTTP/1.1 200") {
                bail!(
                    "answered with an error: {}",
                    String::from_utf8_lossy(&self.kept)
                );
            }
            self.body = framing(&self.kept[..end + 2]);
            bytes = &bytes[end + 4 - known..];
            self.kept.clear();
        }
        match &mut self.body {
            Body::Unknown => {}
            Body::Length(missing) => {
                *missing = missing.saturating_sub(bytes.len());
                read.complete = *missing == 0;
            }
            Body::Chunked => {
                for at in memchr::memmem::find_iter(bytes, b"data: ") {
                    read.events += 1;
                    if let Some(time) = stamp(&bytes[at..]) {
                        stamped(time);
                    }
                }
                self.kept
                    .extend_from_slice(&bytes[bytes.len().saturating_sub(END.len())..]);
                read.complete = self.kept.ends_with(END);
                let excess = self.kept.len().saturating_sub(END.len());
                self.kept.drain(..excess);
            }
        }
        Ok(())
    }
}

/// The time in a chunk, if all of it is here.
fn stamp(event: &[u8]) -> Option<u64> {
    let event = &event[..event.len().min(320)];
    let at = memchr::memmem::find(event, STAMP)? + STAMP.len();
    std::str::from_utf8(event.get(at..at + STAMP_DIGITS)?)
        .ok()?
        .parse()
        .ok()
}

fn framing(head: &[u8]) -> Body {
    let head = head.to_ascii_lowercase();
    let value = |name: &[u8]| {
        let start = memchr::memmem::find(&head, name)? + name.len();
        let end = start + memchr::memchr(b'\r', &head[start..])?;
        std::str::from_utf8(&head[start..end]).ok()
    };
    match value(b"\r\ncontent-length:").and_then(|text| text.trim().parse().ok()) {
        Some(length) => Body::Length(length),
        None => Body::Chunked,
    }
}
