//! `litellm_settings`.

use super::{
    ALERTS, ANY_LIST, ANY_MAP, CALLBACK, GUARDRAILS, PARAMETERS, TEXTS, UI, judged, later, never,
    on,
};
use crate::kind::{Kind, Setting};

const STORE: &str = "belongs to a store, or a way to it, that is not here: answers are on local disk, or in Redis by host and port or by url";
const EMBEDDING: &str = "embeddings are made by the built-in model; no text leaves the machine";
const USER_DEFAULTS: &str =
    "users are whoever a key names as its user_id; max_internal_user_budget is their budget";
const TEAM_DEFAULTS: &str = "defaults for new teams do not take effect yet; those for keys do";
const TLS: &str = "ssl_verify says whose certificates are believed; how they are shown is fixed";
const METRICS: &str = "the labels of /metrics are fixed";

pub(super) const SETTINGS: &[Setting] = &[
    on(
        "cache",
        Kind::Either {
            mapping: &Kind::Section(&[CACHE_PARAMS]),
            other: &Kind::Bool,
        },
        "true: same and similar questions are answered from the cache",
    ),
    on("enable_cache", Kind::Bool, "the same as cache"),
    on("cache_ttl", Kind::Seconds, "the same as cache_params.ttl"),
    on(
        "cache_params",
        Kind::Section(&[CACHE_PARAMS]),
        "type, threshold, life of the answers",
    ),
    on(
        "cache_system_prompt_only",
        Kind::Bool,
        "true: nobody gets an answer that another one asked for; calls with the same system prompt go to the same deployment, so that the provider's cache of it serves all",
    ),
    on("max_budget", Kind::Usd, "USD over all keys"),
    on(
        "budget_duration",
        Kind::Window,
        "the period of max_budget; none means for life",
    ),
    on(
        "request_timeout",
        Kind::Seconds,
        "seconds for the whole of a call, where nothing nearer says it",
    ),
    on(
        "log_level",
        Kind::Word(&[
            "error", "warn", "warning", "info", "debug", "trace", "critical",
        ]),
        "the same as tollgate.log.level",
    ),
    on(
        "log_format",
        Kind::Word(&["text", "json", "plain"]),
        "the same as tollgate.log.format",
    ),
    on("json_logs", Kind::Bool, "true: tollgate.log.format is json"),
    on(
        "set_verbose",
        Kind::Bool,
        "true: tollgate.log.level is debug",
    ),
    on(
        "log_completion_tokens",
        Kind::Bool,
        "true: a log line for each call, with its tokens and cost; the event log has them always",
    ),
    judged(
        "disable_pii_logging",
        Kind::Bool,
        "always so: prompts and answers are never logged",
    ),
    judged(
        "turn_off_message_logging",
        Kind::Bool,
        "always so: prompts and answers are never logged",
    ),
    on("redact_messages_in_exceptions", Kind::Bool, "always so"),
    on(
        "redact_user_api_key_info",
        Kind::Bool,
        "always so: keys appear only as their hash",
    ),
    on(
        "log_to_file",
        Kind::Bool,
        "true: what is printed goes into log_file_path as well",
    ),
    judged(
        "log_file_path",
        Kind::Text,
        "a file that log lines are appended to; default tollgate.log in the data directory",
    ),
    on(
        "drop_params",
        Kind::Bool,
        "as in litellm_params, for all deployments",
    ),
    on(
        "modify_params",
        Kind::Bool,
        "as in litellm_params, for all deployments",
    ),
    later("add_function_to_prompt", Kind::Bool, PARAMETERS),
    later("enable_json_schema_validation", Kind::Bool, PARAMETERS),
    later(
        "disable_add_transform_inline_image_block",
        Kind::Bool,
        PARAMETERS,
    ),
    later(
        "disable_copilot_system_to_assistant",
        Kind::Bool,
        PARAMETERS,
    ),
    later(
        "use_chat_completions_url_for_anthropic_messages",
        Kind::Bool,
        PARAMETERS,
    ),
    later(
        "LITELLM_DISABLE_STOP_SEQUENCE_LIMIT",
        Kind::Bool,
        PARAMETERS,
    ),
    later("enable_preview_features", Kind::Bool, PARAMETERS),
    on(
        "num_retries",
        Kind::Count,
        "attempts after the first, where router_settings says nothing",
    ),
    on("max_retries", Kind::Count, "the same as num_retries"),
    on("retry_after", Kind::Number, "as in router_settings"),
    on("allowed_fails", Kind::Count, "as in router_settings"),
    on("cooldown_time", Kind::Number, "as in router_settings"),
    on("fallbacks", ANY_LIST, "as in router_settings"),
    on("default_fallbacks", TEXTS, "as in router_settings"),
    on("default_fallback_models", TEXTS, "as in router_settings"),
    on("fallback_on", TEXTS, "as in router_settings"),
    on(
        "max_retries_per_fallback",
        Kind::Count,
        "as in router_settings",
    ),
    on("max_fallbacks", Kind::Count, "as in router_settings"),
    on(
        "context_window_fallbacks",
        ANY_LIST,
        "as in router_settings",
    ),
    on(
        "content_policy_fallbacks",
        ANY_LIST,
        "as in router_settings",
    ),
    judged("routing_strategy", Kind::Text, "as in router_settings"),
    on(
        "model_group_alias_map",
        ANY_MAP,
        "names that answer for other names",
    ),
    on(
        "model_alias_map",
        ANY_MAP,
        "names that answer for other names",
    ),
    later("model_group_settings", ANY_MAP, super::ROUTING),
    later(
        "tag_budget_config",
        ANY_MAP,
        "budgets of tags do not take effect yet",
    ),
    later(
        "priority_reservation",
        ANY_MAP,
        "shares of a limit by priority do not take effect yet",
    ),
    later(
        "priority_reservation_settings",
        ANY_MAP,
        "shares of a limit by priority do not take effect yet",
    ),
    on(
        "max_parallel_requests",
        Kind::Positive,
        "the same as general_settings.global_max_parallel_requests",
    ),
    later(
        "max_user_budget",
        Kind::Usd,
        "LiteLLM itself no longer reads it; give max_internal_user_budget or max_end_user_budget",
    ),
    on(
        "max_internal_user_budget",
        Kind::Usd,
        "USD over the keys of each user (user_id) without a budget of its own",
    ),
    on(
        "internal_user_budget_duration",
        Kind::Window,
        "the period of max_internal_user_budget; none means for life",
    ),
    on(
        "max_end_user_budget",
        Kind::Usd,
        "USD for the life of each customer (user of a call)",
    ),
    later(
        "max_end_user_budget_id",
        Kind::Text,
        "budgets with an id of their own do not take effect yet; give max_end_user_budget",
    ),
    never("max_ui_session_budget", Kind::Usd, UI),
    later("default_internal_user_params", ANY_MAP, USER_DEFAULTS),
    later("default_user_params", ANY_MAP, USER_DEFAULTS),
    on(
        "default_max_internal_user_budget",
        Kind::Usd,
        "the same as max_internal_user_budget",
    ),
    later("default_team_params", ANY_MAP, TEAM_DEFAULTS),
    later("default_team_settings", ANY_LIST, CALLBACK),
    on(
        "default_key_generate_params",
        Kind::Section(&[KEY_DEFAULTS_OF]),
        "fields of /key/generate for requests that do not have them",
    ),
    on(
        "upperbound_key_generate_params",
        Kind::Section(&[KEY_BOUNDS]),
        "the most that /key/generate gives; also what it gives where a request says nothing",
    ),
    later(
        "key_generation_settings",
        ANY_MAP,
        "only the master key makes keys",
    ),
    later(
        "enable_key_alias_format_validation",
        Kind::Bool,
        "any text that no other key has is an alias",
    ),
    judged(
        "success_callback",
        TEXTS,
        "prometheus: see /metrics, which is always there",
    ),
    judged(
        "failure_callback",
        TEXTS,
        "prometheus: see /metrics, which is always there",
    ),
    judged(
        "callbacks",
        TEXTS,
        "prometheus: see /metrics, which is always there",
    ),
    judged(
        "service_callback",
        TEXTS,
        "prometheus: see /metrics, which is always there",
    ),
    judged(
        "service_callbacks",
        TEXTS,
        "prometheus: see /metrics, which is always there",
    ),
    later("audit_log_callbacks", TEXTS, CALLBACK),
    later("callback_settings", ANY_MAP, CALLBACK),
    later("post_call_rules", Kind::Text, CALLBACK),
    later("pre_call_rules", Kind::Text, CALLBACK),
    later("langfuse_*", Kind::Any, CALLBACK),
    later("langsmith_*", Kind::Any, CALLBACK),
    later("s3_callback_params", ANY_MAP, CALLBACK),
    later("gcs_*", Kind::Any, CALLBACK),
    later("datadog_*", Kind::Any, CALLBACK),
    later("newrelic_*", Kind::Any, CALLBACK),
    later("generic_logger_headers", Kind::Any, CALLBACK),
    later("generic_api_*", Kind::Any, CALLBACK),
    later("aws_sqs_callback_params", ANY_MAP, CALLBACK),
    later("cloudzero_*", Kind::Any, CALLBACK),
    later("email_*", Kind::Any, ALERTS),
    later(
        "log_raw_request_response",
        Kind::Bool,
        "prompts and answers are never logged",
    ),
    later("disable_streaming_logging", Kind::Bool, CALLBACK),
    later("global_disable_no_log_param", Kind::Bool, CALLBACK),
    later(
        "extra_spend_tag_headers",
        TEXTS,
        "tags from other headers do not take effect yet; x-litellm-tags does",
    ),
    later(
        "disable_end_user_cost_tracking",
        Kind::Bool,
        "every event carries its customer",
    ),
    later(
        "disable_end_user_cost_tracking_prometheus_only",
        Kind::Bool,
        METRICS,
    ),
    later(
        "enable_end_user_cost_tracking_prometheus_only",
        Kind::Bool,
        METRICS,
    ),
    later("prometheus_metrics_config", ANY_LIST, METRICS),
    later("prometheus_initialize_budget_metrics", Kind::Bool, METRICS),
    later("custom_prometheus_metadata_labels", TEXTS, METRICS),
    later("custom_prometheus_tags", TEXTS, METRICS),
    later("prometheus_*", Kind::Any, METRICS),
    on(
        "require_auth_for_metrics_endpoint",
        Kind::Bool,
        "true: /metrics wants a key",
    ),
    on(
        "include_cost_in_streaming_usage",
        Kind::Bool,
        "true: the usage that a stream ends with has the cost of the call, in USD",
    ),
    judged(
        "return_response_headers",
        Kind::Bool,
        "always so: the provider's headers come back as llm_provider-<name>",
    ),
    later(
        "forward_traceparent_to_llm_provider",
        Kind::Bool,
        "tracing does not take effect yet",
    ),
    later(
        "store_audit_logs",
        Kind::Bool,
        "always so: every change is an event on the config log",
    ),
    later(
        "cost_discount_config",
        ANY_MAP,
        "discounts and margins do not take effect yet",
    ),
    later(
        "cost_margin_config",
        ANY_MAP,
        "discounts and margins do not take effect yet",
    ),
    later(
        "custom_provider_map",
        ANY_LIST,
        "providers written in Python cannot be loaded; give api_base of an OpenAI-shaped endpoint",
    ),
    later("guardrails", ANY_LIST, GUARDRAILS),
    later("mcp_aliases", ANY_MAP, "MCP servers do not take effect yet"),
    later("mcp_*", Kind::Any, "MCP servers do not take effect yet"),
    later("public_model_groups", TEXTS, UI),
    later("public_model_groups_links", ANY_MAP, UI),
    later("public_*", Kind::Any, UI),
    never("ui_theme_config", ANY_MAP, UI),
    on(
        "ssl_verify",
        Kind::Any,
        "false, or a PEM file of the authorities that are believed; the variable SSL_VERIFY says the same",
    ),
    later("ssl_certificate", Kind::Text, TLS),
    later("ssl_security_level", Kind::Text, TLS),
    later("ssl_ecdh_curve", Kind::Text, TLS),
    later("force_ipv4", Kind::Bool, "both address families are tried"),
    later("headers", ANY_MAP, "give extra_headers of a model"),
    later("api_base", Kind::Url, "give api_base of a model"),
    later("api_key", Kind::Secret, "give api_key of a model"),
    later("openai_key", Kind::Secret, "give api_key of a model"),
    later("organization", Kind::Text, "give organization of a model"),
    later(
        "vertex_*",
        Kind::Any,
        "Vertex AI's own dialect does not take effect yet",
    ),
    later(
        "enable_azure_ad_token_refresh",
        Kind::Bool,
        "Azure's directory sign-in does not take effect yet",
    ),
    later(
        "use_litellm_proxy",
        Kind::Bool,
        "give a model litellm_proxy/<name> with the api_base of the other proxy",
    ),
    later(
        "credential_list",
        ANY_LIST,
        "named credentials do not take effect yet",
    ),
    later(
        "disable_hf_tokenizer_download",
        Kind::Bool,
        super::TOKENIZERS,
    ),
    later("disable_token_counter", Kind::Bool, super::TOKENIZERS),
    later(
        "enable_loadbalancing_on_batch_endpoints",
        Kind::Bool,
        "batch endpoints do not take effect yet",
    ),
    later(
        "require_managed_files",
        Kind::Bool,
        "file endpoints do not take effect yet",
    ),
    later("default_redis_ttl", Kind::Number, STORE),
    later(
        "default_in_memory_ttl",
        Kind::Number,
        "give cache_params.ttl",
    ),
    later("default_redis_batch_cache_expiry", Kind::Number, STORE),
    never("telemetry", Kind::Bool, "nothing is ever sent home"),
    never(
        "suppress_debug_info",
        Kind::Bool,
        "concerns LiteLLM's own messages",
    ),
    never(
        "user_url_validation",
        Kind::Bool,
        "the gateway opens no URL of a request",
    ),
    never(
        "user_url_allowed_hosts",
        TEXTS,
        "the gateway opens no URL of a request",
    ),
];

