//! Many identical requests at once: one goes upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_service::{CacheConfig, CacheService, Controls, Lookup, Outcome, Policy, Reason};

use crate::world::{answer, ask, exact_config, told};

async fn look(cache: &CacheService) -> Outcome {
    let body = ask("Hi").to_string();
    let lookup = Lookup {
        scope: "a",
        model: "m",
        body: body.as_bytes(),
        controls: Controls::default(),
        policy: &Policy::default(),
    };
    cache.lookup(lookup).await
}

#[tokio::test]
async fn two_hundred_identical_requests_make_one_call() {
    let cache = Arc::new(CacheService::open(exact_config()).await.unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let requests: Vec<_> = (0..200)
        .map(|_| {
            let (cache, calls) = (Arc::clone(&cache), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut outcome = look(&cache).await;
                if let Outcome::Wait(follower) = outcome {
                    outcome = cache.wait(follower).await;
                }
                match outcome {
                    Outcome::Hit(hit) => told(&hit),
                    Outcome::Miss(ticket, _) => {
                        // The first leader goes away without a word; a follower takes over.
                        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                            drop(ticket);
                            return "gone".to_owned();
                        }
                        tokio::task::yield_now().await;
                        cache.store(ticket, answer("Hello")).await;
                        "Hello".to_owned()
                    }
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect();
    let mut told = Vec::new();
    for request in requests {
        told.push(request.await.unwrap());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(told.iter().filter(|t| *t == "Hello").count(), 199);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test]
async fn an_answer_that_is_not_kept_lets_everyone_go_at_once() {
    let cache = CacheService::open(exact_config()).await.unwrap();
    let Outcome::Miss(leader, _) = look(&cache).await else {
        panic!("no leader")
    };
    let Outcome::Wait(follower) = look(&cache).await else {
        panic!("no follower")
    };
    cache.store(leader, answer(" ")).await;
    assert!(matches!(
        cache.wait(follower).await,
        Outcome::Miss(_, Reason::FollowerWait)
    ));
}

#[tokio::test]
async fn nobody_waits_longer_than_configured() {
    let config = CacheConfig {
        follower_wait: Duration::from_millis(20),
        ..exact_config()
    };
    let cache = CacheService::open(config).await.unwrap();
    let Outcome::Miss(_leader, _) = look(&cache).await else {
        panic!("no leader")
    };
    let Outcome::Wait(follower) = look(&cache).await else {
        panic!("no follower")
    };
    assert!(matches!(
        cache.wait(follower).await,
        Outcome::Miss(_, Reason::FollowerWait)
    ));
}
