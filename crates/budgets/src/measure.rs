//! How fast reservations go, for `tollgate bench`. Prints nothing itself.

use std::time::{Duration, Instant};

use metering::Window;
use schemas::{Micros, NanoUsd, RequestId};

use crate::{Budgets, Reserve, Scope, ScopeKind};

/// One measurement: whole calls (reserve and release) on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub scopes: usize,
    pub calls: u64,
    pub took: Duration,
}

impl Measured {
    /// Calls a second; each is one reservation and its release.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

/// Reserves and releases `calls` times with `scopes` scopes, each with a hard limit and a rate limit.
/// The state must be open; what is measured leaves no hold.
pub async fn admissions(budgets: &dyn Budgets, scopes: usize, calls: u64, now: Micros) -> Measured {
    let kinds = [
        ScopeKind::Key,
        ScopeKind::Team,
        ScopeKind::User,
        ScopeKind::Global,
    ];
    let scopes: Vec<Scope> = (0..scopes)
        .map(|at| Scope {
            kind: kinds[at % kinds.len()],
            id: format!("measured-{at}").into(),
            budget: format!("measure:{at}:0123456789abcdef0123456789abcdef0123456789abcdef").into(),
            limit: Some(NanoUsd::MAX),
            window: Window {
                start: Micros(0),
                end: Micros(i64::MAX),
            },
            rpm: Some(u64::MAX),
            tpm: Some(u64::MAX),
            parallel: Some(u64::MAX),
        })
        .collect();
    let began = Instant::now();
    for call in 0..calls {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&call.to_be_bytes());
        let hold = RequestId(id);
        let (amount, expires) = (NanoUsd(1_000_000), now.plus_secs(600));
        let request = Reserve {
            hold,
            amount,
            least: amount,
            tokens: 100,
            scopes: &scopes,
            now,
            expires,
        };
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
