//! The tables as others see them: ordinary ClickHouse clients, locked to reading.

use serde_json::Value;
use tests::{Shape, World};

use crate::sdk::python;

tests::in_both_shapes!(
    an_ordinary_client_reads_and_can_do_nothing_else,
    commands_find_the_running_gateway,
);

async fn an_ordinary_client_reads_and_can_do_nothing_else(shape: Shape) {
    let world = World::start(shape).await;
    assert_eq!(world.chat("hi").send().await.status, 200);
    world.rows(1).await;
    let tables = world.tables();
    let (port, password) = (tables.port.to_string(), tables.password);
    let output = python("clickhouse.py")
        .args([
            "127.0.0.1",
            &port,
            "analyst",
            &password,
            "select sum(amount) from cost_ledger final",
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["one"], 1);
    assert_eq!(document["usage_rows"], 1);
    let sum: schemas::NanoUsd = document["answer"][0][0].as_str().unwrap().parse().unwrap();
    assert_eq!(sum, world.invoice());
    for (attempt, error) in document["refused"].as_object().unwrap() {
        assert!(error.is_string(), "{attempt} went through");
    }

    // As with curl.
    let url = format!("http://127.0.0.1:{port}/");
    let ask = |user: &str, password: &str| {
        let query = [("query", "select count() from usage_rows final")];
        world
            .http
            .get(&url)
            .query(&query)
            .basic_auth(user, Some(password))
            .send()
    };
    let answer = ask("analyst", &password).await.unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.text().await.unwrap().as_str()
        ),
        (200, "1\n")
    );
    let wrong = ask("analyst", "wrong").await.unwrap();
    assert!(wrong.text().await.unwrap().contains("516"));
    assert!(!ask("default", "").await.unwrap().status().is_success());
}

/// The command line finds the running gateway by its data directory, and says when there is none.
async fn commands_find_the_running_gateway(shape: Shape) {
    let mut world = World::start(shape).await;
    let output = world.ask(&["sql", "select 6 * 7"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42");
    let bad = world.ask(&["sql", "select nonsense from nowhere"]);
    assert!(!bad.status.success());
    assert!(String::from_utf8_lossy(&bad.stderr).contains("nowhere"));
    world.stop();
    if let Some(server) = &mut world.engine {
        server.stop();
    }
    let gone = world.ask(&["sql", "select 1"]);
    assert!(!gone.status.success());
    assert!(
        String::from_utf8_lossy(&gone.stderr).contains("tollgate up"),
        "{}",
        String::from_utf8_lossy(&gone.stderr)
    );
}
