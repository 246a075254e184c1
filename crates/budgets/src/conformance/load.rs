//! Many callers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::{NanoUsd, SourceId};
use tokio::task::JoinSet;

use super::{World, event, id, scope, usd};
use crate::{ScopeKind, Spend};

/// Tasks that hammer one budget at once.
const TASKS: u64 = 64;

/// Every task admits calls against the same budget, at worst-case 1, and ends them at a cost of 0 to 1;
/// some are settled before they finish, some after. What was ever granted and not given back, and what
/// was ever spent, must stay within the limit at every look.
pub(super) async fn no_overshoot_under_many_callers(world: World) {
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
