//! A name's own retries, their delay, and the names that follow.

use std::time::{Duration, Instant};

use super::{Cast, asked, failing, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/05-fallback-config.yaml");
const CLAUDE: &str = "claude-3-opus-20240229";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    // One retry instead of three, so that the delay is waited for once.
    let on = cast
        .ingress(&swap(FILE, "retry_attempts: 3", "retry_attempts: 1"))
        .await;
    cast.openai.script("gpt-4", failing(500));
    let began = Instant::now();
    let told = on.chat("gpt-4", "hi").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "the delay before a retry"
    );
    assert_eq!(asked(&cast.openai), ["gpt-4", "gpt-4"]);
    assert_eq!(asked(&cast.anthropic), [CLAUDE]);
    assert_eq!(told.header("x-litellm-attempted-retries"), "1");
    assert_eq!(told.header("x-litellm-attempted-fallbacks"), "1");
    // The second name where the first fails, too; an error that no retry helps against is not retried.
    cast.openai.script("gpt-4", failing(401));
    cast.anthropic.script(CLAUDE, failing(401));
    let told = on.chat("gpt-4", "hi").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(asked(&cast.openai)[2..], ["gpt-4", "gpt-3.5-turbo"]);
    drop(on);

    let off = cast.ingress(&without(FILE, "fallback_config:")).await;
    assert_eq!(off.chat("gpt-4", "hi").send().await.status, 401);
    assert_eq!(asked(&cast.openai).len(), 5, "asked once");
}
