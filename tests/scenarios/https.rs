//! Providers behind HTTPS: whose certificates are believed, and what is said of those that are not.

use serde_json::json;
use tests::gateway::Launch;
use tests::tls::{Certificate, Front, authority};
use tests::world::MASTER;
use tests::{Chat, Gateway, Shape, World};

fn entry(name: &str, front: &Front, verify: &str) -> String {
    let base = front.base_url();
    format!(
        "  - model_name: {name}
    litellm_params:
      model: openai/scripted-upstream
      api_base: {base}
      api_key: sk-upstream-secret
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002
{verify}"
    )
}

/// The whole way, plain and streamed, and the bill is the provider's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_counts_by_who_signed_it() {
    let behind = tests::Provider::start().await;
    let front = Front::start(Certificate::Localhost, behind.address).await;
    let elsewhere = Front::start(Certificate::Elsewhere, behind.address).await;
    let file = format!("      ssl_verify: {}\n", authority().display());
    let models = [
        entry("by-file", &front, &file),
        entry("by-default", &front, ""),
        entry("by-nobody", &front, "      ssl_verify: false\n"),
        entry("of-another", &elsewhere, &file),
    ];
    let world = World::with(Shape::OneMachine, "litellm_settings: {num_retries: 0}")
        .models(&models.concat())
        .start()
        .await;
    let chat = |name: &str| world.chat("one two three").with("model", name);

    for name in ["by-file", "by-nobody"] {
        let told = chat(name).send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(told.header("x-litellm-model-api-base"), front.base_url());
        let streamed = chat(name).stream().await;
        assert!(streamed.done);
        assert_eq!(streamed.content(), "Hello from the scripted provider");
    }
    let shaken = front.handshakes();
    for (name, why) in [
        ("by-default", "UnknownIssuer"),
        ("of-another", "not valid for"),
    ] {
        for streamed in [false, true] {
            let told = chat(name).with("stream", streamed).send().await;
            assert_eq!(told.status, 503, "{}", told.text);
            assert_eq!(told.error_type(), "api_connection_error");
            let message = told.message();
            assert!(
                message.contains("certificate") && message.contains(why),
                "{message}"
            );
            assert!(!told.text.contains("sk-upstream-secret"));
        }
    }
    assert_eq!((front.handshakes(), elsewhere.handshakes()), (shaken, 0));
    world.rows(8).await;
    let charged = world.sql("select sum(toInt64(amount * 1000000000)) from cost_ledger final");
    assert_eq!(charged, behind.books().charged_nano.to_string());
    assert_eq!(behind.books().requests, 4);
}

/// The usual variable holds for everything that no setting speaks of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_can_name_an_authority() {
    let behind = tests::Provider::start().await;
    let front = Front::start(Certificate::Localhost, behind.address).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tollgate.yaml");
    let models = entry("by-default", &front, "");
    let text = format!("model_list:\n{models}general_settings:\n  master_key: {MASTER}\n");
    std::fs::write(&config, text).unwrap();
    let file = authority().display().to_string();
    let launch = Launch {
        env: vec![("SSL_CERT_FILE".into(), file)],
        ..Launch::up(Some(config), folder.path().join("data"))
    };
    let gateway = Gateway::start(launch).await;
    let client = tests::client::http();
    let chat = Chat::new(&client, &gateway.url(), MASTER, "by-default", "hi");
    let told = chat.with("temperature", json!(0)).send().await;
    assert_eq!(told.status, 200, "{}", told.text);
}
