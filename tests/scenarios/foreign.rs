//! Software that no one here wrote, in front of the gateway and behind it: LiteLLM's client, LangChain and
//! the Vercel AI SDK call it; LiteLLM's proxy is its provider.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use schemas::NanoUsd;
use serde_json::{Value, json};
use tests::{Shape, World, free_port};

tests::in_both_shapes!(
    callers_of_other_makers_get_answers_and_a_true_bill,
    another_gateway_is_a_provider_like_any_other,
);

const ANSWER: &str = "Hello from the scripted provider";
/// The other gateway refuses to start with a weak one.
const ITS_MASTER: &str = "sk-the-master-of-the-other-gateway-0123456789";
const ITS_ANSWER: &str = "An answer from another gateway.";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run through ./tollgate test"))
}

fn folder(name: &str) -> String {
    format!("{}/foreign/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python() -> Command {
    let mut command = Command::new(variable("TOLLGATE_TEST_FOREIGN_PYTHON"));
    command.arg(folder("python/callers.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command
        .current_dir(variable("TOLLGATE_TEST_FOREIGN_NODE_DIR"))
        .arg("callers.mjs");
    command
}

/// What each case of a driver said.
fn run(mut command: Command, world: &World, key: &str) -> BTreeMap<String, Value> {
    let base = format!("{}/v1", world.url());
    let output = command.args([&base, key, "scripted"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|case| (case["case"].as_str().unwrap().to_owned(), case))
        .collect()
}

async fn callers_of_other_makers_get_answers_and_a_true_bill(shape: Shape) {
    let world = World::start(shape).await;
    let key = world.key(json!({"key_alias": "foreign"})).await;
    let mut cases = run(python(), &world, &key);
    cases.extend(run(node(), &world, &key));
    let names: Vec<&str> = cases.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "langchain_plain",
            "langchain_stream",
            "langchain_tools",
            "litellm_plain",
            "litellm_stream",
            "vercel_plain",
            "vercel_stream",
            "vercel_tools",
        ]
    );
    for (name, case) in &cases {
        // What the provider counted is what the client is told: six words asked, five tokens answered.
        assert_eq!(case["usage"], json!([6, 5]), "{name}");
        if name.ends_with("_tools") {
            let called = json!([{"name": "weather", "arguments": {"city": "Berlin"}}]);
            assert_eq!(case["tool_calls"], called, "{name}");
        } else {
            assert_eq!(case["text"], ANSWER, "{name}");
        }
    }
    world.rows(cases.len()).await;
    assert_eq!(world.provider.books().completed, cases.len() as u64);
    assert_eq!(world.ledger(), world.invoice());
    assert_eq!(world.spend_of(&key).await, world.invoice());
}

/// LiteLLM's proxy with one mocked model; killed when dropped.
struct OtherGateway {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl OtherGateway {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("litellm.yaml");
        let yaml = format!(
            "model_list:\n  - model_name: mocked\n    litellm_params:\n      model: openai/gpt-4o\n      \
             api_key: sk-none\n      mock_response: {ITS_ANSWER}\ngeneral_settings:\n  master_key: {ITS_MASTER}\n"
        );
        std::fs::write(&config, yaml).unwrap();
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let executable = std::path::Path::new(&variable("TOLLGATE_TEST_FOREIGN_PYTHON"))
            .with_file_name("litellm");
        let child = Command::new(executable)
            .arg("--config")
            .arg(&config)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let other = Self {
            child,
            port,
            _folder: folder,
        };
        let http = tests::client::http();
        let url = format!("http://127.0.0.1:{port}/health/liveliness");
        let deadline = Instant::now() + Duration::from_secs(300);
        while !http
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            assert!(Instant::now() < deadline, "LiteLLM's proxy does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        other
    }
}

impl Drop for OtherGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn another_gateway_is_a_provider_like_any_other(shape: Shape) {
    let other = OtherGateway::start().await;
    let models = format!(
        "  - model_name: other\n    litellm_params:\n      model: litellm_proxy/mocked\n      \
         api_base: http://127.0.0.1:{}/v1\n      api_key: {ITS_MASTER}\n      input_cost_per_token: 0.000001\n      \
         output_cost_per_token: 0.000002\n",
        other.port
    );
    let world = World::with(shape, "").models(&models).start().await;
    let chat = world.chat("hello").with("model", "other");
    let plain = chat.send().await;
    assert_eq!(plain.status, 200, "{}", plain.text);
    assert_eq!(plain.content(), ITS_ANSWER);
    let streamed = chat.stream().await;
    assert!(streamed.done);
    assert_eq!(streamed.content(), ITS_ANSWER);
    world.rows(2).await;
    // What it told as usage, at the prices of our file.
    let told = world.sql(
        "select toString(sum(input_tokens) * 1000 + sum(output_tokens) * 2000) from cost_ledger final",
    );
    assert_eq!(world.ledger(), NanoUsd(told.parse().unwrap()));
    let usage = &plain.json()["usage"];
    let tokens = |name: &str| usage[name].as_i64().unwrap();
    let cost = NanoUsd(tokens("prompt_tokens") * 1_000 + tokens("completion_tokens") * 2_000);
    assert_eq!(plain.header("x-litellm-response-cost"), cost.to_string());
    assert_eq!(
        world.sql("select countIf(estimated) from usage_rows final"),
        "0"
    );
}
