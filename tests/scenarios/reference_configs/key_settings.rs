//! Virtual keys of the file, with their limits.

use serde_json::json;
use tests::world::money;

use super::{Cast, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/07-key-settings.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let on = cast.ingress(FILE).await;
    for (key, rpm, tpm, budget) in [
        ("user-key-123", "60", "100000", "100.0"),
        ("user-key-456", "120", "500000", "1000.0"),
    ] {
        let told = on.chat_as(key, "gpt-4", "hi").send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(told.header("x-litellm-key-rpm-limit"), rpm);
        assert_eq!(told.header("x-litellm-key-tpm-limit"), tpm);
        assert_eq!(told.header("x-litellm-key-max-budget"), budget);
    }
    // A month is a calendar month, and the sixty-first call of a minute is refused.
    let info = on.cast.http.get(format!("{}/key/info", on.gateway.url()));
    let info: serde_json::Value = info
        .bearer_auth("user-key-123")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let info = &info["info"];
    assert_eq!(info["budget_duration"], "monthly");
    assert!(
        info["budget_reset_at"]
            .as_str()
            .unwrap()
            .contains("-01T00:00:00"),
        "{info}"
    );
    assert!(money(&info["max_budget"]) == schemas::NanoUsd::from_usd(100));
    let mut passed = 0;
    let refused = loop {
        let told = on.chat_as("user-key-123", "gpt-4", "hi").send().await;
        if told.status != 200 {
            break told;
        }
        passed += 1;
        // A minute may end on the way, on a slow machine more than one.
        assert!(passed < 600, "no call is refused");
    };
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(
        refused.message().contains("Current limit: 60"),
        "{}",
        refused.text
    );
    assert_eq!(
        on.chat_as("user-key-456", "gpt-4", "hi")
            .send()
            .await
            .status,
        200
    );
    drop(on);

    // The other two limits, with room for nothing.
    for (from, to, told) in [
        (
            "monthly_limit: 100 ",
            "monthly_limit: 0.000001 ",
            "Budget has been exceeded!",
        ),
        (
            "tokens_per_minute: 100000\n",
            "tokens_per_minute: 1\n",
            "Limit type: tokens",
        ),
    ] {
        let poor = cast.ingress(&swap(FILE, from, to)).await;
        let refused = poor.chat_as("user-key-123", "gpt-4", "hi").send().await;
        assert_eq!(refused.status, 429, "{}", refused.text);
        assert!(refused.message().contains(told), "{}", refused.text);
        let other = poor.chat_as("user-key-456", "gpt-4", "hi").send().await;
        assert_eq!(other.status, 200, "{}", other.text);
    }

    let off = cast.ingress(&without(FILE, "key_settings:")).await;
    let told = off.chat_as("user-key-123", "gpt-4", "hi").send().await;
    assert_eq!(told.status, 401, "{}", told.text);
    assert_eq!(told.json()["error"]["type"], json!("token_not_found_in_db"));
}
