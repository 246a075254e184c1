//! Plain answers, errors and bad input.

use schemas::{NanoUsd, Outcome};
use serde_json::{Value, json};

use crate::provider::{Step, completion, plain, whole};
use crate::world::{INPUT, MASTER, OUTPUT, World, bill, request};

#[tokio::test]
async fn a_call_is_answered_recorded_and_told_its_cost() {
    let world = World::start().await;
    let key = world
        .key(json!({ "key_alias": "alice", "max_budget": 1, "rpm_limit": 10 }))
        .await;
    let told = world
        .chat(
            &key,
            json!({ "max_tokens": 5, "user": "eve", "metadata": { "tags": ["a"] } }),
        )
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    let cost = NanoUsd(10 * INPUT + 5 * OUTPUT);
    assert_eq!(told.header("x-litellm-response-cost"), cost.to_string());
    assert_eq!(told.header("x-litellm-key-spend"), cost.to_string());
    assert_eq!(told.header("x-litellm-key-max-budget"), "1.0");
    assert_eq!(told.header("x-litellm-model-id"), "id-of-one");
    assert_eq!(told.header("x-litellm-model-group"), "one");
    assert_eq!(told.header("x-ratelimit-limit-requests"), "10");
    assert_eq!(told.header("x-ratelimit-remaining-requests"), "9");
    assert_eq!(told.header("x-litellm-key-remaining-requests-one"), "9");
    assert_eq!(told.header("llm_provider-x-request-id"), "up-77");
    assert_eq!(
        told.header("x-tollgate-output-cap"),
        "",
        "the client's own cap stands"
    );
    assert_eq!(told.json()["model"], "one", "the name that was asked for");

    let (admits, usages) = world.events();
    let (admit, usage) = (&admits[0], &usages[0]);
    assert_eq!(
        told.header("x-litellm-call-id"),
        usage.request_id.to_string()
    );
    assert_eq!(
        (usage.outcome, usage.status, usage.last),
        (Outcome::Ok, 200, true)
    );
    assert_eq!(bill(usage), cost);
    assert!(admit.hold >= cost, "the worst case was held");
    assert_eq!(usage.hold, admit.hold);
    assert_eq!(usage.attribution.end_user.as_deref(), Some("eve"));
    assert_eq!(usage.attribution.tags.len(), 1);
    assert_eq!(usage.finish_reason.as_deref(), Some("stop"));
    assert_eq!(
        usage.provider_usage.0,
        br#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#
    );

    let again = world.chat(&key, json!({ "max_tokens": 5 })).await;
    assert_eq!(
        again.header("x-litellm-key-spend"),
        NanoUsd(2 * cost.0).to_string()
    );
    world.stop().await;
}

#[tokio::test]
async fn a_body_goes_out_as_it_came_but_for_the_name() {
    let world = World::start().await;
    world.provider.script(plain("up-2"));
    let odd = "{ \"zz\" :[1, 2.50,null,\"\\u00e9\"],\n\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"model\":\"NAME\",\"n\":1 }";
    for (name, upstream) in [("up-2", "up-2"), ("one", "up-1"), ("wild/up-2", "up-2")] {
        let told = world.post(MASTER, odd.replace("NAME", name)).await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(told.json()["model"], name);
        assert_eq!(
            world.provider.bodies().pop().unwrap(),
            odd.replace("NAME", upstream)
        );
    }
    let head = world.provider.heads().pop().unwrap().to_ascii_lowercase();
    assert!(
        head.contains("authorization: bearer sk-upstream-secret"),
        "{head}"
    );
    assert!(!head.contains(MASTER), "the client's key stays here");
    assert!(
        world.provider.connections() <= 2,
        "connections are used again"
    );
}

