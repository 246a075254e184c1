//! Names for every name that fails, for these failures alone, each asked once; no prompt to a window that is
//! too small.

use std::time::Duration;

use serde_json::json;
use tests::Script;

use super::{Cast, asked, failing, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/10-fallback-chain.yaml");
const CLAUDE: &str = "claude-3-7-sonnet-20250219";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let on = cast.ingress(FILE).await;
    cast.openai.script("gpt-4o", failing(429));
    let told = on.chat("gpt-4o", "hi").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(asked(&cast.anthropic), [CLAUDE]);
    cast.anthropic.script(CLAUDE, failing(503));
    let told = on.chat("gpt-4o", "hi").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(
        asked(&cast.anthropic),
        [CLAUDE, CLAUDE],
        "asked once more, and no more than once"
    );
    assert_eq!(asked(&cast.other), ["glm-4"]);
    // Not one of the four.
    cast.openai.script("gpt-4o", failing(401));
    assert_eq!(on.chat("gpt-4o", "hi").send().await.status, 401);
    assert_eq!(asked(&cast.other).len(), 1);
    // The other two: too slow, and nobody there.
    let calm = || {
        cast.openai.script("gpt-4o", Script::default());
        cast.anthropic.script(CLAUDE, Script::default());
    };
    calm();
    drop(on);
    let key = "{model: openai/gpt-4o, api_key: \"${OPENAI_API_KEY}\"";
    for (more, kinds) in [
        (", timeout: 0.3", "timeout"),
        (
            ", api_base: \"http://127.0.0.1:9/v1\"",
            "api_connection_error",
        ),
    ] {
        let slow = Script {
            delay: Duration::from_secs(30),
            ..Script::default()
        };
        cast.openai.script("gpt-4o", slow);
        let text = swap(FILE, key, &format!("{key}{more}"));
        let stage = cast.ingress(&text).await;
        let told = stage.chat("gpt-4o", "hi").send().await;
        assert_eq!(told.status, 200, "{kinds}: {}", told.text);
        drop(stage);
        let stage = cast
            .ingress(&swap(&text, &format!("    - \"{kinds}\"\n"), ""))
            .await;
        let told = stage.chat("gpt-4o", "hi").send().await;
        assert_ne!(told.status, 200, "{kinds}: {}", told.text);
    }
    calm();
    cast.openai.script("gpt-4o", failing(429));
    cast.anthropic.script(CLAUDE, failing(503));
    let twice = cast
        .ingress(&swap(
            FILE,
            "max_retries_per_fallback: 1",
            "max_retries_per_fallback: 2",
        ))
        .await;
    cast.anthropic.forget();
    assert_eq!(twice.chat("gpt-4o", "hi").send().await.status, 200);
    assert_eq!(asked(&cast.anthropic), [CLAUDE, CLAUDE]);
    drop(twice);
    cast.other.forget();

    // 150,000 tokens go to no window of 128,000.
    calm();
    let on = cast.ingress(FILE).await;
    let before = asked(&cast.openai).len();
    let long = on.chat("gpt-4o", &"word ".repeat(150_000)).send().await;
    assert_eq!(asked(&cast.openai).len(), before);
    assert_eq!(
        (long.status, &long.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    drop(on);

    let off = cast.ingress(&without(FILE, "router_settings:")).await;
    cast.openai.script("gpt-4o", failing(503));
    assert_eq!(off.chat("gpt-4o", "hi").send().await.status, 503);
    assert!(asked(&cast.other).is_empty());
    calm();
    let long = off.chat("gpt-4o", &"word ".repeat(150_000)).send().await;
    assert_eq!(long.status, 200, "{}", long.text);
}