/// Fields of `/key/generate`.
pub(super) const KEY_DEFAULTS_OF: &[Setting] = &[
    on("max_budget", Kind::Usd, "USD a period"),
    on("soft_budget", Kind::Usd, "USD at which an alert is due"),
    on("budget_duration", Kind::Window, "the period of max_budget"),
    on("duration", Kind::Span, "the life of the key"),
    on("models", TEXTS, "what the key may call"),
    on("tags", TEXTS, "tags of its calls"),
    on("metadata", ANY_MAP, "kept and shown"),
    on("team_id", Kind::Text, "its team"),
    on("user_id", Kind::Text, "whom the spend is counted for"),
    on("rpm_limit", Kind::Positive, "requests a minute"),
    on("tpm_limit", Kind::Positive, "tokens a minute"),
    on("max_parallel_requests", Kind::Positive, "calls in flight"),
];

/// What a key may have at most.
pub(super) const KEY_BOUNDS: &[Setting] = &[
    on("max_budget", Kind::Usd, "USD a period"),
    on("budget_duration", Kind::Window, "the period of max_budget"),
    on("duration", Kind::Span, "the life of the key"),
    on("rpm_limit", Kind::Positive, "requests a minute"),
    on("tpm_limit", Kind::Positive, "tokens a minute"),
    on("max_parallel_requests", Kind::Positive, "calls in flight"),
];

