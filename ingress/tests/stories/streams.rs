//! Streams.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use schemas::{Meter, NanoUsd, Outcome};
use serde_json::{Value, json};

use crate::provider::{
    STREAM_HEAD, Step, USAGE, chunk, frame, last_chunk, plain, stream, tokens, usage_frame,
};
use crate::world::{INPUT, MASTER, OUTPUT, PATIENCE, World, bill, request};

#[tokio::test]
async fn a_stream_costs_what_the_plain_answer_costs() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 1 })).await;
    world.provider.script(plain("up-1"));
    world.chat(&key, json!({})).await;
    world.provider.script(stream("up-1"));
    let told = world.chat(&key, json!({ "stream": true })).await;
    assert_eq!(
        (told.status, told.header("content-type")),
        (200, "text/event-stream; charset=utf-8")
    );
    assert!(told.is_done(), "{}", told.text);
    let usages = world.ended(2).await;
    assert_eq!(bill(&usages[0]), NanoUsd(10 * INPUT + 5 * OUTPUT));
    assert_eq!(bill(&usages[1]), bill(&usages[0]));
    assert!(usages[1].stream && usages[1].first_byte_us.is_some());
    assert_eq!(usages[1].finish_reason.as_deref(), Some("stop"));
}

#[tokio::test]
async fn usage_is_asked_for_and_shown_only_to_those_who_did() {
    let world = World::start().await;
    world.provider.script(stream("up-1"));
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(
        told.frames()
            .iter()
            .all(|frame| frame["choices"] != json!([]) && frame["model"] == "one")
    );
    let sent = world.provider.bodies().pop().unwrap();
    assert!(
        sent.starts_with("{\"stream_options\":{\"include_usage\":true},"),
        "{sent}"
    );

    let own = json!({ "stream": true, "stream_options": { "include_usage": false, "x": 1 } });
    assert!(world.chat(MASTER, own).await.is_done());
    let sent: Value = serde_json::from_str(&world.provider.bodies().pop().unwrap()).unwrap();
    assert_eq!(
        sent["stream_options"],
        json!({ "include_usage": true, "x": 1 })
    );

    let asked = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let told = world.chat(MASTER, asked.clone()).await;
    assert_eq!(told.frames().last().unwrap()["usage"]["total_tokens"], 15);
    let mut expected = request(asked);
    expected["model"] = "up-1".into();
    let sent = world.provider.bodies().pop().unwrap();
    assert_eq!(sent, expected.to_string());
}

/// `include_cost_in_streaming_usage`: what the caller is charged, in the frame that tells the usage.
#[tokio::test]
async fn the_usage_of_a_stream_says_its_cost_where_that_is_asked_for() {
    let world = World::with(|config| {
        config.server.always_include_stream_usage = true;
        config.server.cost_in_stream_usage = true;
    })
    .await;
    let cost = NanoUsd(10 * INPUT + 5 * OUTPUT).to_string();
    let mut steps = tokens("up-1", 5);
    steps.push(chunk(
        &frame("up-1", "{}", "\"stop\"").replace(",\"usage\":null", USAGE),
    ));
    steps.push(chunk("data: [DONE]\n\n"));
    steps.push(last_chunk());
    // A frame of its own, and the usage of the last one.
    for steps in [stream("up-1"), steps] {
        world.provider.script(steps);
        let told = world.chat(MASTER, json!({ "stream": true })).await;
        assert!(told.is_done(), "{}", told.text);
        let frames = told.frames();
        let last = frames.last().unwrap();
        assert_eq!(last["usage"]["cost"].to_string(), cost, "{}", told.text);
        assert_eq!(last["usage"]["total_tokens"], 15);
        assert_eq!(last["model"], "one");
        assert!(
            frames
                .iter()
                .any(|f| f["choices"][0]["finish_reason"] == "stop")
        );
        let costs = frames.iter().filter(|f| !f["usage"]["cost"].is_null());
        assert_eq!(costs.count(), 1);
    }

    world
        .reload(|config| config.server.always_include_stream_usage = true)
        .await
        .unwrap();
    world.provider.script(stream("up-1"));
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    let last = told.frames().pop().unwrap();
    assert_eq!(
        (&last["usage"]["total_tokens"], &last["usage"]["cost"]),
        (&json!(15), &Value::Null)
    );
}

/// However the network cuts it, the client sees the same frames.
#[tokio::test]
async fn cuts_in_the_middle_of_frames_do_not_show() {
    let world = World::start().await;
    let mut text = frame("up-1", "{\"role\":\"assistant\",\"content\":\"\"}", "null");
    text += &frame("up-1", "{\"content\":\"hello\"}", "null");
    text += &frame("up-1", "{}", "\"stop\"");
    let expected = text.replace("\"up-1\"", "\"one\"") + "data: [DONE]\n\n";
    text += &usage_frame("up-1");
    text += "data: [DONE]\n\n";
    for size in [1, 7, 100, text.len()] {
        let mut steps = vec![Step::Send(STREAM_HEAD.as_bytes().to_vec())];
        for piece in text.as_bytes().chunks(size) {
            steps.push(chunk(std::str::from_utf8(piece).unwrap()));
        }
        steps.push(last_chunk());
        world.provider.script(steps);
        let told = world.chat(MASTER, json!({ "stream": true })).await;
        assert_eq!(told.text, expected, "in pieces of {size}");
    }
    assert!(
        world.provider.connections() <= 2,
        "connections are used again after a stream"
    );
}

