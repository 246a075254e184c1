//! What an operator decides over all calls: whose headers count, what a request must have, which model it means
//! when it says none, what a new key gets.

use serde_json::{Value, json};

use crate::world::{MASTER, Told, World, request};

/// A world with these settings in its file beside the usual models.
async fn with(settings: &str) -> World {
    World::with(|config| {
        let loaded = config::parse(settings, "f.yaml", &|_| None);
        let models = std::mem::take(&mut config.models);
        *config = loaded.unwrap_or_else(|e| panic!("{e}")).config;
        config.models.extend(models);
    })
    .await
}

async fn post(world: &World, headers: &[(&str, &str)], path: &str, body: &Value) -> Told {
    let mut post = world.http.post(world.url(path)).body(body.to_string());
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    Told::read(post.send().await.unwrap()).await
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn headers_of_ones_own_carry_the_key_and_the_customer() {
    let world = with(
        "general_settings: {litellm_key_header_name: X-Our-Key, user_header_name: X-Our-Customer, enforce_user_param: true}\n",
    )
    .await;
    let key = world.key(json!({})).await;
    let headers = [
        ("x-our-key", &*key),
        ("authorization", "Bearer of-somebody-else"),
        ("x-our-customer", "eve"),
    ];
    let told = post(&world, &headers, CHAT, &request(json!({}))).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let (_, usages) = world.events();
    assert_eq!(usages[0].attribution.end_user.as_deref(), Some("eve"));

    // Without a customer, a call is refused; the body's own will do.
    let nobody = post(&world, &headers[..1], CHAT, &request(json!({}))).await;
    assert_eq!(
        (nobody.status, &nobody.json()["error"]["param"]),
        (400, &json!("user"))
    );
    let told = post(
        &world,
        &headers[..1],
        CHAT,
        &request(json!({"user": "bob"})),
    )
    .await;
    assert_eq!(told.status, 200, "{}", told.text);
}

#[tokio::test]
async fn what_every_call_must_have_and_may_not_have() {
    let world = with(
        "general_settings:\n  enforced_params: [user, metadata.team]\n  reject_clientside_metadata_tags: true\n",
    )
    .await;
    let auth = format!("Bearer {MASTER}");
    let headers = [("authorization", auth.as_str())];
    for (extra, param) in [
        (json!({}), Some("user")),
        (json!({"user": "eve"}), Some("metadata.team")),
        (
            json!({"user": "eve", "metadata": {"team": "a", "tags": ["x"]}}),
            Some("metadata.tags"),
        ),
        (json!({"user": "eve", "metadata": {"team": "a"}}), None),
    ] {
        let told = post(&world, &headers, CHAT, &request(extra)).await;
        match param {
            Some(param) => {
                assert_eq!(
                    (told.status, &told.json()["error"]["param"]),
                    (400, &json!(param)),
                    "{}",
                    told.text
                );
            }
            None => assert_eq!(told.status, 200, "{}", told.text),
        }
    }
}

#[tokio::test]
async fn a_request_without_a_model_gets_the_default_one() {
    let world = with("general_settings: {completion_model: one}\n").await;
    let auth = format!("Bearer {MASTER}");
    let headers = [("authorization", auth.as_str())];
    for model in [json!(null), json!("one")] {
        let body = json!({"messages": [], "model": model});
        let told = post(&world, &headers, CHAT, &body).await;
        assert_eq!(told.status, 200, "{}", told.text);
        let sent: Value = serde_json::from_str(world.provider.bodies().last().unwrap()).unwrap();
        assert_eq!(sent["model"], "up-1");
    }
    let told = post(&world, &headers, "/v1/embeddings", &json!({"input": "x"})).await;
    assert_eq!(
        (told.status, &told.json()["error"]["param"]),
        (400, &json!("model"))
    );
}

#[tokio::test]
async fn new_keys_get_the_defaults_and_no_more_than_the_bounds() {
    let world = with(
        "litellm_settings:\n  default_key_generate_params: {models: [one], max_budget: 5, budget_duration: 1d}\n  \
         upperbound_key_generate_params: {max_budget: 10, rpm_limit: 60, duration: 30d}\n",
    )
    .await;
    let auth = format!("Bearer {MASTER}");
    let headers = [("authorization", auth.as_str())];
    let made = post(&world, &headers, "/key/generate", &json!({}))
        .await
        .json();
    assert_eq!(made["models"], json!(["one"]));
    assert_eq!(
        (&made["budget_duration"], &made["rpm_limit"]),
        (&json!("1d"), &json!(60))
    );
    assert_eq!(made["max_budget"].to_string(), "5.0");
    assert!(made["expires"].is_string(), "{made}");
    let own = json!({"max_budget": "10", "rpm_limit": 5, "duration": "1d", "models": []});
    let made = post(&world, &headers, "/key/generate", &own).await.json();
    assert_eq!(
        (&made["rpm_limit"], &made["models"]),
        (&json!(5), &json!([]))
    );
    for (field, value) in [
        ("max_budget", json!(11)),
        ("rpm_limit", json!(61)),
        ("duration", json!("31d")),
        ("duration", json!("-1")),
    ] {
        let told = post(&world, &headers, "/key/generate", &json!({field: value})).await;
        assert_eq!(
            (told.status, &told.json()["error"]["param"]),
            (400, &json!(field)),
            "{}",
            told.text
        );
        assert!(
            told.message().contains("more than this gateway gives"),
            "{}",
            told.text
        );
    }
}

#[tokio::test]
async fn a_canned_answer_asks_nobody() {
    let world = with(
        "model_list:\n- model_name: canned\n  litellm_params: {model: bedrock/anything, mock_response: Hello from a can}\n",
    )
    .await;
    let told = world.chat(MASTER, json!({"model": "canned"})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(
        told.json()["choices"][0]["message"]["content"],
        "Hello from a can"
    );
    let streamed = world
        .chat(MASTER, json!({"model": "canned", "stream": true}))
        .await;
    assert!(streamed.is_done(), "{}", streamed.text);
    assert!(world.provider.bodies().is_empty());
}

#[tokio::test]
async fn metrics_have_a_path_a_key_or_are_not_there() {
    let robots = |world: &World| world.http.get(world.url("/robots.txt")).send();
    let usual = with("").await;
    assert_eq!(
        usual
            .http
            .get(usual.url("/metrics"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(robots(&usual).await.unwrap().status(), 404);
    let own = with(
        "general_settings: {prometheus_metrics_url: /ours, block_robots: true}\n\
         litellm_settings: {require_auth_for_metrics_endpoint: true}\n",
    )
    .await;
    assert_eq!(own.get("/metrics").await.status, 404);
    assert_eq!(own.get("/ours").await.status, 200);
    assert_eq!(
        own.http
            .get(own.url("/ours"))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert!(
        robots(&own)
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains("Disallow: /")
    );
    let off = with("general_settings: {enable_prometheus_metrics: false}\n").await;
    assert_eq!(off.get("/metrics").await.status, 404);
}

#[tokio::test]
async fn a_key_calls_only_its_routes() {
    let world = with("").await;
    let get = |key: String, path: &'static str| {
        let get = world.http.get(world.url(path)).bearer_auth(key);
        async move { Told::read(get.send().await.unwrap()).await }
    };
    for (fields, chat, models, info) in [
        (json!({}), 200, 200, 200),
        (
            json!({"allowed_routes": ["/v1/chat/completions"]}),
            200,
            403,
            403,
        ),
        (
            json!({"allowed_routes": ["/embeddings", "/key/*"]}),
            403,
            403,
            200,
        ),
        (json!({"key_type": "llm_api"}), 200, 200, 403),
        (json!({"key_type": "read_only"}), 403, 200, 200),
    ] {
        let key = world.key(fields.clone()).await;
        let told = world.chat(&key, json!({})).await;
        assert_eq!(told.status, chat, "{fields}: {}", told.text);
        if chat == 403 {
            assert!(
                told.message()
                    .contains("Tried to call route: /chat/completions"),
                "{}",
                told.text
            );
            assert_eq!(told.json()["error"]["type"], "auth_error");
        }
        assert_eq!(
            get(key.clone(), "/v1/models").await.status,
            models,
            "{fields}"
        );
        let shown = get(key, "/key/info").await;
        assert_eq!(shown.status, info, "{fields}");
        if info == 200 && fields["allowed_routes"].is_array() {
            assert_eq!(
                shown.json()["info"]["allowed_routes"],
                fields["allowed_routes"]
            );
        }
    }
    let told = world
        .manage(
            MASTER,
            "/key/generate",
            json!({"allowed_routes": ["everything"]}),
        )
        .await;
    assert_eq!(
        (told.status, &told.json()["error"]["param"]),
        (400, &json!("allowed_routes"))
    );
}

#[tokio::test]
async fn only_these_addresses_and_these_routes_are_answered() {
    let world =
        with("general_settings:\n  allowed_ips: [10.0.0.0/8]\n  use_x_forwarded_for: true\n").await;
    let auth = format!("Bearer {MASTER}");
    for (forwarded, status) in [
        (None, 403),
        (Some("10.9.8.7"), 200),
        (Some("192.0.2.1, 10.9.8.7"), 200),
        (Some("10.9.8.7, 192.0.2.1"), 403),
        (Some("nobody"), 403),
    ] {
        let mut headers = vec![("authorization", auth.as_str())];
        headers.extend(forwarded.map(|list| ("x-forwarded-for", list)));
        let told = post(&world, &headers, CHAT, &request(json!({}))).await;
        assert_eq!(told.status, status, "{forwarded:?}: {}", told.text);
        let mut get = world.http.get(world.url("/v1/models")).bearer_auth(MASTER);
        if let Some(list) = forwarded {
            get = get.header("x-forwarded-for", list);
        }
        assert_eq!(
            get.send().await.unwrap().status().as_u16(),
            status,
            "{forwarded:?}"
        );
    }
    for open in ["/health/liveliness", "/health/readiness", "/metrics"] {
        let told = world.http.get(world.url(open)).send().await.unwrap();
        assert_eq!(told.status(), 200, "{open}");
    }

    // The connection itself is ours: a header that nobody asked for says nothing.
    let world = with("general_settings: {allowed_ips: [127.0.0.1]}\n").await;
    let headers = [
        ("authorization", auth.as_str()),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let told = post(&world, &headers, CHAT, &request(json!({}))).await;
    assert_eq!(told.status, 200, "{}", told.text);

    let world = with(
        "general_settings:\n  allowed_routes: [/chat/completions, /v1/models, /key/generate]\n  admin_only_routes: [/v1/models]\n",
    )
    .await;
    let key = world.key(json!({})).await;
    assert_eq!(world.chat(&key, json!({})).await.status, 200);
    let get = |key: &str, path: &str| world.http.get(world.url(path)).bearer_auth(key).send();
    for (key, path, status) in [
        (key.as_str(), "/v1/models", 403),
        (key.as_str(), "/models", 403),
        (MASTER, "/v1/models", 200),
        (MASTER, "/key/list", 403),
    ] {
        assert_eq!(
            get(key, path).await.unwrap().status().as_u16(),
            status,
            "{path}"
        );
    }
    let body = json!({"model": "one", "input": "x"});
    let headers = [("authorization", auth.as_str())];
    let told = post(&world, &headers, "/v1/embeddings", &body).await;
    assert_eq!(told.status, 403, "{}", told.text);
}
