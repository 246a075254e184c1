//! What every backend of [`Budgets`] must do, as stories. A backend's own test calls [`run`] with a
//! maker of fresh, empty state; a story that fails panics with its words.
//!
//! Amounts are whole dollars unless said otherwise. Instants are counted from the one given, so that a
//! backend with a clock of its own can be given the real one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metering::Window;
use schemas::{
    BudgetRef, Identity, Micros, NanoUsd, Offset, Partition, Pseq, RequestId, SourceId, Standing,
};
use tokio::task::JoinSet;

use crate::{
    Advance, Budgets, Delta, Error, Granted, HoldSettled, LimitType, Onward, Refusal, Reserve,
    Restored, RestoredWindow, Scope, ScopeKind, SeenWindow, Settled, Settlement, Spend,
};

/// Tasks that hammer one budget at once.
const TASKS: u64 = 64;

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
    all_scopes_or_none(world().await).await;
    a_hold_moves_through_its_stages(world().await).await;
    asking_again_changes_nothing(world().await).await;
    a_call_may_get_less_than_it_wants(world().await).await;
    open_holds_and_spend_are_told_apart(world().await).await;
    late_usage_lands_in_the_window_of_its_admission(world().await).await;
    a_settlement_that_comes_first_wins(world().await).await;
    attempts_settle_one_by_one(world().await).await;
    unknown_holds_still_cost(world().await).await;
    holds_expire_and_slots_come_back(world().await).await;
    finished_calls_do_not_expire(world().await).await;
    a_released_call_never_was(world().await).await;
    rates_are_counted_by_the_minute(world().await).await;
    slots_are_bound_to_calls(world().await).await;
    a_replayed_settlement_is_dropped(world().await).await;
    a_settlement_out_of_order_is_refused(world().await).await;
    a_settlement_from_another_offset_is_refused(world().await).await;
    a_snapshot_shows_everything_at_once(world().await).await;
    restored_state_is_absolute(world().await).await;
    a_scope_named_twice_is_held_once(world().await).await;
    counters_are_exact_beyond_53_bits(world().await).await;
    no_overshoot_under_many_callers(world().await).await;
    let budgets = make().await;
    hard_budgets_wait_for_restored_state(World { budgets, now }).await;
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

async fn all_scopes_or_none(world: World) {
    let scopes = [
        key(10),
        scope(ScopeKind::Team, "team:t", Some(usd(5))),
        scope(ScopeKind::Global, "global", None),
    ];
    let granted = world.reserve(1, 4, &scopes).await.expect("fits");
    assert_eq!(granted.amount, usd(4));
    let left: Vec<_> = granted.scopes.iter().map(|scope| scope.left).collect();
    assert_eq!(left, [Some(usd(6)), Some(usd(1)), None]);
    let refusal = world
        .reserve(2, 2, &scopes)
        .await
        .expect_err("the team has 1 left");
    let Refusal::Budget {
        kind: ScopeKind::Team,
        held,
        limit,
        needed,
        by_holds: true,
        ..
    } = refusal
    else {
        panic!("{refusal:?}");
    };
    assert_eq!((held, limit, needed), (usd(4), usd(5), usd(2)));
    for scope in &scopes {
        world.stands(scope, 0, 4, 0).await;
    }
}

async fn a_hold_moves_through_its_stages(world: World) {
    let scopes = [key(10), scope(ScopeKind::Global, "global", None)];
    world.reserve(1, 6, &scopes).await.expect("fits");
    world.stands(&scopes[0], 0, 6, 0).await;
    assert_eq!(world.finish(1, 2).await, [usd(2), usd(2)]);
    world.stands(&scopes[0], 0, 0, 2).await;
    assert_eq!(
        world.settle(&event(1, 1, usd(2), true, &scopes)).await,
        Settled::Applied
    );
    world.stands(&scopes[0], 2, 0, 0).await;
    world.stands(&scopes[1], 2, 0, 0).await;
    let granted = world.reserve(2, 8, &scopes).await.expect("8 are left");
    assert_eq!(
        (granted.scopes[0].spend, granted.scopes[0].left),
        (usd(2), Some(usd(0)))
    );
    let stats = world.budgets.stats();
    assert_eq!(
        (stats.open, stats.finished, stats.settled_without_hold),
        (1, 0, 0)
    );
}

