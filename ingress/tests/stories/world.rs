//! A gateway over HTTP in front of a scripted provider, with a real journal in an empty folder and
//! budgets in memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use budgets::{Budgets, Memory};
use config::{
    AuthScheme, Config, Dialect, Loaded, ModelEntry, ModelLimits, ModelTimeouts, Secret, Source,
};
use ingress::directory::{Directory, Quota};
use ingress::follow::{Follow, Snapshot};
use ingress::reload::ReloadError;
use ingress::{Gateway, Parts, Running, SemanticCache};
use journal::{EventLog, Journal, Options, Position};
use metering::Catalog;
use schemas::{
    Admitted, CatalogEvent, Event, KeyHash, Meter, Micros, NanoUsd, PriceEntry, Rate, RequestId,
    Topic, Usage,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::provider::Provider;

pub const MASTER: &str = "sk-master-of-the-stories";
/// What is waited for comes by then, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Nano-dollars a token.
pub const INPUT: i64 = 1_000;
pub const OUTPUT: i64 = 2_000;
/// Nano-dollars an image, a second of speech, a character of it, a search.
pub const UNIT: i64 = 100_000;

pub struct World {
    pub provider: Provider,
    pub gateway: Arc<Gateway>,
    pub http: reqwest::Client,
    pub folder: TempDir,
    pub follow: Follow<Arc<Directory>>,
    _models: Models,
    running: Running,
}

impl Drop for Models {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Puts models of the log into force, as long as its world is there.
struct Models(JoinHandle<()>);

/// What a world does not have to itself.
pub struct Shared {
    /// Of keys and teams; `None`: one of its own.
    pub log: Option<Arc<dyn EventLog>>,
    pub snapshot: Option<Snapshot>,
    /// Whether it begins to serve when it knows all of the log.
    pub caught_up: bool,
    pub cache: Option<Arc<dyn SemanticCache>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            log: None,
            snapshot: None,
            caught_up: true,
            cache: None,
        }
    }
}

pub fn entry(base: &str, name: &str, upstream: &str) -> ModelEntry {
    ModelEntry {
        model_name: name.to_owned(),
        deployment_id: format!("id-of-{name}"),
        provider: "openai".to_owned(),
        upstream_model: upstream.to_owned(),
        base_model: None,
        dialect: Dialect::OpenAi,
        api_base: base.to_owned(),
        auth: AuthScheme::Bearer,
        api_key: Some(Secret::new("sk-upstream-secret")),
        api_version: None,
        organization: None,
        headers: Vec::new(),
        prices: Vec::new(),
        limits: ModelLimits {
            max_output_tokens: Some(1_000),
            max_input_tokens: Some(100_000),
            ..ModelLimits::default()
        },
        timeouts: ModelTimeouts {
            total: Duration::from_secs(20),
            total_stream: Duration::from_secs(20),
            ..ModelTimeouts::of(&Config::default().timeouts)
        },
        hints: config::Hints::default(),
        params: config::Params::default(),
        shape: config::Shape::default(),
        mock: None,
        line: 0,
    }
}

/// The catalog in which `up-*` cost what the constants say, and `reads-cheaply` a tenth for the prompt and five
/// times as much for the answer.
pub fn catalog() -> Catalog {
    let price = |model: &str, input: i64, output: i64| {
        let rate = |meter, nano: i64| Rate {
            meter,
            service_tier: None,
            context_above: 0,
            price: NanoUsd(nano).to_string().into(),
        };
        PriceEntry {
            scope: "global".into(),
            provider: if model == "demo" {
                "tollgate"
            } else {
                "openai"
            }
            .into(),
            model: model.into(),
            effective_from: Micros(0),
            effective_to: None,
            source: "test".into(),
            source_date: "2026-11-01".into(),
            max_input: None,
            max_output: None,
            rates: vec![
                rate(Meter::InputText, input),
                rate(Meter::OutputText, output),
                rate(Meter::Images, UNIT),
                rate(Meter::Seconds, UNIT),
                rate(Meter::Characters, UNIT),
                rate(Meter::Searches, UNIT),
            ],
        }
    };
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries: vec![
            price("up-1", INPUT, OUTPUT),
            price("up-2", INPUT, OUTPUT),
            price("reads-cheaply", INPUT / 10, OUTPUT * 5),
            price("demo", INPUT, OUTPUT),
        ],
    };
    Catalog::new().apply(1, &event).unwrap()
}

