//! What the log brings: once, in order, whatever holds are still there.

use schemas::{Identity, NanoUsd, Offset, Partition, Pseq, SourceId, Standing};

use super::{World, event, id, key, scope, usd, window_of};
use crate::{
    Advance, Error, LimitType, Onward, Refusal, Restored, RestoredWindow, Scope, ScopeKind,
    Settled, Settlement,
};

pub(super) async fn a_settlement_that_comes_first_wins(world: World) {
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

pub(super) async fn attempts_settle_one_by_one(world: World) {
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

pub(super) async fn unknown_holds_still_cost(world: World) {
    let scopes = [key(10)];
    world.settle(&event(1, 99, usd(3), true, &scopes)).await;
    world.stands(&scopes[0], 3, 0, 0).await;
    assert_eq!(world.budgets.stats().settled_without_hold, 1);
}

pub(super) async fn a_replayed_settlement_is_dropped(world: World) {
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

pub(super) async fn a_settlement_out_of_order_is_refused(world: World) {
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

/// The events of the batch follow on, but what lies between its offsets is not all applied.
pub(super) async fn a_settlement_from_another_offset_is_refused(world: World) {
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

pub(super) async fn counters_are_exact_beyond_53_bits(world: World) {
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
