//! What every backend of [`Budgets`] must do, as stories. A backend's own test calls [`run`] with a
//! maker of fresh, empty state; a story that fails panics with its words.
//!
//! Amounts are whole dollars unless said otherwise. Instants are counted from the one given, so that a
//! backend with a clock of its own can be given the real one.

mod holds;
mod load;
mod raises;
mod rates;
mod restoration;
mod settlements;

use std::future::Future;
use std::sync::Arc;

use metering::Window;
use schemas::{BudgetRef, Micros, NanoUsd, Partition, Pseq, RequestId, SourceId};

use crate::{
    Advance, Budgets, Delta, Granted, HoldSettled, Refusal, Reserve, Restored, Scope, ScopeKind,
    Settled, Settlement, Spend,
};

/// Runs every story, each on fresh state. `now` should lie near the start of a minute, since rates are
/// counted in minutes.
pub async fn run<F, B>(make: F, now: Micros)
where
    F: Fn() -> B,
    B: Future<Output = Arc<dyn Budgets>>,
{
    let world = async || {
        let budgets = make().await;
        budgets
            .restore(&Restored::default())
            .await
            .expect("restore");
        budgets.open().await.expect("open");
        World { budgets, now }
    };
    holds::all_scopes_or_none(world().await).await;
    holds::a_hold_moves_through_its_stages(world().await).await;
    holds::asking_again_changes_nothing(world().await).await;
    holds::a_call_may_get_less_than_it_wants(world().await).await;
    holds::open_holds_and_spend_are_told_apart(world().await).await;
    holds::late_usage_lands_in_the_window_of_its_admission(world().await).await;
    settlements::a_settlement_that_comes_first_wins(world().await).await;
    settlements::attempts_settle_one_by_one(world().await).await;
    settlements::unknown_holds_still_cost(world().await).await;
    holds::holds_expire_and_slots_come_back(world().await).await;
    holds::finished_calls_do_not_expire(world().await).await;
    holds::what_is_on_the_log_is_held_until_it_is_settled(world().await).await;
    holds::a_released_call_never_was(world().await).await;
    raises::a_hold_is_raised_within_the_limit(world().await).await;
    raises::a_raise_counts_no_request(world().await).await;
    raises::attempts_are_paid_by_a_raised_hold(world().await).await;
    raises::a_hold_that_is_over_is_not_raised(world().await).await;
    rates::rates_are_counted_by_the_minute(world().await).await;
    rates::slots_are_bound_to_calls(world().await).await;
    rates::a_hold_of_limits_alone_is_over_when_it_ends(world().await).await;
    settlements::a_replayed_settlement_is_dropped(world().await).await;
    settlements::a_settlement_out_of_order_is_refused(world().await).await;
    settlements::a_settlement_from_another_offset_is_refused(world().await).await;
    restoration::a_snapshot_shows_everything_at_once(world().await).await;
    restoration::restored_state_is_absolute(world().await).await;
    holds::a_scope_named_twice_is_held_once(world().await).await;
    settlements::counters_are_exact_beyond_53_bits(world().await).await;
    load::no_overshoot_under_many_callers(world().await).await;
    let budgets = make().await;
    restoration::hard_budgets_wait_for_restored_state(World { budgets, now }).await;
}

/// Fresh state and the time.
struct World {
    budgets: Arc<dyn Budgets>,
    now: Micros,
}

fn usd(dollars: i32) -> NanoUsd {
    NanoUsd::from_usd(dollars)
}

fn id(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    RequestId(bytes)
}

fn scope(kind: ScopeKind, budget: &str, limit: Option<NanoUsd>) -> Scope {
    Scope {
        kind,
        id: budget.into(),
        budget: budget.into(),
        limit,
        window: Window {
            start: Micros(0),
            end: Micros(i64::MAX),
        },
        rpm: None,
        tpm: None,
        parallel: None,
    }
}

fn key(limit: i32) -> Scope {
    scope(ScopeKind::Key, "key:k", Some(usd(limit)))
}

fn window_of(scope: &Scope) -> BudgetRef {
    BudgetRef {
        budget: scope.budget.clone(),
        window_start: scope.window.start,
        window_end: scope.window.end,
    }
}

/// One usage event with its cost, alone in its batch.
fn event(pseq: u64, hold: u64, cost: NanoUsd, last: bool, scopes: &[Scope]) -> Settlement {
    Settlement {
        marks: vec![Advance {
            source: SourceId(7),
            partition: Partition(3),
            from: Pseq(pseq - 1),
            to: Pseq(pseq),
        }],
        next: Vec::new(),
        deltas: scopes
            .iter()
            .map(|scope| Delta {
                budget: window_of(scope),
                amount: cost,
            })
            .collect(),
        holds: vec![HoldSettled {
            hold: id(hold),
            amount: cost,
            last,
        }],
    }
}

impl World {
    /// Reserves between `least` and `amount` with `tokens`.
    async fn ask(
        &self,
        hold: u64,
        amount: NanoUsd,
        least: NanoUsd,
        tokens: u64,
        scopes: &[Scope],
        now: Micros,
    ) -> Result<Granted, Refusal> {
        let expires = now.plus_secs(600);
        let request = Reserve {
            hold: id(hold),
            amount,
            least,
            tokens,
            scopes,
            now,
            expires,
        };
        self.budgets.reserve(&request).await
    }

    async fn reserve(&self, hold: u64, dollars: i32, scopes: &[Scope]) -> Result<Granted, Refusal> {
        self.ask(hold, usd(dollars), usd(dollars), 0, scopes, self.now)
            .await
    }

    /// More for a hold: at least `least` dollars, at most `dollars`.
    async fn raise(
        &self,
        hold: u64,
        dollars: i32,
        least: i32,
        scopes: &[Scope],
    ) -> Result<NanoUsd, Refusal> {
        let request = Reserve {
            hold: id(hold),
            amount: usd(dollars),
            least: usd(least),
            tokens: 0,
            scopes,
            now: self.now,
            expires: self.now.plus_secs(600),
        };
        self.budgets.raise(&request).await
    }

    async fn finish(&self, hold: u64, dollars: i32) -> Vec<NanoUsd> {
        self.budgets
            .finish(id(hold), usd(dollars), 0, self.now, None)
            .await
    }

    async fn settle(&self, batch: &Settlement) -> Settled {
        self.budgets.settle(batch).await.expect("settle")
    }

    async fn spend(&self, scope: &Scope) -> Spend {
        let window = (scope.budget.clone(), scope.window.start);
        self.budgets.spend(&[window]).await.expect("spend")[0]
    }

    /// Asserts (used, held, finished) in dollars.
    async fn stands(&self, scope: &Scope, used: i32, held: i32, finished: i32) {
        let wanted = Spend {
            used: usd(used),
            held: usd(held),
            finished: usd(finished),
        };
        assert_eq!(
            self.spend(scope).await,
            wanted,
            "used, held, finished of {}",
            scope.budget
        );
    }
}
