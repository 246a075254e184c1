//! The exact tier: the same request again, its life, its bounds, and what a client may ask for.

use cache_service::{
    CacheConfig, CacheService, HitKind, Mode, NotStored, Outcome, Policy, Reason, Stored,
};
use serde_json::json;

use crate::world::{Tenant, TestClock, answer, ask, exact_config, told};

#[tokio::test]
async fn the_same_question_again_is_a_hit_and_tells_what_it_saved() {
    let cache = CacheService::open(exact_config()).await.unwrap();
    let t = Tenant::of(&cache, "a");
    t.teach(&ask("Hi"), "Hello").await;
    let hit = t.hit(&json!({"stream": true, "messages": [{"content": "Hi ", "role": "user"}], "model": "gpt-x", "user": "u"})).await;
    assert_eq!(
        (hit.kind, told(&hit).as_str(), hit.answer.cost_nano),
        (HitKind::Exact, "Hello", 1_500)
    );
    let stats = cache.stats();
    assert_eq!(
        (
            stats.hits_exact,
            stats.saved_nano,
            stats.saved_tokens,
            stats.entries
        ),
        (1, 1_500, 12, 1)
    );
    assert!(
        stats
            .prometheus()
            .contains("tollgate_cache_requests_total{outcome=\"hit-exact\",reason=\"\"} 1")
    );
}

#[tokio::test]
async fn an_entry_dies_at_its_time_however_often_it_is_hit() {
    let clock = TestClock::new();
    let cache = CacheService::open(CacheConfig {
        clock: clock.clock(),
        ..exact_config()
    })
    .await
    .unwrap();
    let t = Tenant::of(&cache, "a").with(|c| c.ttl_s = Some(100));
    t.teach(&ask("Hi"), "Hello").await;
    for second in 0..90 {
        assert_eq!(t.hit(&ask("Hi")).await.age.as_secs(), second);
        clock.wait(1);
    }
    clock.wait(10);
    assert_eq!(t.reason(&ask("Hi")).await, "no-model");
    cache.sweep();
    assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    // A life beyond the maximum is cut to it.
    let t = Tenant::of(&cache, "a").with(|c| c.ttl_s = Some(10_000_000));
    t.teach(&ask("Hi"), "Hello").await;
    clock.wait(86_400);
    t.miss(&ask("Hi")).await;
}

