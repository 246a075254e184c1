//! Open-loop load: a request each millisecond, whatever becomes of those before it. A latency counts
//! from the moment at which the request was due, so a stall shows in full.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{Itimerspec, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::load::{Pool, Target, quantile};

/// Between two requests: 1,000 a second.
const EVERY: Duration = Duration::from_millis(1);
/// More are never under way: at 1,000 a second, 64 connections hold answers of 64 ms.
const CONNECTIONS: usize = 64;

/// Of the answers at 1,000 requests a second, µs.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

impl Latency {
    /// What is left when the way without a gateway is taken away.
    pub fn added_to(self, direct: Self) -> Self {
        Self {
            p50: self.p50 - direct.p50,
            p99: self.p99 - direct.p99,
        }
    }
}

pub fn run(target: &Target, lasts: Duration) -> Result<Latency> {
    let mut pool = Pool::open(target.address, CONNECTIONS)?;
    let clock = CONNECTIONS;
    let mut idle: Vec<usize> = (0..CONNECTIONS).collect();
    let mut due = vec![Instant::now(); CONNECTIONS];
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut latencies: Vec<u64> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let requests = (lasts.as_nanos() / EVERY.as_nanos()) as usize;
    let mut made = 0;
    let timer = ticks()?;
    pool.ready.watch(&timer, clock)?;
    let started = Instant::now();
    while latencies.len() < requests {
        for at in pool.ready.wait()? {
            if at == clock {
                let mut ticks = [0; 8];
                rustix::io::read(&timer, &mut ticks)?;
                for _ in 0..u64::from_ne_bytes(ticks) {
                    if made < requests {
                        made += 1;
                        waiting
                            .push_back(started + EVERY * u32::try_from(made).context("too long")?);
                    }
                }
            } else {
                let read = pool.connections[at].receive(&mut buffer, |_| {})?;
                if !read.complete {
                    continue;
                }
                latencies.push(due[at].elapsed().as_nanos() as u64);
                idle.push(at);
            }
            while let Some(at) = idle.last().copied()
                && let Some(time) = waiting.pop_front()
            {
                idle.pop();
                due[at] = time;
                pool.connections[at].send(&target.request)?;
            }
        }
    }
    // Connections that open and caches that fill are not what is asked for.
    let mut steady = latencies.split_off(requests / 10);
    steady.sort_unstable();
    Ok(Latency {
        p50: quantile(&steady, 0.50) / 1e3,
        p99: quantile(&steady, 0.99) / 1e3,
    })
}

fn ticks() -> Result<std::os::fd::OwnedFd> {
    let timer = rustix::time::timerfd_create(
        rustix::time::TimerfdClockId::Monotonic,
        TimerfdFlags::CLOEXEC,
    )?;
    let period = Timespec {
        tv_sec: 0,
        tv_nsec: EVERY.as_nanos() as i64,
    };
    let every = Itimerspec {
        it_interval: period,
        it_value: period,
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}