async fn asking_again_changes_nothing(world: World) {
    let scopes = [Scope {
        rpm: Some(5),
        parallel: Some(5),
        ..key(10)
    }];
    for _ in 0..3 {
        let granted = world.reserve(1, 6, &scopes).await.expect("fits");
        assert_eq!(
            (granted.amount, granted.scopes[0].left),
            (usd(6), Some(usd(4)))
        );
        assert_eq!(granted.scopes[0].rpm_left, Some(4));
    }
    world.stands(&scopes[0], 0, 6, 0).await;
    for _ in 0..3 {
        assert_eq!(world.finish(1, 2).await, [usd(2)]);
    }
    world.budgets.release(id(1)).await;
    world.stands(&scopes[0], 0, 0, 2).await;
    for settled in [Settled::Applied, Settled::Repeated, Settled::Repeated] {
        assert_eq!(
            world.settle(&event(1, 1, usd(2), true, &scopes)).await,
            settled
        );
    }
    world.stands(&scopes[0], 2, 0, 0).await;
    assert!(world.finish(1, 2).await.is_empty(), "the hold is gone");
    world.stands(&scopes[0], 2, 0, 0).await;
}

async fn a_call_may_get_less_than_it_wants(world: World) {
    let scopes = [key(10), scope(ScopeKind::Team, "team:t", Some(usd(7)))];
    let granted = world
        .ask(1, usd(20), usd(1), 0, &scopes, world.now)
        .await
        .expect("at least 1 is left");
    assert_eq!(granted.amount, usd(7));
    world.stands(&scopes[0], 0, 7, 0).await;
    let refused = world.ask(2, usd(20), usd(1), 0, &scopes, world.now).await;
    assert!(
        matches!(refused, Err(Refusal::Budget { by_holds: true, .. })),
        "{refused:?}"
    );
    world
        .ask(3, usd(0), usd(0), 0, &scopes, world.now)
        .await
        .expect("what costs nothing fits always");
}

async fn open_holds_and_spend_are_told_apart(world: World) {
    let scopes = [key(10)];
    world.reserve(1, 6, &scopes).await.expect("fits");
    world.reserve(2, 3, &scopes).await.expect("fits");
    let refusal = world.reserve(3, 2, &scopes).await.expect_err("1 is left");
    assert!(
        matches!(refusal, Refusal::Budget { by_holds: true, .. }),
        "{refusal:?}"
    );
    world.finish(1, 6).await;
    world.finish(2, 3).await;
    // Finished calls are spend, whether the lane has brought them or not.
    let refusal = world.reserve(3, 2, &scopes).await.expect_err("1 is left");
    let Refusal::Budget {
        by_holds: false,
        used,
        held,
        ..
    } = refusal
    else {
        panic!("{refusal:?}")
    };
    assert_eq!((used, held), (usd(9), usd(0)));
    // Of several refusals, the one that lasts longest is told.
    let busy = scope(ScopeKind::Global, "busy", Some(usd(2)));
    world
        .reserve(4, 1, std::slice::from_ref(&busy))
        .await
        .expect("fits");
    let refusal = world
        .reserve(5, 2, &[busy, key(10)])
        .await
        .expect_err("both are full");
    assert!(
        matches!(
            refusal,
            Refusal::Budget {
                kind: ScopeKind::Key,
                by_holds: false,
                ..
            }
        ),
        "{refusal:?}"
    );
}

