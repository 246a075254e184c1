//! A provider that costs as little as it can: one epoll, answers by the model's name, and never looks
//! further into a request. It never waits and has no thread: the load asks it to go on, so the core of
//! both never sleeps, and no gateway pays for waking it up (which in a virtual machine costs more than
//! the request).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::bodies::{self, BURST_CHUNKS, Model, PACED_CHUNKS};
use crate::load::AT_ONCE;

/// Chunks that a burst holds, each written by itself, as a provider does.
const BURST: usize = 10;
/// Between two bursts, µs on average.
const BURST_PAUSE: u64 = 5_000;
/// Between two paced chunks, µs on average: a fast model's 66 tokens a second.
const PACE: u64 = 15_000;
/// Until a write is tried again that the reader's buffer did not take, µs.
const RETRY: u64 = 500;

const LISTENER: u64 = u64::MAX;

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// What the reader has not taken yet.
    unsent: Vec<u8>,
    /// The open stream, if any.
    script: Option<Script>,
}

struct Script {
    model: Model,
    left: usize,
}

pub struct Provider {
    pub address: SocketAddr,
    listener: TcpListener,
    epoll: OwnedFd,
    events: Vec<Event>,
    /// When which peer is to send again.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    peers: Vec<Option<Peer>>,
    answer: Vec<u8>,
    buffer: Vec<u8>,
    jitter: Jitter,
}

/// Keeps streams that began together from staying in step: pauses between half and one and a half
/// times their average. The same in each run.
struct Jitter(u64);

impl Jitter {
    fn around(&mut self, average: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        average / 2 + self.0 % average
    }
}

impl Provider {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            epoll,
            events: Vec::with_capacity(256),
            agenda: BinaryHeap::new(),
            peers: Vec::new(),
            answer: bodies::answer(),
            buffer: vec![0; 64 << 10],
            jitter: Jitter(0x9E37_79B9_7F4A_7C15),
        })
    }

    /// Does what there is to do, and returns at once.
    pub fn go_on(&mut self) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&AT_ONCE),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("the provider's connections"),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => self.accept()?,
                peer => self.read(peer as usize),
            }
        }
        self.events = events;
        self.send_what_is_due();
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let free = self.peers.iter().position(Option::is_none);
            let at = free.unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            epoll::add(
                &self.epoll,
                &stream,
                EventData::new_u64(at as u64),
                EventFlags::IN,
            )?;
            self.peers[at] = Some(Peer {
                stream,
                input: Vec::new(),
                unsent: Vec::new(),
                script: None,
            });
        }
        Ok(())
    }

    fn read(&mut self, at: usize) {
        let Some(peer) = self.peers[at].as_mut() else {
            return;
        };
        match peer.stream.read(&mut self.buffer) {
            Ok(count) if count > 0 => peer.input.extend_from_slice(&self.buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Closed or reset: closing the socket also takes it out of the epoll.
            _ => {
                self.peers[at] = None;
                return;
            }
        }
        let Some((model, length)) = whole_request(&peer.input) else {
            return;
        };
        peer.input.drain(..length);
        let left = match model {
            Model::Plain => {
                if peer.stream.write_all(&self.answer).is_err() {
                    self.peers[at] = None;
                }
                return;
            }
            Model::Burst => BURST_CHUNKS,
            Model::Paced => PACED_CHUNKS,
        };
        peer.unsent.extend_from_slice(bodies::STREAM_HEAD);
        peer.script = Some(Script { model, left });
        self.agenda.push(Reverse((0, at)));
    }

    fn send_what_is_due(&mut self) {
        while let Some(Reverse((time, at))) = self.agenda.peek().copied() {
            let now = bodies::now();
            if time > now {
                return;
            }
            self.agenda.pop();
            let Some(peer) = self.peers[at].as_mut() else {
                continue;
            };
            match peer.advance(&mut self.jitter) {
                Ok(Some(pause)) => self.agenda.push(Reverse((now + pause, at))),
                Ok(None) => {}
                Err(_) => self.peers[at] = None,
            }
        }
    }
}

impl Peer {
    /// Sends the next chunks. Says after how many µs there is more to do.
    fn advance(&mut self, jitter: &mut Jitter) -> std::io::Result<Option<u64>> {
        if !self.flush()? {
            return Ok(Some(RETRY));
        }
        let Some(script) = self.script.as_mut() else {
            return Ok(None);
        };
        let (model, burst, pause) = match script.model {
            Model::Burst => (Model::Burst, BURST, BURST_PAUSE),
            model => (model, 1, PACE),
        };
        for _ in 0..burst.min(script.left) {
            script.left -= 1;
            bodies::chunk(&mut self.unsent, bodies::now());
            if !flush(&self.stream, &mut self.unsent)? {
                return Ok(Some(RETRY));
            }
        }
        if script.left > 0 {
            return Ok(Some(jitter.around(pause)));
        }
        let produced = if model == Model::Burst {
            BURST_CHUNKS
        } else {
            PACED_CHUNKS
        };
        bodies::stream_end(&mut self.unsent, produced);
        self.script = None;
        Ok(if self.flush()? { None } else { Some(RETRY) })
    }

    fn flush(&mut self) -> std::io::Result<bool> {
        flush(&self.stream, &mut self.unsent)
    }
}

/// Whether everything is sent.
fn flush(mut stream: &TcpStream, unsent: &mut Vec<u8>) -> std::io::Result<bool> {
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The model that is asked for, and the length of the request, once all of it has come.
fn whole_request(input: &[u8]) -> Option<(Model, usize)> {
    let body = memchr::memmem::find(input, b"\r\n\r\n")? + 4;
    let head = input[..body].to_ascii_lowercase();
    let name = b"content-length:";
    let length: usize = match memchr::memmem::find(&head, name) {
        None => 0,
        Some(at) => {
            let value = &head[at + name.len()..];
            let end = memchr::memchr(b'\r', value)?;
            std::str::from_utf8(&value[..end])
                .ok()?
                .trim()
                .parse()
                .ok()?
        }
    };
    let bytes = input.get(body..body + length)?;
    Some((Model::asked(bytes), body + length))
}
