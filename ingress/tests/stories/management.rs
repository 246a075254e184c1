//! Keys and teams as scripts of other gateways write them: what is taken, what is refused, and in which words.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{MASTER, World};

async fn get(world: &World, path: &str) -> Value {
    let told = world.get(path).await;
    assert_eq!(told.status, 200, "{path}: {}", told.text);
    told.json()
}

async fn manage(world: &World, route: &str, body: Value) -> Value {
    let told = world.manage(MASTER, route, body.clone()).await;
    assert_eq!(told.status, 200, "{route} {body}: {}", told.text);
    told.json()
}

async fn refused(world: &World, route: &str, body: Value, param: &str) -> String {
    let told = world.manage(MASTER, route, body.clone()).await;
    let error = &told.json()["error"];
    assert_eq!(
        (told.status, &error["param"]),
        (400, &json!(param)),
        "{route} {body}: {}",
        told.text
    );
    told.message()
}

#[tokio::test]
async fn every_refusal_comes_in_the_same_envelope() {
    let world = World::start().await;
    let wrong_way = world.get("/key/generate").await;
    assert_eq!(
        (wrong_way.status, wrong_way.json()["error"]["code"].clone()),
        (405, json!("405")),
        "{}",
        wrong_way.text
    );
    // A body that is not sent any more: who only announces it is told at once.
    let mut raw = TcpStream::connect(world.address()).await.unwrap();
    let head = format!(
        "POST /key/generate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MASTER}\r\ncontent-length: 1048577\r\n\r\n"
    );
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}}") {
        assert_ne!(raw.read_buf(&mut answer).await.unwrap(), 0);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("larger than 1048576 bytes"), "{answer}");
    let nowhere = world.get("/key/nothing").await;
    assert_eq!(
        (nowhere.status, nowhere.json()["error"]["type"].clone()),
        (404, json!("not_found_error"))
    );
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_null_takes_it_away() {
    let world = World::start().await;
    let key = world
        .key(
            json!({"key_alias": "a", "max_budget": 33.333333333333336, "budget_duration": "1d",
            "rpm_limit": 10.0, "duration": "30d", "key_type": "llm_api"}),
        )
        .await;
    let info = format!("/key/info?key={key}");
    let made = get(&world, &info).await;
    // A limit that was computed in floats is never made larger.
    assert_eq!(made["info"]["max_budget"].to_string(), "33.333333333");
    assert_eq!(made["info"]["rpm_limit"], 10);
    assert_eq!(made["info"]["allowed_routes"], json!(["llm_api_routes"]));

    let told = manage(
        &world,
        "/key/update",
        json!({"key": key, "max_budget": null, "budget_duration": null, "duration": null, "key_alias": null,
            "key_type": "default"}),
    )
    .await;
    assert_eq!(
        (
            &told["max_budget"],
            &told["expires"],
            &told["budget_reset_at"]
        ),
        (&json!(null), &json!(null), &json!(null))
    );
    let changed = get(&world, &info).await;
    for (field, value) in [
        ("max_budget", json!(null)),
        ("budget_duration", json!(null)),
        ("expires", json!(null)),
        ("key_alias", json!(null)),
        ("allowed_routes", json!([])),
        ("rpm_limit", json!(10)),
    ] {
        assert_eq!(changed["info"][field], value, "{field}");
    }

    // For a while there may be more: until a day, an instant, or for so long.
    manage(&world, "/key/update", json!({"key": key, "max_budget": 1})).await;
    for until in ["2999-01-15", "2999-01-15T00:00:00Z", "10d"] {
        let told = manage(
            &world,
            "/key/update",
            json!({"key": key, "temp_budget_increase": 100, "temp_budget_expiry": until}),
        )
        .await;
        assert_eq!(told["temp_budget_increase"].to_string(), "100.0");
        if until.starts_with("2999") {
            assert_eq!(told["temp_budget_expiry"], "2999-01-15T00:00:00Z");
        }
        let answer = world.chat(&key, json!({})).await;
        assert_eq!(answer.headers["x-litellm-key-max-budget"], "101.0");
    }
}

