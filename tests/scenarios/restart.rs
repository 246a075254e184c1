//! The log is the truth: a restart changes nothing, and every projection can be made again from it.

use serde_json::json;
use tests::provider::Script;
use tests::{Shape, World};

tests::in_both_shapes!(
    a_restart_keeps_keys_limits_budgets_and_spend,
    every_projection_can_be_deleted_and_rebuilt,
);

/// Everything that can be asked about money and keys, as one text.
async fn picture(world: &World, key: &str) -> String {
    let mut info = world.get(&format!("/key/info?key={key}")).await.json();
    info["key"] = json!(null);
    let team = world.get("/team/info?team_id=search").await.text;
    let models = world.get("/spend/models").await.text;
    let sums = world.sql(
        "select key_hash, model, toString(sum(amount)), toString(sum(exact)), count() \
         from cost_ledger final group by key_hash, model order by key_hash, model",
    );
    let rows = world.sql(
        "select source_id, kpart, pseq, request_id, outcome, input_tokens, output_tokens, meters \
         from usage_rows final order by source_id, kpart, pseq",
    );
    format!("{info}\n{team}\n{models}\n{sums}\n{rows}")
}

async fn some_traffic(world: &World) -> String {
    let team = json!({"team_id": "search", "max_budget": 5, "budget_duration": "weekly"});
    world.team(team).await;
    let fields = json!({"team_id": "search", "max_budget": "0.0021", "budget_duration": "monthly",
        "rpm_limit": 500, "models": ["scripted"], "metadata": {"owner": "ann"}});
    let key = world.key(fields).await;
    for question in ["one", "one two", "one two three"] {
        assert_eq!(
            world
                .chat_as(&key, question)
                .with("max_tokens", 9)
                .send()
                .await
                .status,
            200
        );
        assert!(
            world
                .chat_as(&key, question)
                .with("max_tokens", 9)
                .stream()
                .await
                .done
        );
    }
    let blocked = world.key(json!({"key_alias": "gone"})).await;
    assert_eq!(
        world
            .post("/key/block", json!({"key": blocked}))
            .await
            .status,
        200
    );
    world.rows(6).await;
    key
}

async fn a_restart_keeps_keys_limits_budgets_and_spend(shape: Shape) {
    let mut world = World::start(shape).await;
    let key = some_traffic(&world).await;
    let before = picture(&world, &key).await;
    world.stop();
    world.restart().await;
    assert_eq!(picture(&world, &key).await, before);

    // The budget goes on from where it stood.
    world
        .provider
        .script("scripted-upstream", Script::of_tokens(900));
    let refused = world
        .chat_as(&key, "hi")
        .with("max_tokens", 900)
        .send()
        .await;
    assert_eq!(refused.status, 200, "{}", refused.text);
    let refused = world
        .chat_as(&key, "hi")
        .with("max_tokens", 900)
        .send()
        .await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let other = world
        .chat_as(&key, "hi")
        .with("model", "unpriced")
        .send()
        .await;
    assert_eq!(other.status, 403, "{}", other.text);
}

/// Tables, budget state, key table, cache index: deleted, and made again with the same sums.
async fn every_projection_can_be_deleted_and_rebuilt(shape: Shape) {
    let mut world = World::with(shape, "litellm_settings:\n  cache: true\n")
        .start()
        .await;
    let key = some_traffic(&world).await;
    let before = picture(&world, &key).await;
    world.stop();
    world.delete_projections();
    world.restart().await;
    world.rows(6).await;
    assert_eq!(picture(&world, &key).await, before);
}
