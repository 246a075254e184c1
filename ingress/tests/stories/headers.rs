//! What answers tell in their headers, and what requests may say in theirs: LiteLLM's names, on every endpoint,
//! on streams, and on refusals.

use schemas::{NanoUsd, Outcome};
use serde_json::{Value, json};

use crate::provider::{plain, stream, whole};
use crate::world::{INPUT, MASTER, OUTPUT, Told, World, in_one_minute, request};

impl World {
    async fn with_headers(&self, key: &str, headers: &[(&str, &str)], body: Value) -> Told {
        self.at("/v1/chat/completions", key, headers, body).await
    }

    async fn at(&self, route: &str, key: &str, headers: &[(&str, &str)], body: Value) -> Told {
        let mut request = self.http.post(self.url(route)).bearer_auth(key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Told::read(request.body(body.to_string()).send().await.unwrap()).await
    }
}

const NUMBERS: [&str; 2] = [
    "x-litellm-response-duration-ms",
    "x-litellm-overhead-duration-ms",
];

#[tokio::test]
async fn every_answer_says_who_served_it_how_long_it_took_and_what_is_left() {
    let world = World::with(|config| {
        config.models[0].hints.region = Some("eu-west-1".to_owned());
    })
    .await;
    world.provider.script(plain("up-1"));
    let key = world
        .key(json!({ "max_budget": 1, "tpm_limit": 9000 }))
        .await;
    let told = world
        .with_headers(
            &key,
            &[("x-litellm-timeout", "7.5")],
            request(json!({ "max_tokens": 5 })),
        )
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    for name in NUMBERS {
        assert!(told.header(name).parse::<f64>().unwrap() > 0.0, "{name}");
    }
    assert_eq!(told.header("x-litellm-timeout"), "7.5");
    assert_eq!(told.header("x-litellm-model-region"), "eu-west-1");
    assert_eq!(
        told.header("x-litellm-model-api-base"),
        world.provider.base()
    );
    assert_eq!(told.header("x-litellm-attempted-retries"), "0");
    assert_eq!(told.header("x-litellm-attempted-fallbacks"), "0");
    assert!(!told.header("x-litellm-version").is_empty());
    // The key's own limits, not the provider's.
    assert_eq!(told.header("x-litellm-key-tpm-limit"), "9000");
    assert_eq!(told.header("x-ratelimit-limit-tokens"), "9000");
    assert!(told.header("x-ratelimit-reset-tokens").ends_with('s'));
    assert!(told.headers.get("x-ratelimit-limit-requests").is_none());
    assert_eq!(
        told.header("llm_provider-x-ratelimit-limit-requests"),
        "5000"
    );
    // Without any, what the provider says of its own.
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.header("x-ratelimit-limit-requests"), "5000");
    // Unset ones are not there.
    for name in [
        "x-litellm-key-max-budget",
        "x-litellm-max-fallbacks",
        "x-litellm-cache-key",
    ] {
        assert!(told.headers.get(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_stream_tells_all_but_its_own_cost() {
    let world = World::start().await;
    let told = in_one_minute(async || {
        let key = world.key(json!({ "max_budget": 1, "rpm_limit": 10 })).await;
        world.provider.script(plain("up-1"));
        world.chat(&key, json!({ "max_tokens": 5 })).await;
        world.provider.script(stream("up-1"));
        let streamed = json!({ "max_tokens": 5, "stream": true });
        world.chat(&key, streamed).await
    });
    let told = told.await;
    assert!(told.is_done(), "{}", told.text);
    let before = NanoUsd(10 * INPUT + 5 * OUTPUT);
    assert_eq!(told.header("x-litellm-key-spend"), before.to_string());
    assert_eq!(told.header("x-litellm-key-max-budget"), "1.0");
    assert_eq!(told.header("x-litellm-model-id"), "id-of-one");
    assert_eq!(told.header("x-litellm-key-remaining-requests-one"), "8");
    assert_eq!(told.header("x-litellm-timeout"), "600.0");
    assert!(told.headers.get("x-litellm-response-cost").is_none());
    for name in NUMBERS {
        assert!(told.header(name).parse::<f64>().unwrap() > 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_can_be_spoken_of() {
    let world = World::start().await;
    world.provider.script(plain("up-1"));
    let id = [("x-litellm-call-id", "ticket-7")];
    for (key, body, status) in [
        ("sk-nobody", request(json!({})), 401),
        (MASTER, json!({ "model": "one" }), 400),
        (MASTER, request(json!({ "model": "nobody's" })), 400),
    ] {
        let told = world.with_headers(key, &id, body.clone()).await;
        assert_eq!(told.status, status, "{}", told.text);
        assert_eq!(told.header("x-litellm-call-id"), "ticket-7");
        // Whoever names none gets one.
        let told = world.with_headers(key, &[], body).await;
        assert_eq!(told.header("x-litellm-call-id").len(), 36);
        assert!(!told.header("x-litellm-version").is_empty());
        assert!(!told.header(NUMBERS[0]).is_empty());
    }
    // A key at a limit is told which, and until when.
    let key = world.key(json!({ "rpm_limit": 1 })).await;
    let told = in_one_minute(async || {
        world.chat(&key, json!({})).await;
        world.chat(&key, json!({})).await
    });
    let told = told.await;
    assert_eq!(told.status, 429);
    assert_eq!(told.header("x-litellm-key-rpm-limit"), "1");
    assert_eq!(told.header("x-ratelimit-limit-requests"), "1");
    assert_eq!(told.header("x-ratelimit-remaining-requests"), "0");
    assert!(told.header("x-ratelimit-reset-requests").ends_with('s'));
    let poor = world.key(json!({ "max_budget": 0.000001 })).await;
    let told = world.chat(&poor, json!({ "max_tokens": 500 })).await;
    assert_eq!(told.status, 429, "{}", told.text);
    assert_eq!(told.header("x-litellm-key-max-budget"), "0.000001");
    assert_eq!(told.header("x-litellm-key-spend"), "0.0");
    // Routes beside the calls say whose they are.
    assert!(
        !world
            .get("/v1/models")
            .await
            .header("x-litellm-version")
            .is_empty()
    );
}

#[tokio::test]
async fn a_providers_refusal_keeps_its_headers() {
    let world = World::start().await;
    let error = r#"{"error":{"message":"slow","code":"rate_limit"}}"#;
    let more = "retry-after: 7\r\nx-request-id: up-78\r\nx-ratelimit-remaining-requests: 0\r\n";
    world
        .provider
        .script(whole("429 Slow down", "application/json", more, error));
    for body in [json!({}), json!({ "stream": true })] {
        let told = world.chat(MASTER, body).await;
        assert_eq!(told.status, 429);
        assert_eq!(told.header("retry-after"), "7");
        assert_eq!(told.header("llm_provider-x-request-id"), "up-78");
        assert_eq!(told.header("x-ratelimit-remaining-requests"), "0");
        assert_eq!(told.header("x-litellm-model-id"), "id-of-one");
        assert_eq!(told.header("x-litellm-response-cost"), "0.0");
        assert_eq!(told.header("x-litellm-attempted-retries"), "0");
        let usages = world.events().1;
        let id = usages.last().unwrap().request_id.to_string();
        assert_eq!(told.header("x-litellm-call-id"), id);
    }
}

#[tokio::test]
async fn other_endpoints_tell_the_same() {
    let world = World::start().await;
    let body = r#"{"object":"list","model":"up-1","data":[],"usage":{"prompt_tokens":10,"total_tokens":10}}"#;
    world.provider.script(whole(
        "200 OK",
        "application/json",
        "x-request-id: up-9\r\n",
        body,
    ));
    let key = world.key(json!({ "max_budget": 1 })).await;
    let asked = json!({ "model": "one", "input": "hi" });
    for route in [
        "/v1/embeddings",
        "/embeddings",
        "/openai/deployments/one/embeddings",
    ] {
        let told = world.at(route, &key, &[], asked.clone()).await;
        assert_eq!(told.status, 200, "{}", told.text);
        let cost = NanoUsd(10 * INPUT).to_string();
        assert_eq!(told.header("x-litellm-response-cost"), cost);
        assert_eq!(told.header("x-litellm-model-group"), "one");
        assert_eq!(told.header("llm_provider-x-request-id"), "up-9");
        assert_eq!(told.header("x-litellm-timeout"), "600.0");
    }
    let told = world
        .at("/v1/embeddings", &key, &[], json!({ "model": "one" }))
        .await;
    assert_eq!(
        (told.status, told.header("x-litellm-call-id").len()),
        (400, 36)
    );
}

#[tokio::test]
async fn requests_say_in_headers_whom_they_are_for() {
    let world = World::start().await;
    world.provider.script(plain("up-1"));
    let headers = [
        ("x-litellm-tags", "a, b"),
        ("x-litellm-customer-id", "eve"),
        ("x-litellm-spend-logs-metadata", r#"{"ticket": 7}"#),
    ];
    let told = world
        .with_headers(MASTER, &headers, request(json!({})))
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    let inside = json!({ "metadata": { "spend_logs_metadata": { "ticket": 8 }, "trace": "x" } });
    assert_eq!(world.chat(MASTER, inside).await.status, 200);
    let usages = world.ended(2).await;
    let who = &usages[0].attribution;
    assert_eq!((who.end_user.as_deref(), who.tags.len()), (Some("eve"), 2));
    assert_eq!(usages[0].metadata.as_deref(), Some(r#"{"ticket": 7}"#));
    assert_eq!(usages[1].metadata.as_deref(), Some(r#"{"ticket":8}"#));
    // It stays here.
    let sent: Value = serde_json::from_str(&world.provider.bodies()[1]).unwrap();
    assert_eq!(sent["metadata"], json!({ "trace": "x" }));
    for wrong in ["[1]", "{", "no"] {
        let headers = [("x-litellm-spend-logs-metadata", wrong)];
        let told = world
            .with_headers(MASTER, &headers, request(json!({})))
            .await;
        assert_eq!(told.status, 400);
        assert!(told.message().contains("x-litellm-spend-logs-metadata"));
    }
}

/// The answer is the client's own; the way to it is that of any call.
#[tokio::test]
async fn a_mock_asks_nobody() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 1 })).await;
    let told = world
        .chat(&key, json!({ "mock_response": "made up" }))
        .await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(told.json()["choices"][0]["message"]["content"], "made up");
    assert_eq!(told.json()["model"], "one");
    assert_ne!(told.header("x-litellm-response-cost"), "0.0");
    let body = json!({ "mock_response": "made up", "stream": true });
    let told = world.chat(&key, body).await;
    assert!(told.is_done(), "{}", told.text);
    let text: String = told
        .frames()
        .iter()
        .filter_map(|frame| {
            frame["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(text, "made up");
    let told = world
        .chat(&key, json!({ "mock_response": "litellm.RateLimitError" }))
        .await;
    assert_eq!(told.status, 429);
    assert_eq!(
        world.chat(&key, json!({ "mock_response": 7 })).await.status,
        400
    );
    assert!(world.provider.bodies().is_empty());
    assert_eq!(world.ended(3).await[0].outcome, Outcome::Ok);
}

#[tokio::test]
async fn the_record_says_where_the_time_went() {
    let world = World::start().await;
    world.provider.script(plain("up-1"));
    world.chat(MASTER, json!({})).await;
    world.chat(MASTER, json!({})).await;
    let usages = world.ended(2).await;
    let connected: Vec<_> = usages.iter().filter_map(|u| u.stages.connect_us).collect();
    for usage in &usages {
        let stages = usage.stages;
        let before = stages.auth_us + stages.route_us + stages.admit_us;
        assert!(before > 0 && stages.cache_us == 0, "{stages:?}");
        let first = usage.first_byte_us.unwrap();
        assert!(before <= first && first <= usage.duration_us, "{usage:?}");
        assert!(usage.attempts.is_empty());
        assert!(usage.event_time > usage.admitted_at);
    }
    // Each thread keeps connections of its own: one was made at least.
    assert!(matches!(connected.len(), 1 | 2), "{connected:?}");
}
