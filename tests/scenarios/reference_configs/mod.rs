//! Every file of `deploy/reference-configs` as its users run it: the executable in front of scripted providers,
//! each setting on, and off. The files are taken as they are, but for addresses, and times nobody would wait.

mod bare_names;
mod blueprint;
mod fallback_chain;
mod fallback_config;
mod full_stack;
mod key_settings;
mod logging;
mod monitoring;
mod routing;
mod system_prompt_cache;
mod tenants;
mod unified_access;
mod weighted;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tests::client::Answered;
use tests::gateway::Launch;
use tests::world::MASTER;
use tests::{Chat, Gateway, Provider, Script};

/// How long anything is waited for that will come: a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The providers of a story, by what their variables are called.
struct Cast {
    openai: Provider,
    anthropic: Provider,
    /// DeepSeek, Z.ai, Cohere, a vLLM of one's own.
    other: Provider,
    http: reqwest::Client,
    folder: tempfile::TempDir,
    /// Beside the keys and addresses of the providers.
    env: Vec<(String, String)>,
    launches: AtomicU32,
}

impl Cast {
    async fn new() -> Self {
        Self {
            openai: Provider::start().await,
            anthropic: Provider::start().await,
            other: Provider::start().await,
            http: tests::client::http(),
            folder: tempfile::tempdir().unwrap(),
            env: Vec::new(),
            launches: AtomicU32::new(0),
        }
    }

    /// `tollgate up` with this file.
    async fn up(&self, text: &str) -> Stage<'_> {
        self.run("up", text).await
    }

    /// The proxy alone, where nothing asks for tables: a start of less time.
    async fn ingress(&self, text: &str) -> Stage<'_> {
        self.run("ingress", text).await
    }

    async fn run(&self, role: &'static str, text: &str) -> Stage<'_> {
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        let config = self.write(&format!("{number}.yaml"), text);
        let data_dir = self.folder.path().join(format!("data-{number}"));
        let mut launch = Launch::role(role, Some(config), data_dir);
        let providers = [
            ("OPENAI", &self.openai),
            ("ANTHROPIC", &self.anthropic),
            ("DEEPSEEK", &self.other),
            ("ZAI", &self.other),
            ("COHERE", &self.other),
        ];
        for (name, provider) in providers {
            launch
                .env
                .push((format!("{name}_API_BASE"), provider.base_url()));
            launch
                .env
                .push((format!("{name}_API_KEY"), format!("key-of-{name}")));
        }
        for name in ["LITELLM_MASTER_KEY", "GATEWAY_MASTER_KEY"] {
            launch.env.push((name.to_owned(), MASTER.to_owned()));
        }
        launch.env.extend(self.env.iter().cloned());
        Stage {
            cast: self,
            gateway: Gateway::start(launch).await,
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A running gateway before its providers.
struct Stage<'a> {
    cast: &'a Cast,
    gateway: Gateway,
}

impl Stage<'_> {
    fn chat(&self, model: &str, question: &str) -> Chat {
        self.chat_as(MASTER, model, question)
    }

    fn chat_as(&self, key: &str, model: &str, question: &str) -> Chat {
        Chat::new(&self.cast.http, &self.gateway.url(), key, model, question)
    }

    async fn get(&self, route: &str) -> Answered {
        let url = format!("{}{route}", self.gateway.url());
        answered(self.cast.http.get(url)).await
    }

    async fn post(&self, route: &str, body: Value) -> Answered {
        let url = format!("{}{route}", self.gateway.url());
        let post = self.cast.http.post(url).bearer_auth(MASTER);
        answered(post.json(&body)).await
    }

    /// A key with these fields of `/key/generate`.
    async fn key(&self, fields: Value) -> String {
        let made = self.post("/key/generate", fields).await.json();
        made["key"]
            .as_str()
            .unwrap_or_else(|| panic!("{made}"))
            .to_owned()
    }

    /// Waits until its log has this text.
    async fn logged(&self, text: &str) {
        let end = std::time::Instant::now() + PATIENCE;
        while !self.gateway.log().contains(text) {
            assert!(
                std::time::Instant::now() < end,
                "{text} is not in\n{}",
                self.gateway.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// One number of `/metrics`.
    async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    Answered {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// Asks until the cache says this. A busy machine takes longer than a look-up may, which then is a miss: nothing is
/// kept of what is asked here, so that what is found was there before.
async fn cache_says(chat: Chat, expected: &str) {
    let chat = chat.with("cache", serde_json::json!({ "no-store": true }));
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let told = chat.clone().send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        let cache = told.header("x-tollgate-cache");
        if cache.starts_with(expected) {
            return;
        }
        assert!(std::time::Instant::now() < end, "{cache}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The models that a provider was asked for, oldest first.
fn asked(provider: &Provider) -> Vec<String> {
    let name = |body: &bytes::Bytes| -> String {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };
    provider.bodies().iter().map(name).collect()
}

/// The last request that a provider got.
fn last(provider: &Provider) -> Value {
    serde_json::from_slice(provider.bodies().last().unwrap()).unwrap()
}

/// A model that answers this status alone.
fn failing(status: u16) -> Script {
    Script {
        fail: Some(status),
        ..Script::default()
    }
}

/// The text with one part of it in the place of another, which must be there.
fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in\n{text}");
    text.replace(from, to)
}

/// What `tollgate config check` says of a file, and whether it may be used.
fn checked(cast: &Cast, text: &str) -> (bool, String) {
    let path = cast.write("checked.yaml", text);
    let mut check = std::process::Command::new(tests::gateway::executable());
    check.args(["config", "check", path.to_str().unwrap()]);
    for name in [
        "OPENAI",
        "ANTHROPIC",
        "DEEPSEEK",
        "ZAI",
        "COHERE",
        "OPENAI_EU",
    ] {
        check.env(format!("{name}_API_KEY"), "k");
    }
    for name in ["LITELLM_MASTER_KEY", "GATEWAY_MASTER_KEY"] {
        check.env(name, MASTER);
    }
    let output = check.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The file without one of its sections.
fn without(text: &str, section: &str) -> String {
    let mut inside = false;
    let mut seen = false;
    let lines = text.lines().filter(|line| {
        if !line.starts_with([' ', '#', '-']) {
            inside = line.starts_with(section);
            seen |= inside;
        }
        !inside
    });
    let kept: Vec<&str> = lines.collect();
    assert!(seen, "no {section} in\n{text}");
    kept.join("\n") + "\n"
}
