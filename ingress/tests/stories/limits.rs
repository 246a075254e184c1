//! Budgets, caps and rate limits on the way of a call.

use journal::Options;
use schemas::NanoUsd;
use serde_json::{Value, json};

use crate::provider::{Step, plain, tokens};
use crate::world::{INPUT, MASTER, OUTPUT, World, request};

fn sent(world: &World) -> Value {
    serde_json::from_str(&world.provider.bodies().pop().unwrap()).unwrap()
}

#[tokio::test]
async fn caps_are_the_clients_own_or_told() {
    let world = World::start().await;
    let free = world.key(json!({})).await;
    let told = world.chat(&free, json!({})).await;
    assert_eq!(told.header("x-tollgate-output-cap"), "");
    assert!(
        sent(&world).get("max_completion_tokens").is_none(),
        "without a hard budget it goes out as it came"
    );

    let rich = world.key(json!({ "max_budget": 10 })).await;
    let told = world.chat(&rich, json!({})).await;
    assert_eq!(
        told.header("x-tollgate-output-cap"),
        "1000",
        "at most what the model makes"
    );
    assert_eq!(sent(&world)["max_completion_tokens"], 1000);
    let told = world
        .chat(
            &rich,
            json!({ "max_tokens": 7, "max_completion_tokens": null }),
        )
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(
        (
            told.header("x-tollgate-output-cap"),
            &sent(&world)["max_tokens"]
        ),
        ("", &json!(7))
    );
    let told = world
        .chat(&rich, json!({ "max_completion_tokens": null }))
        .await;
    assert_eq!(told.header("x-tollgate-output-cap"), "1000");
    assert_eq!(
        sent(&world)["max_completion_tokens"],
        1000,
        "in the place of the null"
    );

    // Worth the prompt's bound and 100 tokens.
    let bytes = i64::try_from(request(json!({})).to_string().len()).unwrap();
    let budget = NanoUsd(bytes * INPUT + 100 * OUTPUT);
    let poor = world.key(json!({ "max_budget": budget })).await;
    let refused = world.chat(&poor, json!({ "max_tokens": 101 })).await;
    assert_eq!(
        (refused.status, refused.header("x-should-retry")),
        (429, "false"),
        "a client's own cap is never lowered"
    );
    let told = world.chat(&poor, json!({})).await;
    assert_eq!(
        (told.status, told.header("x-tollgate-output-cap")),
        (200, "100")
    );
    let halves = world.key(json!({ "max_budget": budget })).await;
    let told = world.chat(&halves, json!({ "n": 2 })).await;
    // `,"n":2` makes the prompt's bound 6 bytes longer.
    assert_eq!(
        told.header("x-tollgate-output-cap"),
        ((200 - 6) / 4).to_string(),
        "n answers share it"
    );
    let (admits, usages) = world.events();
    for (admit, usage) in admits.iter().zip(&usages) {
        assert_eq!(admit.request_id, usage.request_id);
    }
}

#[tokio::test]
async fn a_spent_budget_refuses_until_its_reset() {
    let world = World::start().await;
    let one_call = NanoUsd(10 * INPUT + 5 * OUTPUT);
    let bound = NanoUsd(200 * INPUT + 5 * OUTPUT);
    let key = world
        .key(json!({ "key_alias": "spent", "max_budget": bound, "budget_duration": "1d" }))
        .await;
    let mut served = 0;
    let refusal = loop {
        let told = world.chat(&key, json!({ "max_tokens": 5 })).await;
        if told.status != 200 {
            break told;
        }
        served += 1;
    };
    assert!(served > 0 && NanoUsd(one_call.0 * served) <= bound);
    assert_eq!(
        (refusal.status, refusal.json()["error"]["type"].as_str()),
        (429, Some("budget_exceeded"))
    );
    let message = refusal.message();
    assert!(
        message.contains("Budget has been exceeded! Current cost: "),
        "{message}"
    );
    assert!(
        message.contains(&format!("Max budget: {bound}")) && message.contains("Key: spent"),
        "{message}"
    );
    assert_eq!(refusal.header("x-should-retry"), "false");
    let seconds: u64 = refusal.header("retry-after").parse().unwrap();
    assert!((1..=86_401).contains(&seconds));
    assert_eq!(refusal.json()["error"]["code"], "429");
}

#[tokio::test]
async fn a_budget_that_open_calls_hold_is_worth_another_try() {
    let world = World::start().await;
    let bound = NanoUsd(300 * INPUT + 500 * OUTPUT);
    let key = world.key(json!({ "max_budget": bound })).await;
    let mut steps = tokens("up-1", 1);
    steps.push(Step::Stall);
    world.provider.script(steps);
    let holding = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(&key)
        .json(&request(json!({ "stream": true, "max_tokens": 500 })));
    let answer = holding.send().await.unwrap();
    let refused = world.chat(&key, json!({ "max_tokens": 500 })).await;
    assert_eq!(
        (
            refused.status,
            refused.header("retry-after"),
            refused.header("x-should-retry")
        ),
        (429, "1", "")
    );
    drop(answer);
    world.ended(1).await;
    world.provider.script(plain("up-1"));
    loop {
        let told = world.chat(&key, json!({ "max_tokens": 500 })).await;
        if told.status == 200 {
            break;
        }
        assert_eq!(told.header("retry-after"), "1", "{}", told.text);
    }
}

