//! Holds: granted over all scopes or on none, moved through their stages, and given back.

use metering::Window;
use schemas::{Identity, Micros, Partition, Pseq, SourceId};

use super::{World, event, id, key, scope, usd};
use crate::{Refusal, Scope, ScopeKind, Settled};

pub(super) async fn all_scopes_or_none(world: World) {
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

pub(super) async fn a_hold_moves_through_its_stages(world: World) {
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

pub(super) async fn asking_again_changes_nothing(world: World) {
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

pub(super) async fn a_call_may_get_less_than_it_wants(world: World) {
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

pub(super) async fn open_holds_and_spend_are_told_apart(world: World) {
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

pub(super) async fn late_usage_lands_in_the_window_of_its_admission(world: World) {
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

pub(super) async fn holds_expire_and_slots_come_back(world: World) {
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

pub(super) async fn finished_calls_do_not_expire(world: World) {
    let scopes = [key(10)];
    world.reserve(1, 8, &scopes).await.expect("fits");
    world.finish(1, 7).await;
    assert_eq!(world.budgets.sweep(world.now.plus_secs(3_600)).await, 0);
    world.stands(&scopes[0], 0, 0, 7).await;
    world.settle(&event(1, 1, usd(7), true, &scopes)).await;
    world.stands(&scopes[0], 7, 0, 0).await;
}

/// However long its lane stands still, or a gap parks its source: the cost of a call is known.
pub(super) async fn what_is_on_the_log_is_held_until_it_is_settled(world: World) {
    let scopes = [key(10)];
    let told = Identity {
        source_id: SourceId(7),
        partition: Partition(3),
        pseq: Pseq(1),
    };
    for hold in [1, 2] {
        world.reserve(hold, 4, &scopes).await.expect("fits");
        let told = (hold == 1).then_some(told);
        world
            .budgets
            .finish(id(hold), usd(3), 0, world.now, told)
            .await;
    }
    world.stands(&scopes[0], 0, 0, 6).await;
    let week = world.now.plus_secs(7 * 86_400);
    assert_eq!(world.budgets.sweep(week).await, 1, "one that nobody told");
    world.stands(&scopes[0], 0, 0, 3).await;
    world.budgets.sweep(week.plus_secs(7 * 86_400)).await;
    world.stands(&scopes[0], 0, 0, 3).await;
    world.settle(&event(1, 1, usd(3), true, &scopes)).await;
    world.stands(&scopes[0], 3, 0, 0).await;
}

pub(super) async fn a_released_call_never_was(world: World) {
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

pub(super) async fn a_scope_named_twice_is_held_once(world: World) {
    let tag = scope(ScopeKind::Tag, "tag:a", Some(usd(10)));
    let twice = [tag.clone(), tag.clone()];
    world.reserve(1, 6, &twice).await.expect("fits");
    world.stands(&tag, 0, 6, 0).await;
    assert_eq!(world.finish(1, 4).await, [usd(4), usd(4)]);
    world.settle(&event(1, 1, usd(4), true, &twice[..1])).await;
    world.stands(&tag, 4, 0, 0).await;
}
