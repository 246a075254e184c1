//! The same question again is a hit; another team's same question is not.

use serde_json::json;
use tests::{Shape, World};

tests::in_both_shapes!(
    the_same_question_is_answered_from_the_cache_for_nothing,
    a_paraphrase_hits_and_a_trap_does_not,
    no_team_sees_anothers_answer,
    the_cache_is_off_unless_asked_for,
    hits_survive_a_restart_and_can_be_refused,
);

const ON: &str =
    "litellm_settings:\n  cache: true\n  cache_params:\n    similarity_threshold: 0.90\n";

async fn the_same_question_is_answered_from_the_cache_for_nothing(shape: Shape) {
    let world = World::with(shape, ON).start().await;
    let key = world.key(json!({"max_budget": 1})).await;
    let chat = world.chat_as(&key, "What is the capital of France?");
    let first = chat.send().await;
    assert_eq!(
        first.header("x-tollgate-cache"),
        "miss",
        "{:?}",
        first.headers
    );
    let spent = world.spend_of(&key).await;
    let again = chat.send().await;
    assert_eq!(
        again.header("x-tollgate-cache"),
        "hit; kind=exact; similarity=1.0000"
    );
    assert_eq!(again.header("x-litellm-response-cost"), "0.0");
    assert_eq!(again.content(), first.content());
    assert_eq!(again.json()["usage"], first.json()["usage"]);
    let streamed = chat.stream().await;
    assert!(streamed.done);
    assert_eq!(streamed.content(), first.content(), "a stream is replayed");
    assert_eq!(world.provider.books().requests, 1);
    assert_eq!(world.spend_of(&key).await, spent, "a hit costs nothing");
    world.rows(3).await;
    let saved = "select count(), countIf(saved > 0), toString(sum(saved)) from usage_rows final where outcome = 'cache_hit'";
    let spent = schemas::NanoUsd(spent.0 * 2).to_string();
    assert_eq!(world.sql(saved), format!("2\t2\t{spent}"));

    // A stream that ended well is an answer too.
    let other = world.chat_as(&key, "Who wrote the play Hamlet?");
    let streamed = other.stream().await;
    // Stored off the client's way, a moment after the last byte; whoever looks before keeps nothing.
    let look = other.with("cache", json!({"no-store": true}));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let hit = loop {
        let answer = look.send().await;
        if answer
            .header("x-tollgate-cache")
            .starts_with("hit; kind=exact")
        {
            break answer;
        }
        assert!(std::time::Instant::now() < deadline, "it is not kept");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let told = hit.header("x-tollgate-cache");
    assert!(told.starts_with("hit; kind=exact"), "{:?}", hit.headers);
    assert_eq!(hit.content(), streamed.content());
}

async fn a_paraphrase_hits_and_a_trap_does_not(shape: Shape) {
    let world = World::with(shape, ON).start().await;
    let ask = |question: &str| world.chat(question);
    assert_eq!(ask("How can I reset my password?").send().await.status, 200);
    // Who looks on a busy machine may have no time to find it, and is told of a miss.
    let look = ask("How do I reset my password?").with("cache", json!({"no-store": true}));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let told = loop {
        let told = look.send().await;
        let told = told.header("x-tollgate-cache").to_owned();
        if told.starts_with("hit") {
            break told;
        }
        assert!(std::time::Instant::now() < deadline, "it is not found");
    };
    assert!(
        told.starts_with("hit; kind=semantic; similarity=0.9"),
        "{told}"
    );
    assert_eq!(
        ask("What is the fee for a transfer of 100 euros?")
            .send()
            .await
            .status,
        200
    );
    let trap = ask("What is the fee for a transfer of 900 euros?")
        .send()
        .await;
    assert_eq!(
        trap.header("x-tollgate-cache"),
        "miss",
        "another number is another question"
    );
    // Multi-turn traffic is matched word for word only.
    let turns = |last: &str| {
        let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
            {"role": "user", "content": last}]);
        ask("").with("messages", messages)
    };
    assert_eq!(
        turns("How can I reset my password?").send().await.status,
        200
    );
    let other = turns("How do I reset my password?").send().await;
    assert!(
        !other.header("x-tollgate-cache").starts_with("hit"),
        "{:?}",
        other.headers
    );
}