#[tokio::test]
async fn rate_limits_say_which_and_until_when() {
    let world = World::start().await;
    let key = world
        .key(json!({ "key_alias": "slow", "rpm_limit": 2 }))
        .await;
    let refused = loop {
        let told = world.chat(&key, json!({})).await;
        if told.status != 200 {
            break told;
        }
    };
    assert_eq!(refused.status, 429);
    let message = refused.message();
    assert!(message.starts_with("Rate limit exceeded for key: slow. Limit type: requests. Current limit: 2, Remaining: 0. Limit resets at: "), "{message}");
    assert_eq!(refused.header("rate_limit_type"), "requests");
    assert_ne!(refused.header("reset_at"), "");
    assert!((1..=61).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
}

#[tokio::test]
async fn an_unknown_price_is_held_at_the_ceiling_or_refused() {
    let world = World::with(|config| config.budgets.unpriced_ceiling = NanoUsd::from_usd(2)).await;
    world.provider.script(plain("nobody-knows"));
    let unpriced = json!({ "model": "unpriced" });
    assert_eq!(
        world
            .chat(MASTER, unpriced.clone())
            .await
            .header("x-litellm-response-cost"),
        "0.0"
    );
    let key = world.key(json!({ "max_budget": 3 })).await;
    assert_eq!(
        world
            .chat(&key, unpriced.clone())
            .await
            .header("x-litellm-response-cost"),
        "2.0"
    );
    assert_eq!(world.chat(&key, unpriced.clone()).await.status, 429);

    let world = World::with(|config| config.budgets.unpriced_ceiling = NanoUsd::ZERO).await;
    let key = world.key(json!({ "max_budget": 3 })).await;
    let told = world.chat(&key, unpriced).await;
    assert_eq!(
        (told.status, told.json()["error"]["type"].as_str()),
        (400, Some("unpriced_model")),
        "{}",
        told.text
    );
}

/// What cannot be recorded is not sent.
#[tokio::test]
async fn a_full_journal_refuses_before_anything_is_dispatched() {
    let options = Options {
        cap_bytes: 0,
        ..Options::default()
    };
    let world = World::build(|_| {}, options).await;
    let key = world.key(json!({ "max_budget": 1, "rpm_limit": 1 })).await;
    for _ in 0..2 {
        let told = world.chat(&key, json!({})).await;
        assert_eq!(
            (told.status, told.json()["error"]["type"].as_str()),
            (503, Some("journal_unavailable")),
            "{}",
            told.text
        );
    }
    assert!(world.provider.bodies().is_empty());
    assert_eq!(
        world.gateway.budgets.stats().open,
        0,
        "hold and counted request were given back"
    );
    assert_eq!(world.get("/health/readiness").await.status, 503);
}

/// `max_end_user_budget` and `max_internal_user_budget`: whoever has no budget of their own has the file's, from
/// their first call on.
#[tokio::test]
async fn customers_and_users_have_the_budget_of_the_file() {
    let world = World::with(|config| {
        config.budgets.end_user_budget = Some(NanoUsd(300 * INPUT));
    })
    .await;
    world.provider.script(plain("up-1"));
    let refused = async |key: &str, extra: Value| {
        for _ in 0..30 {
            let told = world.chat(key, extra.clone()).await;
            if told.status != 200 {
                return told;
            }
        }
        panic!("never refused")
    };
    let of = |customer: &str| json!({ "user": customer, "max_tokens": 5 });
    let told = refused(MASTER, of("eve")).await;
    assert_eq!(
        (told.status, &told.json()["error"]["type"]),
        (429, &json!("budget_exceeded"))
    );
    assert!(told.message().contains("Customer: eve"), "{}", told.text);
    assert_eq!(world.chat(MASTER, of("bob")).await.status, 200);
    assert_eq!(
        world.chat(MASTER, json!({ "max_tokens": 5 })).await.status,
        200
    );

    // Instead of it, one for users, a day long: of all keys of each.
    world
        .reload(|config| {
            config.budgets.user_budget = Some(NanoUsd(300 * INPUT));
            config.budgets.user_period = Some(config::Period::Daily);
        })
        .await
        .unwrap();
    let mut keys = Vec::new();
    for user in ["u1", "u1", "u2"] {
        keys.push(world.key(json!({ "user_id": user })).await);
    }
    let told = refused(&keys[0], of("eve")).await;
    assert!(told.message().contains("User: u1"), "{}", told.text);
    assert!(told.message().contains("resets at"), "{}", told.text);
    assert_eq!(world.chat(&keys[1], of("eve")).await.status, 429);
    assert_eq!(world.chat(&keys[2], of("eve")).await.status, 200);
}