#[tokio::test]
async fn what_would_have_no_effect_is_not_taken() {
    let world = World::start().await;
    for (fields, param) in [
        (json!({"budget_id": "gold"}), "budget_id"),
        (json!({"key_type": "management"}), "key_type"),
        (json!({"key_type": "gold"}), "key_type"),
        (
            json!({"key_type": "llm_api", "allowed_routes": ["/embeddings"]}),
            "key_type",
        ),
        (json!({"duration": "99999999999y"}), "duration"),
        (json!({"key_alias": "x".repeat(1025)}), "key_alias"),
        (json!({"tags": vec!["x"; 1001]}), "tags"),
    ] {
        refused(&world, "/key/generate", fields, param).await;
    }
    // What asks for nothing is what clients send who send every field.
    manage(
        &world,
        "/key/generate",
        json!({"budget_id": null, "key_type": "default", "allowed_routes": ["/embeddings"], "aliases": {},
            "guardrails": [], "duration": null, "metadata": null}),
    )
    .await;
    manage(
        &world,
        "/team/new",
        json!({"team_id": "t", "members_with_roles": null, "admins": null, "model_aliases": {}, "metadata": null}),
    )
    .await;
    refused(
        &world,
        "/key/block",
        json!({"key": "sk-x", "team_id": "t"}),
        "team_id",
    )
    .await;
}

#[tokio::test]
async fn keys_are_listed_in_the_order_asked_for_and_deleted_once() {
    let world = World::start().await;
    let mut keys = Vec::new();
    for (alias, budget) in [("b", json!(2)), ("c", json!(null)), ("a", json!(30))] {
        let fields = json!({"key_alias": alias, "max_budget": budget});
        keys.push(world.key(fields).await);
    }
    world.chat(&keys[1], json!({})).await;
    for (query, order) in [
        ("", "acb"),
        ("sort_by=created_at&sort_order=asc", "bca"),
        ("sort_by=key_alias&sort_order=asc", "abc"),
        ("sort_by=key_alias", "cba"),
        ("sort_by=max_budget&sort_order=asc", "cba"),
        ("sort_by=spend", "cab"),
        ("sort_by=spend&size=1&page=1", "c"),
        ("sort_by=key_alias&sort_order=asc&size=2&page=2", "c"),
        ("size=2&page=9", ""),
        ("key_alias=b&team_id=", "b"),
        ("team_id=nobody", ""),
    ] {
        let list = get(
            &world,
            &format!("/key/list?return_full_object=true&{query}"),
        )
        .await;
        let rows = list["keys"].as_array().unwrap().iter();
        let found: String = rows.map(|row| row["key_alias"].as_str().unwrap()).collect();
        assert_eq!(found, order, "{query}");
    }
    for (query, param) in [
        ("sort_by=colour", "sort_by"),
        ("sort_order=up", "sort_order"),
        ("size=101", "size"),
        ("page=0", "page"),
        ("status=deleted", "status"),
    ] {
        let told = world.get(&format!("/key/list?{query}")).await;
        assert_eq!(
            (told.status, &told.json()["error"]["param"]),
            (400, &json!(param)),
            "{query}"
        );
    }
    let gone = manage(
        &world,
        "/key/delete",
        json!({"keys": [keys[0], keys[0], "sk-of-nobody-at-all"]}),
    )
    .await;
    assert_eq!(gone, json!({"deleted_keys": [keys[0]]}));
    let gone = manage(
        &world,
        "/key/delete",
        json!({"key_aliases": ["a", "nobody"]}),
    )
    .await;
    assert_eq!(gone, json!({"deleted_keys": ["a"]}));
    assert_eq!(get(&world, "/key/list").await["total_count"], 1);
}