/// A configuration with `one` (upstream `up-1`), `up-2` (of the same name there), `unpriced`,
/// `wild/*` and the demo.
pub fn config(base: &str) -> Config {
    Config {
        models: vec![
            entry(base, "one", "up-1"),
            entry(base, "up-2", "up-2"),
            entry(base, "unpriced", "nobody-knows"),
            entry(base, "wild/*", "*"),
            ModelEntry {
                dialect: Dialect::Demo,
                provider: "tollgate".to_owned(),
                api_base: String::new(),
                auth: AuthScheme::None,
                api_key: None,
                ..entry("", "tollgate/demo", "demo")
            },
        ],
        ..Config::default()
    }
}

/// Where a world's configuration comes from. Its environment holds one provider's key.
pub fn source(config: Config) -> Source {
    let made = Loaded {
        config,
        warnings: Vec::new(),
    };
    Source::made(made, |name| {
        (name == "STORY_KEY").then(|| "sk-of-the-environment".to_owned())
    })
}

pub fn open_journal(folder: &Path) -> Journal {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Journal::open(&folder.join("journal"), Options::default()) {
            Ok((journal, _)) => return journal,
            // Its sync thread was the last to hold the former one, and is about to let go.
            Err(journal::Error::Locked { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose configuration is changed first.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::build(change, Options::default()).await
    }

    /// One whose journal is kept differently, too.
    pub async fn build(change: impl FnOnce(&mut Config), options: Options) -> Self {
        Self::sharing(change, options, Shared::default()).await
    }

    /// One that follows a log which others have as well.
    pub async fn sharing(
        change: impl FnOnce(&mut Config),
        options: Options,
        shared: Shared,
    ) -> Self {
        let provider = Provider::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&provider.base());
        change(&mut config);
        let budgets = Memory::new();
        budgets.open().await.unwrap();
        let directory = Arc::new(Directory::new("UTC".parse().unwrap(), Quota::default()));
        let config_log = match shared.log {
            Some(log) => log,
            None => Arc::new(
                Journal::open(&folder.path().join("config"), Options::default())
                    .unwrap()
                    .0,
            ),
        };
        let follow = Follow::start(config_log.clone(), directory.clone(), shared.snapshot);
        if shared.caught_up {
            assert!(follow.watch().caught_up(PATIENCE).await);
        }
        let parts = Parts {
            source: Arc::new(source(config.clone())),
            config: Arc::new(config),
            directory,
            partitions: options.partitions,
            journal: Journal::open(&folder.path().join("journal"), options)
                .unwrap()
                .0,
            config_log,
            config_follow: follow.watch(),
            catalog: Arc::new(ArcSwap::from_pointee(catalog())),
            catalog_follow: None,
            prices: None,
            budgets: Arc::new(budgets),
            store: None,
            cache: shared.cache,
            beside: Vec::new(),
            master_key: KeyHash::of(MASTER),
        };
        let gateway = Arc::new(Gateway::new(parts).unwrap());
        gateway.refresh().await.unwrap();
        let models = Models(tokio::spawn(Gateway::follow_models(Arc::downgrade(
            &gateway,
        ))));
        let running =
            ingress::start(gateway.clone(), SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            provider,
            gateway,
            http,
            folder,
            follow,
            _models: models,
            running,
        }
    }

    /// Another configuration, as if a file had changed.
    pub async fn reload(&self, change: impl FnOnce(&mut Config)) -> Result<(), ReloadError> {
        let mut config = config(&self.provider.base());
        change(&mut config);
        self.gateway.reload(source(config)).await.map(drop)
    }

    /// A management call with this key.
    pub async fn manage(&self, key: &str, route: &str, body: Value) -> Told {
        let sent = self
            .http
            .post(self.url(route))
            .bearer_auth(key)
            .json(&body)
            .send()
            .await
            .unwrap();
        Told::read(sent).await
    }

    pub fn url(&self, route: &str) -> String {
        format!("http://{}{route}", self.running.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// A key with these fields of `/key/generate`.
    pub async fn key(&self, fields: Value) -> String {
        let answer = self
            .http
            .post(self.url("/key/generate"))
            .bearer_auth(MASTER)
            .json(&fields)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["key"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    pub async fn post(&self, key: &str, body: impl Into<reqwest::Body>) -> Told {
        let sent = self
            .http
            .post(self.url("/v1/chat/completions"))
            .bearer_auth(key)
            .body(body)
            .send()
            .await
            .unwrap();
        Told::read(sent).await
    }

    pub async fn chat(&self, key: &str, extra: Value) -> Told {
        self.post(key, request(extra).to_string()).await
    }

    pub async fn get(&self, route: &str) -> Told {
        let sent = self
            .http
            .get(self.url(route))
            .bearer_auth(MASTER)
            .send()
            .await
            .unwrap();
        Told::read(sent).await
    }

    /// Every record of the journal, in order.
    pub fn events(&self) -> (Vec<Admitted>, Vec<Usage>) {
        events(&self.gateway.journal)
    }

    /// Waits until so many calls have ended.
    pub async fn ended(&self, count: usize) -> Vec<Usage> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, usages) = self.events();
            if usages.len() >= count {
                assert_eq!(usages.len(), count, "one final record a call");
                return usages;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {count} records"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the last record of a call, and gives it.
    pub async fn ended_at_last(&self) -> Usage {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, usages) = self.events();
            if let Some(last) = usages.into_iter().find(|usage| usage.last) {
                return last;
            }
            assert!(Instant::now() < deadline, "no call ends");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn stop(self) -> TempDir {
        self.running.drain(Duration::from_secs(1)).await;
        self.folder
    }
}

/// What a story comes to whose calls all fall into one minute, as limits count them: where a minute ends on the
/// way, it is told again.
pub async fn in_one_minute<T>(story: impl AsyncFn() -> T) -> T {
    let minute = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
    loop {
        let began = minute();
        let told = story().await;
        if minute() == began {
            return told;
        }
    }
}

/// A request for `one`, with more members.
pub fn request(extra: Value) -> Value {
    let mut body = json!({ "model": "one", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub fn events(journal: &Journal) -> (Vec<Admitted>, Vec<Usage>) {
    let (mut admits, mut usages) = (Vec::new(), Vec::new());
    for record in journal
        .scan(&[Topic::Requests, Topic::Usage], Position(0))
        .unwrap()
    {
        let record = record.unwrap();
        match record.topic {
            Topic::Requests => admits.push(Admitted::from_body(&record.body).unwrap()),
            _ => usages.push(Usage::from_body(&record.body).unwrap()),
        }
    }
    let mut per_call: HashMap<RequestId, usize> = HashMap::new();
    for usage in usages.iter().filter(|usage| usage.last) {
        *per_call.entry(usage.request_id).or_default() += 1;
    }
    assert!(
        per_call.values().all(|count| *count == 1),
        "a call has one final record"
    );
    (admits, usages)
}

/// What an event is charged.
pub fn bill(usage: &Usage) -> NanoUsd {
    metering::charge(usage, &catalog()).unwrap().amount
}

/// An answer as a client sees it.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Told {
    pub async fn read(sent: reqwest::Response) -> Self {
        Self {
            status: sent.status().as_u16(),
            headers: sent.headers().clone(),
            text: sent.text().await.unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// The JSON of each frame of a stream.
    pub fn frames(&self) -> Vec<Value> {
        self.text
            .split("\n\n")
            .filter_map(|frame| frame.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    pub fn is_done(&self) -> bool {
        self.text.ends_with("data: [DONE]\n\n")
    }
}
