//! Open-loop load: a request each millisecond, whatever becomes of those before it. A latency counts
//! from the moment at which the request was due, so a stall shows in full.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::load::{Patience, Pool, Target, quantile};
use crate::mock::Provider;

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

pub fn run(provider: &mut Provider, target: &Target, lasts: Duration) -> Result<Latency> {
    let mut pool = Pool::open(target.address, CONNECTIONS)?;
    let mut idle: Vec<usize> = (0..CONNECTIONS).collect();
    let mut due = vec![Instant::now(); CONNECTIONS];
    let mut latencies: Vec<u64> = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let requests = (lasts.as_nanos() / EVERY.as_nanos()) as usize;
    let mut made = 0;
    let mut patience = Patience::new();
    let mut next = Instant::now();
    while latencies.len() < requests {
        provider.go_on()?;
        patience.check()?;
        for at in pool.ready.now()? {
            if pool.connections[at].receive(&mut buffer, |_| {})?.complete {
                latencies.push(due[at].elapsed().as_nanos() as u64);
                idle.push(at);
                patience.rewarded();
            }
        }
        // A request that is due waits while all connections are taken, and its clock runs.
        while made < requests && next <= Instant::now() {
            let Some(at) = idle.pop() else { break };
            due[at] = next;
            pool.connections[at].send(&target.request)?;
            made += 1;
            next += EVERY;
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
