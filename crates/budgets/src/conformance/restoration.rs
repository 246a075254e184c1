//! State that shows itself whole, is thrown away, and is made again.

use schemas::{Identity, Micros, Partition, Pseq, SourceId};

use super::{World, event, key, scope, usd, window_of};
use crate::{Refusal, Restored, RestoredWindow, Scope, ScopeKind, SeenWindow, Settled, Spend};

pub(super) async fn a_snapshot_shows_everything_at_once(world: World) {
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

pub(super) async fn restored_state_is_absolute(world: World) {
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

pub(super) async fn hard_budgets_wait_for_restored_state(world: World) {
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