/// Members that are meant for the gateway stay here.
#[tokio::test]
async fn our_own_members_are_taken_out() {
    let world = World::start().await;
    let told = world
        .chat(
            MASTER,
            json!({ "cache": { "no-cache": true }, "metadata": { "tags": ["t"], "trace": "x" } }),
        )
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    let sent: Value = serde_json::from_str(&world.provider.bodies()[0]).unwrap();
    let mut expected = request(json!({ "metadata": { "trace": "x" } }));
    expected["model"] = "up-1".into();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn the_providers_refusal_is_passed_on_and_costs_nothing() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 1 })).await;
    let error = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    world
        .provider
        .script(whole("400 Bad Request", "application/json", "", error));
    let told = world.chat(&key, json!({})).await;
    assert_eq!(
        (told.status, &told.json()["error"]),
        (400, &serde_json::from_str::<Value>(error).unwrap()["error"])
    );

    world.provider.script(whole(
        "429 Too Many Requests",
        "application/json",
        "retry-after: 7\r\n",
        "{\"error\":\"slow\"}",
    ));
    let told = world.chat(&key, json!({})).await;
    assert_eq!(
        (
            told.status,
            told.header("retry-after"),
            told.message().as_str()
        ),
        (429, "7", "slow")
    );

    world
        .provider
        .script(whole("500 Oops", "text/html", "", "<b>down</b>"));
    let told = world.chat(&key, json!({ "stream": true })).await;
    assert_eq!(told.status, 500);
    assert!(
        told.message().starts_with("OpenAIException - "),
        "{}",
        told.text
    );

    world.provider.script(vec![Step::Cut]);
    let told = world.chat(&key, json!({})).await;
    assert_eq!(told.status, 503, "{}", told.text);

    world.provider.script(whole(
        "307 Elsewhere",
        "text/plain",
        "location: http://evil.example/\r\n",
        "",
    ));
    assert_eq!(
        world.chat(&key, json!({})).await.status,
        502,
        "redirects are not followed"
    );

    let usages = world.ended(5).await;
    assert!(usages.iter().all(|usage| usage.outcome == Outcome::Error));
    assert!(usages.iter().all(|usage| bill(usage) == NanoUsd::ZERO));
    assert_eq!(
        usages[0].error_code.as_deref(),
        Some("context_length_exceeded")
    );
    let stats = world.gateway.budgets.stats();
    assert_eq!(stats.open, 0, "no hold is left open");
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_named_without_its_address() {
    let world = World::with(|config| {
        config.models[0].api_base = "http://user:hunter2@127.0.0.1:1/v1".to_owned()
    })
    .await;
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 503, "{}", told.text);
    assert!(
        !told.text.contains("hunter2") && !told.text.contains("sk-upstream"),
        "{}",
        told.text
    );
    assert_eq!(bill(&world.ended(1).await[0]), NanoUsd::ZERO);
}

#[tokio::test]
async fn missing_usage_is_estimated_and_flagged() {
    let world = World::start().await;
    world.provider.script(whole(
        "200 OK",
        "application/json",
        "",
        &completion("up-1", ""),
    ));
    assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    let usage = &world.ended(1).await[0];
    assert!(usage.estimated && bill(usage) > NanoUsd::ZERO);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let world = World::with(|config| {
        config.models[0].timeouts.total = std::time::Duration::from_millis(200)
    })
    .await;
    world.provider.script(vec![Step::Stall]);
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(
        (told.status, told.json()["error"]["type"].as_str()),
        (408, Some("timeout_error")),
        "{}",
        told.text
    );
    assert!(
        world.ended(1).await[0].estimated,
        "it may have worked on it"
    );
}