const TYPES: &[&str] = &[
    "local",
    "disk",
    "redis",
    "redis-semantic",
    "valkey",
    "valkey-semantic",
    "qdrant-semantic",
    "s3",
    "gcs",
    "azure-blob",
];

pub(super) const CACHE_PARAMS: &[Setting] = &[
    judged(
        "type",
        Kind::Word(TYPES),
        "where answers are kept: local, disk, redis, valkey; those of the other kinds are kept locally",
    ),
    on(
        "ttl",
        Kind::Seconds,
        "seconds an answer lives; default 3600",
    ),
    on(
        "similarity_threshold",
        Kind::Ratio,
        "switches similar questions on, from this cosine",
    ),
    on(
        "mode",
        Kind::Word(&["default_on", "default_off"]),
        "default_off: only for requests that ask for it",
    ),
    judged("host", Kind::Text, "of the Redis store"),
    judged("port", Kind::Port, "of the Redis store"),
    judged("password", Kind::Secret, "of the Redis store"),
    judged("username", Kind::Text, "of the Redis store"),
    judged("db", Kind::Count, "of the Redis store"),
    judged("url", Kind::Secret, "of the Redis store"),
    judged("redis_url", Kind::Secret, "of the Redis store"),
    judged("ssl", Kind::Bool, "of the Redis store"),
    later(
        "namespace",
        Kind::Text,
        "shared partitions do not take effect yet; every tenant has its own",
    ),
    later(
        "supported_call_types",
        TEXTS,
        "only chat completions are cached",
    ),
    later("default_in_memory_ttl", Kind::Number, "give ttl"),
    later("default_in_redis_ttl", Kind::Number, "give ttl"),
    later("max_connections", Kind::Positive, STORE),
    later("socket_timeout", Kind::Number, STORE),
    later("redis_flush_size", Kind::Positive, STORE),
    later("redis_startup_nodes", ANY_LIST, STORE),
    later("startup_nodes", ANY_LIST, STORE),
    later("service_name", Kind::Text, STORE),
    later("sentinel_*", Kind::Any, STORE),
    later("ssl_*", Kind::Any, STORE),
    later("gcp_*", Kind::Any, STORE),
    later("s3_*", Kind::Any, STORE),
    later("gcs_*", Kind::Any, STORE),
    later("azure_*", Kind::Any, STORE),
    later("disk_cache_dir", Kind::Text, STORE),
    later("redis_semantic_cache_*", Kind::Any, EMBEDDING),
    later("valkey_*", Kind::Any, EMBEDDING),
    later("qdrant_*", Kind::Any, EMBEDDING),
    later("embedding_model", Kind::Text, EMBEDDING),
    later(
        "disable_copilot_system_to_assistant",
        Kind::Bool,
        PARAMETERS,
    ),
];
