//! Virtual keys over the API that LiteLLM's scripts use.

use serde_json::json;
use tests::{Shape, World};

tests::in_both_shapes!(
    a_key_lives_from_generate_to_delete,
    a_bad_request_names_its_field_and_changes_nothing,
    keys_of_the_file_work_and_follow_it,
);

async fn a_key_lives_from_generate_to_delete(shape: Shape) {
    let world = World::start(shape).await;
    let made = world
        .post("/key/generate", json!({"key_alias": "ci", "max_budget": 12.5, "budget_duration": "monthly",
            "rpm_limit": 100, "models": ["scripted"], "metadata": {"team": "ci"}, "duration": "30d"}))
        .await
        .json();
    let about = format!("/key/info?key={}", made["token"].as_str().unwrap());
    world
        .everywhere(&about, |answer| answer.status == 200)
        .await;
    let key = made["key"].as_str().unwrap();
    assert_eq!((key.len(), &key[..3]), (25, "sk-"));
    assert_eq!(made["token"], made["token_id"]);
    assert_eq!(made["spend"].to_string(), "0.0");
    assert_eq!(made["max_budget"].to_string(), "12.5");
    assert!(made["key_name"].as_str().unwrap().starts_with("sk-..."));
    assert!(
        made["budget_reset_at"]
            .as_str()
            .unwrap()
            .contains("-01T00:00:00"),
        "{made}"
    );
    assert!(made["expires"].is_string());

    // By text or by hash; never shown again.
    for asked in [key, made["token"].as_str().unwrap()] {
        let info = world.get(&format!("/key/info?key={asked}")).await;
        assert_eq!(info.status, 200);
        assert_eq!(info.json()["info"]["key_alias"], "ci");
        if asked != key {
            assert!(!info.text.contains(key));
        }
    }
    let own = world
        .http
        .get(format!("{}/key/info", world.url()))
        .bearer_auth(key)
        .send()
        .await
        .unwrap();
    assert_eq!(own.status(), 200);

    let updated = world
        .post(
            "/key/update",
            json!({"key": key, "rpm_limit": 1, "duration": "-1"}),
        )
        .await;
    assert_eq!(updated.json()["rpm_limit"], 1, "{}", updated.text);
    world
        .everywhere(&about, |answer| answer.json()["info"]["rpm_limit"] == 1)
        .await;
    let info = world.get(&about).await.json();
    assert_eq!(
        (&info["info"]["rpm_limit"], &info["info"]["expires"]),
        (&json!(1), &json!(null))
    );
    assert_eq!(
        info["info"]["max_budget"].to_string(),
        "12.5",
        "what was not named stays"
    );

    world.key(json!({"key_alias": "other"})).await;
    let list = world.get("/key/list").await.json();
    assert_eq!(
        (list["total_count"].as_u64(), list["total_pages"].as_u64()),
        (Some(2), Some(1))
    );
    let full = world
        .get("/key/list?return_full_object=true&key_alias=ci")
        .await
        .json();
    assert_eq!(full["keys"][0]["token"], made["token"]);

    let deleted = world.post("/key/delete", json!({"keys": [key]})).await;
    assert_eq!(deleted.json(), json!({"deleted_keys": [key]}));
    world
        .everywhere(&about, |answer| answer.status == 404)
        .await;
    assert_eq!(world.chat_as(key, "hi").send().await.status, 401);
    assert_eq!(world.get(&format!("/key/info?key={key}")).await.status, 404);
    assert_eq!(
        world
            .post("/key/delete", json!({"keys": [key]}))
            .await
            .status,
        404
    );
}

async fn a_bad_request_names_its_field_and_changes_nothing(shape: Shape) {
    let world = World::start(shape).await;
    world.key(json!({"key_alias": "taken"})).await;
    let cases = [
        (json!({"max_budget": -1}), "max_budget"),
        (json!({"max_budget": "ten"}), "max_budget"),
        (json!({"budget_duration": "fortnightly"}), "budget_duration"),
        (json!({"duration": "soon"}), "duration"),
        (json!({"rpm_limit": 1.5}), "rpm_limit"),
        (json!({"models": "gpt-4o"}), "models"),
        (json!({"max_bugdet": 5}), "max_bugdet"),
        (json!({"key_alias": "taken"}), "key_alias"),
        (json!({"team_id": "nobody"}), "team_id"),
        (json!({"key": "sk-short"}), "key"),
        (
            json!({"model_rpm_limit": {"scripted": 5}}),
            "model_rpm_limit",
        ),
        (json!({"temp_budget_increase": 5}), "temp_budget_increase"),
    ];
    for (fields, names) in cases {
        let answer = world.post("/key/generate", fields.clone()).await;
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text);
        assert!(
            answer.message().contains(names),
            "{fields}: {}",
            answer.text
        );
        assert_eq!(
            answer.json()["error"]["param"],
            names,
            "{fields}: {}",
            answer.text
        );
    }
    assert_eq!(world.get("/key/list").await.json()["total_count"], 1);
    assert_eq!(
        world
            .get("/key/info?key=sk-unknown-to-all-of-us")
            .await
            .json()["error"]["type"],
        "not_found_error"
    );
}

/// Keys of the file are there from the start, and follow the file.
async fn keys_of_the_file_work_and_follow_it(shape: Shape) {
    let world = World::with(shape,
        "user_api_key_list:\n  - api_key: tenant-a-key\n    user_id: tenant-a\n    max_budget: 1000\n    \
         budget_reset_period: monthly\n    rpm_limit: 1000\n    allowed_models: [scripted]\n",
    )
    .start()
    .await;
    assert_eq!(world.chat_as("tenant-a-key", "hi").send().await.status, 200);
    let info = world.get("/key/info?key=tenant-a-key").await.json();
    assert_eq!(info["info"]["user_id"], "tenant-a");
    assert_eq!(info["info"]["max_budget"].to_string(), "1000.0");
    assert_eq!(
        world
            .chat_as("tenant-a-key", "hi")
            .with("model", "unpriced")
            .send()
            .await
            .status,
        403
    );
}
