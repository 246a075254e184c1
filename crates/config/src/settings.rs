//! The typed result: everything that the roles of Tollgate read.

use std::net::SocketAddr;
use std::time::Duration;

use schemas::NanoUsd;

use crate::{Access, DecimalText, ModelEntry, Routing, Secret};

/// The whole configuration, resolved. Made by [`crate::parse`] or [`crate::without_file`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// In the order of the file. Several may share a `model_name`.
    pub models: Vec<ModelEntry>,
    /// How one of them is chosen, and what follows a failure.
    pub routing: Routing,
    /// Keys that the file brings along (`key_settings`, `user_api_key_list`).
    pub seed_keys: Vec<SeedKey>,
    pub server: Server,
    pub budgets: Budgets,
    pub cache: Cache,
    pub journal: JournalConfig,
    pub clickhouse: ClickHouse,
    /// Set: events go through Kafka. Unset: the local journal is the log.
    pub kafka: Option<Kafka>,
    /// Set: budget state is shared by several ingresses. Unset: memory.
    pub redis: Option<Redis>,
    pub drain: Drain,
    /// None: nobody is told.
    pub alerts: Option<Alerts>,
    /// What `/key/generate` gives.
    pub new_keys: NewKeys,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// None: prompts go out as they come, however long.
    pub long_context: Option<LongContext>,
    pub log: Log,
    /// `tollgate.data_dir`; `--data-dir` wins. None: `.tollgate/` beside the file or in the current folder.
    pub data_dir: Option<String>,
}

/// Where and how clients are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `general_settings.host`; `--host` wins. Default `127.0.0.1`.
    pub host: String,
    /// `general_settings.port`; `--port` wins. Default 4000.
    pub port: u16,
    /// `general_settings.master_key`, else `TOLLGATE_MASTER_KEY`, else `LITELLM_MASTER_KEY`. None: the
    /// generated file in the data directory.
    pub master_key: Option<Secret>,
    /// Send usage on every stream, asked for or not. Default false.
    pub always_include_stream_usage: bool,
    /// `litellm_settings.include_cost_in_streaming_usage`: the usage of a stream says what the call cost. Default
    /// false.
    pub cost_in_stream_usage: bool,
    /// `general_settings.store_model_in_db`: whether models can be changed over the API. Default true.
    pub models_change: bool,
    /// `tollgate.secret_key`, else `TOLLGATE_SECRET_KEY`, else `LITELLM_SALT_KEY`: seals the secrets of models
    /// that come over the API. None: such models name variables only.
    pub secret_key: Option<Secret>,
    pub metrics: Metrics,
    /// `general_settings.litellm_key_header_name`, in lower case: looked at first.
    pub key_header: Option<String>,
    /// `general_settings.user_header_name`, in lower case.
    pub user_header: Option<String>,
    pub demands: Demands,
    /// `general_settings.block_robots`.
    pub blocks_robots: bool,
    pub access: Access,
    pub default_models: DefaultModels,
}

/// `general_settings.enable_prometheus_metrics`, `prometheus_metrics_url`,
/// `litellm_settings.require_auth_for_metrics_endpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// None: there are none. Default `/metrics`.
    pub path: Option<String>,
    /// Default false.
    pub needs_key: bool,
}

/// What a call must, or must not, have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands {
    /// `general_settings.enforce_user_param`.
    pub user: bool,
    /// `general_settings.enforced_params`: members of the body, `metadata.x` for one below.
    pub params: Vec<String>,
    /// `general_settings.reject_clientside_metadata_tags`.
    pub no_tags: bool,
}

impl Demands {
    /// Whether nothing is demanded.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.user && self.params.is_empty() && !self.no_tags
    }
}

/// The model of requests that name none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultModels {
    pub completion: Option<String>,
    pub embedding: Option<String>,
    pub moderation: Option<String>,
    pub image: Option<String>,
}

/// `litellm_settings.default_key_generate_params` and `upperbound_key_generate_params`: fields and their JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewKeys {
    pub defaults: Vec<(String, String)>,
    pub bounds: Vec<(String, String)>,
}

