//! Restarts: what was stored is there again, and whatever is wrong on disk never stops the cache.

use std::fs;
use std::path::{Path, PathBuf};

use cache_service::{CacheConfig, CacheService, HitKind, Stored};
use tempfile::TempDir;

use crate::world::{Tenant, TestClock, ask, exact_config, semantic_config, told};

fn on(dir: &Path) -> CacheConfig {
    CacheConfig {
        dir: Some(dir.to_owned()),
        ..exact_config()
    }
}

fn log(dir: &TempDir) -> PathBuf {
    dir.path().join("entries.log")
}

async fn taught(dir: &TempDir) {
    let cache = CacheService::open(on(dir.path())).await.unwrap();
    assert!(cache.readiness().persistent && !cache.readiness().degraded);
    let t = Tenant::of(&cache, "a");
    for n in 0..10 {
        t.teach(&ask(&format!("Question {n}")), &format!("Answer {n}"))
            .await;
    }
}

#[tokio::test]
async fn vectors_and_answers_survive_and_another_model_drops_only_vectors() {
    let dir = TempDir::new().unwrap();
    let config = || CacheConfig {
        dir: Some(dir.path().to_owned()),
        ..semantic_config()
    };
    let deleted;
    {
        let cache = CacheService::open(config()).await.unwrap();
        assert!(
            cache.readiness().semantic,
            "these tests need the embedding model: run through ./tollgate test ({:?})",
            cache.readiness().warnings
        );
        let t = Tenant::of(&cache, "a");
        t.teach(&ask("How do I reset my password?"), "Like this.")
            .await;
        let Stored::Kept(id) = t
            .teach(&ask("Which bus goes to the airport?"), "Wrong")
            .await
        else {
            panic!("not kept")
        };
        deleted = id;
        assert!(cache.delete(deleted, None).await.unwrap());
    }
    // A record may stand in the log twice, once from a compaction.
    let mut bytes = fs::read(log(&dir)).unwrap();
    bytes.extend_from_within(44..);
    fs::write(log(&dir), bytes).unwrap();
    {
        let cache = CacheService::open(config()).await.unwrap();
        let t = Tenant::of(&cache, "a");
        assert_eq!(
            t.hit(&ask("How can I reset my password?")).await.kind,
            HitKind::Semantic
        );
        assert_eq!(
            t.reason(&ask("Which bus goes to the airport?")).await,
            "not-found"
        );
    }
    // Without the model the exact tier serves, and the vectors are kept for later.
    {
        let without = CacheConfig {
            model_dir: Some("/nowhere".into()),
            ..config()
        };
        let cache = CacheService::open(without).await.unwrap();
        let ready = cache.readiness();
        assert!(
            ready.degraded && !ready.semantic && ready.persistent,
            "{ready:?}"
        );
        let t = Tenant::of(&cache, "a");
        assert_eq!(
            told(&t.hit(&ask("How do I reset my password?")).await),
            "Like this."
        );
        assert_eq!(
            t.reason(&ask("How can I reset my password?")).await,
            "no-model"
        );
    }
    {
        let cache = CacheService::open(config()).await.unwrap();
        assert_eq!(
            Tenant::of(&cache, "a")
                .hit(&ask("How can I reset my password?"))
                .await
                .kind,
            HitKind::Semantic
        );
    }
    // Vectors of another model are never compared with ours.
    let mut bytes = fs::read(log(&dir)).unwrap();
    bytes[8] ^= 1;
    let crc = crc32c::crc32c(&bytes[..40]).to_le_bytes();
    bytes[40..44].copy_from_slice(&crc);
    fs::write(log(&dir), bytes).unwrap();
    let cache = CacheService::open(config()).await.unwrap();
    assert!(cache.readiness().warnings[0].contains("another embedding model"));
    let t = Tenant::of(&cache, "a");
    assert_eq!(
        t.reason(&ask("How can I reset my password?")).await,
        "not-found"
    );
    assert_eq!(
        told(&t.hit(&ask("How do I reset my password?")).await),
        "Like this."
    );
}

