//! A cache with a clock that the test moves, and short words for asking and answering.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cache_service::{
    Answer, CacheConfig, CacheService, Clock, Controls, Hit, Lookup, Outcome, Policy, Reason,
    Stored, Ticket, Tokens,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub const START: i64 = 1_800_000_000_000_000;

#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    pub fn wait(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    pub fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::from_fn(move || now.load(Ordering::Relaxed))
    }
}

/// Exact only, in memory: no model is loaded.
pub fn exact_config() -> CacheConfig {
    CacheConfig {
        semantic: false,
        clock: TestClock::new().clock(),
        ..CacheConfig::default()
    }
}

/// With the model; the budget leaves room for a busy machine.
pub fn semantic_config() -> CacheConfig {
    CacheConfig {
        embed_budget: std::time::Duration::from_secs(30),
        embed_threads: 1,
        ..CacheConfig::default()
    }
}

/// One cache with the model for all tests that take a tenant of their own.
pub async fn shared() -> &'static CacheService {
    static SHARED: OnceCell<CacheService> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let cache = CacheService::open(semantic_config()).await.unwrap();
            let ready = cache.readiness();
            assert!(
                ready.semantic,
                "these tests need the embedding model: run through ./tollgate test ({:?})",
                ready.warnings
            );
            cache
        })
        .await
}

pub fn ask(text: &str) -> Value {
    json!({"model": "gpt-x", "messages": [{"role": "user", "content": text}]})
}

pub fn answer(text: &str) -> Answer {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    });
    Answer {
        body: body.to_string().into(),
        usage: Tokens {
            prompt: 5,
            completion: 7,
        },
        cost_nano: 1_500,
        model: "gpt-x".into(),
        created: 1,
        provider: "test".into(),
    }
}

/// One tenant's view of a cache.
#[derive(Clone)]
pub struct Tenant<'a> {
    pub cache: &'a CacheService,
    pub name: String,
    pub controls: Controls,
    pub policy: Policy,
}

impl<'a> Tenant<'a> {
    pub fn of(cache: &'a CacheService, name: &str) -> Self {
        let policy = Policy {
            single_flight: false,
            ..Policy::default()
        };
        Self {
            cache,
            name: name.to_owned(),
            controls: Controls::default(),
            policy,
        }
    }

    pub fn with(&self, change: impl FnOnce(&mut Controls)) -> Self {
        let mut other = self.clone();
        change(&mut other.controls);
        other
    }

    pub async fn look(&self, body: &Value) -> Outcome {
        let body = body.to_string();
        let lookup = Lookup {
            scope: &self.name,
            model: "gpt-x-2026",
            body: body.as_bytes(),
            controls: self.controls.clone(),
            policy: &self.policy,
        };
        self.cache.lookup(lookup).await
    }

    pub async fn hit(&self, body: &Value) -> Hit {
        match self.look(body).await {
            Outcome::Hit(hit) => hit,
            other => panic!("{}: no hit for {body}: {other:?}", self.name),
        }
    }

    pub async fn miss(&self, body: &Value) -> (Ticket, Reason) {
        match self.look(body).await {
            Outcome::Miss(ticket, reason) => (ticket, reason),
            other => panic!("{}: no miss for {body}: {other:?}", self.name),
        }
    }

    /// Misses, and answers.
    pub async fn teach(&self, body: &Value, text: &str) -> Stored {
        let (ticket, _) = self.miss(body).await;
        self.cache.store(ticket, answer(text)).await
    }

    pub async fn reason(&self, body: &Value) -> &'static str {
        self.miss(body).await.1.as_str()
    }
}

pub fn told(hit: &Hit) -> String {
    let body: Value = serde_json::from_slice(&hit.answer.body).unwrap();
    body["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Waits for something that will happen.
///
/// # Panics
/// When it has not happened after a minute: it may be a busy machine.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is().await {
        assert!(std::time::Instant::now() < end, "{what}: waited in vain");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