/// `general_settings.alerting`, `alert_types`, `alert_to_webhook_url`, `budget_alert_threshold`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// A budget has been used up to `budgets.alert_threshold`, or wholly.
    pub budgets: bool,
    /// A call failed for good.
    pub exceptions: bool,
    /// Every alert is logged and counted; here it is posted, too.
    pub posts: Vec<AlertPost>,
}

/// Where alerts are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPost {
    /// A Slack webhook's URL is its key.
    pub url: Secret,
    pub shape: AlertShape,
    pub budgets: bool,
    pub exceptions: bool,
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertShape {
    /// `{"text": "…"}`
    Slack,
    /// LiteLLM's webhook event.
    Webhook,
}

/// A virtual key of the file. The text is the key itself; only its hash is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedKey {
    pub key: Secret,
    pub key_alias: Option<String>,
    pub user_id: Option<String>,
    pub team_id: Option<String>,
    /// USD a window.
    pub max_budget: Option<NanoUsd>,
    /// Window of `max_budget`. None: for life.
    pub budget_period: Option<Period>,
    pub rpm_limit: Option<u64>,
    pub tpm_limit: Option<u64>,
    pub max_parallel_requests: Option<u32>,
    /// Empty: every model.
    pub models: Vec<String>,
    /// e.g. `key_settings[0]`.
    pub path: String,
}

/// `tollgate.budgets` and the budget over everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Budgets {
    /// `litellm_settings.max_budget`, also `general_settings.global_max_budget`: USD over all keys.
    pub global_max_budget: Option<NanoUsd>,
    /// `general_settings.global_max_parallel_requests`: calls in flight over all keys.
    pub global_parallel: Option<u32>,
    /// `litellm_settings.budget_duration`, also `general_settings.budget_reset_period`. None: for life.
    pub global_period: Option<Period>,
    /// `litellm_settings.max_end_user_budget`: USD for the life of each customer (`user` of a call).
    pub end_user_budget: Option<NanoUsd>,
    /// `litellm_settings.max_internal_user_budget`: USD over the keys of each user (`user_id` of a key) without a
    /// budget of its own.
    pub user_budget: Option<NanoUsd>,
    /// `litellm_settings.internal_user_budget_duration`. None: for life.
    pub user_period: Option<Period>,
    /// Share of a budget at which an alert is raised. Default 0.8.
    pub alert_threshold: DecimalText,
    /// How long a hold lives that nothing settles. Longer than any call plus its billing. Default 900 s.
    pub hold: Duration,
    /// What a call of a model without a known price is held at. Default 1 USD.
    pub unpriced_ceiling: NanoUsd,
    /// IANA name of the zone in which days, weeks and months begin. Default `UTC`.
    pub timezone: String,
    /// Status of a refusal by budget: 429 (default) or 402.
    pub refusal_status: u16,
}

/// Window of a budget: a function of time, so nothing ever has to reset it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight.
    Daily,
    /// From Monday.
    Weekly,
    /// From the first of the calendar month.
    Monthly,
    /// From the first of January.
    Yearly,
    /// Aligned to the Unix epoch. Never zero.
    Seconds(u64),
}

/// The answer cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Exact answers. Default false.
    pub enabled: bool,
    /// Similar answers as well. See [`crate::parse`] on when.
    pub semantic: bool,
    /// Nobody gets an answer that another one asked for (`cache_system_prompt_only`). Default false.
    pub per_user: bool,
    /// Cosine similarity from which an answer is taken. Default 0.90.
    pub threshold: DecimalText,
    /// Life of an entry. Default 3600 s.
    pub ttl: Duration,
    /// Memory of the index and the answers. Default 256 MiB.
    pub max_bytes: u64,
    /// Only on request (`cache_params.mode: default_off`).
    pub on_request_only: bool,
    /// Address of a cache-service of its own process. None: in this process.
    pub service_url: Option<String>,
    /// How long a look-up at `service_url` may take before the call goes on without. Default 250 ms.
    pub timeout: Duration,
    /// What callers of a cache-service show it, and what it asks for. None: nothing.
    pub token: Option<Secret>,
    /// Where answers are kept when shared. None: on local disk.
    pub redis_url: Option<Secret>,
}

