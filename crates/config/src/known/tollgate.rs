//! `tollgate:`, our own section. Units are in the names; defaults stand in the descriptions.

use super::{must, on};
use crate::kind::{Kind, Setting};

#[rustfmt::skip] // a table is read by its rows
pub(super) const SETTINGS: &[Setting] = &[
    on("data_dir", Kind::Text, "where everything that lasts lives; default .tollgate/ beside the file"),
    on("secret_key", Kind::Secret, "seals provider keys given to /model/new on the log; from 16 characters; else TOLLGATE_SECRET_KEY, LITELLM_SALT_KEY"),
    on("journal", Kind::Section(&[JOURNAL]), "the local log"),
    on("clickhouse", Kind::Section(&[CLICKHOUSE]), "usage tables; embedded without a url"),
    on("kafka", Kind::Section(&[KAFKA]), "the log that several processes share; without it the local journal is the log"),
    on("redis", Kind::Section(&[REDIS]), "budget state that several processes share; without it memory"),
    on("redis_url", Kind::Secret, "the same as redis.url"),
    on("cache", Kind::Section(&[CACHE]), "the answer cache"),
    on("budgets", Kind::Section(&[BUDGETS]), "how budgets are held and refused"),
    on("drain", Kind::Section(&[DRAIN]), "how a process ends"),
    on("limits", Kind::Section(&[LIMITS]), "bounds of one request"),
    on("timeouts", Kind::Section(&[TIMEOUTS]), "of upstream calls"),
    on("log", Kind::Section(&[LOG]), "what this process prints"),
    on("long_context", Kind::Section(&[LONG_CONTEXT]), "how chats are made shorter that are too long; without it they are not"),
    on("providers", Kind::Map(&Kind::Section(&[PROVIDER])), "providers of one's own that speak OpenAI's shape, each by its prefix"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const LONG_CONTEXT: &[Setting] = &[
    must("strategy", Kind::Word(&["drop_middle", "summarise", "summarize"]), "the oldest turns go, or a model says them in fewer words"),
    on("model", Kind::Text, "the name that summarises, of model_list"),
    on("over_tokens", Kind::Positive, "longer prompts are made shorter; default those that do not fit into the window"),
    on("keep_last_turns", Kind::Positive, "turns at the end that stay as they are; default 1"),
    on("models", Kind::List(&Kind::Text), "only for these names; default all"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const PROVIDER: &[Setting] = &[
    must("base_url", Kind::Url, "without the path of the endpoint"),
    on("path", Kind::Text, "of chat completions below base_url, with {model} for its name; default /chat/completions"),
    on("api_key", Kind::Secret, "for every model of it"),
    on("auth", Kind::Word(&["bearer", "header", "none"]), "how the key travels; default bearer"),
    on("auth_header", Kind::Text, "its header, with auth: header"),
    on("auth_prefix", Kind::Text, "stands before the key in that header, with a space between"),
    on("headers", Kind::Map(&Kind::Secret), "sent on every call, beside those of the model"),
    on("quirks", Kind::List(&Kind::Word(&["no_stream_options", "max_tokens_only", "no_chat"])), "where it differs from OpenAI's shape"),
    on("ssl_verify", Kind::Text, "false, or a PEM file of authorities"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const JOURNAL: &[Setting] = &[
    on("sync", Kind::Word(&["always", "group", "os"]), "when a record counts as written; default group"),
    on("segment_bytes", Kind::Positive, "size of one file, a multiple of 4096 from 65536 to 1073741824; default 16777216"),
    on("cap_bytes", Kind::Positive, "size at which hard budgets are refused; default 8589934592"),
    on("retention_days", Kind::Count, "days that consumed segments are kept, to rebuild from; default 400"),
    on("group_wait_us", Kind::Count, "microseconds a group of calls waits for company at most; up to 1000000; default 2000"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const CLICKHOUSE: &[Setting] = &[
    on("url", Kind::Url, "a server of one's own; default the embedded engine"),
    on("user", Kind::Text, "login at the server"),
    on("password", Kind::Secret, "password at the server"),
    on("database", Kind::Text, "of the tables; default `default`"),
    on("port", Kind::Port, "port of the embedded engine; default 8123"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const KAFKA: &[Setting] = &[
    must("bootstrap_servers", Kind::Text, "host:port, separated by commas"),
    on("properties", Kind::Map(&Kind::Secret), "properties of librdkafka, such as security.protocol and sasl.password"),
    on("topic_prefix", Kind::Text, "begin of the topics' names; default tollgate, as in tollgate.usage.v1"),
    on("partitions", Kind::Positive, "of requests, usage and cost, when they are made; at most 1024; default 64"),
    on("replication_factor", Kind::Positive, "of topics, when they are made; default 3, or as many as there are brokers"),
    on("schema_registry_url", Kind::Url, "a schema registry; default a fixed map of ids"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const REDIS: &[Setting] = &[
    on("url", Kind::Secret, "redis://… or rediss://…"),
    on("prefix", Kind::Text, "begin of every key, and its hash tag; default tollgate"),
    on("wait_ms", Kind::Positive, "milliseconds that a call waits for an answer at most; then hard budgets refuse and other calls go by local bounds; up to 3600000; default 2000"),
    on("ca", Kind::Secret, "certificates in PEM that sign the server's (file/PATH reads them); default the system's"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const CACHE: &[Setting] = &[
    on("url", Kind::Url, "a cache-service of its own; default in this process"),
    on("service_url", Kind::Url, "the same as url"),
    on("timeout_ms", Kind::Positive, "milliseconds a look-up at url may take; up to 3600000; default 250"),
    on("token", Kind::Secret, "what callers show a cache-service, and what it asks for"),
    on("redis_url", Kind::Secret, "answers that several cache-services share; default on local disk"),
    on("threshold", Kind::Ratio, "cosine similarity from which an answer is taken; default 0.90"),
    on("ttl_s", Kind::Seconds, "seconds an answer lives; default 3600"),
    on("max_bytes", Kind::Positive, "memory of index and answers; default 268435456"),
    on("semantic", Kind::Bool, "similar questions too, not only the same ones"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const BUDGETS: &[Setting] = &[
    on("hold_s", Kind::Positive, "seconds a hold lives that nothing settles; default 900"),
    on("unpriced_ceiling", Kind::Usd, "USD held for a call of a model without a price; default 1"),
    on("timezone", Kind::Text, "IANA zone in which days, weeks and months begin; default UTC"),
    on("refusal_status", Kind::Word(&["429", "402"]), "status of a refusal by budget; default 429"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const DRAIN: &[Setting] = &[
    on("lame_duck_s", Kind::Seconds, "calls are still taken for so long after readiness says no; default none"),
    on("deadline_s", Kind::Seconds, "calls in progress may go on for so long, and what they left to bill after them; default 20"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const LIMITS: &[Setting] = &[on(
    "body_bytes_max",
    Kind::Positive,
    "largest request; default 33554432",
)];

#[rustfmt::skip] // a table is read by its rows
pub(super) const TIMEOUTS: &[Setting] = &[
    on("connect_s", Kind::Seconds, "default 5"),
    on("hedge_after_s", Kind::Seconds, "where no answer has begun by then, another deployment is asked as well; both are billed; default never"),
    on("first_byte_s", Kind::Seconds, "from dispatch to the first byte; default none"),
    on("idle_s", Kind::Seconds, "between two reads; default 120"),
    on("total_s", Kind::Seconds, "whole call; default 600"),
];

#[rustfmt::skip] // a table is read by its rows
pub(super) const LOG: &[Setting] = &[
    on("level", Kind::Word(&["error", "warn", "warning", "info", "debug", "trace"]), "default info"),
    on("format", Kind::Word(&["text", "json"]), "default text"),
];
