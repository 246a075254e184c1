//! Sections that files in the wild have and LiteLLM does not.

use super::{DATABASE, TEXTS, judged, must, never, on};
use crate::kind::{Kind, Setting};

const TYPES: &[&str] = &[
    "latency",
    "latency-based",
    "cost-based",
    "cost_optimized",
    "capability-based",
    "weighted_round_robin",
    "round_robin",
    "least-busy",
    "simple-shuffle",
];

/// `router:`
#[rustfmt::skip] // a table is read by its rows
pub(super) const ROUTER: &[Setting] = &[
    judged("type", Kind::Word(TYPES), "how a deployment is chosen; decides among equals where routing_strategy says something else"),
    judged("routing_strategy", Kind::Word(TYPES), "how a deployment is chosen"),
    on("cost_threshold", Kind::Number, "USD up to which a call goes to the cheapest deployment of any name"),
    on("context_threshold", Kind::Positive, "tokens from which a prompt goes to a long-context deployment of any name"),
    on("weights", Kind::Map(&Kind::Number), "shares by model_name: the names form one pool"),
    on("latency_threshold", Kind::Number, "milliseconds to the first token from which a deployment is chosen last"),
];

/// `fallback_config[]`
#[rustfmt::skip] // a table is read by its rows
pub(super) const FALLBACK: &[Setting] = &[
    must("model_name", Kind::Text, "the name that fails"),
    must("fallback_to", TEXTS, "the names to try, in order"),
    on("retry_attempts", Kind::Count, "num_retries of that name"),
    on("retry_delay", Kind::Number, "retry_after of that name"),
];

/// `key_settings[]`
#[rustfmt::skip] // a table is read by its rows
pub(super) const KEY_SETTINGS: &[Setting] = &[
    must("api_key", Kind::Secret, "the virtual key itself"),
    on("rate_limit", Kind::Section(&[RATE_LIMIT]), "limits a minute"),
    on("budget", Kind::Section(&[BUDGET]), "USD a period"),
    on("user_id", Kind::Text, "whom the spend is counted for"),
    on("team_id", Kind::Text, "the team whose limits hold as well"),
    on("key_alias", Kind::Text, "the name in reports"),
    on("models", TEXTS, "what the key may call; empty means everything"),
    on("allowed_models", TEXTS, "the same as models"),
];

#[rustfmt::skip] // a table is read by its rows
const RATE_LIMIT: &[Setting] = &[
    on("requests_per_minute", Kind::Positive, ""),
    on("tokens_per_minute", Kind::Positive, ""),
    on("max_parallel_requests", Kind::Positive, "calls in flight"),
];

#[rustfmt::skip] // a table is read by its rows
const BUDGET: &[Setting] = &[
    on("daily_limit", Kind::Usd, "USD a day"),
    on("weekly_limit", Kind::Usd, "USD a week"),
    on("monthly_limit", Kind::Usd, "USD a calendar month"),
    on("yearly_limit", Kind::Usd, "USD a year"),
    on("total_limit", Kind::Usd, "USD for the life of the key"),
];

/// `user_api_key_list[]`
#[rustfmt::skip] // a table is read by its rows
pub(super) const USER_API_KEY: &[Setting] = &[
    must("api_key", Kind::Secret, "the virtual key itself"),
    on("user_id", Kind::Text, "whom the spend is counted for"),
    on("team_id", Kind::Text, "the team whose limits hold as well"),
    on("key_alias", Kind::Text, "the name in reports"),
    on("max_budget", Kind::Usd, "USD a period"),
    on("budget_reset_period", Kind::Window, "the period of max_budget; none means for life"),
    on("budget_duration", Kind::Window, "the same as budget_reset_period"),
    on("rpm_limit", Kind::Positive, "requests a minute"),
    on("tpm_limit", Kind::Positive, "tokens a minute"),
    on("max_parallel_requests", Kind::Positive, "calls in flight"),
    on("allowed_models", TEXTS, "what the key may call; empty means everything"),
    on("models", TEXTS, "the same as allowed_models"),
];

/// `database:`
#[rustfmt::skip] // a table is read by its rows
pub(super) const DATABASE_SECTION: &[Setting] = &[
    never("type", Kind::Text, DATABASE),
    never("connection_string", Kind::Secret, DATABASE),
    never("url", Kind::Secret, DATABASE),
    never("host", Kind::Text, DATABASE),
    never("port", Kind::Port, DATABASE),
    never("user", Kind::Text, DATABASE),
    never("password", Kind::Secret, DATABASE),
    never("name", Kind::Text, DATABASE),
    never("pool_size", Kind::Positive, DATABASE),
];