async fn late_usage_lands_in_the_window_of_its_admission(world: World) {
    let day = 86_400;
    let window = |from: Micros| Window {
        start: from,
        end: from.plus_secs(day),
    };
    let today = Scope {
        window: window(world.now),
        ..key(10)
    };
    let tomorrow = Scope {
        window: window(world.now.plus_secs(day)),
        ..key(10)
    };
    world
        .reserve(1, 9, std::slice::from_ref(&today))
        .await
        .expect("fits");
    let refusal = world
        .reserve(2, 2, std::slice::from_ref(&today))
        .await
        .expect_err("1 is left");
    let Refusal::Budget { resets_at, .. } = refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(resets_at, today.window.end);
    let stale = world.reserve(3, 9, std::slice::from_ref(&tomorrow)).await;
    assert_eq!(stale, Err(Refusal::Stale { now: world.now }));
    let next_day = world.now.plus_secs(day);
    let alone = std::slice::from_ref(&tomorrow);
    world
        .ask(3, usd(9), usd(9), 0, alone, next_day)
        .await
        .expect("another window");
    world.finish(1, 8).await;
    world
        .settle(&event(1, 1, usd(8), true, std::slice::from_ref(&today)))
        .await;
    world.stands(&today, 8, 0, 0).await;
    world.stands(&tomorrow, 0, 9, 0).await;
}

async fn a_settlement_that_comes_first_wins(world: World) {
    let scopes = [Scope {
        parallel: Some(1),
        tpm: Some(1_000),
        ..key(10)
    }];
    world
        .ask(1, usd(6), usd(6), 600, &scopes, world.now)
        .await
        .expect("fits");
    world.settle(&event(1, 1, usd(2), true, &scopes)).await;
    world.stands(&scopes[0], 2, 0, 0).await;
    let refusal = world
        .reserve(2, 1, &scopes)
        .await
        .expect_err("the slot is taken until the call ends");
    assert!(
        matches!(
            refusal,
            Refusal::Rate {
                limit_type: LimitType::MaxParallelRequests,
                ..
            }
        ),
        "{refusal:?}"
    );
    let spend = world
        .budgets
        .finish(id(1), usd(2), 100, world.now, None)
        .await;
    assert_eq!(spend, [usd(2)], "the call's cost is in it once");
    world.stands(&scopes[0], 2, 0, 0).await;
    let granted = world
        .ask(2, usd(1), usd(1), 0, &scopes, world.now)
        .await
        .expect("the slot is back");
    assert_eq!(granted.scopes[0].tpm_left, Some(900));
}

async fn attempts_settle_one_by_one(world: World) {
    let scopes = [key(10)];
    world.reserve(1, 6, &scopes).await.expect("fits");
    world.settle(&event(1, 1, usd(2), false, &scopes)).await;
    world.stands(&scopes[0], 2, 4, 0).await;
    assert_eq!(world.finish(1, 5).await, [usd(5)]);
    world.stands(&scopes[0], 2, 0, 3).await;
    world.settle(&event(2, 1, usd(1), false, &scopes)).await;
    world.stands(&scopes[0], 3, 0, 2).await;
    world.settle(&event(3, 1, usd(2), true, &scopes)).await;
    world.stands(&scopes[0], 5, 0, 0).await;
    // An attempt that costs more than is held takes all of it and no more.
    world.reserve(2, 1, &scopes).await.expect("fits");
    world.settle(&event(4, 2, usd(3), false, &scopes)).await;
    world.stands(&scopes[0], 8, 0, 0).await;
}

async fn unknown_holds_still_cost(world: World) {
    let scopes = [key(10)];
    world.settle(&event(1, 99, usd(3), true, &scopes)).await;
    world.stands(&scopes[0], 3, 0, 0).await;
    assert_eq!(world.budgets.stats().settled_without_hold, 1);
}

async fn holds_expire_and_slots_come_back(world: World) {
    let scopes = [Scope {
        parallel: Some(1),
        ..key(10)
    }];
    world.reserve(1, 8, &scopes).await.expect("fits");
    assert_eq!(world.budgets.sweep(world.now.plus_secs(599)).await, 0);
    assert_eq!(world.budgets.sweep(world.now.plus_secs(601)).await, 1);
    assert_eq!(world.budgets.sweep(world.now.plus_secs(602)).await, 0);
    world.stands(&scopes[0], 0, 0, 0).await;
    world
        .reserve(2, 9, &scopes)
        .await
        .expect("money and slot are back");
    assert!(
        world.finish(1, 8).await.is_empty(),
        "too late: the lane brings it"
    );
    world.settle(&event(1, 1, usd(8), true, &scopes)).await;
    world.stands(&scopes[0], 8, 9, 0).await;
    let stats = world.budgets.stats();
    assert_eq!(
        (stats.expired, stats.settled_without_hold, stats.over_limit),
        (1, 1, 1)
    );
}

