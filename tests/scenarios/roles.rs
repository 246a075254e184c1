//! The roles in processes of their own, on one machine: the same call, the same bill.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::Chat;
use tests::gateway::{Gateway, Launch, free_port};
use tests::provider::Provider;
use tests::world::{MASTER, yaml};

/// Ingress, billing and engine apart; the billing process is killed and nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingress_billing_and_engine_in_three_processes() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::start().await;
    let data_dir = folder.path().join("data");
    let launch = Launch::role("clickhouse", None, data_dir.clone());
    let http = tests::client::http();
    let engine = Gateway::spawn(launch.clone());
    let tables = format!("http://127.0.0.1:{}", launch.clickhouse_port);
    until("the engine", || async {
        Some(
            http.get(format!("{tables}/ping"))
                .send()
                .await
                .ok()?
                .status()
                .is_success(),
        )
    })
    .await;
    let password = engine.file("writer.password");
    let extra = format!(
        "tollgate:\n  clickhouse:\n    url: {tables}\n    user: tollgate\n    password: {}\n",
        password.trim()
    );
    let config = folder.path().join("tollgate.yaml");
    std::fs::write(&config, yaml(&provider, "", &extra)).unwrap();
    let launch = Launch {
        role: "ingress",
        config: Some(config),
        ..launch
    };
    let ingress = Gateway::spawn(launch.clone());
    let ready = format!("{}/health/liveliness", ingress.url());
    until("the ingress", || async {
        Some(http.get(&ready).send().await.ok()?.status().is_success())
    })
    .await;
    // Its own port: it answers for its health there.
    let launch = Launch {
        role: "billing",
        port: free_port(),
        ..launch
    };
    let mut billing = Gateway::spawn(launch);

    let chat = Chat::new(&http, &ingress.url(), MASTER, "scripted", "hi");
    let asked = |query: &'static str| {
        let request = http
            .get(&tables)
            .query(&[("query", query)])
            .basic_auth("tollgate", Some(password.trim()));
        async move { request.send().await.ok()?.text().await.ok() }
    };
    let count = "select count() from cost_ledger final where last";
    for round in 1..=3_u32 {
        for _ in 0..5 {
            until("an answer", || async {
                Some(chat.send().await.status == 200)
            })
            .await;
        }
        let expected = format!("{}\n", round * 5);
        until("the rows", || async {
            Some(asked(count).await? == expected)
        })
        .await;
        billing.again();
    }
    let sum = asked("select toString(sum(amount)) from cost_ledger final")
        .await
        .unwrap();
    let sum: schemas::NanoUsd = sum.trim().parse().unwrap();
    assert_eq!(u64::try_from(sum.0).unwrap(), provider.books().charged_nano);
}

/// The cache alone, over HTTP.
#[tokio::test]
async fn the_cache_answers_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::role("cache", None, folder.path().join("data"));
    let cache = Gateway::spawn(launch);
    let http = tests::client::http();
    let ping = format!("{}/cache/ping", cache.url());
    until("the cache", || async {
        Some(http.get(&ping).send().await.ok()?.status().is_success())
    })
    .await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "What is the capital of France?"}]});
    let lookup = json!({"scope": "team a", "model": "m", "request": body});
    let url = format!("{}/v1/lookup", cache.url());
    let found: serde_json::Value = http
        .post(url)
        .json(&lookup)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(found["outcome"], "miss", "{found}");
}

async fn until<F: Future<Output = Option<bool>>>(what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while holds().await != Some(true) {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
