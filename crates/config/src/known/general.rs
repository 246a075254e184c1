//! `general_settings`.

use super::{
    ALERTS, ANY_LIST, ANY_MAP, DATABASE, HEALTH, PASS_THROUGH, SHARED, SSO, TEXTS, UI, judged,
    later, never, on,
};
use crate::kind::{Kind, Setting};

const SECRETS: &str = "secret managers do not take effect yet; give os.environ/NAME";
const RESET: &str = "a budget's window is a function of time: nothing resets it";
const RETENTION: &str = "usage rows stay: give ClickHouse's table usage_rows a TTL";
const FORWARD: &str = "headers of clients do not travel to providers yet";

pub(super) const SETTINGS: &[Setting] = &[
    on(
        "master_key",
        Kind::Secret,
        "the administrator's key; else TOLLGATE_MASTER_KEY, LITELLM_MASTER_KEY, or a generated file",
    ),
    on(
        "host",
        Kind::Text,
        "the address to listen on; default 127.0.0.1; --host wins",
    ),
    on("port", Kind::Port, "default 4000; --port wins"),
    on(
        "always_include_stream_usage",
        Kind::Bool,
        "true: every stream ends with its usage",
    ),
    on(
        "global_max_budget",
        Kind::Usd,
        "the same as litellm_settings.max_budget",
    ),
    on(
        "budget_reset_period",
        Kind::Window,
        "the same as litellm_settings.budget_duration",
    ),
    on(
        "max_request_size_mb",
        Kind::Positive,
        "the same as tollgate.limits.body_bytes_max, in MiB",
    ),
    on(
        "enable_prometheus_metrics",
        Kind::Bool,
        "false: there are no metrics; default true",
    ),
    on(
        "prometheus_metrics_url",
        Kind::Text,
        "the path of the metrics; default /metrics",
    ),
    on(
        "budget_alert_threshold",
        Kind::Ratio,
        "share of a budget at which an alert is raised; default 0.8",
    ),
    judged(
        "alerting",
        TEXTS,
        "slack (SLACK_WEBHOOK_URL) and webhook (WEBHOOK_URL): where alerts are posted",
    ),
    judged(
        "alert_types",
        TEXTS,
        "budget_alerts and llm_exceptions; both where nothing is said",
    ),
    later("alerting_threshold", Kind::Number, ALERTS),
    later("alerting_args", ANY_MAP, ALERTS),
    on(
        "alert_to_webhook_url",
        Kind::OpenSection(&[ALERT_URLS]),
        "Slack webhooks by type of alert",
    ),
    later("alert_type_config", ANY_MAP, ALERTS),
    later("spend_report_frequency", Kind::Span, ALERTS),
    never("database_url", Kind::Secret, DATABASE),
    never("database_url_read_replica", Kind::Secret, DATABASE),
    never("database_type", Kind::Text, DATABASE),
    never("database_args", ANY_MAP, DATABASE),
    never("database_*", Kind::Any, DATABASE),
    on(
        "store_model_in_db",
        Kind::Bool,
        "whether /model/new and its kin are taken; what they change is on the log; default true",
    ),
    never("supported_db_objects", TEXTS, DATABASE),
    never("disable_prisma_schema_update", Kind::Bool, DATABASE),
    never("allow_requests_on_db_unavailable", Kind::Bool, DATABASE),
    never("proxy_batch_write_at", Kind::Count, DATABASE),
    never("use_redis_transaction_buffer", Kind::Bool, DATABASE),
    never("use_spend_logs_partitioning", Kind::Bool, DATABASE),
    never("disable_adding_master_key_hash_to_db", Kind::Bool, DATABASE),
    never(
        "disable_spend_logs",
        Kind::Bool,
        "every call is recorded: what is not recorded cannot be billed",
    ),
    never(
        "disable_spend_updates",
        Kind::Bool,
        "every call is recorded: what is not recorded cannot be billed",
    ),
    never(
        "disable_error_logs",
        Kind::Bool,
        "every call is recorded: what is not recorded cannot be billed",
    ),
    never(
        "disable_budget_reservation",
        Kind::Bool,
        "a budget is never passed: the reservation cannot be switched off",
    ),
    never("disable_reset_budget", Kind::Bool, RESET),
    never("proxy_budget_rescheduler_min_time", Kind::Count, RESET),
    never("proxy_budget_rescheduler_max_time", Kind::Count, RESET),
    never("scheduled_job_stagger", ANY_MAP, RESET),
    never(
        "user_api_key_cache_ttl",
        Kind::Number,
        "keys are in memory; a change holds within a second",
    ),
    never(
        "proxy_config_reload_interval_seconds",
        Kind::Positive,
        "a change is an event that holds within a second",
    ),
    never(
        "cancel_on_disconnect",
        Kind::Bool,
        "always so: a client that hangs up stops the upstream call",
    ),
    never(
        "store_prompts_in_spend_logs",
        Kind::Bool,
        "prompts and answers are never logged",
    ),
    later("maximum_*", Kind::Any, RETENTION),
    on(
        "completion_model",
        Kind::Text,
        "the model of requests for chat and completions that name none",
    ),
    on(
        "embedding_model",
        Kind::Text,
        "the model of requests for embeddings that name none",
    ),
    on(
        "moderation_model",
        Kind::Text,
        "the model of requests for moderations that name none",
    ),
    on(
        "image_generation_model",
        Kind::Text,
        "the model of requests for images that name none",
    ),
    later(
        "infer_model_from_keys",
        Kind::Bool,
        "models come from model_list; without a file, from the keys in the environment",
    ),
    on(
        "max_parallel_requests",
        Kind::Positive,
        "calls in flight over all keys",
    ),
    on(
        "global_max_parallel_requests",
        Kind::Positive,
        "calls in flight over all keys",
    ),
    later(
        "disable_retry_on_max_parallel_request_limit_error",
        Kind::Bool,
        "a deployment without room is no failure: another one is asked",
    ),
    later(
        "token_rate_limit_type",
        Kind::Word(&["total", "input", "output"]),
        "tokens a minute count input and output",
    ),
    later(
        "max_response_size_mb",
        Kind::Positive,
        "a bound on answers does not take effect yet",
    ),
    later(
        "max_batch_file_size_mb",
        Kind::Positive,
        "batch endpoints do not take effect yet",
    ),
    later(
        "proxy_batch_polling_interval",
        Kind::Count,
        "batch endpoints do not take effect yet",
    ),
    on(
        "background_health_checks",
        Kind::Bool,
        "each provider's list of models is looked at, which costs nothing, unless this is false; where it is true, from the start on, and by a paid call where model_info.health_check_max_tokens or health_check_model asks for one",
    ),
    later("background_health_check_*", Kind::Any, HEALTH),
    on(
        "health_check_interval",
        Kind::Seconds,
        "between two looks; default 30, and 300 between paid ones",
    ),
    on(
        "health_check_concurrency",
        Kind::Positive,
        "looks at a time; default 16",
    ),
    on(
        "health_check_details",
        Kind::Bool,
        "whether /health tells more than model and error; default true",
    ),
    later("health_check_*", Kind::Any, HEALTH),
    on(
        "enable_health_check_routing",
        Kind::Bool,
        "deployments that a check found down are chosen last",
    ),
    later(
        "use_shared_health_check",
        Kind::Bool,
        "each ingress looks by itself: what one can reach another may not",
    ),
    later("model_list_healthy_only", Kind::Bool, HEALTH),
    later("coordination_redis", ANY_MAP, SHARED),
    later("key_management_system", Kind::Text, SECRETS),
    later("key_management_settings", Kind::Any, SECRETS),
    later("use_google_kms", Kind::Bool, SECRETS),
    later("use_azure_key_vault", Kind::Bool, SECRETS),
    later("custom_auth", Kind::Text, SSO),
    later("custom_auth_run_common_checks", Kind::Bool, SSO),
    later("custom_sso", Kind::Text, SSO),
    later("custom_ui_sso_sign_in_handler", Kind::Text, SSO),
    later(
        "custom_key_generate",
        Kind::Text,
        "code of one's own cannot be loaded",
    ),
    later(
        "custom_key_update",
        Kind::Text,
        "code of one's own cannot be loaded",
    ),
    later("enable_jwt_auth", Kind::Bool, SSO),
    later("litellm_jwtauth", ANY_MAP, SSO),
    later("enable_oauth2_auth", Kind::Bool, SSO),
    later("enable_oauth2_proxy_auth", Kind::Bool, SSO),
    later("oauth2_config_mappings", ANY_MAP, SSO),
    later("allow_user_auth", Kind::Bool, SSO),
    later("role_permissions", ANY_LIST, SSO),
    later("trusted_proxy_ranges", TEXTS, SSO),
    later("allow_cli_sso_verification_uri_complete", Kind::Bool, SSO),
    on(
        "litellm_key_header_name",
        Kind::Text,
        "a header of one's own for keys, looked at before the usual ones",
    ),
    later(
        "default_team_disabled",
        Kind::Bool,
        "only the master key makes keys, whatever team they are of",
    ),
    later(
        "disable_auto_add_proxy_admin_to_teams",
        Kind::Bool,
        "members of teams do not take effect yet",
    ),
    later(
        "apply_user_budget_to_team_keys",
        Kind::Bool,
        "always so: every scope of a call is checked",
    ),
    on(
        "user_header_name",
        Kind::Text,
        "a header of one's own that names the customer",
    ),
    later(
        "user_header_mappings",
        ANY_LIST,
        "customers from other headers do not take effect yet",
    ),
    on(
        "enforce_user_param",
        Kind::Bool,
        "true: a call without a customer (user) is refused",
    ),
    on(
        "enforced_params",
        TEXTS,
        "members that a call must have: user, metadata, metadata.generation_name, …",
    ),
    on(
        "reject_clientside_metadata_tags",
        Kind::Bool,
        "true: a call with metadata.tags of its own is refused",
    ),
    later(
        "service_account_settings",
        Kind::Any,
        "demands on service accounts alone do not take effect yet; enforced_params holds for all",
    ),
    later(
        "allow_client_side_credentials",
        Kind::Bool,
        "clients cannot bring provider keys yet",
    ),
    on(
        "allowed_routes",
        TEXTS,
        "only these routes are answered, beside health and metrics; a `*` at the end stands for the rest",
    ),
    on("admin_only_routes", TEXTS, "routes for the master key only"),
    never(
        "public_routes",
        TEXTS,
        "a call without a key is nobody's to pay, and what is not about calls tells of others",
    ),
    on(
        "allowed_ips",
        TEXTS,
        "only clients with these addresses are answered, beside health and metrics; 10.0.0.0/8 is a network",
    ),
    on(
        "use_x_forwarded_for",
        Kind::Bool,
        "true: for allowed_ips a client's address is the last one of x-forwarded-for, which the proxy before us wrote",
    ),
    on(
        "block_robots",
        Kind::Bool,
        "true: /robots.txt asks crawlers to stay away",
    ),
    later("pass_through_endpoints", ANY_LIST, PASS_THROUGH),
    later("pass_through_request_timeout", Kind::Number, PASS_THROUGH),
    later(
        "use_client_credentials_pass_through_routes",
        Kind::Bool,
        PASS_THROUGH,
    ),
    later("forward_openai_org_id", Kind::Bool, FORWARD),
    later("forward_client_headers_to_llm_api", Kind::Bool, FORWARD),
    later(
        "disable_responses_id_security",
        Kind::Bool,
        "ids of answers pass as the provider made them",
    ),
    later(
        "provider_url_destination_allowed_hosts",
        TEXTS,
        "no request may change a provider's URL",
    ),
    later(
        "user_url_*",
        Kind::Any,
        "the gateway opens no URL of a request",
    ),
    later("mcp_*", Kind::Any, "MCP servers do not take effect yet"),
    later(
        "user_mcp_management_mode",
        Kind::Text,
        "MCP servers do not take effect yet",
    ),
    later("otel", Kind::Bool, super::CALLBACK),
    later(
        "search_tools",
        ANY_LIST,
        "search tools do not take effect yet",
    ),
    later("enable_public_model_hub", Kind::Bool, UI),
    never("ui_access_mode", Kind::Text, UI),
    never("ui_*", Kind::Any, UI),
    never(
        "disable_master_key_return",
        Kind::Bool,
        "always so: the master key is never returned",
    ),
    never("control_plane_url", Kind::Url, UI),
    never("plugins", ANY_LIST, UI),
    never(
        "litellm_license",
        Kind::Secret,
        "no feature needs a license",
    ),
    never(
        "num_workers",
        Kind::Positive,
        "one process uses every core it is given",
    ),
];

/// `alert_to_webhook_url`
const ALERT_URLS: &[Setting] = &[
    on(
        "budget_alerts",
        Kind::List(&Kind::Secret),
        "a budget is nearly or wholly used up",
    ),
    on(
        "llm_exceptions",
        Kind::List(&Kind::Secret),
        "a call failed for good",
    ),
    later("*", Kind::Any, ALERTS),
];
