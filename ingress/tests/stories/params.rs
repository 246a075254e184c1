//! The members of a request that a deployment has something to say about: defaults, what is left out, what
//! is refused by name.

use serde_json::{Value, json};

use crate::provider::{plain, stream};
use crate::world::{MASTER, World, request};

/// A world whose `one` is this entry of a file: `litellm_params` beyond the address, then the rest.
async fn with(settings: &str, params: &str, rest: &str) -> World {
    World::with(|config| {
        let base = &config.models[0].api_base;
        let yaml = format!(
            "{settings}model_list:\n- model_name: one\n  litellm_params:\n    api_base: {base}\n    api_key: k\n\
             {params}{rest}"
        );
        let loaded = config::parse(&yaml, "f.yaml", &|_| None);
        config.models = loaded.unwrap_or_else(|e| panic!("{e}\n{yaml}")).config.models;
    })
    .await
}

/// What the provider got for a request with these members; the message and the parameter of a refusal.
async fn sent(world: &World, extra: Value) -> Result<Value, (String, Value)> {
    let before = world.provider.bodies().len();
    let told = world.post(MASTER, request(extra).to_string()).await;
    let bodies = world.provider.bodies();
    if told.status == 200 {
        assert_eq!(bodies.len(), before + 1);
        let mut body: Value = serde_json::from_str(&bodies[before]).unwrap();
        let members = body.as_object_mut().unwrap();
        members.remove("model");
        members.remove("messages");
        return Ok(body);
    }
    assert_eq!((told.status, bodies.len()), (400, before), "{}", told.text);
    Err((told.message(), told.json()["error"]["param"].clone()))
}

#[tokio::test]
async fn defaults_stand_where_a_request_says_nothing() {
    let params = "    model: openai/up-1\n    temperature: 0.2\n    stop: [\"END\", 7]\n    seed: 42\n    \
                  max_tokens: 77\n    response_format: {type: json_object}\n    \
                  extra_body: {top_k: 40, deep: {on: true, word: \"true\"}}\n";
    let world = with("", params, "").await;
    let extra = json!({"top_k": 40, "deep": {"on": true, "word": "true"}});
    let all = json!({"temperature": 0.2, "stop": ["END", 7], "seed": 42, "max_completion_tokens": 77,
        "response_format": {"type": "json_object"}, "top_k": extra["top_k"], "deep": extra["deep"]});
    assert_eq!(sent(&world, json!({})).await.unwrap(), all);
    let own = json!({"temperature": 1, "stop": null, "seed": 1, "max_tokens": 5, "response_format": {"type": "text"},
        "top_k": 3});
    let mut wanted = own.clone();
    wanted["stop"] = all["stop"].clone();
    wanted["top_k"] = json!(40);
    wanted["deep"] = extra["deep"].clone();
    assert_eq!(sent(&world, own).await.unwrap(), wanted);

    // A budget's cap and the default are one bound, held as such.
    let key = world.key(json!({"max_budget": 1})).await;
    world.chat(&key, json!({})).await;
    let last: Value = serde_json::from_str(world.provider.bodies().last().unwrap()).unwrap();
    assert_eq!(last["max_completion_tokens"], 77);
}

#[tokio::test]
async fn what_a_provider_cannot_take_is_refused_by_name_or_left_out() {
    let params = "    model: anthropic/claude-sonnet-4-6\n";
    let world = with("", params, "").await;
    let asks = json!({"seed": 7, "temperature": 0.5, "logit_bias": {"1": 2}});
    let (message, param) = sent(&world, asks.clone()).await.unwrap_err();
    assert_eq!(param, "logit_bias", "{message}");
    assert!(
        message.starts_with("anthropic does not support parameters: [\"logit_bias\", \"seed\"]"),
        "{message}"
    );
    assert!(message.contains("drop_params"), "{message}");
    let (admits, _) = world.events();
    assert!(admits.is_empty(), "refused before anything is held");
    // What asks for nothing is no reason to refuse.
    let harmless =
        json!({"n": 1, "seed": null, "frequency_penalty": 0, "tools": [], "temperature": 0.5});
    let got = sent(&world, harmless).await.unwrap();
    assert_eq!(got, json!({"tools": [], "temperature": 0.5}));
    // The request's own word decides.
    let mut own = asks.clone();
    own["drop_params"] = json!(true);
    assert_eq!(
        sent(&world, own).await.unwrap(),
        json!({"temperature": 0.5})
    );
    let own = json!({"seed": 7, "allowed_openai_params": ["seed"], "additional_drop_params": ["temperature"],
        "temperature": 1});
    assert_eq!(sent(&world, own).await.unwrap(), json!({"seed": 7}));

    let on = with("litellm_settings: {drop_params: true}\n", params, "").await;
    assert_eq!(
        sent(&on, asks.clone()).await.unwrap(),
        json!({"temperature": 0.5})
    );
    let mut own = asks.clone();
    own["drop_params"] = json!(false);
    assert_eq!(sent(&on, own).await.unwrap_err().1, "logit_bias");

    let own_word = "    model: anthropic/claude-sonnet-4-6\n    drop_params: false\n";
    let mixed = with("litellm_settings: {drop_params: true}\n", own_word, "").await;
    assert_eq!(sent(&mixed, asks).await.unwrap_err().1, "logit_bias");
}

/// One row: an entry's `litellm_params`, what stands beside them, a request, and what becomes of it.
type Row = (
    &'static str,
    &'static str,
    Value,
    Result<Value, &'static str>,
);

