//! Metrics and logs for machines.

use serde_json::Value;

use super::{Cast, swap};

const FILE: &str = include_str!("../../../deploy/reference-configs/13-monitoring.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let mut on = cast.ingress(FILE).await;
    assert_eq!(on.chat("gpt-4o", "hi").send().await.status, 200);
    assert_eq!(
        on.metric("litellm_proxy_total_requests_metric ").await,
        Some(1.0)
    );
    on.gateway.stop();
    let log = on.gateway.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line["level"] == "INFO"), "{log}");

    let quiet = swap(FILE, "log_level: \"info\"", "log_level: \"error\"");
    let mut quiet = cast.ingress(&quiet).await;
    assert_eq!(quiet.chat("gpt-4o", "hi").send().await.status, 200);
    quiet.gateway.stop();
    let log = quiet.gateway.log();
    assert!(!log.contains("INFO"), "{log}");

    let elsewhere = swap(FILE, "\"/metrics\"", "\"/internal/metrics\"");
    let elsewhere = swap(
        &elsewhere,
        "litellm_settings:\n",
        "litellm_settings:\n  require_auth_for_metrics_endpoint: true\n",
    );
    let elsewhere = cast.ingress(&elsewhere).await;
    assert_eq!(elsewhere.get("/metrics").await.status, 404);
    assert_eq!(elsewhere.get("/internal/metrics").await.status, 401);
    drop(elsewhere);

    let off = swap(
        FILE,
        "enable_prometheus_metrics: true",
        "enable_prometheus_metrics: false",
    );
    let mut off = cast
        .ingress(&swap(&off, "log_format: \"json\"", "log_format: text"))
        .await;
    assert_eq!(off.get("/metrics").await.status, 404);
    off.gateway.stop();
    assert!(off.gateway.log().lines().all(|line| !line.starts_with('{')));
}
