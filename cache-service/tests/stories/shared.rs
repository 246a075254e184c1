//! Several caches over one Redis: what one stores the others serve, what one deletes is gone
//! everywhere, and without Redis there are misses, never errors.

use std::path::Path;
use std::time::Duration;

use cache_service::{
    CacheConfig, CacheService, HitKind, NotStored, Outcome, Reason, SharedConfig, SharedState,
    Stored,
};
use redis::cmd;
use tempfile::TempDir;
use test_servers::Redis;
use test_servers::redis::ANSWERS;

use crate::world::{Tenant, ask, exact_config, semantic_config, told, until};

fn over(redis: &Redis, base: CacheConfig) -> CacheConfig {
    CacheConfig {
        shared: Some(SharedConfig {
            // Room for a busy machine; that a silent Redis is given up is told by its own story.
            budget: Duration::from_secs(5),
            ..SharedConfig::at(redis.url())
        }),
        clock: cache_service::Clock::system(),
        ..base
    }
}

async fn open(config: CacheConfig) -> CacheService {
    let cache = CacheService::open(config).await.unwrap();
    warm(&cache).await;
    cache
}

async fn exact(redis: &Redis) -> CacheService {
    open(over(redis, exact_config())).await
}

async fn warm(cache: &CacheService) {
    let all = Some(SharedState {
        up: true,
        warm: true,
    });
    until("the store to be read", async || {
        cache.readiness().shared == all
    })
    .await;
}

async fn has(cache: &CacheService, entries: usize) {
    until("the entries to be as many", async || {
        cache.stats().entries == entries
    })
    .await;
}

fn kept(stored: Stored) -> cache_service::EntryId {
    match stored {
        Stored::Kept(id) => id,
        Stored::Not(why) => panic!("not kept: {}", why.as_str()),
    }
}

/// Why a cache without a model has no answer.
const GONE: &str = "no-model";

struct Keys(redis::aio::MultiplexedConnection);

impl Keys {
    async fn of(redis: &Redis) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    async fn all(&mut self, pattern: &str) -> Vec<String> {
        cmd("KEYS")
            .arg(pattern)
            .query_async(&mut self.0)
            .await
            .unwrap()
    }

    async fn run(&mut self, words: &[&str]) {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        let () = command.query_async(&mut self.0).await.unwrap();
    }
}

#[tokio::test]
async fn what_one_stores_another_serves_word_for_word_and_by_meaning() {
    let redis = Redis::start(ANSWERS).await;
    let a = open(over(&redis, semantic_config())).await;
    let b = open(over(&redis, semantic_config())).await;
    assert!(
        a.readiness().semantic,
        "these tests need the embedding model: run through ./tollgate test ({:?})",
        a.readiness().warnings
    );
    let (of_a, of_b) = (Tenant::of(&a, "team"), Tenant::of(&b, "team"));
    let question = ask("How do I reset my password?");
    let id = kept(of_a.teach(&question, "Like this.").await);
    // At once, before the log has told of it.
    let hit = of_b.hit(&question).await;
    assert_eq!(
        (hit.kind, hit.entry, told(&hit).as_str()),
        (HitKind::Exact, id, "Like this.")
    );
    has(&b, 1).await;
    let hit = of_b.hit(&ask("How can I reset my password?")).await;
    assert_eq!(
        (hit.kind, hit.entry, told(&hit).as_str()),
        (HitKind::Semantic, id, "Like this.")
    );
    assert_eq!(
        (hit.answer.usage.completion, hit.answer.cost_nano),
        (7, 1_500)
    );
    assert_eq!(b.stats().stored, 0, "followed is not stored");

    // Tenants are as apart as in one process.
    let stranger = Tenant::of(&b, "other team");
    assert_eq!(stranger.reason(&question).await, "not-found");
    assert!(!b.delete(id, Some("other team")).await.unwrap());

    // A newer answer takes the place of the older one, there and here.
    let newer = kept(
        of_b.with(|c| c.no_cache = true)
            .teach(&question, "Like that.")
            .await,
    );
    assert_eq!(told(&of_a.hit(&question).await), "Like that.");
    // Until it has heard of the newer one, it finds the older one evicted: a miss.
    until("the newer answer by meaning", async || {
        let asked = of_a.look(&ask("How can I reset my password?")).await;
        matches!(asked, Outcome::Hit(hit) if hit.entry == newer)
    })
    .await;
    has(&a, 1).await;
    let mut keys = Keys::of(&redis).await;
    assert_eq!(keys.all("tollgate:answers:1:e:*").await.len(), 1);

    // Deleted through one, gone everywhere.
    assert!(b.delete(newer, Some("team")).await.unwrap());
    assert_eq!(of_a.reason(&question).await, "not-found");
    has(&a, 0).await;
    assert_eq!(
        of_a.reason(&ask("How can I reset my password?")).await,
        "not-found"
    );
    assert_eq!(a.stats().crossed + b.stats().crossed, 0);
}

