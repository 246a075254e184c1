//! The server out of reach: nobody waits long, hard budgets refuse, the rest goes on within local bounds,
//! and what was not heard is said again.

use std::time::Duration;

use budgets::{Budgets, LimitType, Refusal, Scope};
use schemas::Micros;
use tokio::time::timeout;

use budgets::redis::Settings;
use test_servers::Redis as Server;

use crate::world::{
    Lane, Log, id, now, opened, reserve, scope, server, settings as usual, spend, until, usd,
};

/// Calls that do not wait long, so that the tests do not.
fn settings(server: &Server) -> Settings {
    Settings {
        wait: Duration::from_secs(1),
        ..usual(server)
    }
}

/// No call may take that long, whatever happens.
const EVER: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_that_is_silent_keeps_nobody_waiting() {
    let server = server().await;
    let settings = settings(&server);
    let budgets = opened(&settings).await;
    let hard = [scope("key:hard", Some(usd(10)))];
    let soft = [Scope {
        rpm: Some(3),
        ..scope("key:soft", None)
    }];
    reserve(&budgets, 1, usd(4), &hard).await.expect("fits");
    server.freeze();
    for _ in 0..3 {
        let refused = timeout(EVER, reserve(&budgets, 2, usd(1), &hard))
            .await
            .expect("in time");
        assert!(
            matches!(refused, Err(Refusal::Unavailable { .. })),
            "{refused:?}"
        );
    }
    let mut local = 0;
    let refused = loop {
        let asked = timeout(EVER, reserve(&budgets, 10 + local, usd(1), &soft)).await;
        match asked.expect("in time") {
            Ok(_) => local += 1,
            Err(refused) => break refused,
        }
    };
    // The minute may have turned in between.
    assert!((3..=6).contains(&local), "{local} are admitted");
    assert!(
        matches!(
            refused,
            Refusal::Rate {
                limit_type: LimitType::Requests,
                limit: 3,
                ..
            }
        ),
        "{refused:?}"
    );
    // The call ends while nobody listens.
    let log = Log::default();
    let event = log.append(id(1), usd(2), &hard);
    timeout(EVER, budgets.finish(id(1), usd(2), 1, now(), Some(event)))
        .await
        .expect("in time");
    timeout(EVER, budgets.release(id(12)))
        .await
        .expect("in time");
    timeout(EVER, budgets.spend(&[("key:hard".into(), Micros(0))]))
        .await
        .expect("in time")
        .expect_err("nobody answers");
    assert!(!budgets.ready());
    let stats = budgets.stats();
    assert_eq!(
        (stats.admitted_locally, stats.refused_unavailable),
        (local, 3)
    );
    assert!(stats.connections_lost > 0);

    server.thaw();
    until("hard budgets admit again", async || budgets.ready()).await;
    until("the end of the call was heard", async || {
        let spend = spend(&budgets, &hard[0]).await;
        (spend.held, spend.finished) == (usd(0), usd(2))
    })
    .await;
    // Calls that were refused hold nothing, even if the server read them in the end.
    reserve(&budgets, 3, usd(8), &hard)
        .await
        .expect("8 are left");
    Lane::new(&budgets, &log).catch_up().await;
    assert_eq!(spend(&budgets, &hard[0]).await.used, usd(2));
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let server = server().await;
    let settings = settings(&server);
    server.kill();
    let budgets = budgets::Redis::start(settings)
        .await
        .expect("out of reach is no error");
    assert!(!budgets.ready());
    let refused = reserve(&budgets, 1, usd(1), &[scope("key:k", Some(usd(1)))]).await;
    assert!(
        matches!(refused, Err(Refusal::Unavailable { .. })),
        "{refused:?}"
    );
    server.restart().await;
    let log = Log::default();
    Lane::new(&budgets, &log).catch_up().await;
    reserve(&budgets, 1, usd(1), &[scope("key:k", Some(usd(1)))])
        .await
        .expect("fits");
}

/// A client that goes away while its reservation is on the way leaves no hold behind.
#[tokio::test]
async fn a_reservation_that_nobody_waits_for_is_given_back() {
    let settings = settings(crate::world::shared_server().await);
    let budgets = opened(&settings).await;
    let scopes = [scope("key:k", Some(usd(10)))];
    for hold in 0..20 {
        tokio::select! {
            biased;
            granted = reserve(&budgets, hold, usd(1), &scopes) => {
                granted.expect("fits");
                budgets.release(id(hold)).await;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    until("nothing is held", async || {
        spend(&budgets, &scopes[0]).await.held == usd(0)
    })
    .await;
    assert_eq!(budgets.stats().open, 0);
}

/// Holds end by the server's clock, and their slots with them.
#[tokio::test]
async fn abandoned_holds_expire() {
    let settings = settings(crate::world::shared_server().await);
    let budgets = opened(&settings).await;
    let scopes = [Scope {
        parallel: Some(1),
        ..scope("key:k", Some(usd(10)))
    }];
    let at = budgets.clock(now());
    let request = budgets::Reserve {
        hold: id(1),
        amount: usd(9),
        least: usd(9),
        tokens: 0,
        scopes: &scopes,
        now: at,
        expires: Micros(at.0 + 50_000),
    };
    budgets.reserve(&request).await.expect("fits");
    until("it expires", async || budgets.sweep(Micros(0)).await == 1).await;
    reserve(&budgets, 2, usd(9), &scopes)
        .await
        .expect("money and slot are back");
    let stats = budgets.stats();
    assert_eq!((stats.expired, stats.open), (1, 1));
}