/// When an appended record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Each record is synced alone.
    Always,
    /// One sync for all records that wait.
    Group,
    /// Page cache: survives a kill, not a power cut.
    Os,
}

/// `tollgate.journal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Default `group`.
    pub sync: SyncMode,
    /// Size of one segment file. Default 16 MiB.
    pub segment_bytes: u64,
    /// Size at which hard budgets are refused. Default 8 GiB.
    pub cap_bytes: u64,
    /// Days that consumed segments are kept, so that every projection can be made again from them. Default 400.
    pub retention_days: u32,
    /// The longest that a group of calls waits for company before one sync serves all; one that is alone
    /// never waits. Default 2000 µs.
    pub group_wait_us: u64,
}

/// `tollgate.clickhouse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouse {
    /// None: the embedded engine on `port`.
    pub url: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Default `default`, the server's own.
    pub database: String,
    /// Port of the embedded engine; `--clickhouse-port` wins. Default 8123.
    pub port: u16,
}

/// `tollgate.kafka`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port,…`
    pub bootstrap_servers: String,
    /// Properties of librdkafka, passed on (TLS, SASL). Values may be secrets.
    pub properties: Vec<(String, Secret)>,
    /// Begin of every topic's name: `tollgate` makes `tollgate.usage.v1`. Default `tollgate`.
    pub topic_prefix: String,
    /// Partitions of requests, usage and cost, chosen when they are made. Config and catalog have one.
    /// Default 64.
    pub partitions: u16,
    /// None: 3, or as many as there are brokers.
    pub replication_factor: Option<u16>,
    /// None: the ids of schemas are a fixed map of our own.
    pub schema_registry_url: Option<String>,
}

/// `tollgate.redis`: where budget state is kept for several ingresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// `redis://…` or `rediss://…`, with its login.
    pub url: Secret,
    /// Begin of every key, and its hash tag. Default `tollgate`.
    pub prefix: String,
    /// Longest wait of a call for an answer. Default 2 s.
    pub wait: Duration,
    /// Certificates in PEM that are trusted to sign the server's. Default those of the system.
    pub ca: Option<Secret>,
}

/// `tollgate.drain`: how a process ends that was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long calls are still taken after readiness says no, so that a load balancer can look away first.
    /// Default none.
    pub lame_duck: Duration,
    /// How long calls in progress may go on, and after them what they left to be billed. Default 20 s.
    pub deadline: Duration,
}

/// `tollgate.limits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body. Default 32 MiB; `general_settings.max_request_size_mb` is an alias.
    pub body_bytes_max: u64,
}

/// `tollgate.timeouts`: the defaults of every upstream call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Default 5 s.
    pub connect: Duration,
    /// From dispatch to the first byte. None: bounded by `total` alone.
    pub first_byte: Option<Duration>,
    /// Between two reads. Default 120 s.
    pub idle: Duration,
    /// Default 600 s.
    pub total: Duration,
}

/// `tollgate.long_context`: what becomes of chats that are longer than they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongContext {
    pub by: Shortening,
    /// Prompts of more tokens are made shorter. None: those that do not fit into the smallest window behind
    /// their model's name.
    pub over_tokens: Option<u64>,
    /// Turns at the end that stay as they are. Default 1.
    pub keep_last_turns: u32,
    /// Only for these names. Empty: for all.
    pub models: Vec<String>,
}

/// How a chat is made shorter. Its system prompt and its last turns always stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortening {
    /// The oldest turns go.
    DropMiddle,
    /// A model says them in fewer words: a call of its own, under the same key.
    Summarise { model: String },
}

