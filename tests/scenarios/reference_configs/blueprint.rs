//! Bounds, prices and deadlines per deployment, what a provider cannot take, exact answers, alerts to Slack.

use std::time::{Duration, Instant};

use serde_json::json;
use test_servers::Redis;
use tests::{Provider, Script};

use super::{Cast, PATIENCE, cache_says, failing, last, swap};

const FILE: &str = include_str!("../../../deploy/reference-configs/02-blueprint.yaml");
const CLAUDE: &str = "claude-sonnet-4-20250514";
const HAIKU: &str = "claude-haiku-4-5-20251001";

/// What was posted to the webhook: the scripted provider serves as one, for it keeps what it gets.
async fn posted(slack: &Provider, count: usize) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let bodies = slack.bodies();
        if bodies.len() >= count {
            return bodies
                .iter()
                .map(|b| String::from_utf8(b.to_vec()).unwrap())
                .collect();
        }
        assert!(
            Instant::now() < end,
            "{count} alerts were to come, and {} did",
            bodies.len()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let (mut cast, slack) = (Cast::new().await, Provider::start().await);
    let redis = Redis::start(test_servers::redis::ANSWERS).await;
    cast.env = [
        ("REDIS_HOST", "127.0.0.1".to_owned()),
        (
            "DATABASE_URL",
            "postgresql://nobody@127.0.0.1/none".to_owned(),
        ),
        (
            "SLACK_WEBHOOK_URL",
            format!("{}/chat/completions", slack.base_url()),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let text = swap(FILE, "port: 6379", &format!("port: {}", redis.port()));
    let on = cast.up(&swap(&text, "timeout: 30", "timeout: 0.4")).await;

    // The bound, the price, and no parameter that Claude cannot take.
    let key = on
        .key(json!({"max_budget": "0.00185", "key_alias": "alice"}))
        .await;
    let ask = |question: &str| on.chat("claude-sonnet", question).with("seed", 7);
    let told = ask("How are you?").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    let sent = last(&cast.anthropic);
    assert_eq!(
        (&sent["max_tokens"], &sent["seed"]),
        (&json!(8192), &json!(null))
    );
    // Three words at 3 and five at 15 USD a million.
    assert_eq!(told.header("x-litellm-response-cost"), "0.000084");
    // The very same question is answered from the cache, a similar one is not.
    cache_says(ask("How are you?"), "hit; kind=exact; similarity=1.0000").await;
    assert_eq!(
        ask("How are you now?")
            .send()
            .await
            .header("x-tollgate-cache"),
        "miss"
    );

    // The other deployment of the name only where the first fails.
    assert_eq!(cast.openai.books().requests, 0);
    cast.anthropic.script(CLAUDE, failing(500));
    let told = ask("Is it automatic?").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(last(&cast.openai)["max_tokens"], json!(null));
    assert_eq!(last(&cast.openai)["max_completion_tokens"], json!(8192));
    assert_eq!(told.header("x-litellm-response-cost"), "0.0000575");

    // Its own deadline, and an alert that the call failed for good.
    let slow = Script {
        delay: Duration::from_secs(5),
        ..Script::default()
    };
    cast.anthropic.script(HAIKU, slow);
    let late = on.chat("fast", "Quick!").send().await;
    assert_eq!(late.status, 408, "{}", late.text);
    let alerts = posted(&slack, 1).await;
    assert!(
        alerts[0].contains("llm_exceptions") && alerts[0].contains("fast"),
        "{alerts:?}"
    );

    // A budget that comes near its end.
    cast.anthropic.script(CLAUDE, Script::of_tokens(100));
    let spend = on
        .chat_as(&key, "claude-sonnet", "Spend it!")
        .with("max_tokens", 100);
    assert_eq!(spend.send().await.status, 200);
    let alerts = posted(&slack, 2).await;
    assert!(
        alerts[1].contains("threshold_crossed") && alerts[1].contains("alice"),
        "{alerts:?}"
    );
    drop(on);

    let off = swap(&text, "drop_params: true", "drop_params: false");
    let off = swap(&off, "cache: true", "cache: false");
    let off = swap(&off, "    - \"slack\"\n", "    []\n");
    let off = cast.ingress(&off).await;
    let refused = off.chat("claude-sonnet", "hi").with("seed", 7).send().await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (400, &json!("seed"))
    );
    for _ in 0..2 {
        let told = off.chat("claude-sonnet", "How are you?").send().await;
        assert_eq!((told.status, told.header("x-tollgate-cache")), (200, ""));
    }
    assert!(!off.gateway.log().contains("DEBUG"));
    drop(off);

    // Only the alerts that the file names; an answer lives as long as it says; and much is told where it asks.
    let other = swap(&text, "timeout: 30", "timeout: 0.4");
    let other = swap(&other, "    - \"llm_exceptions\"\n", "");
    let other = swap(&other, "ttl: 3600", "ttl: 1");
    let other = swap(&other, "set_verbose: false", "set_verbose: true");
    let other = cast.ingress(&other).await;
    assert_eq!(other.chat("fast", "Quick!").send().await.status, 408);
    let ask = async || {
        let told = other.chat("claude-sonnet", "How old is this?").send().await;
        told.header("x-tollgate-cache").to_owned()
    };
    assert_eq!(ask().await, "miss");
    // Where a second is over between two calls it is a miss once more.
    for told in ["hit; kind=exact; similarity=1.0000", "miss"] {
        let end = Instant::now() + PATIENCE;
        while ask().await != told {
            assert!(Instant::now() < end, "no {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(other.gateway.log().contains("DEBUG"));
    assert_eq!(slack.bodies().len(), 2, "nothing more is posted");
}
