//! `tollgate:`, our own section. Units are in the names; defaults stand in the descriptions.

use super::{judged, on};
use crate::kind::{Kind, Setting};

pub(super) const SETTINGS: &[Setting] = &[
    on(
        "data_dir",
        Kind::Text,
        "where everything that lasts lives; default .tollgate/ beside the file",
    ),
    on("journal", Kind::Section(&[JOURNAL]), "the local log"),
    on(
        "clickhouse",
        Kind::Section(&[CLICKHOUSE]),
        "usage tables; embedded without a url",
    ),
    judged(
        "kafka",
        Kind::Section(&[KAFKA]),
        "the log of the split mode",
    ),
    judged(
        "redis",
        Kind::Section(&[REDIS]),
        "budget state of the split mode",
    ),
    on("cache", Kind::Section(&[CACHE]), "the answer cache"),
    on(
        "budgets",
        Kind::Section(&[BUDGETS]),
        "how budgets are held and refused",
    ),
    on("limits", Kind::Section(&[LIMITS]), "bounds of one request"),
    on("timeouts", Kind::Section(&[TIMEOUTS]), "of upstream calls"),
    on("log", Kind::Section(&[LOG]), "what this process prints"),
];

pub(super) const JOURNAL: &[Setting] = &[
    on(
        "sync",
        Kind::Word(&["always", "group", "os"]),
        "when a record counts as written; default group",
    ),
    on(
        "segment_bytes",
        Kind::Positive,
        "size of one file, from 65536; default 16777216",
    ),
    on(
        "cap_bytes",
        Kind::Positive,
        "size at which hard budgets are refused; default 8589934592",
    ),
    on(
        "retention_days",
        Kind::Count,
        "days that consumed segments are kept, to rebuild from; default 400",
    ),
    on(
        "group_wait_us",
        Kind::Count,
        "microseconds a group of calls waits for company at most; default 1000",
    ),
];

pub(super) const CLICKHOUSE: &[Setting] = &[
    on(
        "url",
        Kind::Url,
        "a server of one's own; default the embedded engine",
    ),
    on("user", Kind::Text, "login at the server"),
    on("password", Kind::Secret, "password at the server"),
    on(
        "port",
        Kind::Port,
        "port of the embedded engine; default 8123",
    ),
];

pub(super) const KAFKA: &[Setting] = &[
    judged(
        "bootstrap_servers",
        Kind::Text,
        "host:port, separated by commas",
    ),
    judged(
        "properties",
        Kind::Map(&Kind::Any),
        "properties of librdkafka",
    ),
];

pub(super) const REDIS: &[Setting] = &[judged("url", Kind::Secret, "redis://…")];

pub(super) const CACHE: &[Setting] = &[
    judged(
        "url",
        Kind::Url,
        "a cache-service of its own; default in this process",
    ),
    judged(
        "redis_url",
        Kind::Secret,
        "shared answers; default on local disk",
    ),
    on(
        "threshold",
        Kind::Ratio,
        "cosine similarity from which an answer is taken; default 0.90",
    ),
    on(
        "ttl_s",
        Kind::Positive,
        "seconds an answer lives; default 3600",
    ),
    on(
        "max_bytes",
        Kind::Positive,
        "memory of index and answers; default 268435456",
    ),
    on(
        "semantic",
        Kind::Bool,
        "similar questions too, not only the same ones",
    ),
];

pub(super) const BUDGETS: &[Setting] = &[
    on(
        "hold_s",
        Kind::Positive,
        "seconds a hold lives that nothing settles; default 900",
    ),
    on(
        "unpriced_ceiling",
        Kind::Usd,
        "USD held for a call of a model without a price; default 1",
    ),
    on(
        "timezone",
        Kind::Text,
        "IANA zone in which days, weeks and months begin; default UTC",
    ),
    on(
        "refusal_status",
        Kind::Word(&["429", "402"]),
        "status of a refusal by budget; default 429",
    ),
];

pub(super) const LIMITS: &[Setting] = &[on(
    "body_bytes_max",
    Kind::Positive,
    "largest request; default 33554432",
)];

pub(super) const TIMEOUTS: &[Setting] = &[
    on("connect_s", Kind::Seconds, "default 5"),
    on(
        "first_byte_s",
        Kind::Seconds,
        "from dispatch to the first byte; default none",
    ),
    on("idle_s", Kind::Seconds, "between two reads; default 120"),
    on("total_s", Kind::Seconds, "whole call; default 600"),
];

pub(super) const LOG: &[Setting] = &[
    on(
        "level",
        Kind::Word(&["error", "warn", "warning", "info", "debug", "trace"]),
        "default info",
    ),
    on("format", Kind::Word(&["text", "json"]), "default text"),
];
