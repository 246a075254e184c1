//! Tenants of the file: a budget, a rate, models; a budget over all, and an alert before it is used up.

use std::time::{Duration, Instant};

use super::{Cast, PATIENCE, Stage, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/12-tenants.yaml");
const ALERTS: &str = "tollgate_alerts_total{kind=\"threshold_crossed\"}";

async fn alerts(stage: &Stage<'_>, expected: f64) {
    let end = Instant::now() + PATIENCE;
    while stage.metric(ALERTS).await != Some(expected) {
        assert!(
            Instant::now() < end,
            "{:?} alerts",
            stage.metric(ALERTS).await
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let on = cast.ingress(FILE).await;
    let ask = |model: &str| on.chat_as("tenant-a-key", model, "hi");
    for model in ["deepseek-v4", "glm-4"] {
        let told = ask(model).send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(told.header("x-litellm-key-rpm-limit"), "1000");
        assert_eq!(told.header("x-litellm-key-max-budget"), "1000.0");
    }
    assert_eq!(on.metric(ALERTS).await, Some(0.0));
    // A calendar month, of this user.
    let info = on.cast.http.get(format!("{}/key/info", on.gateway.url()));
    let info = info.bearer_auth("tenant-a-key").send().await.unwrap();
    let info: serde_json::Value = info.json().await.unwrap();
    let info = &info["info"];
    assert_eq!(
        (&info["budget_duration"], &info["user_id"]),
        (&"monthly".into(), &"tenant-a".into())
    );
    let resets = info["budget_reset_at"].as_str().unwrap();
    assert!(resets.contains("-01T00:00:00"), "{info}");
    drop(on);

    // Two a minute, and a minute may end on the way.
    let slow = cast
        .ingress(&swap(FILE, "rpm_limit: 1000", "rpm_limit: 2"))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let told = slow.chat_as("tenant-a-key", "glm-4", "hi").send().await;
        statuses.push(told.status);
    }
    assert!(
        statuses.contains(&429) && statuses.contains(&200),
        "{statuses:?}"
    );
    drop(slow);

    // A tenant with little, whose one call carries it over four fifths: prices are the file's own.
    let priced = "api_key: \"${DEEPSEEK_API_KEY}\", output_cost_per_token: 0.001, max_tokens: 5}";
    let small = swap(FILE, "api_key: \"${DEEPSEEK_API_KEY}\"}", priced);
    let small = swap(&small, "max_budget: 1000\n", "max_budget: 0.0055\n");
    let small = swap(
        &small,
        "allowed_models: [\"deepseek-v4\", \"glm-4\"]",
        "allowed_models: [\"deepseek-v4\"]",
    );
    let near = cast.ingress(&small).await;
    let ask = |model: &str| near.chat_as("tenant-a-key", model, "hi");
    let other = ask("glm-4").send().await;
    assert_eq!(
        (other.status, other.error_type()),
        (403, "key_model_access_denied".to_owned())
    );
    assert_eq!(ask("deepseek-v4").send().await.status, 200);
    alerts(&near, 1.0).await;
    near.logged("90 % of the budget of key").await;
    let over = ask("deepseek-v4").send().await;
    assert_eq!(
        (over.status, over.error_type()),
        (429, "budget_exceeded".to_owned())
    );
    drop(near);

    // The budget over all keys holds for everybody.
    let poor = swap(
        &small,
        "global_max_budget: 10000",
        "global_max_budget: 0.001",
    );
    let poor = swap(&poor, "  budget_alert_threshold: 0.8\n", "");
    let poor = cast.ingress(&poor).await;
    let refused = poor
        .chat_as("tenant-a-key", "deepseek-v4", "hi")
        .send()
        .await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.message().contains("Global"), "{}", refused.text);
    assert_eq!(poor.metric(ALERTS).await, None, "nobody asked to be told");
    drop(poor);

    let off = cast.ingress(&without(FILE, "user_api_key_list:")).await;
    assert_eq!(
        off.chat_as("tenant-a-key", "glm-4", "hi")
            .send()
            .await
            .status,
        401
    );
}