async fn no_team_sees_anothers_answer(shape: Shape) {
    let world = World::with(shape, ON).start().await;
    for team in ["a", "b"] {
        world.team(json!({"team_id": team})).await;
    }
    let (ann, alf) = (
        world.key(json!({"team_id": "a"})).await,
        world.key(json!({"team_id": "a"})).await,
    );
    let bob = world.key(json!({"team_id": "b"})).await;
    let loner = world.key(json!({})).await;
    let ask = |key: &str| world.chat_as(key, "What is our refund policy?");
    let cache = |answer: &tests::client::Answered| answer.header("x-tollgate-cache").to_owned();
    assert_eq!(cache(&ask(&ann).send().await), "miss");
    assert!(
        cache(&ask(&alf).send().await).starts_with("hit"),
        "one team shares"
    );
    assert_eq!(cache(&ask(&bob).send().await), "miss", "another does not");
    assert_eq!(cache(&ask(&loner).send().await), "miss");
}

/// Without the setting there is no cache at all.
async fn the_cache_is_off_unless_asked_for(shape: Shape) {
    let world = World::start(shape).await;
    for _ in 0..2 {
        assert_eq!(
            world
                .chat("What is the capital of France?")
                .send()
                .await
                .header("x-tollgate-cache"),
            ""
        );
    }
    assert_eq!(world.provider.books().requests, 2);
}

async fn hits_survive_a_restart_and_can_be_refused(shape: Shape) {
    let mut world = World::with(shape, ON).start().await;
    let chat = world.chat("What is the capital of France?");
    chat.send().await;
    world.stop();
    world.restart().await;
    let chat = world.chat("What is the capital of France?");
    // Who looks on a busy machine may have no time to find it.
    let look = chat.clone().with("cache", json!({"no-store": true}));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let mut missed = 0;
    while !look
        .send()
        .await
        .header("x-tollgate-cache")
        .starts_with("hit; kind=exact")
    {
        missed += 1;
        assert!(std::time::Instant::now() < deadline, "it is not found");
    }
    let fresh = chat
        .clone()
        .with("cache", json!({"no-cache": true}))
        .send()
        .await;
    assert!(
        !fresh.header("x-tollgate-cache").starts_with("hit"),
        "{:?}",
        fresh.headers
    );
    assert_eq!(world.provider.books().requests, 2 + missed);
}

/// `include_cost_in_streaming_usage`, for an answer that was paid for and for one that was kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_from_the_cache_says_that_it_costs_nothing() {
    let rules = format!("{ON}  include_cost_in_streaming_usage: true\n");
    let world = World::with(Shape::OneMachine, &rules).start().await;
    let chat = world.chat("Who painted Guernica?");
    let chat = chat.with("stream_options", json!({"include_usage": true}));
    let first = chat.stream().await;
    let cost = |chunks: &[serde_json::Value]| {
        let usage = &chunks.last().unwrap()["usage"];
        usage["cost"]
            .to_string()
            .parse::<schemas::NanoUsd>()
            .unwrap()
    };
    assert_eq!(cost(&first.chunks), world.invoice());
    let look = chat.with("cache", json!({"no-store": true}));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let hit = loop {
        let streamed = look.stream().await;
        let cache = streamed.headers.get("x-tollgate-cache");
        if cache.is_some_and(|told| told.as_bytes().starts_with(b"hit; kind=exact")) {
            break streamed;
        }
        assert!(std::time::Instant::now() < deadline, "it is not kept");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(cost(&hit.chunks), schemas::NanoUsd::ZERO);
    assert_eq!(hit.content(), first.content());
}
