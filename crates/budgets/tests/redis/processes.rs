//! Several processes on one state.

use std::sync::Arc;
use std::time::Duration;

use budgets::redis::Settings;
use budgets::{Budgets, LimitType, Refusal, Scope, Spend};
use schemas::{Micros, NanoUsd};
use tokio::task::JoinSet;

use crate::world::{
    Lane, Log, id, now, opened, process, reserve, scope, settings, shared_server, spend, until, usd,
};

/// What one holds another cannot take; who admitted a call need not be who settles it.
#[tokio::test]
async fn processes_see_each_others_holds() {
    let settings = settings(shared_server().await);
    let billing = opened(&settings).await;
    let first = process(&settings).await;
    let second = process(&settings).await;
    let scopes = [scope("key:k", Some(usd(10)))];
    reserve(&first, 1, usd(6), &scopes).await.expect("fits");
    let refused = reserve(&second, 2, usd(6), &scopes).await;
    assert!(
        matches!(refused, Err(Refusal::Budget { by_holds: true, held, .. }) if held == usd(6)),
        "{refused:?}"
    );
    let log = Log::default();
    let event = log.append(id(1), usd(2), &scopes);
    let told = first.finish(id(1), usd(2), 5, now(), Some(event)).await;
    assert_eq!(told, [usd(2)]);
    reserve(&second, 2, usd(6), &scopes)
        .await
        .expect("8 are left");
    Lane::new(&billing, &log).catch_up().await;
    let end = spend(&second, &scopes[0]).await;
    let wanted = Spend {
        used: usd(2),
        held: usd(6),
        finished: usd(0),
    };
    assert_eq!(end, wanted);
    until(
        "the first process hears that its call is settled",
        async || first.stats().finished == 0,
    )
    .await;
    assert_eq!((first.stats().open, second.stats().open), (0, 1));
}

/// 500 calls at once over five processes, on a budget that is worth ten of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_budget_is_passed_by_many_processes() {
    let settings = settings(shared_server().await);
    let mut processes = vec![Arc::new(opened(&settings).await)];
    for _ in 0..4 {
        processes.push(Arc::new(process(&settings).await));
    }
    let scopes = Arc::new([
        scope("key:k", Some(usd(10))),
        scope("team:t", Some(usd(1_000))),
        scope("user:u", None),
        scope("global", Some(usd(100))),
    ]);
    let mut calls = JoinSet::new();
    for call in 0..500 {
        let budgets = Arc::clone(&processes[call as usize % processes.len()]);
        let scopes = Arc::clone(&scopes);
        calls.spawn(async move { reserve(&budgets, call, usd(1), &scopes[..]).await.is_ok() });
    }
    let mut admitted = 0;
    while let Some(granted) = calls.join_next().await {
        admitted += u64::from(granted.expect("a caller failed"));
    }
    assert_eq!(admitted, 10);
    for scope in scopes.iter() {
        assert_eq!(spend(&processes[1], scope).await.held, usd(10));
    }
}

