//! One gateway, one scripted provider, one empty folder: where a scenario takes place.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use schemas::NanoUsd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answered, Chat};
use crate::gateway::{Gateway, Launch, free_port};
use crate::provider::{INPUT_NANO, OUTPUT_NANO, Provider};

/// The master key of every world.
pub const MASTER: &str = "sk-master-of-the-scenario";

const DEMO: &str =
    "  - model_name: tollgate/demo\n    litellm_params:\n      model: tollgate/demo\n";

/// A gateway in front of a provider. What it leaves is deleted when it is dropped.
pub struct World {
    pub gateway: Gateway,
    pub provider: Provider,
    pub http: reqwest::Client,
    folder: TempDir,
}

/// How a world differs from the usual one.
#[derive(Default)]
pub struct Build {
    extra: String,
    demo: bool,
    env: Vec<(String, String)>,
}

impl Build {
    /// More of the configuration file, below `model_list` and `general_settings.master_key`.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.extra.push_str(yaml);
        self.extra.push('\n');
        self
    }

    /// Serves `tollgate/demo` beside the scripted model.
    #[must_use]
    pub const fn demo(mut self) -> Self {
        self.demo = true;
        self
    }

    /// An environment variable of the gateway's first start.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::start().await;
        let config = folder.path().join("tollgate.yaml");
        std::fs::write(&config, yaml(&provider, self.demo, &self.extra)).unwrap();
        let gateway = Gateway::start(Launch {
            config: Some(config),
            data_dir: folder.path().join("data"),
            port: free_port(),
            clickhouse_port: free_port(),
            env: self.env,
        })
        .await;
        World {
            gateway,
            provider,
            http: crate::client::http(),
            folder,
        }
    }
}

/// The usual file: `scripted` with a price, `unpriced` without one, both at the scripted provider.
pub fn yaml(provider: &Provider, demo: bool, extra: &str) -> String {
    let demo = if demo { DEMO } else { "" };
    let base = provider.base_url();
    let price = |nano: u64| NanoUsd(i64::try_from(nano).unwrap()).to_string();
    let (input, output) = (price(INPUT_NANO), price(OUTPUT_NANO));
    format!(
        r#"model_list:
  - model_name: scripted
    litellm_params:
      model: openai/scripted-upstream
      api_base: {base}
      api_key: sk-upstream-secret
      input_cost_per_token: {input}
      output_cost_per_token: {output}
    model_info:
      max_input_tokens: 100000
      max_output_tokens: 1000
  - model_name: unpriced
    litellm_params:
      model: openai/no-one-knows-its-price
      api_base: {base}
      api_key: sk-upstream-secret
{demo}general_settings:
  master_key: {MASTER}
{extra}"#
    )
}

impl World {
    pub async fn start() -> Self {
        Build::default().start().await
    }

    #[must_use]
    pub fn with(yaml: &str) -> Build {
        Build::default().config(yaml)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.gateway.launch.data_dir.clone()
    }

    /// A call with the master key.
    pub fn chat(&self, question: &str) -> Chat {
        self.chat_as(MASTER, question)
    }

    pub fn chat_as(&self, key: &str, question: &str) -> Chat {
        Chat::new(&self.http, &self.gateway.url(), key, "scripted", question)
    }

    /// A new key with these fields of `/key/generate`.
    pub async fn key(&self, fields: Value) -> String {
        let answer = self.post("/key/generate", fields).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["key"].as_str().unwrap().to_owned()
    }

    /// A management call with the master key.
    pub async fn post(&self, route: &str, body: Value) -> Answered {
        let url = format!("{}{route}", self.gateway.url());
        answered(self.http.post(url).bearer_auth(MASTER).json(&body)).await
    }

    /// A management question with the master key.
    pub async fn get(&self, route: &str) -> Answered {
        let url = format!("{}{route}", self.gateway.url());
        answered(self.http.get(url).bearer_auth(MASTER)).await
    }

    /// `info.spend` of a key.
    pub async fn spend_of(&self, key: &str) -> NanoUsd {
        let info = self.get(&format!("/key/info?key={key}")).await.json();
        money(&info["info"]["spend"])
    }

    /// One value out of the usage tables, through `tollgate sql`.
    pub fn sql(&self, query: &str) -> String {
        let output = self.gateway.run(&["sql", query]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until the tables hold so many last usage rows, with their costs: the ledger is written second.
    pub async fn rows(&self, expected: usize) {
        let query = "select count() from cost_ledger final where last";
        self.until(&format!("{expected} usage rows"), || {
            self.sql(query) == expected.to_string()
        })
        .await;
    }

    /// The sum of the ledger.
    pub fn ledger(&self) -> NanoUsd {
        self.sql("select toString(sum(amount)) from cost_ledger final")
            .parse()
            .unwrap()
    }

    /// Waits for a condition; a scenario never sleeps for a guess.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}\n{}",
                self.gateway.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the gateway again over the same data, after it was killed or stopped.
    pub async fn restart(&mut self) {
        self.restart_with(Vec::new()).await;
    }

    /// The same, with other environment variables.
    pub async fn restart_with(&mut self, env: Vec<(String, String)>) {
        let launch = Launch {
            env,
            ..self.gateway.launch.clone()
        };
        self.gateway = Gateway::start(launch).await;
    }

    /// What the scripted provider charges, as money.
    pub fn invoice(&self) -> NanoUsd {
        NanoUsd(i64::try_from(self.provider.books().charged_nano).unwrap())
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answered {
        status,
        headers,
        text: response.text().await.unwrap(),
    }
}

/// An amount out of JSON, from the text of its number.
pub fn money(value: &Value) -> NanoUsd {
    serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"))
}

/// A tool for the scripted model.
pub fn weather_tool() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}
