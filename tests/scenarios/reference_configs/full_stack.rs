//! Replicas, retries, cooldowns, fallbacks, and a cache that knows similar questions.

use std::time::{Duration, Instant};

use serde_json::json;
use test_servers::Redis;
use tests::{Provider, Script};

use super::{Cast, PATIENCE, asked, cache_says, failing, swap, without};

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

    // One's own model gets the key that the file gives it.
    let sent = [cast.other.headers(), second.headers()].concat();
    assert!(sent.iter().all(|h| h["authorization"] == "Bearer fake"));

    // Models come over the API, as `store_model_in_db` says.
    let model = json!({
        "model_name": "added",
        "litellm_params": {"model": "openai/gpt-added", "api_key": "os.environ/OPENAI_API_KEY"},
    });
    let made = on.post("/model/new", model.clone()).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(on.chat("added", "hi").send().await.status, 200);

    // A similar question is answered from the cache.
    let ask = |question: &str| on.chat(SMALL, question);
    assert_eq!(ask("How can I reset my password?").send().await.status, 200);
    cache_says(ask("How do I reset my password?"), "hit; kind=semantic").await;
    let log = on.gateway.log();
    for told in [
        "litellm_settings.success_callback",
        "litellm_settings.failure_callback",
        "litellm_settings.langfuse_public_key",
        "general_settings.database_url",
    ] {
        assert!(log.contains(told), "{told} is told at the start: {log}");
    }
    drop(on);

    // Exact answers only without the threshold, and they lie in Redis: another process has them.
    let exact = swap(
        &text,
        "    similarity_threshold: 0.90        # semantic caching\n",
        "",
    );
    for first in [true, false] {
        let again = cast.ingress(&exact).await;
        let ask = || again.chat(SMALL, "Where is my parcel?");
        if first {
            assert_eq!(ask().send().await.header("x-tollgate-cache"), "miss");
        }
        cache_says(ask(), "hit; kind=exact; similarity=1.0000").await;
        let told = again.chat(SMALL, "Where's my parcel?").send().await;
        let cache = told.header("x-tollgate-cache");
        assert!(!cache.contains("semantic"), "{cache}");
    }

    let off = without(
        &swap(&text, "cache: true", "cache: false"),
        "router_settings",
    );
    let off = swap(&off, "store_model_in_db: true", "store_model_in_db: false");
    // Without the second entry of its name nobody stands in.
    let entry = "  - model_name: gpt-4o\n    litellm_params:\n      model: openai/gpt-4o-mini\n      api_key: os.environ/OPENAI_API_KEY\n";
    let off = swap(&off, entry, "");
    let off = cast.ingress(&off).await;
    cast.openai.script(LARGE, failing(500));
    assert_eq!(off.chat(LARGE, "Who stands in?").send().await.status, 500);
    let refused = off.post("/model/new", model).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (400, &json!("store_model_in_db"))
    );
    assert_eq!(off.chat(CLAUDE, "Is water wet?").send().await.status, 401);
    for _ in 0..2 {
        let told = off.chat(SMALL, "How do I reset my password?").send().await;
        assert_eq!(told.header("x-tollgate-cache"), "");
    }
}

/// `num_retries`, `retry_after`, and the deployment's own `rpm`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_wait_and_limits_of_a_deployment_hold() {
    let cast = Cast::new().await;
    let plain = swap(FILE, "cache: true", "cache: false");
    let text = swap(&plain, "retry_after: 5", "retry_after: 0.2");
    let text = swap(&text, "allowed_fails: 2", "allowed_fails: 9");
    let on = cast.ingress(&swap(&text, "rpm: 10000", "rpm: 2")).await;
    // At its one deployment, as often as the file says.
    cast.openai.script(SMALL, failing(500));
    let began = Instant::now();
    assert_eq!(on.chat(SMALL, "hi").send().await.status, 500);
    assert_eq!(asked(&cast.openai), [SMALL; 4], "three retries");
    assert!(
        began.elapsed() >= Duration::from_millis(600),
        "the wait before each"
    );
    // Two calls a minute, whatever comes then goes to the one that stands in; a minute may end on the way.
    cast.openai.script(SMALL, Script::default());
    let before = asked(&cast.openai).len();
    for at in 0..7 {
        let told = on.chat(LARGE, &format!("question {at}")).send().await;
        assert_eq!(told.status, 200, "{}", told.text);
    }
    let models = asked(&cast.openai).split_off(before);
    let large = models.iter().filter(|model| *model == LARGE).count();
    assert!((2..=4).contains(&large), "{models:?}");
    drop(on);
    // No call is as short as one token: all go to the one that stands in.
    let narrow = cast.ingress(&swap(&text, "tpm: 2000000", "tpm: 1")).await;
    let before = asked(&cast.openai).len();
    for at in 0..3 {
        let told = narrow.chat(LARGE, &format!("question {at}")).send().await;
        assert_eq!(told.status, 200, "{}", told.text);
    }
    assert_eq!(asked(&cast.openai)[before..], [SMALL; 3]);
    drop(narrow);
    // A deployment that failed too often rests as long as the file says: here a second, and not sixty.
    let short = swap(&plain, "allowed_fails: 2", "allowed_fails: 0");
    let short = swap(&short, "cooldown_time: 60", "cooldown_time: 1");
    let short = cast.ingress(&short).await;
    cast.openai.script(LARGE, failing(500));
    assert_eq!(short.chat(LARGE, "hi").send().await.status, 200);
    cast.openai.script(LARGE, Script::default());
    let began = Instant::now();
    while asked(&cast.openai)
        .last()
        .is_none_or(|model| model != LARGE)
    {
        assert!(began.elapsed() < Duration::from_secs(45), "it rests on");
        let told = short.chat(LARGE, "hi").send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(short);

    let off = cast.ingress(&without(&plain, "router_settings")).await;
    cast.openai.script(SMALL, failing(500));
    let before = asked(&cast.openai).len();
    assert_eq!(off.chat(SMALL, "hi").send().await.status, 500);
    for at in 0..7 {
        assert_eq!(off.chat(LARGE, &format!("{at}")).send().await.status, 200);
    }
    let models = asked(&cast.openai).split_off(before);
    assert_eq!(models.iter().filter(|model| *model == SMALL).count(), 1);
    assert_eq!(models.iter().filter(|model| *model == LARGE).count(), 7);
}

/// The other two words that the comment names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_chosen_as_the_file_says() {
    let (cast, second) = (Cast::new().await, Provider::start().await);
    let text = swap(FILE, "http://vllm-1:8000/v1", &cast.other.base_url());
    let text = swap(&text, "http://vllm-2:8000/v1", &second.base_url());
    let text = swap(&text, "cache: true", "cache: false");
    // Slower than the other may ever be on a busy machine.
    let slow = Script {
        delay: Duration::from_millis(1_500),
        ..Script::default()
    };
    let mut shares = Vec::new();
    for (word, script) in [
        ("latency-based", slow),
        ("simple-shuffle", Script::default()),
    ] {
        cast.other.script(LLAMA, script);
        let text = swap(&text, "least-busy        # or", &format!("{word} # or"));
        let stage = cast.ingress(&text).await;
        let before = cast.other.books().requests;
        for at in 0..24 {
            let told = stage.chat("llama-3.1-8b", &format!("{at}")).send().await;
            assert_eq!(told.status, 200, "{}", told.text);
        }
        shares.push(cast.other.books().requests - before);
    }
    // Once to be known; by the draw of a coin each time.
    assert!(shares[0] <= 2, "{shares:?}");
    assert!((1..24).contains(&shares[1]), "{shares:?}");
}

async fn wait(holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