/// `tollgate.log`, `litellm_settings.log_level`, `json_logs`, `set_verbose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info` (default), `debug`, `trace`.
    pub level: LogLevel,
    /// Default `text`.
    pub format: LogFormat,
    /// `litellm_settings.log_to_file`: into a file as well.
    pub file: Option<LogFile>,
    /// `litellm_settings.log_completion_tokens`: a line for each call. Default false.
    pub calls: bool,
}

/// `litellm_settings.log_file_path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFile {
    /// `tollgate.log` in the data directory.
    InDataDir,
    At(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogLevel {
    /// The word that `tracing` knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Server {
    /// `host:port` as an address, when the host is a literal one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl Config {
    /// The deployments behind a name, by a walk over all of them: those of that very name, else those of the most specific
    /// pattern; each with its upstream model.
    #[must_use]
    pub fn deployments(&self, requested: &str) -> Vec<(&ModelEntry, String)> {
        let exact: Vec<_> = self
            .models
            .iter()
            .filter(|entry| !entry.is_wildcard())
            .filter_map(|entry| Some((entry, entry.serves(requested)?)))
            .collect();
        if !exact.is_empty() {
            return exact;
        }
        let matches: Vec<_> = self
            .models
            .iter()
            .filter(|entry| entry.is_wildcard())
            .filter_map(|entry| Some((entry, entry.serves(requested)?)))
            .collect();
        let longest = matches
            .iter()
            .map(|(entry, _)| entry.model_name.len())
            .max();
        matches
            .into_iter()
            .filter(|(entry, _)| Some(entry.model_name.len()) == longest)
            .collect()
    }
}

impl Default for Config {
    /// What holds where no file says otherwise: no models, no keys, loopback, everything local.
    fn default() -> Self {
        let number =
            |text: &str| DecimalText::new(text).unwrap_or_else(|| unreachable!("a literal"));
        Self {
            models: Vec::new(),
            routing: Routing::default(),
            seed_keys: Vec::new(),
            server: Server {
                host: "127.0.0.1".to_owned(),
                port: 4000,
                master_key: None,
                always_include_stream_usage: false,
                cost_in_stream_usage: false,
                metrics: Metrics {
                    path: Some("/metrics".to_owned()),
                    needs_key: false,
                },
                key_header: None,
                user_header: None,
                demands: Demands::default(),
                blocks_robots: false,
                access: Access::default(),
                default_models: DefaultModels::default(),
                models_change: true,
                secret_key: None,
            },
            budgets: Budgets {
                global_max_budget: None,
                global_period: None,
                global_parallel: None,
                end_user_budget: None,
                user_budget: None,
                user_period: None,
                alert_threshold: number("0.8"),
                hold: Duration::from_secs(900),
                unpriced_ceiling: NanoUsd::from_usd(1),
                timezone: "UTC".to_owned(),
                refusal_status: 429,
            },
            cache: Cache {
                enabled: false,
                semantic: false,
                per_user: false,
                threshold: number("0.90"),
                ttl: Duration::from_secs(3600),
                max_bytes: 256 << 20,
                on_request_only: false,
                service_url: None,
                timeout: Duration::from_millis(250),
                token: None,
                redis_url: None,
            },
            journal: JournalConfig {
                sync: SyncMode::Group,
                segment_bytes: 16 << 20,
                cap_bytes: 8 << 30,
                retention_days: 400,
                group_wait_us: 2_000,
            },
            clickhouse: ClickHouse {
                url: None,
                user: None,
                password: None,
                database: "default".to_owned(),
                port: 8123,
            },
            kafka: None,
            redis: None,
            drain: Drain {
                lame_duck: Duration::ZERO,
                deadline: Duration::from_secs(20),
            },
            limits: Limits {
                body_bytes_max: 32 << 20,
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                first_byte: None,
                idle: Duration::from_secs(120),
                total: Duration::from_secs(600),
            },
            long_context: None,
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Text,
                file: None,
                calls: false,
            },
            alerts: None,
            new_keys: NewKeys::default(),
            data_dir: None,
        }
    }
}