#[tokio::test]
async fn rules_of_deployments() {
    let no_tools = "  model_info: {supports_function_calling: false}\n";
    let tools = json!({"tools": [{"type": "function"}]});
    let table: Vec<Row> = vec![
        // By what the file says of the model.
        (
            "    model: openai/up-1\n",
            no_tools,
            tools.clone(),
            Err("tools"),
        ),
        (
            "    model: openai/up-1\n    drop_params: true\n",
            no_tools,
            json!({"tools": [{}], "tool_choice": "auto", "top_p": 0.5}),
            Ok(json!({"top_p": 0.5})),
        ),
        (
            "    model: openai/up-1\n    allowed_openai_params: [tools]\n",
            no_tools,
            tools.clone(),
            Ok(tools),
        ),
        (
            "    model: openai/up-1\n",
            "  model_info: {supported_openai_params: [temperature, max_tokens]}\n",
            json!({"temperature": 0.1, "max_tokens": 3, "stop": "x"}),
            Err("stop"),
        ),
        (
            "    model: openai/up-1\n",
            "  model_info: {supports_vision: false}\n",
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]}),
            Err("messages"),
        ),
        // Models that reason: another name for the bound, and no sampling.
        (
            "    model: openai/o3-mini\n",
            "",
            json!({"max_tokens": 9, "temperature": 1}),
            Ok(json!({"max_completion_tokens": 9})),
        ),
        (
            "    model: openai/o3-mini\n",
            "",
            json!({"temperature": 0.2}),
            Err("temperature"),
        ),
        (
            "    model: openai/gpt-4o\n",
            "",
            json!({"reasoning_effort": "low"}),
            Ok(json!({"reasoning_effort": "low"})),
        ),
        (
            "    model: openai/gpt-4o\n    drop_params: true\n",
            "",
            json!({"reasoning_effort": "low", "n": 2}),
            Ok(json!({"n": 2})),
        ),
        // Those that know the older name alone.
        (
            "    model: mistral/mistral-large-latest\n",
            "",
            json!({"max_completion_tokens": 9, "stream_options": {"x": 1}}),
            Ok(json!({"max_tokens": 9})),
        ),
        (
            "    model: openai/up-1\n    additional_drop_params: [user, \"response_format.json_schema.strict\"]\n",
            "",
            json!({"response_format": {"json_schema": {"strict": true, "name": "x"}}, "user": "eve"}),
            Ok(json!({"response_format": {"json_schema": {"name": "x"}}})),
        ),
        (
            "    model: openai/up-1\n    modify_params: true\n",
            "  model_info: {max_output_tokens: 10}\n",
            json!({"max_tokens": 50}),
            Ok(json!({"max_tokens": 10})),
        ),
    ];
    for (params, rest, extra, wanted) in table {
        let world = with("", params, rest).await;
        match (sent(&world, extra).await, wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{params}{rest}"),
            (Err((_, param)), Err(wanted)) => assert_eq!(param, wanted, "{params}{rest}"),
            (got, wanted) => panic!("{params}{rest}: {got:?}, not {wanted:?}"),
        }
    }
}

#[tokio::test]
async fn streams_and_other_endpoints_have_the_same_rules() {
    let params = "    model: openai/up-1\n    temperature: 0.3\n    dimensions: 64\n    extra_body: {route: eu}\n    \
                  additional_drop_params: [user]\n";
    let world = with("", params, "").await;
    world.provider.script(stream("up-1"));
    let got = sent(&world, json!({"stream": true, "user": "eve"}))
        .await
        .unwrap();
    let wanted = json!({"stream": true, "stream_options": {"include_usage": true}, "temperature": 0.3, "route": "eu"});
    assert_eq!(got, wanted);

    world.provider.script(plain("up-1"));
    for (path, body, wanted) in [
        (
            "/v1/embeddings",
            json!({"model": "one", "input": "hi", "user": "eve"}),
            json!({"model": "up-1", "input": "hi", "dimensions": 64, "route": "eu"}),
        ),
        (
            "/v1/completions",
            json!({"model": "one", "prompt": "hi"}),
            json!({"model": "up-1", "prompt": "hi", "temperature": 0.3, "route": "eu"}),
        ),
        (
            "/openai/deployments/one/chat/completions",
            json!({"messages": [], "additional_drop_params": ["n"], "n": 2}),
            json!({"model": "up-1", "messages": [], "temperature": 0.3, "route": "eu"}),
        ),
    ] {
        let post = world.http.post(world.url(path)).bearer_auth(MASTER);
        let status = post.body(body.to_string()).send().await.unwrap().status();
        assert_eq!(status, 200, "{path}");
        let last: Value = serde_json::from_str(world.provider.bodies().last().unwrap()).unwrap();
        assert_eq!(last, wanted, "{path}");
    }
}

#[tokio::test]
async fn members_that_are_ours_leave_whole_json_behind() {
    let world = World::start().await;
    let body = r#"{"model":"one","messages":[],"num_retries":1,"timeout":2}"#;
    assert_eq!(world.post(MASTER, body).await.status, 200);
    assert_eq!(
        world.provider.bodies()[0],
        r#"{"model":"up-1","messages":[]}"#
    );
    let told = world
        .post(MASTER, r#"{"model":"one","messages":[],"drop_params":3}"#)
        .await;
    assert_eq!(told.json()["error"]["param"], "drop_params");
}
