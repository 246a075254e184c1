//! A provider that nobody here has heard of, declared in the file; names with a pattern, and bare ones.

use tests::world::MASTER;
use tests::{Chat, Gateway, Provider, Shape, World, gateway::Launch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_of_ones_own_is_called_as_it_wants_to_be() {
    let acme = Provider::start().await;
    let address = acme.address;
    let world = World::with(Shape::OneMachine, "")
        .models(
            "  - model_name: acme/*\n    litellm_params: {model: acme/*, input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}\n  \
             - model_name: '*'\n    litellm_params: {model: acme/*}\n  \
             - model_name: mine\n    litellm_params: {model: house-7, custom_llm_provider: acme, extra_headers: {x-team: sales}}\n",
        )
        .tollgate(&format!(
            "  providers:\n    acme:\n      base_url: http://{address}\n      path: /v1/chat/completions\n      \
             api_key: sk-of-acme\n      auth: header\n      auth_header: X-Acme-Key\n      auth_prefix: Token\n      \
             headers: {{x-team: search}}\n      quirks: [no_stream_options, max_tokens_only]\n"
        ))
        .start()
        .await;
    let table = [
        ("acme/house-1", "house-1", "search"),
        ("anything/else", "anything/else", "search"),
        ("mine", "house-7", "sales"),
    ];
    for (asked, sent, team) in table {
        let chat = world.chat("hi").with("model", asked);
        let told = chat.send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(told.json()["model"], asked);
        let body: serde_json::Value =
            serde_json::from_slice(acme.bodies().last().unwrap()).unwrap();
        assert_eq!(body["model"], sent);
        let headers = acme.headers().pop().unwrap();
        assert_eq!(headers["x-acme-key"], "Token sk-of-acme");
        assert_eq!(headers["x-team"], team);
        assert!(!headers.contains_key("authorization"));
    }
    // Where it differs from OpenAI's shape.
    let chat = world.chat("hi").with("model", "acme/house-1");
    let streamed = chat.with("max_completion_tokens", 3).stream().await;
    assert!(streamed.done);
    let body: serde_json::Value = serde_json::from_slice(acme.bodies().last().unwrap()).unwrap();
    assert_eq!(
        (&body["max_tokens"], &body["stream_options"]),
        (&3.into(), &().into())
    );
    // What the file names keeps its own way.
    assert_eq!(world.chat("hi").send().await.status, 200);
    assert_eq!(world.provider.books().requests, 1);
    world.rows(5).await;
    assert_eq!(
        world.sql(
            "select provider, count() from usage_rows final group by provider order by provider"
        ),
        "acme\t4\nopenai\t1"
    );
}

/// Without a prefix a name says its provider by how it begins, and the provider's variables say the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bare_names_find_their_provider() {
    let (openai, mistral) = (Provider::start().await, Provider::start().await);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tollgate.yaml");
    let models = "model_list:\n\
        - {model_name: gpt, litellm_params: {model: gpt-4o}}\n\
        - {model_name: small, litellm_params: {model: ministral-8b-latest}}\n\
        - {model_name: 'openai/*', litellm_params: {model: 'openai/*'}}\n";
    let text = format!("{models}general_settings:\n  master_key: {MASTER}\n");
    std::fs::write(&config, text).unwrap();
    let env = [
        ("OPENAI_BASE_URL", openai.base_url()),
        ("OPENAI_API_KEY", "sk-of-openai".to_owned()),
        ("MISTRAL_API_BASE", mistral.base_url()),
        ("MISTRAL_API_KEY", "sk-of-mistral".to_owned()),
    ];
    let launch = Launch {
        env: env.map(|(name, value)| (name.into(), value)).to_vec(),
        ..Launch::up(Some(config), folder.path().join("data"))
    };
    let gateway = Gateway::start(launch).await;
    let client = tests::client::http();
    for (asked, at, sent, key) in [
        ("gpt", &openai, "gpt-4o", "Bearer sk-of-openai"),
        ("openai/o3", &openai, "o3", "Bearer sk-of-openai"),
        (
            "small",
            &mistral,
            "ministral-8b-latest",
            "Bearer sk-of-mistral",
        ),
    ] {
        let told = Chat::new(&client, &gateway.url(), MASTER, asked, "hi")
            .send()
            .await;
        assert_eq!(told.status, 200, "{}", told.text);
        let body: serde_json::Value = serde_json::from_slice(at.bodies().last().unwrap()).unwrap();
        assert_eq!(body["model"], sent);
        assert_eq!(at.headers().pop().unwrap()["authorization"], key);
    }
}
