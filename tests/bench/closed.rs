//! Closed-loop load: so many connections, each asking again as soon as it is answered.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bodies;
use crate::load::{Patience, Pool, Target};
use crate::mock::Provider;

/// When no further request is made. Those under way are answered to their end, and count.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    Elapsed(Duration),
    Requests(u64),
}

/// What was answered.
#[derive(Debug, Default)]
pub struct Answered {
    pub requests: u64,
    pub seconds: f64,
    /// Server-sent events.
    pub events: u64,
    /// From a request until its first event, µs, sorted.
    pub first_event: Vec<u64>,
    /// From the provider's sending of a chunk until its arrival here, µs, sorted.
    pub chunk_delay: Vec<u64>,
}

pub fn run(
    provider: &mut Provider,
    target: &Target,
    connections: usize,
    until: Until,
) -> Result<Answered> {
    let mut pool = Pool::open(target.address, connections)?;
    let mut answered = Answered::default();
    let mut buffer = vec![0; 64 << 10];
    let mut asked = vec![0; connections];
    let mut waits_for_first = vec![true; connections];
    let mut patience = Patience::new();
    let started = Instant::now();
    let mut open = 0_u64;
    for (at, connection) in pool.connections.iter_mut().enumerate() {
        asked[at] = bodies::now();
        connection.send(&target.request)?;
        open += 1;
    }
    while open > 0 {
        provider.go_on()?;
        patience.check()?;
        let ready = pool.ready.now()?;
        let more = match until {
            Until::Elapsed(limit) => started.elapsed() < limit,
            Until::Requests(limit) => answered.requests + open < limit,
        };
        for at in ready {
            let connection = &mut pool.connections[at];
            let delays = &mut answered.chunk_delay;
            let read = connection.receive(&mut buffer, |sent| {
                delays.push(bodies::now().saturating_sub(sent));
            })?;
            answered.events += read.events;
            if read.events > 0 && std::mem::take(&mut waits_for_first[at]) {
                answered.first_event.push(bodies::now() - asked[at]);
            }
            if !read.complete {
                continue;
            }
            answered.requests += 1;
            patience.rewarded();
            if more {
                waits_for_first[at] = true;
                asked[at] = bodies::now();
                connection.send(&target.request)?;
            } else {
                open -= 1;
            }
        }
    }
    answered.seconds = started.elapsed().as_secs_f64();
    answered.first_event.sort_unstable();
    answered.chunk_delay.sort_unstable();
    Ok(answered)
}
