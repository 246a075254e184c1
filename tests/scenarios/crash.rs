//! `kill -9` at any moment: no event lost, no sum changed, the open call billed once.

use std::time::Duration;

use serde_json::json;
use tests::gateway::{children, signal};
use tests::provider::Script;
use tests::{Shape, World};

tests::in_both_shapes!(
    a_gateway_killed_in_mid_stream_bills_the_open_call_once,
    a_consumer_killed_between_any_two_steps_changes_no_sum,
    the_engine_killed_under_load_loses_and_doubles_nothing,
);

async fn a_gateway_killed_in_mid_stream_bills_the_open_call_once(shape: Shape) {
    let mut world = World::start(shape).await;
    let key = world
        .key(json!({"max_budget": 1, "max_parallel_requests": 1}))
        .await;
    assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
    let answered = world.spend_of(&key).await;
    world.provider.script(
        "scripted-upstream",
        Script {
            stall_after: Some(5),
            ..Script::of_tokens(100)
        },
    );
    let chat = world.chat_as(&key, "hi").with("max_tokens", 100);
    assert_eq!(chat.read(5).await.chunks.len(), 5);
    // The client has hung up; another one stays on the line and dies with the gateway.
    world.rows(2).await;
    let open = tokio::spawn({
        let chat = chat.clone();
        async move { chat.stream().await.done }
    });
    while world.provider.books().requests < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.kill();
    assert!(!open.await.unwrap_or(false));

    for _ in 0..2 {
        world.restart().await;
        world.rows(3).await;
        let outcomes = "select outcome, count() from usage_rows final where last group by outcome order by outcome";
        assert_eq!(world.sql(outcomes), "ok\t1\ncancelled\t1\nabandoned\t1");
        assert_eq!(
            world.sql("select estimated from usage_rows final where outcome = 'abandoned'"),
            "true"
        );
        assert_eq!(world.spend_of(&key).await, world.ledger());
        assert!(world.ledger() > answered);
        world.kill();
    }
    // Its hold and its slot are gone.
    world.restart().await;
    world
        .provider
        .script("scripted-upstream", Script::default());
    assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
}

/// A process that ends itself at a named step of a consumer, and what a restart makes of it.
async fn a_consumer_killed_between_any_two_steps_changes_no_sum(shape: Shape) {
    let mut world = World::start(shape).await;
    let key = world.key(json!({"max_budget": 1})).await;
    let mut calls = 0;
    for step in billing_consumer::fail_point::Step::ALL {
        world
            .restart_consumers(&[("TOLLGATE_FAIL", step.name())])
            .await;
        let chat = world.chat_as(&key, "hi");
        let answer = chat.try_send().await;
        world.one_died().await;
        world.restart_consumers(&[]).await;
        calls = usize::try_from(world.provider.books().requests).unwrap();
        world.rows(calls).await;
        if answer.is_ok_and(|answer| answer.status == 200) {
            assert!(world.ledger().0 > 0);
        }
        assert_eq!(
            world.ledger(),
            world.invoice(),
            "after a crash at {}",
            step.name()
        );
        assert_eq!(
            world.spend_of(&key).await,
            world.invoice(),
            "after a crash at {}",
            step.name()
        );
    }
    assert!(calls >= 4);
}

async fn the_engine_killed_under_load_loses_and_doubles_nothing(shape: Shape) {
    let mut world = World::start(shape).await;
    let key = world.key(json!({"max_budget": 100})).await;
    let calls = (0..8).map(|_| {
        let chat = world.chat_as(&key, "hi");
        tokio::spawn(async move {
            for _ in 0..25 {
                assert_eq!(chat.send().await.status, 200);
            }
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut killed = 0;
    while killed < 3 {
        if let Some(server) = &mut world.engine {
            // Nobody of ours starts a server of its own again.
            server.again();
            killed += 1;
        } else if let Some(engine) = children(world.gateway().pid(), "clickhouse").first() {
            signal(*engine, "KILL");
            killed += 1;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for call in calls {
        call.await.unwrap();
    }
    // Requests and budgets went on; the tables follow.
    assert_eq!(world.spend_of(&key).await, world.invoice());
    world
        .until(|| "the engine", || world.tables().ask("select 1").is_ok())
        .await;
    world.rows(200).await;
    assert_eq!(world.ledger(), world.invoice());
    assert_eq!(
        world.sql("select count(), uniqExact(request_id) from usage_rows final"),
        "200\t200"
    );
}
