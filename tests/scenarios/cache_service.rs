//! A cache-service in a process of its own: asked within its time, and done without when it is gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::gateway::{Gateway, Launch};
use tests::{Shape, World};

const ON: &str = "litellm_settings:\n  cache: true\n";

/// A cache and a gateway that asks it, with one token between them.
async fn start() -> (World, Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache.yaml");
    let text = format!("{ON}tollgate:\n  cache:\n    token: between-us\n");
    std::fs::write(&file, text).unwrap();
    let launch = Launch::role("cache", Some(file), folder.path().join("data"));
    // Long enough for a busy machine.
    let asks = format!(
        "  cache:\n    url: http://127.0.0.1:{}\n    token: between-us\n    timeout_ms: 5000\n",
        launch.port
    );
    let cache = Gateway::start(launch).await;
    let world = World::with(Shape::OneMachine, ON).tollgate(&asks);
    (world.start().await, cache, folder)
}

fn told(answer: &tests::client::Answered) -> &str {
    answer.header("x-tollgate-cache")
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn readiness(world: &World) -> Value {
    world.get("/health/readiness").await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_asks_a_cache_of_its_own_process() {
    let (world, cache, _folder) = start().await;
    let (ann, bob) = (world.key(json!({})).await, world.key(json!({})).await);
    let ask = |key: &str, question: &str| world.chat_as(key, question);
    let first = ask(&ann, "How can I reset my password?").send().await;
    assert_eq!(told(&first), "miss", "{:?}", first.headers);
    // Stored off the client's way; whoever looks before keeps nothing.
    let look = ask(&ann, "How do I reset my password?").with("cache", json!({"no-store": true}));
    let mut hit = look.send().await;
    until("the answer to be kept", async || {
        if told(&hit) == "miss" {
            hit = look.send().await;
        }
        told(&hit) != "miss"
    })
    .await;
    assert!(
        told(&hit).starts_with("hit; kind=semantic"),
        "{:?}",
        hit.headers
    );
    assert_eq!(hit.content(), first.content());
    assert_eq!(hit.header("x-litellm-response-cost"), "0.0");
    let streamed = ask(&ann, "How can I reset my password?").stream().await;
    assert_eq!(streamed.content(), first.content());
    let other = ask(&bob, "How can I reset my password?").send().await;
    assert_eq!(told(&other), "miss");
    assert_eq!(readiness(&world).await["cache"], "semantic");

    // A key takes out its own answers only.
    let keys = json!({"keys": [hit.header("x-litellm-cache-key")]});
    let http = tests::client::http();
    let deleted = async |key: &str| {
        let url = format!("{}/cache/delete", world.url());
        let sent = http.post(url).bearer_auth(key).json(&keys).send().await;
        let answer: Value = sent.unwrap().json().await.unwrap();
        answer["deleted"].clone()
    };
    assert_eq!(deleted(&bob).await, 0);
    assert_eq!(deleted(&ann).await, 1);
    assert_eq!(deleted(&ann).await, 0);
    let again = ask(&ann, "How can I reset my password?").send().await;
    assert_eq!(told(&again), "miss");
    let ready = http
        .get(format!("{}/health/readiness", cache.url()))
        .send()
        .await
        .unwrap();
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready["status"], "healthy", "{ready}");
    let refused = http.get(format!("{}/metrics", cache.url())).send().await;
    assert_eq!(refused.unwrap().status(), 401, "without the token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_cache_a_gateway_asks_the_provider() {
    let (world, mut cache, _folder) = start().await;
    let chat = world.chat("What is the capital of France?");
    assert_eq!(told(&chat.send().await), "miss");
    assert!(told(&chat.send().await).starts_with("hit; kind=exact"));
    cache.kill();
    let mut calls = 1;
    until("the cache to be left alone", async || {
        let answer = chat.send().await;
        assert_eq!((answer.status, told(&answer)), (200, "miss"));
        calls += 1;
        readiness(&world).await["cache"] == "unavailable"
    })
    .await;
    assert_eq!(world.provider.books().requests, calls);
    let metrics = world.get("/metrics").await.text;
    assert!(
        metrics.contains("tollgate_cache_service_breaker{state=\"open\"} 1"),
        "{metrics}"
    );
    assert_eq!(world.get("/cache/ping").await.status, 503);
    cache.again();
    cache.ready().await;
    until("hits to come back", async || {
        told(&chat.send().await).starts_with("hit; kind=exact")
    })
    .await;
    assert_eq!(readiness(&world).await["cache"], "semantic");
}
