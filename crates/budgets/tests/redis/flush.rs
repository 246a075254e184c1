//! All state thrown away under load: closed at once, made again from the log, exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use budgets::redis::Settings;
use budgets::{Budgets, Restored, Spend};
use schemas::NanoUsd;
use tokio::task::JoinSet;

use crate::world::{
    Lane, Log, flush, id, now, opened, process, reserve, scope, server, settings, spend, until, usd,
};

/// Callers on two ingresses; the state is flushed three times while they run, two billing processes make
/// it again at once. What was admitted never passes the limit, and in the end every sum is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_under_load_is_made_good() {
    let server = server().await;
    let settings = Settings {
        pause: Duration::from_millis(300),
        ..settings(&server)
    };
    let billing = opened(&settings).await;
    let other = process(&settings).await;
    let ingresses = [
        Arc::new(process(&settings).await),
        Arc::new(process(&settings).await),
    ];
    let log = Arc::new(Log::default());
    let limit = usd(200);
    let scopes = Arc::new([scope("key:k", Some(limit)), scope("global", None)]);
    let taken = Arc::new(AtomicI64::new(0));
    let admitted = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));

    let mut callers = JoinSet::new();
    for caller in 0..8_u64 {
        let ingress = Arc::clone(&ingresses[caller as usize % 2]);
        let (log, scopes, taken) = (Arc::clone(&log), Arc::clone(&scopes), Arc::clone(&taken));
        let (admitted, over) = (Arc::clone(&admitted), Arc::clone(&over));
        callers.spawn(async move {
            let mut call = caller * 1_000_000;
            while !over.load(Ordering::Relaxed) {
                call += 1;
                if reserve(&ingress, call, usd(1), &scopes[..]).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                }
                admitted.fetch_add(1, Ordering::Relaxed);
                let now_taken = taken.fetch_add(usd(1).0, Ordering::SeqCst) + usd(1).0;
                assert!(now_taken <= limit.0, "{now_taken} nano-USD are taken");
                tokio::time::sleep(Duration::from_millis(3)).await;
                let cost = NanoUsd(i64::try_from(call % 7).expect("small") * 20_000_000);
                // Before it is told, since from then on others may take the rest.
                taken.fetch_sub(usd(1).0 - cost.0, Ordering::SeqCst);
                let event = log.append(id(call), cost, &scopes[..]);
                ingress.finish(id(call), cost, 1, now(), Some(event)).await;
            }
        });
    }
    let mut lanes = [Lane::new(&billing, &log), Lane::new(&other, &log)];
    for _ in 0..3 {
        let before = admitted.load(Ordering::Relaxed);
        until_lanes(&mut lanes, || {
            admitted.load(Ordering::Relaxed) > before + 100
        })
        .await;
        flush(&server).await;
        until_lanes(&mut lanes, || !billing.ready()).await;
        until_lanes(&mut lanes, || billing.ready()).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(done) = callers.join_next().await {
        done.expect("a caller failed");
    }
    lanes[0].catch_up().await;
    let wanted = Spend {
        used: log.sum(),
        held: NanoUsd(0),
        finished: NanoUsd(0),
    };
    for scope in scopes.iter() {
        until("every sum is exact", async || {
            spend(&billing, scope).await == wanted
        })
        .await;
    }
    for ingress in &ingresses {
        until("no call is left", async || {
            let stats = ingress.stats();
            (stats.open, stats.finished) == (0, 0)
        })
        .await;
    }
}

/// The lanes work in turn until it is so.
async fn until_lanes(lanes: &mut [Lane<'_>], is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        for lane in &mut *lanes {
            lane.step(50).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(std::time::Instant::now() < deadline, "it never came");
    }
}

/// Calls that were over but not settled, and calls in progress, are held again before anybody is admitted.
#[tokio::test]
async fn calls_of_a_live_process_are_held_before_the_state_opens() {
    let server = server().await;
    let settings = settings(&server);
    let billing = opened(&settings).await;
    let ingress = process(&settings).await;
    until("billing knows of it", async || billing.processes() == 2).await;
    let log = Log::default();
    let scopes = [budgets::Scope {
        parallel: Some(2),
        ..scope("key:k", Some(usd(10)))
    }];
    for hold in 1..=2 {
        reserve(&ingress, hold, usd(3), &scopes)
            .await
            .expect("fits");
    }
    // Durable at the ingress, not yet in the log that billing reads.
    let unread = Log::default();
    let event = unread.append(id(1), usd(2), &scopes);
    ingress.finish(id(1), usd(2), 1, now(), Some(event)).await;
    flush(&server).await;
    until("the flush is noticed", async || !billing.ready()).await;
    Lane::new(&billing, &log).catch_up().await;
    let wanted = Spend {
        used: usd(0),
        held: usd(3),
        finished: usd(2),
    };
    assert_eq!(spend(&billing, &scopes[0]).await, wanted);
    let other = process(&settings).await;
    reserve(&other, 7, usd(6), &scopes)
        .await
        .expect_err("5 are left");
    reserve(&other, 8, usd(5), &scopes)
        .await
        .expect("a slot and 5 are left");
    reserve(&other, 9, usd(0), &scopes)
        .await
        .expect_err("no slot is left");
}

/// A process that died without a word is waited for until its lease ends, and no longer.
#[tokio::test]
async fn a_dead_process_is_not_waited_for_for_ever() {
    let server = server().await;
    let settings = Settings {
        lease: Duration::from_millis(700),
        ..settings(&server)
    };
    let billing = opened(&settings).await;
    let dead = process(&settings).await;
    until("billing knows of it", async || billing.processes() == 2).await;
    drop(dead);
    flush(&server).await;
    until("the flush is noticed", async || !billing.ready()).await;
    let log = Log::default();
    Lane::new(&billing, &log).catch_up().await;
    assert!(billing.ready());
}

/// Whoever restores writes absolute values, so two at once end where one would.
#[tokio::test]
async fn two_that_restore_at_once_are_as_exact_as_one() {
    let server = server().await;
    let settings = settings(&server);
    let first = opened(&settings).await;
    let second = process(&settings).await;
    let scopes = [scope("key:k", Some(usd(10)))];
    let state = Restored {
        windows: vec![budgets::RestoredWindow {
            budget: crate::world::window_of(&scopes[0]),
            used: usd(4),
        }],
        standing: vec![crate::world::identity(9)].into(),
    };
    for _ in 0..20 {
        let (one, two) = tokio::join!(first.restore(&state), second.restore(&state));
        assert!(one.is_ok() || two.is_ok(), "{one:?}, {two:?}");
    }
    first.restore(&state).await.expect("alone");
    until("the state opens", async || first.open().await.is_ok()).await;
    assert_eq!(spend(&second, &scopes[0]).await.used, usd(4));
    assert_eq!(first.standing().await.expect("a standing"), state.standing);
}
