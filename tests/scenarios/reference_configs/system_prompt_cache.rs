//! A cache in which nobody gets what another one asked for.

use serde_json::json;
use test_servers::Redis;

use super::{Cast, Stage, swap};

const FILE: &str = include_str!("../../../deploy/reference-configs/11-system-prompt-cache.yaml");

/// Two keys of one team, which else share their answers.
async fn two_of_a_team(stage: &Stage<'_>) -> [String; 2] {
    let team = stage
        .post("/team/new", json!({"team_alias": "support"}))
        .await
        .json();
    let key = || stage.key(json!({"team_id": team["team_id"]}));
    [key().await, key().await]
}

async fn cached(stage: &Stage<'_>, key: &str, user: &str) -> String {
    let chat = stage
        .chat_as(key, "deepseek-v4", "Who are you?")
        .with("user", user);
    let told = chat.send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    told.header("x-tollgate-cache").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let redis = Redis::start(test_servers::redis::ANSWERS).await;
    let text = swap(FILE, "host: \"redis\"", "host: 127.0.0.1");
    let text = swap(&text, "port: 6379", &format!("port: {}", redis.port()));
    let hit = "hit; kind=exact; similarity=1.0000";

    let on = cast.ingress(&text).await;
    let [a, b] = two_of_a_team(&on).await;
    assert_eq!(cached(&on, &a, "eve").await, "miss");
    assert_eq!(cached(&on, &a, "eve").await, hit);
    assert_eq!(cached(&on, &a, "bob").await, "miss", "another customer");
    assert_eq!(cached(&on, &b, "eve").await, "miss", "another key");
    drop(on);

    let off = cast
        .ingress(&swap(
            &text,
            "cache_system_prompt_only: true",
            "cache_system_prompt_only: false",
        ))
        .await;
    let [a, b] = two_of_a_team(&off).await;
    assert_eq!(cached(&off, &a, "eve").await, "miss");
    assert_eq!(
        cached(&off, &b, "eve").await,
        hit,
        "a team shares its answers"
    );
    drop(off);

    let none = cast
        .ingress(&swap(&text, "enable_cache: true", "enable_cache: false"))
        .await;
    let [a, _] = two_of_a_team(&none).await;
    assert_eq!(cached(&none, &a, "eve").await, "");
    assert_eq!(cached(&none, &a, "eve").await, "");
}
