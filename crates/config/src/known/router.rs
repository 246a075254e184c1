//! `router_settings`.

use super::{
    ALERTS, ANY_LIST, ANY_MAP, CALLBACK, FALLBACKS, GUARDRAILS, ROUTING, SHARED, TEXTS, judged,
    later, must, never, on,
};
use crate::kind::{Kind, Setting};

const STRATEGIES: &[&str] = &[
    "simple-shuffle",
    "least-busy",
    "latency-based",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based",
    "cost-based-routing",
    "cost_optimized",
    "capability-based",
    "weighted_round_robin",
    "priority",
    "auto",
];

const AFFINITY: &str =
    "sessions are kept at deployments for all names or for none: optional_pre_call_checks";
const QUEUE: &str = "calls do not wait in a queue: where there is no room they are refused";
const BUDGETS: &str =
    "budgets of providers and names do not take effect yet; keys, teams and the whole have theirs";

/// Another name, plain or with LiteLLM's word on whether lists show it.
pub(super) const ALIASES: Kind = Kind::Map(&Kind::Either {
    mapping: &Kind::Section(&[ALIAS]),
    other: &Kind::Text,
});

#[rustfmt::skip] // a table is read by its rows
const ALIAS: &[Setting] = &[
    must("model", Kind::Text, "the name that answers"),
    on("hidden", Kind::Bool, "true: no list of models shows it"),
];

/// How calls find a deployment, and what follows a failure.
#[rustfmt::skip] // a table is read by its rows
pub(super) const SETTINGS: &[Setting] = &[
    on("timeout", Kind::Seconds, "seconds for the whole of a call, where a deployment says nothing"),
    on("stream_timeout", Kind::Seconds, "the same for streamed calls"),
    judged("routing_strategy", Kind::Word(STRATEGIES), "how one of several deployments is chosen; default simple-shuffle"),
    later("routing_strategy_args", ANY_MAP, "strategies have no parameters here"),
    later("routing_groups", ANY_LIST, ROUTING),
    on("model_group_alias", ALIASES, "names that answer for other names"),
    on("weights", Kind::Map(&Kind::Number), "shares by model_name: the names form one pool"),
    on("enable_tag_filtering", Kind::Bool, "only deployments with a tag of the request"),
    on("tag_filtering_match_any", Kind::Bool, "one common tag is enough; default true"),
    later("tag_routing_prefix", Kind::Text, ROUTING),
    on("enable_pre_call_checks", Kind::Bool, "a prompt goes only where it fits; counted by the model's tokenizer"),
    on("enable_pre_call_check", Kind::Bool, "the same as enable_pre_call_checks"),
    judged("optional_pre_call_checks", TEXTS, "prompt_caching, session_affinity and deployment_affinity keep a session at one deployment"),
    later("deployment_affinity_ttl_seconds", Kind::Positive, "a session keeps its deployment as long as that is healthy"),
    later("model_group_affinity_config", ANY_MAP, AFFINITY),
    later("default_priority", Kind::Count, QUEUE),
    later("polling_interval", Kind::Number, QUEUE),
    on("default_max_parallel_requests", Kind::Positive, "calls in flight to a deployment that says nothing itself"),
    later("provider_budget_config", ANY_MAP, BUDGETS),
    later("model_group_budget_config", ANY_MAP, BUDGETS),
    on("cost_threshold", Kind::Number, "USD up to which a call goes to the cheapest deployment of any name"),
    on("context_threshold", Kind::Positive, "tokens from which a prompt goes to a long-context deployment of any name"),
    on("num_retries", Kind::Count, "attempts after the first; unset: two, at other deployments only"),
    on("max_retries", Kind::Count, "the same as num_retries"),
    on("retry_after", Kind::Number, "the least seconds before the same deployment is asked again"),
    on("retry_policy", Kind::Map(&Kind::Count), "retries by kind of failure"),
    on("model_group_retry_policy", Kind::Map(&Kind::Map(&Kind::Count)), "the same by name"),
    on("allowed_fails", Kind::Count, "failures within a minute before a cooldown; unset: several in a row, or half of the calls"),
    on("allowed_fails_policy", Kind::Map(&Kind::Count), "the same by kind of failure"),
    on("cooldown_time", Kind::Number, "seconds that a failing deployment is left alone; default 5"),
    on("disable_cooldowns", Kind::Bool, "failing deployments are asked all the same"),
    on("fallbacks", FALLBACKS, "names to try after a name has failed"),
    on("default_fallbacks", TEXTS, "for names without a list of their own"),
    on("default_fallback_models", TEXTS, "the same as default_fallbacks"),
    on("fallback_on", TEXTS, "the failures after which fallbacks are tried"),
    on("max_retries_per_fallback", Kind::Count, "attempts at each name of a list; default 1"),
    on("max_fallbacks", Kind::Count, "names of a list that are tried; default 5"),
    on("context_window_fallbacks", FALLBACKS, "names for prompts that are too long"),
    on("content_policy_fallbacks", FALLBACKS, "names for what a provider's policy refuses"),
    later("ignore_invalid_deployments", Kind::Bool, "a deployment that is wrong is always an error"),
    later("default_litellm_params", ANY_MAP, "defaults for requests do not take effect yet"),
    later("debug_level", Kind::Word(&["DEBUG", "INFO"]), "give tollgate.log.level"),
    later("set_verbose", Kind::Bool, "give tollgate.log.level"),
    later("cache_responses", Kind::Bool, "give litellm_settings.cache"),
    later("caching_groups", ANY_LIST, "sharing answers among names does not take effect yet"),
    later("cache_kwargs", ANY_MAP, "give litellm_settings.cache_params"),
    later("redis_*", Kind::Secret, SHARED),
    later("alerting_config", ANY_MAP, ALERTS),
    later("assistants_config", Kind::Any, "assistants do not take effect yet"),
    later("search_tools", ANY_LIST, "search tools do not take effect yet"),
    later("guardrail_list", ANY_LIST, GUARDRAILS),
    on("enable_health_check_routing", Kind::Bool, "deployments that a check found down are chosen last"),
    later("health_check_staleness_threshold", Kind::Number, super::HEALTH),
    later("callbacks", TEXTS, CALLBACK),
    later("enable_weighted_failover", Kind::Bool, "always so: after a failure another deployment of the name is chosen, by the strategy"),
    later("keepalive_seconds", Kind::Number, "keep-alive comments in streams do not take effect yet"),
    later("allow_client_keepalive_override", Kind::Bool, "keep-alive comments in streams do not take effect yet"),
    later("background_health_check_model_groups", TEXTS, super::HEALTH),
    later("health_check_ignore_transient_errors", Kind::Bool, super::HEALTH),
    later("plugins", ANY_LIST, "code of one's own cannot be loaded"),
    never("fallback_access_check", Kind::Any, "is for programs that load LiteLLM as a library"),
    never("fallback_budget_check", Kind::Any, "is for programs that load LiteLLM as a library"),
    never("auto_router_capability_limit", Kind::Any, "is for programs that load LiteLLM as a library"),
    never("heuristic_v2_router_limit", Kind::Any, "is for programs that load LiteLLM as a library"),
    never("client_ttl", Kind::Count, "connections are pooled, not cached by time"),
    never("router_general_settings", ANY_MAP, "tunes LiteLLM's own event loop"),
    never("async_only_mode", Kind::Bool, "tunes LiteLLM's own event loop"),
];