#[tokio::test]
async fn bad_input_is_told_what_is_wrong() {
    let world = World::with(|config| config.limits.body_bytes_max = 2_000).await;
    let table = [
        ("{\"model\":\"one\",".to_owned(), 400, "not valid JSON"),
        (String::new(), 400, "empty"),
        ("{\"messages\":[]}".to_owned(), 400, "'model'"),
        ("{\"model\":\"one\"}".to_owned(), 400, "'messages'"),
        (request(json!({ "stream": 1 })).to_string(), 400, "'stream'"),
        (
            request(json!({ "model": "nope" })).to_string(),
            400,
            "Invalid model name passed in model=nope",
        ),
        (
            request(json!({ "x": "y".repeat(3_000) })).to_string(),
            413,
            "2000 bytes",
        ),
    ];
    for (body, status, text) in table {
        let told = world.post(MASTER, body.clone()).await;
        assert_eq!(told.status, status, "{body}");
        assert!(told.message().contains(text), "{body}: {}", told.text);
        assert_eq!(told.json()["error"]["code"], status.to_string());
    }
    let told = world.post("sk-nobody-knows-this", "{}").await;
    assert_eq!(
        (told.status, told.json()["error"]["type"].as_str()),
        (401, Some("token_not_found_in_db"))
    );
    let key = world.key(json!({ "models": ["up-2"] })).await;
    let told = world.chat(&key, json!({})).await;
    assert_eq!(
        (told.status, told.json()["error"]["type"].as_str()),
        (403, Some("key_model_access_denied"))
    );
    assert_eq!(world.get("/nowhere").await.status, 404);
    let (admits, usages) = world.events();
    assert!(
        admits.is_empty() && usages.is_empty(),
        "nothing of this was admitted"
    );
    assert!(world.provider.bodies().is_empty());
}

#[tokio::test]
async fn models_health_and_metrics_are_there() {
    let world = World::start().await;
    let models = world.get("/v1/models").await.json();
    let names: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["one", "up-2", "unpriced", "wild/*", "tollgate/demo"]
    );
    assert_eq!(world.get("/health/liveliness").await.text, "\"I'm alive!\"");
    assert_eq!(world.get("/health/readiness").await.status, 200);
    assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    let metrics = world.get("/metrics").await.text;
    for line in [
        "litellm_proxy_total_requests_metric 1",
        "litellm_input_tokens_metric 10",
        "litellm_output_tokens_metric 5",
        "litellm_spend_metric 0.00002",
        "litellm_deployment_success_responses{model_group=\"one\",model_id=\"id-of-one\",api_provider=\"openai\"} 1",
        "tollgate_calls_closed_total{outcome=\"ok\"} 1",
        "tollgate_open_calls 0",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is not in\n{metrics}"
        );
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let world = World::start().await;
    let again = ingress::start(world.gateway.clone(), world.address(), 2)
        .err()
        .unwrap();
    let message = again.to_string();
    assert!(
        message.contains(&world.address().to_string()) && message.contains("in use"),
        "{message}"
    );
}

#[tokio::test]
async fn the_demo_says_the_same_plain_and_streamed() {
    let world = World::start().await;
    let demo = |extra: Value| {
        let mut body = request(extra);
        body["model"] = "tollgate/demo".into();
        body["messages"][0]["content"] = "tell me of [cached] [reasoning] things".into();
        body.to_string()
    };
    let plain = world.post(MASTER, demo(json!({ "n": 2 }))).await;
    assert_eq!(plain.status, 200, "{}", plain.text);
    let plain = plain.json();
    let stream = world
        .post(
            MASTER,
            demo(json!({ "n": 2, "stream": true, "stream_options": { "include_usage": true } })),
        )
        .await;
    assert!(stream.is_done());
    let frames = stream.frames();
    assert_eq!(frames.last().unwrap()["usage"], plain["usage"]);
    for index in 0..2 {
        let text: String = frames
            .iter()
            .flat_map(|frame| frame["choices"].as_array().unwrap())
            .filter(|choice| choice["index"] == index)
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(plain["choices"][index]["message"]["content"], text.as_str());
    }
    let short = world
        .post(MASTER, demo(json!({ "max_tokens": 6 })))
        .await
        .json();
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    let tools = json!([{ "type": "function", "function": { "name": "look_up", "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } }]);
    let called = world
        .post(
            MASTER,
            demo(json!({ "tools": tools, "tool_choice": "required" })),
        )
        .await
        .json();
    assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        called["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"city\":\"demo\"}"
    );
    let usages = world.ended(4).await;
    assert_eq!(
        bill(&usages[0]),
        bill(&usages[1]),
        "plain and streamed cost the same"
    );
    assert!(
        usages
            .iter()
            .all(|usage| !usage.mismatch && !usage.estimated)
    );
}