#[tokio::test]
async fn a_torn_log_keeps_what_is_whole() {
    let dir = TempDir::new().unwrap();
    taught(&dir).await;
    let whole = fs::read(log(&dir)).unwrap();
    for cut in [whole.len() - 1, whole.len() / 2, 50, 44] {
        fs::write(log(&dir), &whole[..cut]).unwrap();
        let cache = CacheService::open(on(dir.path())).await.unwrap();
        let entries = cache.stats().entries;
        assert!(
            entries < 10 && (cut < 60 || entries > 2),
            "{entries} of 10 after a cut at {cut}"
        );
        // It goes on where it was cut.
        let t = Tenant::of(&cache, "b");
        t.teach(&ask("More"), "Yes").await;
        drop(cache);
        let cache = CacheService::open(on(dir.path())).await.unwrap();
        assert_eq!(
            (cache.stats().entries, cache.readiness().warnings),
            (entries + 1, vec![])
        );
    }
}

#[tokio::test]
async fn a_damaged_log_is_put_aside_and_the_cache_starts_empty() {
    let dir = TempDir::new().unwrap();
    taught(&dir).await;
    let whole = fs::read(log(&dir)).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x40;
    let mut header = whole.clone();
    header[3] ^= 1;
    for bad in [
        flipped,
        header,
        whole[..20].to_vec(),
        b"not a log, but long enough to hold a header of ours".to_vec(),
        vec![0; 5_000],
    ] {
        fs::write(log(&dir), &bad).unwrap();
        let cache = CacheService::open(on(dir.path())).await.unwrap();
        assert_eq!(cache.stats().entries, 0);
        assert!(
            cache.readiness().persistent && cache.readiness().warnings[0].contains("put aside"),
            "{:?}",
            cache.readiness()
        );
        assert_eq!(fs::read(dir.path().join("entries.log.bad")).unwrap(), bad);
        Tenant::of(&cache, "a")
            .teach(&ask("Question 0"), "New")
            .await;
        drop(cache);
        let cache = CacheService::open(on(dir.path())).await.unwrap();
        assert_eq!(
            told(&Tenant::of(&cache, "a").hit(&ask("Question 0")).await),
            "New"
        );
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_leaves_a_cache_in_memory() {
    let dir = TempDir::new().unwrap();
    let first = CacheService::open(on(dir.path())).await.unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "x").unwrap();
    for config in [on(dir.path()), on(&file)] {
        let cache = CacheService::open(config).await.unwrap();
        let ready = cache.readiness();
        assert!(
            ready.degraded && !ready.persistent && ready.warnings[0].contains("in memory only"),
            "{ready:?}"
        );
        let t = Tenant::of(&cache, "a");
        t.teach(&ask("Hi"), "Hello").await;
        t.hit(&ask("Hi")).await;
    }
    assert!(first.readiness().persistent);
}

#[tokio::test]
async fn expired_and_cleared_entries_do_not_come_back() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let config = || CacheConfig {
        clock: clock.clock(),
        ..on(dir.path())
    };
    {
        let cache = CacheService::open(config()).await.unwrap();
        let t = Tenant::of(&cache, "a");
        t.teach(&ask("Old"), "1").await;
        cache.clear().await.unwrap();
        t.miss(&ask("Old")).await;
        t.teach(&ask("New"), "2").await;
        t.with(|c| c.ttl_s = Some(60))
            .teach(&ask("Short"), "3")
            .await;
    }
    clock.wait(100);
    let cache = CacheService::open(config()).await.unwrap();
    assert_eq!(cache.stats().entries, 1);
    assert_eq!(
        Tenant::of(&cache, "a").hit(&ask("New")).await.age.as_secs(),
        100
    );
}