async fn finished_calls_do_not_expire(world: World) {
    let scopes = [key(10)];
    world.reserve(1, 8, &scopes).await.expect("fits");
    world.finish(1, 7).await;
    assert_eq!(world.budgets.sweep(world.now.plus_secs(3_600)).await, 0);
    world.stands(&scopes[0], 0, 0, 7).await;
    world.settle(&event(1, 1, usd(7), true, &scopes)).await;
    world.stands(&scopes[0], 7, 0, 0).await;
}

async fn a_released_call_never_was(world: World) {
    let scopes = [Scope {
        rpm: Some(1),
        tpm: Some(10),
        parallel: Some(1),
        ..key(10)
    }];
    for hold in 1..=3 {
        world
            .ask(hold, usd(10), usd(10), 10, &scopes, world.now)
            .await
            .expect("all was given back");
        world.budgets.release(id(hold)).await;
        world.budgets.release(id(hold)).await;
        world.stands(&scopes[0], 0, 0, 0).await;
    }
}

async fn rates_are_counted_by_the_minute(world: World) {
    let scopes = [Scope {
        rpm: Some(2),
        tpm: Some(100),
        ..scope(ScopeKind::Key, "key:k", None)
    }];
    let minute = 60_000_000;
    let now = Micros(world.now.0.div_euclid(minute) * minute);
    let next = Micros(now.0 + minute);
    let first = world
        .ask(1, usd(1), usd(1), 90, &scopes, now)
        .await
        .expect("fits");
    let state = first.scopes[0];
    assert_eq!(
        (state.rpm_left, state.tpm_left, state.rate_resets_at),
        (Some(1), Some(10), next)
    );
    let refusal = world
        .ask(2, usd(1), usd(1), 11, &scopes, now)
        .await
        .expect_err("10 tokens are left");
    let wanted = Refusal::Rate {
        kind: ScopeKind::Key,
        id: "key:k".into(),
        limit_type: LimitType::Tokens,
        limit: 100,
        remaining: 10,
        resets_at: next,
    };
    assert_eq!(refusal, wanted);
    world.budgets.finish(id(1), usd(1), 20, now, None).await;
    world
        .ask(2, usd(1), usd(1), 80, &scopes, now)
        .await
        .expect("the estimate was corrected");
    let last = Micros(next.0 - 1);
    let refusal = world
        .ask(3, usd(1), usd(1), 0, &scopes, last)
        .await
        .expect_err("2 requests a minute");
    assert!(
        matches!(
            refusal,
            Refusal::Rate {
                limit_type: LimitType::Requests,
                limit: 2,
                remaining: 0,
                ..
            }
        ),
        "{refusal:?}"
    );
    let fresh = world
        .ask(3, usd(1), usd(1), 0, &scopes, next)
        .await
        .expect("a new minute");
    assert_eq!(
        (fresh.scopes[0].rpm_left, fresh.scopes[0].tpm_left),
        (Some(1), Some(100))
    );
    // A call of the last minute corrects nothing in this one.
    world.budgets.finish(id(2), usd(1), 5, next, None).await;
    let granted = world
        .ask(4, usd(1), usd(1), 0, &scopes, next)
        .await
        .expect("fits");
    assert_eq!(granted.scopes[0].tpm_left, Some(100));
}