#[tokio::test]
async fn a_wrong_answer_told_to_one_is_gone_from_all() {
    let redis = Redis::start(ANSWERS).await;
    let (a, b) = (exact(&redis).await, exact(&redis).await);
    let id = kept(Tenant::of(&a, "t").teach(&ask("Hi"), "Wrong").await);
    has(&b, 1).await;
    assert!(!b.judge(id, false, Some("u")).await.unwrap());
    assert!(b.judge(id, true, Some("t")).await.unwrap());
    assert!(b.judge(id, false, Some("t")).await.unwrap());
    assert_eq!(Tenant::of(&a, "t").reason(&ask("Hi")).await, GONE);
    has(&a, 0).await;
    assert_eq!(b.stats().judged, (1, 1));
    // And everything, through either.
    for n in 0..20 {
        Tenant::of(&a, "t")
            .teach(&ask(&format!("Question {n}")), "x")
            .await;
    }
    has(&b, 20).await;
    b.clear().await.unwrap();
    assert_eq!(Tenant::of(&a, "t").reason(&ask("Question 7")).await, GONE);
    has(&a, 0).await;
    has(&b, 0).await;
    kept(Tenant::of(&a, "t").teach(&ask("Question 7"), "y").await);
    has(&b, 1).await;
}

#[tokio::test]
async fn an_answer_that_redis_evicted_is_a_miss_and_a_tombstone() {
    let redis = Redis::start(ANSWERS).await;
    let a = open(over(&redis, semantic_config())).await;
    let b = open(over(&redis, semantic_config())).await;
    let (of_a, of_b) = (Tenant::of(&a, "t"), Tenant::of(&b, "t"));
    let (bus, password) = (
        ask("Which bus goes to the airport?"),
        ask("How do I reset my password?"),
    );
    let id = kept(of_a.teach(&bus, "Line 7").await);
    kept(of_a.teach(&password, "Like this.").await);
    has(&b, 2).await;
    let mut keys = Keys::of(&redis).await;
    keys.run(&["DEL", &format!("tollgate:answers:1:e:{id}")])
        .await;
    let asked = of_b.miss(&ask("Which bus goes to the airport?!")).await;
    assert_eq!(asked.1, Reason::Evicted);
    has(&b, 1).await;
    // The other one hears of it, though it never looked.
    has(&a, 1).await;
    assert_eq!(of_a.reason(&bus).await, "not-found");
    assert_eq!(of_b.hit(&password).await.kind, HitKind::Exact);

    // The log itself may be evicted, with what it would have told.
    keys.run(&["DEL", "tollgate:answers:1:log"]).await;
    let late = kept(of_a.teach(&ask("Who wrote Hamlet?"), "Shakespeare").await);
    assert_eq!(of_b.hit(&ask("Who wrote Hamlet?")).await.entry, late);
    has(&b, 2).await;
    keys.run(&["FLUSHALL"]).await;
    has(&a, 0).await;
    has(&b, 0).await;
    assert_eq!(of_b.reason(&password).await, "not-found");
}

#[tokio::test]
async fn without_redis_there_are_misses_and_then_all_is_as_before() {
    // One that keeps its data, so that it can be seen again.
    let redis = Redis::start(test_servers::redis::BUDGETS).await;
    let cache = exact(&redis).await;
    let t = Tenant::of(&cache, "t");
    let id = kept(t.teach(&ask("Hi"), "Hello").await);
    Keys::of(&redis).await.run(&["BGREWRITEAOF"]).await;
    redis.kill();
    // The first may find the connection broken, the next ones find none.
    until("Redis to be missed", async || {
        t.reason(&ask("Hi")).await == "store-down"
    })
    .await;
    let (ticket, _) = t.miss(&ask("Hi")).await;
    let stored = cache.store(ticket, crate::world::answer("x")).await;
    assert_eq!(stored, Stored::Not(NotStored::StoreDown));
    assert!(cache.delete(id, None).await.is_err(), "never a false yes");
    let ready = cache.readiness();
    assert!(ready.degraded, "{ready:?}");
    assert!(cache.prometheus().contains("tollgate_cache_redis_up 0"));
    // One that starts now finds none, and says so.
    let begun = CacheService::open(over(&redis, exact_config()))
        .await
        .unwrap();
    assert!(begun.readiness().degraded);
    let there = Tenant::of(&begun, "t");
    until("Redis to be missed", async || {
        there.reason(&ask("Hi")).await == "store-down"
    })
    .await;
    redis.restart().await;
    warm(&begun).await;
    warm(&cache).await;
    assert!(!cache.readiness().degraded);
    kept(t.teach(&ask("Bye"), "Goodbye").await);
    assert_eq!(told(&t.hit(&ask("Bye")).await), "Goodbye");
}

