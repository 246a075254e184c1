//! What both kinds of load share: an epoll over keep-alive connections, and quantiles.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::connection::Connection;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// A whole request, head and body.
    pub request: Vec<u8>,
}

/// Open connections to one target.
pub struct Pool {
    pub connections: Vec<Connection>,
    pub ready: Ready,
}

/// Which connections have something to read.
pub struct Ready {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Pool {
    pub fn open(to: SocketAddr, count: usize) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for at in 0..count {
            let connection = Connection::open(to).with_context(|| format!("connect to {to}"))?;
            let token = EventData::new_u64(at as u64);
            epoll::add(&epoll, &connection.stream, token, EventFlags::IN)?;
            connections.push(connection);
        }
        let events = Vec::with_capacity(count);
        Ok(Self {
            connections,
            ready: Ready { epoll, events },
        })
    }
}

impl Ready {
    /// The indices of the connections that have something to read, at once.
    pub fn now(&mut self) -> Result<impl Iterator<Item = usize>> {
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&AT_ONCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for answers"),
        }
        Ok(self.events.iter().map(|event| event.data.u64() as usize))
    }
}

/// Without waiting.
pub const AT_ONCE: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Notices when nothing comes any more.
pub struct Patience(Instant);

impl Patience {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    pub fn rewarded(&mut self) {
        self.0 = Instant::now();
    }

    pub fn check(&self) -> Result<()> {
        if self.0.elapsed() > Duration::from_secs(10) {
            bail!("nothing was answered for 10 s");
        }
        Ok(())
    }
}

/// The value below which the share `q` of the sorted values lies.
pub fn quantile(sorted: &[u64], q: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let at = (q * (sorted.len() - 1) as f64).round() as usize;
    sorted[at] as f64
}

/// The middle one. NaN where there is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
