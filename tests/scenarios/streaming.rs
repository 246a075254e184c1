//! Streams: what the provider says reaches the client as it is, and what goes wrong is told once.

use serde_json::json;
use tests::provider::Script;
use tests::world::weather_tool;
use tests::{Shape, World};

tests::in_both_shapes!(
    a_stream_says_what_the_plain_answer_says,
    unknown_fields_reach_the_provider_untouched,
    a_failure_before_the_first_byte_is_an_ordinary_error,
    a_stream_that_breaks_ends_in_one_error_frame_and_is_billed,
    missing_usage_is_estimated_and_flagged,
    cached_tokens_are_counted_apart,
);

async fn a_stream_says_what_the_plain_answer_says(shape: Shape) {
    let world = World::start(shape).await;
    let chat = world.chat("hi");
    let plain = chat.send().await.json();
    let streamed = chat.stream().await;
    assert!(streamed.done);
    assert_eq!(
        streamed.content(),
        plain["choices"][0]["message"]["content"].as_str().unwrap()
    );
    assert!(
        streamed.usage().is_none(),
        "usage is hidden from those who did not ask"
    );
    for chunk in &streamed.chunks {
        assert_eq!(chunk["model"], "scripted", "the name that was asked for");
        assert_ne!(chunk["choices"], json!([]));
    }
    let with_usage = chat
        .clone()
        .with("stream_options", json!({"include_usage": true}))
        .stream()
        .await;
    assert_eq!(with_usage.usage(), Some(&plain["usage"]));
    let tools = chat.with("tools", weather_tool()).stream().await;
    assert_eq!(
        tools.chunks.last().unwrap()["choices"][0]["finish_reason"],
        "tool_calls"
    );
}

/// Fields nobody here knows reach the provider as they were written.
async fn unknown_fields_reach_the_provider_untouched(shape: Shape) {
    let world = World::start(shape).await;
    let odd = json!({"deep": [1, 2.50, null, "é"], "n": 1e3});
    let chat = world
        .chat("hi")
        .with("x_new_parameter", odd.clone())
        .with("temperature", 0.25);
    assert_eq!(chat.send().await.status, 200);
    let body = &world.provider.bodies()[0];
    let sent: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(sent["x_new_parameter"], odd);
    assert_eq!(sent["model"], "scripted-upstream");
    // Only the model's name differs: the rest is the very text.
    let expected = serde_json::to_string(&chat.body)
        .unwrap()
        .replace("\"scripted\"", "\"scripted-upstream\"");
    assert_eq!(std::str::from_utf8(body).unwrap(), expected);
    assert_eq!(
        world.provider.headers()[0]["authorization"],
        "Bearer sk-upstream-secret"
    );
}

async fn a_failure_before_the_first_byte_is_an_ordinary_error(shape: Shape) {
    let world = World::start(shape).await;
    world.provider.script(
        "scripted-upstream",
        Script {
            fail: Some(500),
            ..Script::default()
        },
    );
    let answer = world.chat("hi").with("stream", true).send().await;
    assert!(answer.status >= 500, "{}", answer.text);
    assert_ne!(answer.message(), "");
    world.provider.script(
        "scripted-upstream",
        Script {
            fail: Some(400),
            ..Script::default()
        },
    );
    let answer = world.chat("hi").send().await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    world.rows(2).await;
    assert_eq!(world.ledger().0, 0, "nothing was produced");
}

async fn a_stream_that_breaks_ends_in_one_error_frame_and_is_billed(shape: Shape) {
    let world = World::start(shape).await;
    world.provider.script(
        "scripted-upstream",
        Script {
            drop_after: Some(3),
            ..Script::default()
        },
    );
    let streamed = world.chat("hi").stream().await;
    assert!(!streamed.done);
    let errors: Vec<_> = streamed
        .chunks
        .iter()
        .filter(|chunk| chunk.get("error").is_some())
        .collect();
    assert_eq!(errors.len(), 1, "{:?}", streamed.chunks);
    world.rows(1).await;
    let row = world.sql("select outcome, estimated, output_tokens from usage_rows final");
    assert_eq!(row, "error\ttrue\t3");
    assert!(world.ledger().0 > 0);
}

/// A provider that tells no usage is estimated, and the row says so.
async fn missing_usage_is_estimated_and_flagged(shape: Shape) {
    let world = World::start(shape).await;
    world.provider.script(
        "scripted-upstream",
        Script {
            tells_usage: false,
            ..Script::default()
        },
    );
    assert_eq!(world.chat("hi").send().await.status, 200);
    assert!(world.chat("hi").stream().await.done);
    world.rows(2).await;
    assert_eq!(
        world.sql("select countIf(estimated), min(output_tokens) > 0 from usage_rows final"),
        "2\t1"
    );
}

/// Cached prompt tokens are part of the prompt, and are billed once, at their own price.
async fn cached_tokens_are_counted_apart(shape: Shape) {
    let world = World::start(shape).await;
    world.provider.script(
        "scripted-upstream",
        Script {
            cached: 2,
            ..Script::default()
        },
    );
    assert_eq!(world.chat("one two three four").send().await.status, 200);
    world.rows(1).await;
    let row = world.sql("select input_tokens, cached_tokens, meters['input_text'], meters['input_cache_read'] from usage_rows final");
    assert_eq!(row, "4\t2\t2\t2");
}
