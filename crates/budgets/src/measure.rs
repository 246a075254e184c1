//! How fast reservations and settlements go, for `tollgate bench`. Prints nothing itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metering::Window;
use schemas::{BudgetRef, Micros, NanoUsd, Partition, Pseq, RequestId, SourceId};
use tokio::task::JoinSet;

use crate::{Advance, Budgets, Delta, Error, HoldSettled, Reserve, Scope, ScopeKind, Settlement};

/// Larger than what is measured reserves, and short enough for the fast path of every backend.
const LIMIT: NanoUsd = NanoUsd(900_000_000_000_000);

/// One measurement: whole calls (reserve and release) of one caller.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub scopes: usize,
    pub calls: u64,
    pub took: Duration,
}

/// Calls of many callers at once, and how long each waited for its reservation.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub scopes: usize,
    pub callers: usize,
    pub calls: u64,
    pub took: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

/// Folded settlements, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Folded {
    pub costs: u64,
    pub took: Duration,
}

impl Measured {
    /// Calls a second; each is one reservation and its release.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

impl Load {
    /// Calls a second; each is one reservation and its release.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

impl Folded {
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.costs as f64 / self.took.as_secs_f64()
    }
}

/// Reserves and releases `calls` times with `scopes` scopes, each with a hard limit and a rate limit.
/// The state must be open; what is measured leaves no hold.
pub async fn admissions(budgets: &dyn Budgets, scopes: usize, calls: u64, now: Micros) -> Measured {
    let scopes = measured_scopes(scopes);
    let began = Instant::now();
    for call in 0..calls {
        let hold = hold_of(call);
        let request = call_of(hold, &scopes, now);
        // A refusal would be measured too; limits are the range's end, so there is none.
        let _granted = budgets.reserve(&request).await;
        budgets.release(hold).await;
    }
    Measured {
        scopes: scopes.len(),
        calls,
        took: began.elapsed(),
    }
}

/// Reserves and releases `calls` times with that many callers at once, who share one backend as the
/// calls of a process do.
pub async fn load(
    budgets: Arc<dyn Budgets>,
    scopes: usize,
    callers: usize,
    calls: u64,
    now: Micros,
) -> Load {
    let measured = Arc::new(measured_scopes(scopes));
    let each = calls / callers.max(1) as u64;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for caller in 0..callers as u64 {
        let (budgets, scopes) = (Arc::clone(&budgets), Arc::clone(&measured));
        running.spawn(async move {
            let mut waits = Vec::with_capacity(each as usize);
            for call in 0..each {
                let hold = hold_of(caller << 40 | call);
                let asked = Instant::now();
                // As above: limits are out of reach.
                let _granted = budgets.reserve(&call_of(hold, &scopes, now)).await;
                waits.push(asked.elapsed());
                budgets.release(hold).await;
            }
            waits
        });
    }
    let mut waits = Vec::with_capacity(calls as usize);
    while let Some(done) = running.join_next().await {
        // A caller that panicked would only make the figure worse.
        waits.extend(done.unwrap_or_default());
    }
    let took = began.elapsed();
    waits.sort_unstable();
    let at = |share: f64| {
        let place = (waits.len() as f64 * share) as usize;
        waits.get(place).copied().unwrap_or_default()
    };
    Load {
        scopes,
        callers,
        calls: waits.len() as u64,
        took,
        p50: at(0.5),
        p99: at(0.99),
    }
}

/// Settles `batches` of so many events each, folded to `windows` budget windows, holds included that
/// nobody has: what the budget lane sends. The state must stand at `from` of source 1, partition 0.
///
/// # Errors
/// The backend refuses a batch.
pub async fn settle(
    budgets: &dyn Budgets,
    batches: u64,
    events: u64,
    windows: u64,
    from: u64,
) -> Result<Folded, Error> {
    let began = Instant::now();
    for batch in 0..batches {
        let first = from + batch * events;
        let deltas = (0..windows).map(|window| Delta {
            budget: BudgetRef {
                budget: format!("settled:{window}").into(),
                window_start: Micros(0),
                window_end: Micros(i64::MAX),
            },
            amount: NanoUsd(1_000),
        });
        let holds = (0..events).map(|event| HoldSettled {
            hold: hold_of(first + event),
            amount: NanoUsd(1_000),
            last: true,
        });
        let settlement = Settlement {
            marks: vec![Advance {
                source: SourceId(1),
                partition: Partition(0),
                from: Pseq(first),
                to: Pseq(first + events),
            }],
            next: Vec::new(),
            deltas: deltas.collect(),
            holds: holds.collect(),
        };
        budgets.settle(&settlement).await?;
    }
    Ok(Folded {
        costs: batches * events,
        took: began.elapsed(),
    })
}

fn measured_scopes(scopes: usize) -> Vec<Scope> {
    let kinds = [
        ScopeKind::Key,
        ScopeKind::Team,
        ScopeKind::User,
        ScopeKind::Global,
    ];
    let scope = |at: usize| Scope {
        kind: kinds[at % kinds.len()],
        id: format!("measured-{at}").into(),
        budget: format!("measure:{at}:0123456789abcdef0123456789abcdef0123456789abcdef").into(),
        limit: Some(LIMIT),
        window: Window::LIFETIME,
        rpm: Some(u64::MAX),
        tpm: Some(u64::MAX),
        parallel: Some(u64::MAX),
    };
    (0..scopes).map(scope).collect()
}

fn hold_of(call: u64) -> RequestId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&call.to_be_bytes());
    RequestId(id)
}

fn call_of(hold: RequestId, scopes: &[Scope], now: Micros) -> Reserve<'_> {
    let amount = NanoUsd(1_000_000);
    Reserve {
        hold,
        amount,
        least: amount,
        tokens: 100,
        scopes,
        now,
        expires: now.plus_secs(600),
    }
}
