//! What both kinds of load share: an epoll over keep-alive connections, and quantiles.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
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
        let events = Vec::with_capacity(count + 1);
        Ok(Self {
            connections,
            ready: Ready { epoll, events },
        })
    }
}

impl Ready {
    /// Also wakes for this.
    pub fn watch(&self, fd: &OwnedFd, token: usize) -> Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token as u64),
            EventFlags::IN,
        )?)
    }

    /// Waits, and gives the tokens (of a connection: its index) of what has something to read.
    pub fn wait(&mut self) -> Result<impl Iterator<Item = usize>> {
        loop {
            self.events.clear();
            let spare = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, spare, Some(&LOST)) {
                Ok(0) => anyhow::bail!("nothing was answered for {} s", LOST.tv_sec),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for answers"),
            }
        }
        Ok(self.events.iter().map(|event| event.data.u64() as usize))
    }
}

/// After so long without any answer, something is broken.
const LOST: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

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