#[tokio::test]
async fn a_redis_that_is_silent_is_given_up() {
    let redis = Redis::start(ANSWERS).await;
    let mut config = over(&redis, exact_config());
    config.shared.as_mut().unwrap().budget = Duration::from_millis(20);
    let cache = open(config).await;
    let t = Tenant::of(&cache, "t");
    redis.freeze();
    until("Redis to be given up", async || {
        assert_eq!(t.reason(&ask("Hi")).await, "store-down");
        cache.readiness().shared.is_some_and(|shared| !shared.up)
    })
    .await;
    redis.thaw();
    warm(&cache).await;
    kept(t.teach(&ask("Hi"), "Hello").await);
}

#[tokio::test]
async fn a_restart_finds_everything_in_redis_alone() {
    let redis = Redis::start(ANSWERS).await;
    let dir = TempDir::new().unwrap();
    let config = |dir: Option<&Path>| CacheConfig {
        dir: dir.map(Path::to_owned),
        ..over(&redis, semantic_config())
    };
    let first = open(config(Some(dir.path()))).await;
    let t = Tenant::of(&first, "t");
    let wrong = kept(t.teach(&ask("Which bus goes to the airport?"), "9").await);
    kept(
        t.teach(&ask("How do I reset my password?"), "Like this.")
            .await,
    );
    assert!(first.delete(wrong, None).await.unwrap());
    let serves = async |cache: &CacheService| {
        let t = Tenant::of(cache, "t");
        let hit = t.hit(&ask("How can I reset my password?")).await;
        assert_eq!(
            (hit.kind, told(&hit).as_str()),
            (HitKind::Semantic, "Like this.")
        );
        let gone = t.reason(&ask("Which bus goes to the airport?")).await;
        assert_eq!(gone, "not-found");
    };
    serves(&first).await;
    first.drain().await;
    drop(first);

    // With nothing but Redis.
    let second = open(config(None)).await;
    serves(&second).await;
    assert!(
        second
            .prometheus()
            .contains("tollgate_cache_redis_followed_total 1\n")
    );
    // Something is deleted while the first is away.
    let t = Tenant::of(&second, "t");
    let id = kept(t.teach(&ask("Who wrote Hamlet?"), "Marlowe").await);
    {
        // With its snapshot nothing but news is read from Redis.
        let third = open(config(Some(dir.path()))).await;
        serves(&third).await;
        assert!(
            third
                .prometheus()
                .contains("tollgate_cache_redis_followed_total 1\n")
        );
        has(&third, 2).await;
        third.drain().await;
    }
    assert!(second.delete(id, None).await.unwrap());
    let fourth = open(config(Some(dir.path()))).await;
    has(&fourth, 1).await;
    let asked = Tenant::of(&fourth, "t")
        .reason(&ask("Who wrote Hamlet?"))
        .await;
    assert_eq!(asked, "not-found");
    // A folder of answers of one's own is another one.
    fourth.drain().await;
    drop(fourth);
    let alone = CacheService::open(CacheConfig {
        shared: None,
        ..config(Some(dir.path()))
    })
    .await
    .unwrap();
    assert_eq!(alone.stats().entries, 0);
}

#[tokio::test]
async fn entries_die_at_their_time_and_names_are_taken_as_they_are() {
    let redis = Redis::start(ANSWERS).await;
    let cache = exact(&redis).await;
    let mut config = over(&redis, exact_config());
    config.shared.as_mut().unwrap().prefix = "tollgate:answers:*".to_owned();
    let other = open(config).await;
    let t = Tenant::of(&cache, "t");
    kept(
        t.with(|c| c.ttl_s = Some(600))
            .teach(&ask("Hi"), "Hello")
            .await,
    );
    let mut keys = Keys::of(&redis).await;
    for key in ["e", "x"] {
        let names = keys.all(&format!("tollgate:answers:1:{key}:*")).await;
        let left: i64 = cmd("PTTL")
            .arg(&names[0])
            .query_async(&mut keys.0)
            .await
            .unwrap();
        assert!((500_000..=600_000).contains(&left), "{key}: {left}");
    }
    other.clear().await.unwrap();
    assert_eq!(other.stats().entries, 0);
    assert_eq!(told(&t.hit(&ask("Hi")).await), "Hello", "another's prefix");
    // What cannot be read is as good as evicted, here and at a start.
    let entry = keys.all("tollgate:answers:1:e:*").await.remove(0);
    keys.run(&["HSET", &entry, "a", "damage"]).await;
    assert_eq!(t.reason(&ask("Hi")).await, GONE);
    keys.run(&["HSET", &entry, "m", "{}"]).await;
    let fresh = exact(&redis).await;
    assert_eq!(fresh.stats().entries, 0);
    assert_eq!(Tenant::of(&fresh, "t").reason(&ask("Hi")).await, GONE);
}

#[tokio::test]
async fn an_address_that_cannot_be_meant_is_refused_without_showing_it() {
    let config = CacheConfig {
        shared: Some(SharedConfig::at("http://:hunter2@nowhere")),
        ..exact_config()
    };
    assert!(!format!("{config:?}").contains("hunter2"));
    let Err(error) = CacheService::open(config).await else {
        panic!("opened")
    };
    assert!(error.to_string().contains("redis_url"), "{error}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}
