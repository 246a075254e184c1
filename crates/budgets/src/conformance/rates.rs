//! Requests and tokens a minute, and slots.

use schemas::Micros;

use super::{World, id, key, scope, usd};
use crate::{LimitType, Refusal, Scope, ScopeKind};

pub(super) async fn rates_are_counted_by_the_minute(world: World) {
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

pub(super) async fn slots_are_bound_to_calls(world: World) {
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

/// What a deployment's own limits count holds no money, and leaves nothing behind but its counts.
pub(super) async fn a_hold_of_limits_alone_is_over_when_it_ends(world: World) {
    let scopes = [Scope {
        rpm: Some(2),
        tpm: Some(10),
        parallel: Some(1),
        ..scope(ScopeKind::Model, "deployment:d", None)
    }];
    let ask = async |hold, tokens| {
        world
            .ask(hold, usd(0), usd(0), tokens, &scopes, world.now)
            .await
    };
    let reached = |asked| match asked {
        Err(Refusal::Rate { limit_type, .. }) => Some(limit_type),
        _ => None,
    };
    ask(1, 9).await.expect("fits");
    assert_eq!(
        reached(ask(2, 1).await),
        Some(LimitType::MaxParallelRequests)
    );
    assert_eq!(reached(ask(2, 2).await), Some(LimitType::Tokens));
    world
        .budgets
        .finish(id(1), usd(0), 7, world.now, None)
        .await;
    let stats = world.budgets.stats();
    assert_eq!((stats.open, stats.finished), (0, 0));
    let seen = world.budgets.snapshot(world.now).await.expect("a snapshot");
    assert_eq!(seen.holds, 0);
    ask(2, 3).await.expect("the slot and 3 tokens are back");
    world
        .budgets
        .finish(id(2), usd(0), 3, world.now, None)
        .await;
    assert_eq!(reached(ask(3, 0).await), Some(LimitType::Requests));
}
