//! How fast the journal is here: appends per second, latency of a durable append and CPU per append,
//! by sync mode and number of callers. Run `cargo run --release -p journal --example measure`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::{Partition, Topic};

use crate::{Error, Journal, Options, Sync};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Load {
    pub sync: Sync,
    pub group_wait: Duration,
    /// Callers that append, wait until it is durable, and begin again.
    pub callers: usize,
    /// Records before each wait: 2 is a call with its ADMIT and its USAGE.
    pub records_per_wait: usize,
    pub body_bytes: usize,
    pub lasts: Duration,
    /// Time between the records of a round: the provider's share.
    pub pause: Duration,
    /// CPU time that each round costs besides the journal: the gateway's share. Spun away.
    pub work: Duration,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Rounds of append and wait per second.
    pub rounds_per_s: f64,
    /// From the last append of a round until it was durable.
    pub p50: Duration,
    pub p99: Duration,
    /// CPU of the whole process per round, without `work`: the journal's and the callers' own.
    pub cpu_per_round: Duration,
    pub syncs_per_s: f64,
    /// Rounds per sync.
    pub group: f64,
}

/// Runs callers on a current-thread runtime against a new journal in `dir` (emptied by the caller).
///
/// # Errors
/// The journal failed.
pub fn measure(dir: &Path, load: &Load) -> Result<Figures, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start a runtime for", dir))?;
    let options = Options {
        sync: load.sync,
        group_wait: load.group_wait,
        ..Options::default()
    };
    let (journal, _) = Journal::open(dir, options)?;
    let body = Bytes::from(vec![0xA5; load.body_bytes]);
    let before = journal.stats();
    let cpu = cpu_time();
    let began = Instant::now();
    let until = began + load.lasts;
    let mut latencies = runtime.block_on(async {
        let callers: Vec<_> = (0..load.callers)
            .map(|_| tokio::spawn(caller(journal.clone(), body.clone(), load.clone(), until)))
            .collect();
        let mut all = Vec::new();
        for caller in callers {
            all.extend(caller.await.map_err(|_| Error::Closed)??);
        }
        Ok::<_, Error>(all)
    })?;
    let took = began.elapsed().as_secs_f64();
    let cpu = cpu_time().saturating_sub(cpu);
    let syncs = journal.stats().syncs - before.syncs;
    latencies.sort_unstable();
    let rounds = latencies.len().max(1);
    let at = |share: usize| {
        latencies
            .get(latencies.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    Ok(Figures {
        rounds_per_s: rounds as f64 / took,
        p50: at(50),
        p99: at(99),
        cpu_per_round: (cpu / u32::try_from(rounds).unwrap_or(u32::MAX)).saturating_sub(load.work),
        syncs_per_s: syncs as f64 / took,
        group: rounds as f64 / syncs.max(1) as f64,
    })
}

async fn caller(
    journal: Journal,
    body: Bytes,
    load: Load,
    until: Instant,
) -> Result<Vec<Duration>, Error> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        spin(load.work);
        for _ in 1..load.records_per_wait {
            let admitted = journal.append(Topic::Requests, Partition(0), &body)?;
            journal.sync_soon(admitted.position);
        }
        if load.pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(load.pause).await;
        }
        let began = Instant::now();
        let appended = journal.append_final(Topic::Usage, Partition(0), &body)?;
        journal.durable(appended.position).await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// CPU time, not wall time: on a busy machine the thread is put aside now and then.
fn spin(work: Duration) {
    if work.is_zero() {
        return;
    }
    let thread = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).unwrap_or_default()
    };
    let until = thread() + work;
    while thread() < until {
        std::hint::spin_loop();
    }
}

/// Appends from one thread as fast as it goes, then one sync: records per second, and CPU per record
/// with that of the sync.
///
/// # Errors
/// The journal failed.
pub fn measure_appends(
    dir: &Path,
    records: u32,
    body_bytes: usize,
) -> Result<(f64, Duration), Error> {
    let (journal, _) = Journal::open(dir, Options::default())?;
    let body = Arc::from(vec![0xA5; body_bytes]);
    let cpu = cpu_time();
    let began = Instant::now();
    for _ in 0..records {
        journal.append(Topic::Usage, Partition(0), &body)?;
    }
    journal.sync()?;
    let per_s = f64::from(records) / began.elapsed().as_secs_f64();
    Ok((per_s, cpu_time().saturating_sub(cpu) / records.max(1)))
}

/// CPU time of this process, user and system.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
