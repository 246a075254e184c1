//! A cache in which nobody gets what another one asked for.

use std::time::{Duration, Instant};

use serde_json::json;
use test_servers::Redis;
use tests::{Chat, Provider};

use super::{Cast, PATIENCE, Stage, asked, cache_says, swap};

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

fn question(stage: &Stage<'_>, key: &str, user: &str) -> Chat {
    let chat = stage.chat_as(key, "deepseek-v4", "Who are you?");
    chat.with("user", user)
}

async fn cached(stage: &Stage<'_>, key: &str, user: &str) -> String {
    let told = question(stage, key, user).send().await;
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
    cache_says(question(&on, &a, "eve"), hit).await;
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
    // A team shares its answers.
    cache_says(question(&off, &b, "eve"), hit).await;
    drop(off);

    let none = cast
        .ingress(&swap(&text, "enable_cache: true", "enable_cache: false"))
        .await;
    let [a, _] = two_of_a_team(&none).await;
    assert_eq!(cached(&none, &a, "eve").await, "");
    assert_eq!(cached(&none, &a, "eve").await, "");
    drop(none);

    // An answer lives as long as the file says.
    let short = cast
        .ingress(&swap(&text, "cache_ttl: 3600", "cache_ttl: 1"))
        .await;
    let [a, _] = two_of_a_team(&short).await;
    assert_eq!(cached(&short, &a, "eve").await, "miss");
    // Where a second is over between two calls it is a miss once more.
    for told in [hit, "miss"] {
        let end = Instant::now() + PATIENCE;
        while cached(&short, &a, "eve").await != told {
            assert!(Instant::now() < end, "no {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// "But the system prompt": all who have the same one come to the same deployment, whose provider keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_prompt_is_what_they_share() {
    let (cast, second) = (Cast::new().await, Provider::start().await);
    let text = swap(FILE, "enable_cache: true", "enable_cache: false");
    let first = "  - model_name: deepseek-v4\n";
    let beside = format!(
        "  - model_name: deepseek-v4\n    litellm_params: {{model: deepseek/deepseek-chat-v4, api_key: k, api_base: \"{}\"}}\n{first}",
        second.base_url()
    );
    let text = swap(&text, first, &beside);
    let mut seen = Vec::new();
    for file in [
        text.clone(),
        swap(
            &text,
            "cache_system_prompt_only: true",
            "cache_system_prompt_only: false",
        ),
    ] {
        let stage = cast.ingress(&file).await;
        for prompt in 0..3 {
            cast.other.forget();
            second.forget();
            for user in 0..8 {
                let chat = stage.chat("deepseek-v4", &format!("I am {user}"));
                let chat = chat.with("user", format!("user-{user}")).with(
                    "messages",
                    json!([
                        {"role": "system", "content": format!("You are agent {prompt}.")},
                        {"role": "user", "content": format!("I am {user}")},
                    ]),
                );
                assert_eq!(chat.send().await.status, 200);
            }
            seen.push((asked(&cast.other).len(), asked(&second).len()));
        }
    }
    let (on, off) = seen.split_at(3);
    assert!(
        on.iter().all(|shares| matches!(shares, (0, 8) | (8, 0))),
        "{seen:?}"
    );
    assert!(
        off.iter().any(|shares| !matches!(shares, (0, 8) | (8, 0))),
        "{seen:?}"
    );
}