#[tokio::test]
async fn what_has_arrived_is_not_held_back() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 2);
    steps.push(Step::Stall);
    world.provider.script(steps);
    let sent = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(MASTER)
        .json(&request(json!({ "stream": true })));
    let answer = sent.send().await.unwrap();
    let mut body = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("w1") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_hang_up_stops_the_provider_and_bills_what_was_produced() {
    let world = World::start().await;
    let key = world
        .key(json!({ "max_budget": 1, "max_parallel_requests": 1 }))
        .await;
    let mut steps = tokens("up-1", 7);
    steps.push(Step::Stall);
    world.provider.script(steps);
    let sent = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(&key)
        .json(&request(json!({ "stream": true })));
    let answer = sent.send().await.unwrap();
    let mut body = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("w6") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    drop(body);
    let left = Instant::now();
    let usage = &world.ended(1).await[0];
    while world.provider.hung_up().is_none() {
        assert!(left.elapsed() < PATIENCE, "the provider goes on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(
        (usage.outcome, usage.estimated, usage.status),
        (Outcome::Cancelled, true, 499)
    );
    assert_eq!(usage.meters.get(Meter::OutputText), 7);
    assert!(usage.meters.get(Meter::InputText) > 0);
    let stats = world.gateway.budgets.stats();
    assert_eq!((stats.open, stats.finished), (0, 1));
    world.provider.script(plain("up-1"));
    assert_eq!(
        world.chat(&key, json!({})).await.status,
        200,
        "the slot came back"
    );
}

#[tokio::test]
async fn a_plain_call_whose_client_leaves_is_closed_too() {
    let world = World::start().await;
    world.provider.script(vec![Step::Stall]);
    let sent = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(MASTER)
        .json(&request(json!({})));
    let call = tokio::spawn(sent.send());
    while world.provider.bodies().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    call.abort();
    assert_eq!(world.ended(1).await[0].outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_one_error_frame_and_is_billed() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 3);
    steps.push(Step::Cut);
    world.provider.script(steps);
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(!told.is_done());
    let frames = told.frames();
    assert_eq!(
        frames
            .iter()
            .filter(|frame| frame.get("error").is_some())
            .count(),
        1,
        "{}",
        told.text
    );
    assert!(
        frames.last().unwrap()["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("OpenAIException")
    );
    let usage = &world.ended(1).await[0];
    assert_eq!((usage.outcome, usage.estimated), (Outcome::Error, true));
    assert_eq!(usage.meters.get(Meter::OutputText), 3);
}

/// An orderly end of the body is not an end of the answer.
#[tokio::test]
async fn an_end_without_a_reason_is_a_break() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 3);
    steps.push(last_chunk());
    world.provider.script(steps);
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(
        !told.is_done() && told.text.contains("\"error\""),
        "{}",
        told.text
    );
    let mut steps = tokens("up-1", 3);
    steps.push(chunk(&frame("up-1", "{}", "\"stop\"")));
    steps.push(last_chunk());
    world.provider.script(steps);
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(told.is_done(), "a reason was given: {}", told.text);
    let usages = world.ended(2).await;
    assert_eq!(
        (usages[0].outcome, usages[1].outcome),
        (Outcome::Error, Outcome::Ok)
    );
    assert!(usages[1].estimated, "and no usage");
}

#[tokio::test]
async fn a_provider_that_falls_silent_is_given_up() {
    let world =
        World::with(|config| config.models[0].timeouts.idle = Duration::from_millis(200)).await;
    let mut steps = tokens("up-1", 2);
    steps.push(Step::Stall);
    world.provider.script(steps);
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert_eq!(
        told.frames().last().unwrap()["error"]["type"],
        "timeout_error",
        "{}",
        told.text
    );
    assert_eq!(world.ended(1).await[0].outcome, Outcome::Error);
}

/// A stop with a deadline ends what is still open, and bills it.
#[tokio::test]
async fn a_drain_ends_what_is_open_and_bills_it() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 4);
    steps.push(Step::Stall);
    world.provider.script(steps);
    let sent = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(MASTER)
        .json(&request(json!({ "stream": true })));
    let answer = sent.send().await.unwrap();
    let mut body = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("w3") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    let journal = world.gateway.journal.clone();
    let _folder = world.stop().await;
    let (_, usages) = crate::world::events(&journal);
    assert_eq!(
        (usages[0].outcome, usages[0].meters.get(Meter::OutputText)),
        (Outcome::Cancelled, 4)
    );
}
