//! Deadlines and retries per deployment, what a provider cannot take, nothing of a prompt in a log.

use std::time::Duration;

use serde_json::json;
use tests::Script;

use super::{Cast, asked, checked, failing, last, swap};

const FILE: &str = include_str!("../../../deploy/reference-configs/09-unified-access.yaml");
const MODEL: &str = "deepseek-chat-v4";
const QUESTION: &str = "a question that nobody but the model may read";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let text = swap(FILE, "https://api.deepseek.com", &cast.other.base_url());
    let (good, said) = checked(&cast, FILE);
    assert!(good && said.contains("listens on 0.0.0.0:4000\n"), "{said}");
    let text = swap(&text, "  host: \"0.0.0.0\"", "  host: \"127.0.0.1\"");
    let (_, said) = checked(&cast, &swap(&text, "  port: 4000\n", ""));
    assert!(said.contains("listens on 127.0.0.1:4000\n"), "{said}");
    let on = cast.ingress(&text).await;
    let ask = || on.chat("deepseek-v4", QUESTION).with("seed", 7);
    assert_eq!(ask().send().await.status, 200);
    assert_eq!(last(&cast.other)["seed"], json!(null));
    assert_eq!(last(&cast.other)["model"], MODEL);
    cast.other.script(MODEL, failing(500));
    assert_eq!(ask().send().await.status, 500);
    assert_eq!(asked(&cast.other).len(), 1 + 3, "two retries");
    assert!(!on.gateway.log().contains(QUESTION));
    drop(on);

    let off = swap(&text, "drop_params: true", "drop_params: false");
    let off = swap(&off, "num_retries: 2", "num_retries: 0");
    let off = swap(&off, "timeout: 60", "timeout: 2");
    let off = cast.ingress(&off).await;
    let ask = off.chat("deepseek-v4", "hi");
    let refused = ask.clone().with("seed", 7).send().await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (400, &json!("seed"))
    );
    assert_eq!(ask.send().await.status, 500);
    assert_eq!(asked(&cast.other).len(), 1 + 3 + 1, "no retry");
    let slow = Script {
        delay: Duration::from_secs(30),
        ..Script::default()
    };
    cast.openai.script("gpt-4o", slow);
    assert_eq!(off.chat("gpt-4o", "hi").send().await.status, 408);
}
