//! The roles in processes of their own, on one machine: the same call, the same bill.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::build::yaml;
use tests::gateway::{Gateway, Launch, free_port};
use tests::parts::Parts;
use tests::provider::{Provider, Script};
use tests::world::MASTER;
use tests::{Chat, Shape, World, topics};

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

/// Everything in one process, with a broker of one's own and nothing else: each part is outside where the file
/// names it, and embedded where not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_with_kafka_alone_keeps_its_log_there() {
    let parts = Parts::shared().await;
    let prefix = parts.next_prefix();
    let kafka = format!(
        "  kafka:\n    bootstrap_servers: {}\n    topic_prefix: {prefix}\n    partitions: 4\n",
        parts.kafka.bootstrap()
    );
    let mut world = World::with(Shape::OneMachine, "")
        .tollgate(&kafka)
        .start()
        .await;
    let key = world.key(json!({"max_budget": 10})).await;
    for _ in 0..5 {
        assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
    }
    world.rows(5).await;
    let spent = world.spend_of(&key).await;
    assert_eq!((spent, world.ledger()), (world.invoice(), world.invoice()));
    let config = world.path("tollgate.yaml");
    let arguments = ["audit", "--config", config.to_str().unwrap()];
    let audit = tokio::task::block_in_place(|| world.gateway().run(&arguments));
    assert!(audit.status.success(), "{audit:?}\n{}", world.log());

    // Keys and calls come back from the topics; what a kill kept from them, from the journal.
    assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
    world.kill();
    // There may be none yet.
    let snapshots = world.path("data").join("snapshots");
    if snapshots.exists() {
        std::fs::remove_dir_all(snapshots).unwrap();
    }
    world.restart().await;
    world.rows(6).await;
    assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
    world.rows(7).await;
    assert_eq!(world.spend_of(&key).await, world.invoice());
    assert_eq!(world.ledger(), world.invoice());
}

/// SIGTERM, in the order in which events flow: the open stream ends, its event goes to the broker, both lanes bring
/// it to their sinks and commit, and nothing is left for the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_to_stop_leaves_nothing_undone() {
    let mut world = World::with(Shape::Split, "").processes(1, 2).start().await;
    let script = Script {
        pace: Duration::from_millis(20),
        ..Script::of_tokens(100)
    };
    world.provider.script("scripted-upstream", script);
    let key = world.key(json!({"max_budget": 10})).await;
    let chat = world.chat_as(&key, "hi");
    let open = tokio::spawn(async move { chat.stream().await });
    world
        .until(|| "the call", || world.provider.books().requests == 1)
        .await;
    let ingress = &mut world.ingresses[0];
    tokio::task::block_in_place(|| ingress.stop());
    let streamed = open.await.unwrap();
    assert!(streamed.done, "{}", world.log());
    let begun = world.chat_as(&key, "hi").try_send().await;
    assert!(begun.is_err(), "it takes no calls any more");
    assert_eq!(topics::count(&world, "usage.v1"), 1);
    tokio::task::block_in_place(|| world.billing.iter_mut().for_each(Gateway::stop));
    for group in ["billing-budget", "billing-store"] {
        let left = topics::uncommitted(&world, "usage.v1", group);
        assert!(
            left.is_empty(),
            "{group} stands at {left:?}\n{}",
            world.log()
        );
    }
    world.rows(1).await;
    assert_eq!(world.ledger(), world.invoice());
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
    let deadline = Instant::now() + Duration::from_secs(120);
    while holds().await != Some(true) {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
