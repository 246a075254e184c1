//! More for a call in progress: for one attempt more after one that may have cost.

use super::{World, event, id, key, scope, usd};
use crate::{Refusal, Scope, ScopeKind};

pub(super) async fn a_hold_is_raised_within_the_limit(world: World) {
    let scopes = [
        key(100),
        scope(ScopeKind::Team, "team:t", Some(usd(90))),
        scope(ScopeKind::Global, "global", None),
    ];
    world.reserve(1, 60, &scopes).await.expect("fits");
    let refused = world.raise(1, 31, 31, &scopes).await;
    assert!(
        matches!(
            refused,
            Err(Refusal::Budget {
                kind: ScopeKind::Team,
                by_holds: true,
                ..
            })
        ),
        "{refused:?}"
    );
    world.stands(&scopes[0], 0, 60, 0).await;
    assert_eq!(world.raise(1, 20, 20, &scopes).await, Ok(usd(20)));
    world.stands(&scopes[0], 0, 80, 0).await;
    assert_eq!(
        world.raise(1, 90, 5, &scopes).await,
        Ok(usd(10)),
        "what is left"
    );
    for scope in &scopes {
        world.stands(scope, 0, 90, 0).await;
    }
    // Asked again, a reservation answers all that was granted.
    let granted = world.reserve(1, 60, &scopes).await.expect("it stands");
    assert_eq!(granted.amount, usd(90));
    world.finish(1, 85).await;
    world.stands(&scopes[1], 0, 0, 85).await;
    assert_eq!(world.budgets.stats().cost_over_hold, 0);
    world.settle(&event(1, 1, usd(85), true, &scopes)).await;
    for scope in &scopes {
        world.stands(scope, 85, 0, 0).await;
    }
}

pub(super) async fn a_raise_counts_no_request(world: World) {
    let scopes = [Scope {
        rpm: Some(1),
        tpm: Some(5),
        parallel: Some(1),
        ..key(10)
    }];
    let now = world.now;
    let asked = world.ask(1, usd(1), usd(1), 5, &scopes, now).await;
    asked.expect("fits");
    assert_eq!(world.raise(1, 2, 2, &scopes).await, Ok(usd(2)));
    world.budgets.release(id(1)).await;
    world.stands(&scopes[0], 0, 0, 0).await;
    let asked = world.ask(2, usd(10), usd(10), 5, &scopes, now).await;
    asked.expect("all of it came back");
}

pub(super) async fn attempts_are_paid_by_a_raised_hold(world: World) {
    let scopes = [key(10)];
    world.reserve(1, 3, &scopes).await.expect("fits");
    world.settle(&event(1, 1, usd(2), false, &scopes)).await;
    world.stands(&scopes[0], 2, 1, 0).await;
    assert_eq!(world.raise(1, 2, 2, &scopes).await, Ok(usd(2)));
    world.stands(&scopes[0], 2, 3, 0).await;
    assert_eq!(world.finish(1, 5).await, [usd(5)]);
    world.stands(&scopes[0], 2, 0, 3).await;
    world.settle(&event(2, 1, usd(3), true, &scopes)).await;
    world.stands(&scopes[0], 5, 0, 0).await;
}

pub(super) async fn a_hold_that_is_over_is_not_raised(world: World) {
    let scopes = [key(10)];
    let gone = |refused| matches!(refused, Err(Refusal::Unavailable { .. }));
    assert!(gone(world.raise(1, 1, 1, &scopes).await), "never was");
    world.reserve(1, 1, &scopes).await.expect("fits");
    world.finish(1, 1).await;
    assert!(gone(world.raise(1, 1, 1, &scopes).await), "finished");
    world.reserve(2, 1, &scopes).await.expect("fits");
    world.budgets.release(id(2)).await;
    assert!(gone(world.raise(2, 1, 1, &scopes).await), "released");
    world.stands(&scopes[0], 0, 0, 1).await;
}
