//! The typed result: everything that the roles of Tollgate read.

mod server;
mod stores;
mod told;

use std::time::Duration;

use schemas::NanoUsd;

use crate::{Access, DecimalText, ModelEntry, Routing};

pub use server::{DefaultModels, Demands, Metrics, NewKeys, SeedKey, Server};
pub use stores::{Cache, ClickHouse, Drain, JournalConfig, Kafka, Redis, SyncMode};
pub use told::{AlertPost, AlertShape, Alerts, Log, LogFile, LogFormat, LogLevel};

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