async fn slots_are_bound_to_calls(world: World) {
    let scopes = [
        Scope {
            parallel: Some(2),
            ..key(10)
        },
        Scope {
            parallel: Some(9),
            ..scope(ScopeKind::Global, "global", None)
        },
    ];
    world.reserve(1, 1, &scopes).await.expect("fits");
    world.reserve(2, 1, &scopes).await.expect("fits");
    let refusal = world.reserve(3, 1, &scopes).await.expect_err("two run");
    assert!(
        matches!(
            refusal,
            Refusal::Rate {
                kind: ScopeKind::Key,
                limit_type: LimitType::MaxParallelRequests,
                limit: 2,
                ..
            }
        ),
        "{refusal:?}"
    );
    world.finish(1, 1).await;
    world.finish(1, 1).await;
    world
        .reserve(3, 1, &scopes)
        .await
        .expect("one slot is back");
    world.reserve(4, 1, &scopes).await.expect_err("only one");
}

async fn a_replayed_settlement_is_dropped(world: World) {
    let scopes = [key(100)];
    let mut both = event(1, 1, usd(3), true, &scopes);
    both.marks.push(Advance {
        source: SourceId(8),
        partition: Partition(0),
        from: Pseq(0),
        to: Pseq(5),
    });
    assert_eq!(world.settle(&both).await, Settled::Applied);
    assert_eq!(
        world.settle(&event(2, 2, usd(4), true, &scopes)).await,
        Settled::Applied
    );
    assert_eq!(world.settle(&both).await, Settled::Repeated);
    assert_eq!(
        world.settle(&event(1, 1, usd(3), true, &scopes)).await,
        Settled::Repeated
    );
    world.stands(&scopes[0], 7, 0, 0).await;
    let mut marks = world.budgets.standing().await.expect("a standing").marks;
    marks.sort_unstable();
    let mark = |source, partition, pseq| Identity {
        source_id: SourceId(source),
        partition: Partition(partition),
        pseq: Pseq(pseq),
    };
    assert_eq!(marks, [mark(7, 3, 2), mark(8, 0, 5)]);
}

async fn a_settlement_out_of_order_is_refused(world: World) {
    let scopes = [key(100)];
    world.settle(&event(1, 1, usd(3), true, &scopes)).await;
    let error = world
        .budgets
        .settle(&event(3, 3, usd(4), true, &scopes))
        .await
        .expect_err("2 is missing");
    let Error::Fence { standing } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        standing
            .marks
            .iter()
            .map(|mark| mark.pseq)
            .collect::<Vec<_>>(),
        [Pseq(1)]
    );
    // Cut otherwise than before: the first event of it stands already.
    let mut wide = event(2, 2, usd(4), true, &scopes);
    wide.marks[0].from = Pseq(0);
    assert!(matches!(
        world.budgets.settle(&wide).await,
        Err(Error::Fence { .. })
    ));
    let unfenced = Settlement {
        marks: Vec::new(),
        ..event(2, 2, usd(4), true, &scopes)
    };
    assert!(matches!(
        world.budgets.settle(&unfenced).await,
        Err(Error::Unfenced)
    ));
    world.stands(&scopes[0], 3, 0, 0).await;
}

async fn a_snapshot_shows_everything_at_once(world: World) {
    let scopes = [key(100), scope(ScopeKind::Team, "team:t:1", None)];
    world.settle(&event(1, 1, usd(3), true, &scopes)).await;
    world.reserve(2, 5, &scopes).await.expect("fits");
    world.reserve(3, 7, &scopes[..1]).await.expect("fits");
    world.finish(3, 4).await;
    let snapshot = world.budgets.snapshot(world.now).await.expect("a snapshot");
    assert_eq!(
        snapshot.standing,
        world.budgets.standing().await.expect("a standing")
    );
    let mut windows = snapshot.windows;
    windows.sort_by(|a, b| a.budget.cmp(&b.budget));
    let seen = |scope: &Scope, held, finished| SeenWindow {
        budget: scope.budget.clone(),
        start: Micros(0),
        spend: Spend {
            used: usd(3),
            held: usd(held),
            finished: usd(finished),
        },
    };
    assert_eq!(windows, [seen(&scopes[0], 5, 4), seen(&scopes[1], 5, 0)]);
    assert_eq!((snapshot.holds, snapshot.overdue), (2, 0));
    // Nobody sweeps: one of the two should be gone, the other is certainly spent.
    let late = world.now.plus_secs(611);
    let snapshot = world.budgets.snapshot(late).await.expect("a snapshot");
    assert_eq!((snapshot.holds, snapshot.overdue), (2, 1));
}

