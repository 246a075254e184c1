//! Spend is one number, wherever it is asked for.

use schemas::NanoUsd;
use serde_json::json;
use tests::world::{MASTER, money};
use tests::{Shape, World};

tests::in_both_shapes!(headers_keys_spend_routes_and_sql_agree,);

async fn headers_keys_spend_routes_and_sql_agree(shape: Shape) {
    let world = World::start(shape).await;
    world
        .team(json!({"team_id": "search", "team_alias": "Search"}))
        .await;
    let key = world
        .key(json!({"team_id": "search", "user_id": "ann", "key_alias": "ann's"}))
        .await;
    let mut headers = NanoUsd::ZERO;
    for question in ["one", "one two", "one two three", "a b c d e f g"] {
        let answer = world
            .chat_as(&key, question)
            .with("metadata", json!({"tags": ["docs"]}))
            .send()
            .await;
        let cost: NanoUsd = answer.header("x-litellm-response-cost").parse().unwrap();
        headers = headers.saturating_add(cost);
        let told: NanoUsd = answer.header("x-litellm-key-spend").parse().unwrap();
        assert_eq!(told, headers, "the key's spend includes this call");
        // What was answered is already in the books: no waiting.
        assert_eq!(world.spend_of(&key).await, headers);
    }
    world.rows(4).await;
    assert!(headers.0 > 0);
    assert_eq!(world.invoice(), headers);
    assert_eq!(world.ledger(), headers);
    assert_eq!(world.spend_of(&key).await, headers);
    let team = world.get("/team/info?team_id=search").await.json();
    assert_eq!(money(&team["team_info"]["spend"]), headers);
    assert_eq!(money(&team["keys"][0]["spend"]), headers);
    let keys = world.get("/spend/keys").await.json();
    assert_eq!(money(&keys[0]["spend"]), headers, "{keys}");
    let models = world.get("/spend/models").await.json();
    assert_eq!(models[0]["model"], "scripted-upstream");
    assert_eq!(money(&models[0]["total_spend"]), headers);
    assert_eq!(models[0]["requests"], 4);
    let logs = world.get("/spend/logs?summarize=false").await.json();
    assert_eq!(logs[0]["api_base"], world.provider.base_url());
    let sum: i64 = logs
        .as_array()
        .unwrap()
        .iter()
        .map(|row| money(&row["spend"]).0)
        .sum();
    assert_eq!((logs.as_array().unwrap().len(), sum), (4, headers.0));
    for by in ["team", "key", "user", "model", "tag", "provider"] {
        let output = world.ask(&["spend", "--by", by, "--json"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let line = String::from_utf8(output.stdout).unwrap();
        let row: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        assert_eq!(money(&row["spend"]), headers, "by {by}: {line}");
    }

    // Single calls, by the id that the client gave, by key and by day; those of the master key by its text.
    let named = world
        .chat("one more")
        .header("x-litellm-call-id", "the fifth");
    let told = named.send().await;
    let cost: NanoUsd = told.header("x-litellm-response-cost").parse().unwrap();
    let all = headers.saturating_add(cost);
    world.rows(5).await;
    let far = "2999-01-01";
    for (query, rows, spend) in [
        ("request_id=the%20fifth".to_owned(), Some(1), cost),
        (
            "request_id=chatcmpl-of-nobody".to_owned(),
            Some(0),
            NanoUsd::ZERO,
        ),
        (format!("api_key={MASTER}&summarize=false"), Some(1), cost),
        (format!("api_key={key}"), Some(4), headers),
        (
            format!("api_key={key}&start_date=2026-01-01T00:00:00%2B00:00"),
            None,
            headers,
        ),
        (format!("start_date=2026-01-01&end_date={far}"), None, all),
        (
            "start_date=2026-01-01%2000:00:00&end_date=2026-01-02".to_owned(),
            Some(0),
            NanoUsd::ZERO,
        ),
        (
            format!("summarize=false&start_date={far}"),
            Some(0),
            NanoUsd::ZERO,
        ),
    ] {
        let answer = world.get(&format!("/spend/logs?{query}")).await;
        let found = answer.json();
        let found = found.as_array().unwrap();
        let sum = found.iter().map(|row| money(&row["spend"]).0).sum();
        assert_eq!(NanoUsd(sum), spend, "{query}: {}", answer.text);
        assert!(
            rows.is_none_or(|rows| rows == found.len()),
            "{query}: {}",
            answer.text
        );
    }
    let odd = world.get("/spend/logs?start_date=yesterday").await;
    assert_eq!(
        (odd.status, &odd.json()["error"]["param"]),
        (400, &json!("start_date"))
    );
}
