//! Chats that are too long: what is left out of them, what is said in its place, and who pays for that.

use config::{LongContext, Shortening};
use schemas::Outcome;
use serde_json::{Value, json};

use crate::provider::{Provider, completion, plain, stream, whole};
use crate::world::{MASTER, World, bill, entry};

fn rule(by: Shortening) -> LongContext {
    LongContext {
        by,
        over_tokens: Some(300),
        keep_last_turns: 1,
        models: Vec::new(),
    }
}

fn summarise() -> Shortening {
    Shortening::Summarise {
        model: "cheap".to_owned(),
    }
}

/// Some hundred tokens.
fn long(topic: &str) -> String {
    format!("{topic} and more of it, word by word. ").repeat(10)
}

fn says(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

/// A system prompt, two old turns, one with a tool's call and result, and the last question.
fn chat() -> Value {
    let call =
        json!([{ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
    json!([
        says("system", "Be brief."),
        says("user", &long("apples")),
        says("assistant", &long("pears")),
        says("user", &long("plums")),
        { "role": "assistant", "content": null, "tool_calls": call },
        { "role": "tool", "tool_call_id": "c1", "content": long("cherries") },
        says("assistant", &long("quinces")),
        says("user", "And now?"),
    ])
}

/// `cheap` stands at a second provider.
async fn with_cheap(rule: LongContext) -> (World, Provider) {
    let cheap = Provider::start().await;
    let base = cheap.base();
    let world = World::with(|config| {
        config.models.push(entry(&base, "cheap", "up-2"));
        config.long_context = Some(rule);
    })
    .await;
    (world, cheap)
}

fn sent(provider: &Provider) -> Vec<Value> {
    let body: Value = serde_json::from_str(&provider.bodies().pop().unwrap()).unwrap();
    body["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_oldest_turns_are_left_out_whole() {
    let world =
        World::with(|config| config.long_context = Some(rule(Shortening::DropMiddle))).await;
    for streamed in [false, true] {
        world.provider.script(if streamed {
            stream("up-1")
        } else {
            plain("up-1")
        });
        let told = world
            .chat(
                MASTER,
                json!({ "messages": chat(), "stream": streamed, "temperature": 0.50 }),
            )
            .await;
        assert_eq!(told.status, 200, "{}", told.text);
        // A tool's result goes with its call.
        assert_eq!(
            sent(&world.provider),
            [says("system", "Be brief."), says("user", "And now?")]
        );
        let head = told.header("x-tollgate-compression");
        assert!(head.starts_with("drop_middle; tokens="), "{head}");
        assert!(head.ends_with("messages=8>2"), "{head}");
    }
    // All else of the body is as it came.
    assert!(world.provider.bodies()[0].contains("0.5"));
    for usage in world.ended(2).await {
        let saving = usage.compression.unwrap();
        assert_eq!((saving.messages_before, saving.messages_after), (8, 2));
        assert!(
            saving.tokens_before > 300 && saving.tokens_after < 30,
            "{saving:?}"
        );
        assert_eq!(usage.parent, None);
    }
}

#[tokio::test]
async fn no_more_goes_than_has_to() {
    let world = World::with(|config| {
        config.long_context = Some(LongContext {
            over_tokens: Some(400),
            ..rule(Shortening::DropMiddle)
        });
    })
    .await;
    world.provider.script(plain("up-1"));
    world.chat(MASTER, json!({ "messages": chat() })).await;
    let left = sent(&world.provider);
    assert_eq!(left.len(), 6);
    assert_eq!(left[1], says("user", &long("plums")));
    assert_eq!(left[3]["role"], "tool");
}

#[tokio::test]
async fn short_chats_and_other_models_go_out_as_they_came() {
    let world = World::with(|config| {
        config.long_context = Some(LongContext {
            models: vec!["one".to_owned()],
            ..rule(Shortening::DropMiddle)
        });
    })
    .await;
    world.provider.script(plain("up-1"));
    // More bytes than the threshold has tokens, and yet it is short.
    let short = json!([says("user", &long("apples")), says("user", &long("pears"))]);
    for (model, messages) in [("one", short), ("up-2", chat())] {
        let told = world
            .chat(MASTER, json!({ "model": model, "messages": messages }))
            .await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(json!(sent(&world.provider)), messages);
        assert_eq!(told.header("x-tollgate-compression"), "");
    }
    // One turn cannot be cut.
    let one = json!([
        says("system", &long("s")),
        says("user", &long("apples").repeat(5))
    ]);
    let told = world.chat(MASTER, json!({ "messages": one })).await;
    assert_eq!((told.status, json!(sent(&world.provider))), (200, one));
    assert!(
        world
            .ended(3)
            .await
            .iter()
            .all(|usage| usage.compression.is_none())
    );
}

#[tokio::test]
async fn unsaid_it_is_the_window_that_a_chat_has_to_fit_into() {
    let world = World::with(|config| {
        config.models[0].limits.max_input_tokens = Some(300);
        config.long_context = Some(LongContext {
            over_tokens: None,
            ..rule(Shortening::DropMiddle)
        });
    })
    .await;
    world.provider.script(plain("up-1"));
    assert_eq!(
        world
            .chat(MASTER, json!({ "messages": chat() }))
            .await
            .status,
        200
    );
    assert_eq!(sent(&world.provider).len(), 2);
}

/// The summary is a call of the same key, on the same budget, with a record of its own.
#[tokio::test]
async fn a_named_model_says_the_middle_in_fewer_words() {
    let (world, cheap) = with_cheap(rule(summarise())).await;
    world.provider.script(plain("up-1"));
    cheap.script(plain("up-2"));
    // The model that summarises is not the caller's to choose.
    let key = world
        .key(json!({ "max_budget": 1, "models": ["one"] }))
        .await;
    let told = world
        .chat(&key, json!({ "messages": chat(), "max_tokens": 5 }))
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(
        sent(&world.provider),
        [
            says("system", "Be brief."),
            says("user", "Summarise our conversation so far."),
            says("assistant", "hello"),
            says("user", "And now?"),
        ]
    );
    let asked = sent(&cheap);
    let transcript = asked[1]["content"].as_str().unwrap();
    assert!(transcript.contains("apples") && transcript.contains("cherries"));
    assert!(!transcript.contains("And now?") && !transcript.contains("Be brief."));

    let usages = world.ended(2).await;
    let (summary, call) = (&usages[0], &usages[1]);
    assert_eq!((&*summary.model, &*call.model), ("up-2", "up-1"));
    assert_eq!((summary.parent, call.parent), (Some(call.request_id), None));
    assert_eq!(summary.attribution.key, call.attribution.key);
    assert_eq!(summary.budgets, call.budgets);
    let saving = call.compression.as_ref().unwrap();
    assert_eq!((&*saving.strategy, saving.messages_after), ("summarise", 4));
    let spent = bill(summary).saturating_add(bill(call));
    assert_eq!(told.header("x-litellm-key-spend"), spent.to_string());
    assert_eq!(
        told.header("x-litellm-response-cost"),
        bill(call).to_string()
    );
    assert_eq!(world.gateway.budgets.stats().open, 0);
}

#[tokio::test]
async fn without_a_summary_the_turns_go_all_the_same() {
    let (world, cheap) = with_cheap(rule(summarise())).await;
    world.provider.script(plain("up-1"));
    let empty = completion("up-2", "").replace("hello", "");
    for script in [
        whole("500 Oops", "application/json", "", "{}"),
        whole("200 OK", "application/json", "", &empty),
    ] {
        cheap.script(script);
        let told = world.chat(MASTER, json!({ "messages": chat() })).await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(sent(&world.provider).len(), 2);
        assert!(
            told.header("x-tollgate-compression")
                .starts_with("drop_middle")
        );
    }
    let usages = world.ended(4).await;
    assert_eq!(usages[0].outcome, Outcome::Error);
}
