//! Replicas, retries, cooldowns, fallbacks, and a cache that knows similar questions.

use std::time::Duration;

use test_servers::Redis;
use tests::{Provider, Script};

use super::{Cast, asked, failing, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/01-full-stack.yaml");
const LARGE: &str = "gpt-4o";
const SMALL: &str = "gpt-4o-mini";
const CLAUDE: &str = "claude-sonnet-4-6";
const LLAMA: &str = "meta-llama/Llama-3.1-8B-Instruct";

fn stalled() -> Script {
    Script {
        stall_after: Some(1),
        ..Script::of_tokens(50)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let (cast, second) = (Cast::new().await, Provider::start().await);
    let redis = Redis::start(test_servers::redis::ANSWERS).await;
    let text = swap(FILE, "http://vllm-1:8000/v1", &cast.other.base_url());
    let text = swap(&text, "http://vllm-2:8000/v1", &second.base_url());
    let text = swap(&text, "host: redis", "host: 127.0.0.1");
    let text = swap(&text, "port: 6379", &format!("port: {}", redis.port()));
    let on = cast.up(&text).await;

    // Two replicas: the one that is less busy is asked.
    for replica in [&cast.other, &second] {
        replica.script(LLAMA, stalled());
    }
    let open = |at: usize| on.chat("llama-3.1-8b", &format!("question {at}"));
    let first = open(1);
    let reader = tokio::spawn(async move { first.read(3).await });
    let begun = || cast.other.books().requests + second.books().requests;
    wait(|| begun() == 1).await;
    let other = open(2);
    let reader_too = tokio::spawn(async move { other.read(3).await });
    wait(|| begun() == 2).await;
    assert_eq!(
        (cast.other.books().requests, second.books().requests),
        (1, 1)
    );
    reader.abort();
    reader_too.abort();

    // The same name again answers where the first cannot, and only there.
    for at in 0..6 {
        let told = on
            .chat(LARGE, &format!("What is {at} plus {at}?"))
            .send()
            .await;
        assert_eq!(told.status, 200, "{}", told.text);
    }
    assert!(asked(&cast.openai).iter().all(|model| model == LARGE));
    cast.openai.script(LARGE, failing(500));
    for at in 0..4 {
        let told = on
            .chat(LARGE, &format!("Who was king number {at}?"))
            .send()
            .await;
        assert_eq!(told.status, 200, "{}", told.text);
    }
    let models = asked(&cast.openai);
    let failed = models
        .iter()
        .skip(6)
        .filter(|model| *model == LARGE)
        .count();
    assert_eq!(
        failed, 3,
        "two may fail, and the third makes it rest: {models:?}"
    );
    assert_eq!(models.iter().filter(|model| *model == SMALL).count(), 4);

    // Another name where all of a name fail.
    cast.anthropic.script(CLAUDE, failing(401));
    cast.openai.script(LARGE, Script::default());
    let told = on.chat(CLAUDE, "Is water wet?").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(told.header("x-litellm-attempted-fallbacks"), "1");

    // A similar question is answered from the cache.
    let ask = |question: &str| on.chat(SMALL, question);
    assert_eq!(ask("How can I reset my password?").send().await.status, 200);
    let hit = ask("How do I reset my password?").send().await;
    let told = hit.header("x-tollgate-cache");
    assert!(told.starts_with("hit; kind=semantic"), "{told}");
    let log = on.gateway.log();
    assert!(
        log.contains("litellm_settings.success_callback"),
        "told at the start: {log}"
    );
    drop(on);

    let off = without(
        &swap(&text, "cache: true", "cache: false"),
        "router_settings",
    );
    let off = cast.ingress(&off).await;
    assert_eq!(off.chat(CLAUDE, "Is water wet?").send().await.status, 401);
    for _ in 0..2 {
        let told = off.chat(SMALL, "How do I reset my password?").send().await;
        assert_eq!(told.header("x-tollgate-cache"), "");
    }
}

async fn wait(holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