#[tokio::test]
async fn clients_may_ask_for_less_cache() {
    let clock = TestClock::new();
    let cache = CacheService::open(CacheConfig {
        clock: clock.clock(),
        ..exact_config()
    })
    .await
    .unwrap();
    let t = Tenant::of(&cache, "a");
    let no_store = t.with(|c| c.no_store = true);
    assert_eq!(
        no_store.teach(&ask("Hi"), "1").await,
        Stored::Not(NotStored::Unwanted)
    );
    assert_eq!((cache.stats().entries, cache.stats().not_stored), (0, 1));
    t.teach(&ask("Hi"), "1").await;
    assert_eq!(told(&no_store.hit(&ask("Hi")).await), "1");
    let no_cache = t.with(|c| c.no_cache = true);
    assert_eq!(no_cache.reason(&ask("Hi")).await, "no-cache");
    no_cache.teach(&ask("Hi"), "2").await;
    assert_eq!(told(&t.hit(&ask("Hi")).await), "2");
    assert_eq!(cache.stats().entries, 1);
    clock.wait(20);
    assert_eq!(
        t.with(|c| c.max_age_s = Some(10)).reason(&ask("Hi")).await,
        "max-age"
    );
    t.with(|c| c.max_age_s = Some(20)).hit(&ask("Hi")).await;
    // The same in the body, in LiteLLM's words.
    let with = |cache: serde_json::Value| json!({"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}], "cache": cache});
    assert_eq!(t.reason(&with(json!({"no-cache": true}))).await, "no-cache");
    assert_eq!(t.reason(&with(json!({"s-maxage": 10}))).await, "max-age");
    t.hit(&with(json!({"ttl": 5}))).await;
    t.miss(&with(json!({"namespace": "mine"}))).await;
    assert_eq!(
        t.teach(&with(json!({"namespace": "x", "ttl": 0})), "3")
            .await,
        Stored::Not(NotStored::Unwanted)
    );
}

#[tokio::test]
async fn only_complete_answers_are_kept() {
    let cache = CacheService::open(exact_config()).await.unwrap();
    let t = Tenant::of(&cache, "a");
    let (ticket, _) = t.miss(&ask("Hi")).await;
    let mut cut = answer("Hel");
    cut.body = String::from_utf8(cut.body.to_vec())
        .unwrap()
        .replace("\"stop\"", "\"length\"")
        .into();
    assert_eq!(
        cache.store(ticket, cut).await,
        Stored::Not(NotStored::Incomplete)
    );
    t.miss(&ask("Hi")).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_left_alone() {
    let cache = CacheService::open(exact_config()).await.unwrap();
    let t = Tenant::of(&cache, "a");
    assert!(matches!(
        t.look(&json!([1])).await,
        Outcome::Bypass(Reason::Unreadable)
    ));
    assert!(matches!(
        t.look(&json!({"messages": []})).await,
        Outcome::Bypass(Reason::Unreadable)
    ));
    assert!(matches!(
        t.look(&ask(&"x".repeat(300_000))).await,
        Outcome::Bypass(Reason::TooLarge)
    ));
    let off = Tenant {
        policy: Policy {
            mode: Mode::Off,
            ..Policy::default()
        },
        ..t.clone()
    };
    assert!(matches!(
        off.look(&ask("Hi")).await,
        Outcome::Bypass(Reason::Off)
    ));
    // Two readings of one body could key one question and send another.
    let twice = br#"{"messages":[{"role":"user","content":"A"}],"messages":[{"role":"user","content":"B"}]}"#;
    let lookup = cache_service::Lookup {
        scope: "a",
        model: "m",
        body: twice,
        controls: t.controls.clone(),
        policy: &t.policy,
    };
    assert!(matches!(
        cache.lookup(lookup).await,
        Outcome::Bypass(Reason::Unreadable)
    ));
}

#[tokio::test]
async fn memory_stays_within_its_bounds() {
    let config = CacheConfig {
        bytes_max: 200_000,
        scope_entries_max: 50,
        partition_entries_max: 20,
        ..exact_config()
    };
    let cache = CacheService::open(config).await.unwrap();
    let t = Tenant::of(&cache, "a");
    for n in 0..60 {
        t.teach(&ask(&format!("Question {n}")), "Hello").await;
    }
    assert_eq!(cache.stats().entries, 20, "one partition");
    for n in 0..60 {
        let mut body = ask("Hi");
        body["temperature"] = json!(n);
        t.teach(&body, "Hello").await;
    }
    assert_eq!(cache.stats().entries, 50, "one tenant");
    for n in 0..300 {
        Tenant::of(&cache, &format!("t{n}"))
            .teach(&ask("Hi"), &"long ".repeat(200))
            .await;
        assert!(cache.stats().bytes <= 200_000);
    }
    let (ticket, _) = t.miss(&ask("Huge")).await;
    assert_eq!(
        cache.store(ticket, answer(&"x".repeat(20_000))).await,
        Stored::Not(NotStored::TooLarge)
    );
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused() {
    for config in [
        CacheConfig {
            threshold: 0.5,
            ..exact_config()
        },
        CacheConfig {
            threshold: f32::NAN,
            ..exact_config()
        },
        CacheConfig {
            ttl_s: 0,
            ..exact_config()
        },
        CacheConfig {
            ttl_s: 9,
            ttl_max_s: 8,
            ..exact_config()
        },
    ] {
        assert!(CacheService::open(config).await.is_err());
    }
}