/// Requests a minute hold over all processes together.
#[tokio::test]
async fn rates_and_slots_are_counted_over_processes() {
    let settings = settings(shared_server().await);
    let first = opened(&settings).await;
    let second = process(&settings).await;
    let scopes = [budgets::Scope {
        parallel: Some(3),
        ..scope("key:k", None)
    }];
    for hold in 0..3 {
        let budgets = if hold % 2 == 0 { &first } else { &second };
        reserve(budgets, hold, usd(0), &scopes)
            .await
            .expect("a slot");
    }
    for budgets in [&first, &second] {
        let refused = reserve(budgets, 9, usd(0), &scopes).await;
        assert!(
            matches!(
                refused,
                Err(Refusal::Rate {
                    limit: 3,
                    remaining: 0,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    first.release(id(0)).await;
    reserve(&second, 9, usd(0), &scopes)
        .await
        .expect("a slot is back");
}

/// A window that the server's clock has left is refused with the server's instant; asked with it, the
/// call goes on.
#[tokio::test]
async fn windows_turn_by_the_servers_clock() {
    let settings = settings(shared_server().await);
    let budgets = opened(&settings).await;
    let mut past = scope("key:k", Some(usd(10)));
    (past.window.start, past.window.end) = (now().plus_secs(-60), now().plus_secs(-1));
    let refused = reserve(&budgets, 1, usd(1), &[past.clone()]).await;
    let Err(Refusal::Stale { now: server }) = refused else {
        panic!("{refused:?}")
    };
    let apart = |told: Micros| (told.0 - now().0).abs();
    assert!(apart(server) < 30_000_000, "{server:?}");
    (past.window.start, past.window.end) = (server, server.plus_secs(60));
    reserve(&budgets, 1, usd(1), &[past])
        .await
        .expect("the present window");
    let told = budgets.clock(Micros(0));
    assert!(apart(told) < 30_000_000, "{told:?}");
}

/// Money that is held for no call is seen, while calls are open too.
#[tokio::test]
async fn what_is_held_for_no_call_is_seen() {
    let server = shared_server().await;
    let settings = settings(server);
    let budgets = opened(&settings).await;
    let scopes = [scope("key:k", Some(usd(10))), scope("global", None)];
    for hold in 1..=3 {
        reserve(&budgets, hold, usd(1), &scopes)
            .await
            .expect("fits");
    }
    budgets.finish(id(2), NanoUsd(7), 1, now(), None).await;
    budgets.release(id(3)).await;
    let astray = async || budgets.snapshot(now()).await.expect("a snapshot").astray;
    assert_eq!(astray().await, Some(Vec::new()));
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    for (window, by) in [("0:key:k", 5), ("0:global", -6)] {
        redis::cmd("HINCRBY")
            .arg(format!("{{{}}}:w:{window}", settings.prefix))
            .arg("h")
            .arg(by)
            .exec_async(&mut connection)
            .await
            .expect("done");
    }
    let found = astray().await.expect("counted").into_iter();
    let mut found: Vec<_> = found.map(|window| (window.budget, window.held)).collect();
    found.sort();
    let wanted = [("global".into(), NanoUsd(-6)), ("key:k".into(), NanoUsd(5))];
    assert_eq!(found, wanted);
}

/// Sums beyond 2⁵³ are compared to the last nano-dollar.
#[tokio::test]
async fn beyond_53_bits_the_last_nano_dollar_counts() {
    let settings = settings(shared_server().await);
    let budgets = opened(&settings).await;
    let limit = NanoUsd(i64::MAX - 1);
    let scopes = [scope("key:k", Some(limit))];
    reserve(&budgets, 1, NanoUsd(i64::MAX - 4), &scopes)
        .await
        .expect("fits");
    let refused = reserve(&budgets, 2, NanoUsd(4), &scopes).await;
    assert!(
        matches!(refused, Err(Refusal::Budget { by_holds: true, .. })),
        "{refused:?}"
    );
    let granted = reserve(&budgets, 3, NanoUsd(3), &scopes)
        .await
        .expect("to the last");
    assert_eq!(granted.scopes[0].left, Some(NanoUsd(0)));
    let unlimited = [scope("key:k", None)];
    let refused = reserve(&budgets, 4, NanoUsd(2), &unlimited).await;
    assert!(
        matches!(refused, Err(Refusal::Unavailable { .. })),
        "{refused:?}"
    );
    assert_eq!(spend(&budgets, &scopes[0]).await.held, limit);
}

/// A deployment's own limits hold for all ingresses together, and what a killed ingress had taken of them
/// comes back with its next life.
#[tokio::test]
async fn slots_of_a_killed_process_come_back_with_its_next_life() {
    let settings = Settings {
        lease: Duration::from_secs(60),
        ..settings(shared_server().await)
    };
    let billing = opened(&settings).await;
    let named = |name: &str| Settings {
        name: name.to_owned(),
        ..settings.clone()
    };
    let killed = process(&named("one")).await;
    let other = process(&named("other")).await;
    let deployment = [Scope {
        parallel: Some(2),
        ..scope("deployment:d", None)
    }];
    let key = [Scope {
        parallel: Some(1),
        ..scope("key:k", Some(usd(10)))
    }];
    reserve(&killed, 1, usd(0), &deployment)
        .await
        .expect("fits");
    reserve(&killed, 2, usd(4), &key).await.expect("fits");
    reserve(&other, 3, usd(0), &deployment).await.expect("fits");
    for ingress in [&killed, &other, &billing] {
        let refused = reserve(ingress, 4, usd(0), &deployment).await;
        assert!(
            matches!(
                refused,
                Err(Refusal::Rate {
                    limit_type: LimitType::MaxParallelRequests,
                    limit: 2,
                    remaining: 0,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    drop(killed);
    let next = process(&named("one")).await;
    until("the next life has told of its calls", async || next.ready()).await;
    reserve(&next, 4, usd(0), &deployment)
        .await
        .expect("one slot is back");
    reserve(&next, 5, usd(0), &deployment)
        .await
        .expect_err("the other ingress has its own");
    reserve(&next, 6, usd(7), &key)
        .await
        .expect_err("its money waits for its event");
    reserve(&next, 6, usd(6), &key)
        .await
        .expect("6 and the slot are there");
}

/// Reserved and killed before it was written down: no event of it ever comes. Once the last event of that life
/// is settled, its money is free.
#[tokio::test]
async fn what_a_killed_process_never_admitted_is_given_back() {
    let settings = Settings {
        wait: Duration::from_millis(500),
        ..settings(shared_server().await)
    };
    let billing = opened(&settings).await;
    let key = [scope("key:k", Some(usd(10)))];
    let one = Settings {
        name: "one".to_owned(),
        ..settings.clone()
    };
    let killed = process(&one).await;
    reserve(&killed, 1, usd(4), &key).await.expect("fits");
    reserve(&killed, 2, usd(5), &key).await.expect("fits");
    drop(killed);
    let log = Log::default();
    let written = log.append(id(1), usd(3), &key);
    let next = process(&Settings {
        former: Some(vec![written]),
        ..one
    })
    .await;
    until("the next life has told of its calls", async || next.ready()).await;
    reserve(&next, 3, usd(2), &key)
        .await
        .expect_err("the event of the first may still come");
    billing.settle(&log.batch(0, 1)).await.expect("settled");
    until("what the second held is free", async || {
        spend(&next, &key[0]).await.held == usd(0)
    })
    .await;
    assert_eq!(spend(&next, &key[0]).await.used, usd(3));
    reserve(&next, 3, usd(7), &key).await.expect("7 are left");
}