/// The events of the batch follow on, but what lies between its offsets is not all applied.
async fn a_settlement_from_another_offset_is_refused(world: World) {
    let scopes = [key(100)];
    let onward = |from: Option<u64>, to| Onward {
        partition: Partition(3),
        from: from.map(Offset),
        to: Offset(to),
    };
    let with = |pseq, onward| Settlement {
        next: vec![onward],
        ..event(pseq, pseq, usd(1), true, &scopes)
    };
    let first = with(1, onward(None, 10));
    assert_eq!(world.settle(&first).await, Settled::Applied);
    assert_eq!(world.settle(&first).await, Settled::Repeated);
    for from in [None, Some(9), Some(11)] {
        let error = world.budgets.settle(&with(2, onward(from, 20))).await;
        let Err(Error::Fence { standing }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(standing.next, [(Partition(3), Offset(10))]);
    }
    world.stands(&scopes[0], 1, 0, 0).await;
    let second = with(2, onward(Some(10), 20));
    assert_eq!(world.settle(&second).await, Settled::Applied);
    let standing = world.budgets.standing().await.expect("a standing");
    assert_eq!(standing.next, [(Partition(3), Offset(20))]);
    let restored = Restored {
        windows: Vec::new(),
        standing,
    };
    world.budgets.restore(&restored).await.expect("restore");
    let standing = world.budgets.standing().await.expect("a standing");
    assert_eq!(standing, restored.standing);
}

async fn restored_state_is_absolute(world: World) {
    let scopes = [key(10)];
    world.settle(&event(1, 1, usd(3), true, &scopes)).await;
    world
        .settle(&event(
            2,
            2,
            usd(1),
            true,
            &[scope(ScopeKind::Team, "team:gone", None)],
        ))
        .await;
    world.reserve(3, 2, &scopes).await.expect("fits");
    let mark = Identity {
        source_id: SourceId(7),
        partition: Partition(3),
        pseq: Pseq(40),
    };
    let state = Restored {
        windows: vec![RestoredWindow {
            budget: window_of(&scopes[0]),
            used: usd(5),
        }],
        standing: vec![mark].into(),
    };
    for _ in 0..3 {
        world.budgets.restore(&state).await.expect("restore");
        assert!(!world.budgets.ready());
    }
    world.budgets.open().await.expect("open");
    world.stands(&scopes[0], 5, 2, 0).await;
    world
        .stands(&scope(ScopeKind::Team, "team:gone", None), 0, 0, 0)
        .await;
    let standing = world.budgets.standing().await.expect("a standing");
    assert_eq!(standing.marks, [mark]);
    assert_eq!(
        world.settle(&event(40, 9, usd(1), true, &scopes)).await,
        Settled::Repeated
    );
    assert_eq!(
        world.settle(&event(41, 3, usd(1), true, &scopes)).await,
        Settled::Applied
    );
    world.stands(&scopes[0], 6, 0, 0).await;
}

async fn a_scope_named_twice_is_held_once(world: World) {
    let tag = scope(ScopeKind::Tag, "tag:a", Some(usd(10)));
    let twice = [tag.clone(), tag.clone()];
    world.reserve(1, 6, &twice).await.expect("fits");
    world.stands(&tag, 0, 6, 0).await;
    assert_eq!(world.finish(1, 4).await, [usd(4), usd(4)]);
    world.settle(&event(1, 1, usd(4), true, &twice[..1])).await;
    world.stands(&tag, 4, 0, 0).await;
}

async fn counters_are_exact_beyond_53_bits(world: World) {
    let odd = NanoUsd((1 << 53) + 1);
    let scopes = [scope(ScopeKind::Key, "key:k", Some(NanoUsd(odd.0 + 2)))];
    let state = Restored {
        windows: vec![RestoredWindow {
            budget: window_of(&scopes[0]),
            used: odd,
        }],
        standing: Standing::default(),
    };
    world.budgets.restore(&state).await.expect("restore");
    world.budgets.open().await.expect("open");
    world.settle(&event(1, 1, NanoUsd(1), true, &scopes)).await;
    assert_eq!(world.spend(&scopes[0]).await.used, NanoUsd(odd.0 + 1));
    let too_much = event(2, 2, NanoUsd::MAX, true, &scopes);
    assert!(matches!(
        world.budgets.settle(&too_much).await,
        Err(Error::Overflow { .. })
    ));
    assert_eq!(world.spend(&scopes[0]).await.used, NanoUsd(odd.0 + 1));
}

async fn hard_budgets_wait_for_restored_state(world: World) {
    let soft = scope(ScopeKind::Key, "key:soft", None);
    assert!(!world.budgets.ready());
    let refused = world.reserve(1, 1, &[soft.clone(), key(10)]).await;
    assert!(
        matches!(refused, Err(Refusal::Unavailable { .. })),
        "{refused:?}"
    );
    world
        .reserve(2, 1, std::slice::from_ref(&soft))
        .await
        .expect("without a hard limit calls go on");
    world
        .budgets
        .restore(&Restored::default())
        .await
        .expect("restore");
    world
        .reserve(1, 1, &[key(10)])
        .await
        .expect_err("the log after the restored state is not read yet");
    world.budgets.open().await.expect("open");
    assert!(world.budgets.ready());
    world.reserve(1, 1, &[key(10)]).await.expect("fits");
}

/// Every task admits calls against the same budget, at worst-case 1, and ends them at a cost of 0 to 1;
/// some are settled before they finish, some after. What was ever granted and not given back, and what
/// was ever spent, must stay within the limit at every look.
async fn no_overshoot_under_many_callers(world: World) {
    let limit = usd(100);
    let scopes = Arc::new([
        scope(ScopeKind::Key, "key:k", Some(limit)),
        scope(ScopeKind::Team, "team:t", Some(NanoUsd(limit.0 + 7))),
        scope(ScopeKind::User, "user:u", None),
        scope(ScopeKind::Global, "global", Some(usd(1_000))),
    ]);
    let world = Arc::new(world);
    let spent = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (world, scopes, spent) = (Arc::clone(&world), Arc::clone(&scopes), Arc::clone(&spent));
        tasks.spawn(async move {
            let mut pseq = 0;
            for call in 0..50_u64 {
                let hold = task * 1_000 + call;
                if world.reserve(hold, 1, &scopes[..]).await.is_err() {
                    continue;
                }
                let cost = NanoUsd((hold.wrapping_mul(0x9e37_79b9) % 1_000_000_001).cast_signed());
                if call % 7 == 0 {
                    world.budgets.release(id(hold)).await;
                    continue;
                }
                spent.fetch_add(cost.0.cast_unsigned(), Ordering::Relaxed);
                pseq += 1;
                let mut settlement = event(pseq, hold, cost, true, &scopes[..]);
                settlement.marks[0].source = SourceId(task);
                let finish = async || {
                    world
                        .budgets
                        .finish(id(hold), cost, 0, world.now, None)
                        .await
                };
                if call % 2 == 0 {
                    finish().await;
                    world.settle(&settlement).await;
                } else {
                    world.settle(&settlement).await;
                    finish().await;
                }
                let seen = world.spend(&scopes[0]).await;
                let taken = seen.used.0 + seen.held.0 + seen.finished.0;
                assert!(
                    taken <= limit.0,
                    "{taken} of {} nano-USD are taken",
                    limit.0
                );
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a caller failed");
    }
    let spent = NanoUsd(spent.load(Ordering::Relaxed).cast_signed());
    assert!(
        spent <= limit && spent.0 > limit.0 * 9 / 10,
        "spent {spent} of {limit} USD"
    );
    for scope in scopes.iter() {
        let end = world.spend(scope).await;
        assert_eq!(
            end,
            Spend {
                used: spent,
                held: NanoUsd(0),
                finished: NanoUsd(0)
            }
        );
    }
    let stats = world.budgets.stats();
    assert_eq!((stats.open, stats.finished, stats.over_limit), (0, 0, 0));
}
