//! Parts that are not there when a process starts: it starts all the same, says what is missing, does what it can
//! without them, and the rest when they come.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::parts::Parts;
use tests::{Gateway, Shape, World, topics};

/// What a process says of its readiness: whether it is ready, and everything in words.
async fn readiness(process: &Gateway) -> Option<(bool, String)> {
    let url = format!("{}/health/readiness", process.url());
    let answer = tests::client::http().get(url).send().await.ok()?;
    let ready = answer.status().is_success();
    let body: Value = answer.json().await.ok()?;
    Some((
        ready,
        format!("missing {} degraded {}", body["missing"], body["degraded"]),
    ))
}

/// Waits until it is ready, or not, and says all of these words.
async fn says(process: &Gateway, ready: bool, words: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let said = readiness(process).await;
        if let Some((is, text)) = &said
            && *is == ready
            && words.iter().all(|word| text.contains(word))
        {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} was to be ready: {ready}, and to say {words:?}; it says {said:?}\n{}",
            process.launch.role,
            process.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_starts_without_the_parts_that_are_not_there() {
    let parts = Parts::start().await;
    let mut world = World::with(Shape::Split, "")
        .on(&parts)
        .processes(1, 1)
        .start()
        .await;
    let limited = world.key(json!({"max_budget": 10})).await;
    let free = world.key(json!({})).await;
    let call = async |world: &World, key: &str| world.chat_as(key, "hi").send().await.status;
    assert_eq!(call(&world, &limited).await, 200);
    world.rows(1).await;
    let spent = world.spend_of(&limited).await;

    // Without the tables: budgets go on, and the rows come later.
    tokio::task::block_in_place(|| world.stop());
    for group in ["billing-budget", "billing-store"] {
        let left = topics::uncommitted(&world, "usage.v1", group);
        assert!(left.is_empty(), "{group} drained, and stands at {left:?}");
    }
    world.engine.as_mut().unwrap().kill();
    world.processes().for_each(Gateway::again);
    world.ingresses[0].ready().await;
    says(&world.billing[0], false, &["store lane", "ClickHouse"]).await;
    assert_eq!(call(&world, &limited).await, 200);
    let settled = || async {
        let url = format!("{}/metrics", world.billing[0].url());
        let text = world.http.get(url).send().await.unwrap();
        let text = text.text().await.unwrap();
        text.contains("tollgate_lane_events_total{lane=\"budget\"} 1")
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while !settled().await {
        assert!(Instant::now() < deadline, "not settled\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.spend_of(&limited).await.0, 2 * spent.0);
    let engine = world.engine.as_mut().unwrap();
    engine.again();
    engine.ready().await;
    world.ready().await;
    world.rows(2).await;

    // Without Kafka and without Redis: keys are known from the snapshot; what needs neither is served.
    tokio::task::block_in_place(|| world.stop());
    parts.kafka.stop().await;
    parts.budgets.kill();
    world.processes().for_each(Gateway::again);
    says(
        &world.ingresses[0],
        false,
        &["budgets", "config as of version", "relay"],
    )
    .await;
    says(&world.billing[0], false, &["budget lane", "store lane"]).await;
    assert_eq!(call(&world, &free).await, 200);
    assert_eq!(
        call(&world, &limited).await,
        503,
        "hard budgets fail closed"
    );
    // What was spent is not known now, and is not told to be nothing.
    let info = world.get(&format!("/key/info?key={limited}")).await.json();
    assert_eq!(info["info"]["spend"], Value::Null, "{info}");
    assert_eq!(info["info"]["max_budget"].to_string(), "10.0");
    assert_eq!(call(&world, "sk-nobody").await, 401);

    // A Redis that was away may have lost something: hard budgets wait for what is on the log.
    parts.budgets.restart().await;
    assert_eq!(call(&world, &limited).await, 503);
    parts.kafka.restart().await;
    world.ready().await;
    says(&world.ingresses[0], true, &["missing []"]).await;
    assert_eq!(call(&world, &limited).await, 200);
    world.rows(4).await;
    let audit = tokio::task::block_in_place(|| world.audit());
    assert!(audit.status.success(), "{audit:?}\n{}", world.log());
    assert_eq!(world.ledger(), world.invoice());

    // Without Kafka and without a snapshot nothing is known: not even that a key is wrong.
    tokio::task::block_in_place(|| world.stop());
    parts.kafka.stop().await;
    std::fs::remove_dir_all(world.ingresses[0].data_dir().join("snapshots")).unwrap();
    world.ingresses[0].again();
    says(&world.ingresses[0], false, &["config", "catalog"]).await;
    assert_eq!(call(&world, &free).await, 503);
    assert_eq!(call(&world, "sk-nobody").await, 503);
    parts.kafka.restart().await;
    world.ingresses[0].ready().await;
    assert_eq!(call(&world, &free).await, 200);
}
