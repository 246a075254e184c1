//! Names that mean the same setting. One of them is canonical; the others are read where it is absent.

/// One meaning and its names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alias {
    pub canonical: &'static str,
    pub names: &'static [&'static str],
    pub meaning: &'static str,
}

/// Every name of `contracts.md` §1.15 that LiteLLM does not have, and LiteLLM's own doubles.
pub(crate) const ALIASES: &[Alias] = &[
    Alias {
        canonical: "litellm_settings.cache",
        names: &["litellm_settings.enable_cache"],
        meaning: "answer from the cache; `cache:` may also hold the parameters themselves",
    },
    Alias {
        canonical: "litellm_settings.cache_params.ttl",
        names: &["litellm_settings.cache.ttl", "litellm_settings.cache_ttl"],
        meaning: "seconds an answer lives",
    },
    Alias {
        canonical: "litellm_settings.cache_params.similarity_threshold",
        names: &["litellm_settings.cache.similarity_threshold"],
        meaning: "switches similar questions on, whatever the store: `type: redis` with it is `type: redis-semantic`",
    },
    Alias {
        canonical: "tollgate.cache.threshold",
        names: &[
            "litellm_settings.cache_params.similarity_threshold",
            "litellm_settings.cache.similarity_threshold",
        ],
        meaning: "cosine similarity from which an answer is taken",
    },
    Alias {
        canonical: "tollgate.cache.ttl_s",
        names: &[
            "litellm_settings.cache_params.ttl",
            "litellm_settings.cache.ttl",
            "litellm_settings.cache_ttl",
        ],
        meaning: "seconds an answer lives",
    },
    Alias {
        canonical: "litellm_settings.max_budget",
        names: &["general_settings.global_max_budget"],
        meaning: "USD over all keys",
    },
    Alias {
        canonical: "general_settings.global_max_parallel_requests",
        names: &["litellm_settings.max_parallel_requests"],
        meaning: "calls in flight over all keys",
    },
    Alias {
        canonical: "router_settings.default_max_parallel_requests",
        names: &["general_settings.max_parallel_requests"],
        meaning: "calls in flight to a deployment that says nothing itself",
    },
    Alias {
        canonical: "litellm_settings.budget_duration",
        names: &["general_settings.budget_reset_period"],
        meaning: "the period of the budget over all keys",
    },
    Alias {
        canonical: "litellm_settings.max_internal_user_budget",
        names: &["litellm_settings.default_max_internal_user_budget"],
        meaning: "USD over the keys of each user without a budget of its own",
    },
    Alias {
        canonical: "general_settings.budget_alert_threshold",
        names: &[],
        meaning: "share of a budget at which an alert is raised",
    },
    Alias {
        canonical: "user_api_key_list[]",
        names: &["key_settings[]"],
        meaning: "virtual keys of the file; `budget.monthly_limit` is `max_budget` with `budget_reset_period: monthly`, `rate_limit.requests_per_minute` is `rpm_limit`",
    },
    Alias {
        canonical: "user_api_key_list[].budget_reset_period",
        names: &["user_api_key_list[].budget_duration"],
        meaning: "the period of max_budget; `monthly` is a calendar month",
    },
    Alias {
        canonical: "user_api_key_list[].allowed_models",
        names: &[
            "user_api_key_list[].models",
            "key_settings[].models",
            "key_settings[].allowed_models",
        ],
        meaning: "what a key may call",
    },
    Alias {
        canonical: "tollgate.log.level",
        names: &["litellm_settings.log_level", "litellm_settings.set_verbose"],
        meaning: "what is printed",
    },
    Alias {
        canonical: "tollgate.log.format",
        names: &["litellm_settings.log_format", "litellm_settings.json_logs"],
        meaning: "text or json",
    },
    Alias {
        canonical: "litellm_settings.turn_off_message_logging",
        names: &["litellm_settings.disable_pii_logging"],
        meaning: "no prompts and answers in logs; always so",
    },
    Alias {
        canonical: "litellm_settings.log_to_file",
        names: &["litellm_settings.log_file_path"],
        meaning: "logs into a file as well",
    },
    Alias {
        canonical: "litellm_settings.log_completion_tokens",
        names: &[],
        meaning: "a log line for each call, with its tokens and cost; the event log has them always",
    },
    Alias {
        canonical: "general_settings.enable_prometheus_metrics",
        names: &["general_settings.prometheus_metrics_url"],
        meaning: "metrics for Prometheus, and their path",
    },
    Alias {
        canonical: "router_settings.default_fallbacks",
        names: &[
            "router_settings.default_fallback_models",
            "litellm_settings.default_fallbacks",
            "litellm_settings.default_fallback_models",
        ],
        meaning: "names to try when a name fails and has no list of its own",
    },
    Alias {
        canonical: "router_settings.fallback_on",
        names: &["litellm_settings.fallback_on"],
        meaning: "the kinds of failure after which another name is tried",
    },
    Alias {
        canonical: "router_settings.max_retries_per_fallback",
        names: &["litellm_settings.max_retries_per_fallback"],
        meaning: "attempts at each name of a fallback list",
    },
    Alias {
        canonical: "router_settings.fallbacks",
        names: &["litellm_settings.fallbacks", "fallback_config[]"],
        meaning: "`fallback_to` are the names; `retry_attempts` is num_retries and `retry_delay` is retry_after of that name",
    },
    Alias {
        canonical: "router_settings.routing_strategy",
        names: &["router.type", "router.routing_strategy"],
        meaning: "how one of several deployments is chosen: weighted_round_robin, cost_optimized, latency, …",
    },
    Alias {
        canonical: "router_settings.cost_threshold",
        names: &["router.cost_threshold"],
        meaning: "USD up to which a request counts as small",
    },
    Alias {
        canonical: "router_settings.context_threshold",
        names: &["router.context_threshold"],
        meaning: "tokens from which a request needs a long-context model",
    },
    Alias {
        canonical: "router_settings.weights",
        names: &["router.weights"],
        meaning: "shares by model_name",
    },
    Alias {
        canonical: "litellm_settings.cache_system_prompt_only",
        names: &[],
        meaning: "share nothing between users but the system prompt",
    },
    Alias {
        canonical: "general_settings.database_url",
        names: &["database.connection_string", "database.url"],
        meaning: "a relational database; there is none",
    },
    Alias {
        canonical: "tollgate.redis.url",
        names: &["tollgate.redis_url"],
        meaning: "where budget state is kept for several processes",
    },
    Alias {
        canonical: "tollgate.budgets.timezone",
        names: &["litellm_settings.timezone"],
        meaning: "the zone in which days, weeks and months begin",
    },
    Alias {
        canonical: "tollgate.cache.url",
        names: &["tollgate.cache.service_url"],
        meaning: "a cache-service of its own",
    },
    Alias {
        canonical: "tollgate.limits.body_bytes_max",
        names: &["general_settings.max_request_size_mb"],
        meaning: "the largest request",
    },
];

/// The canonical name and its aliases, in the order in which they are read.
pub(crate) fn names_of(canonical: &'static str) -> impl Iterator<Item = &'static str> {
    let alias = ALIASES.iter().find(|alias| alias.canonical == canonical);
    std::iter::once(canonical).chain(alias.map_or(&[][..], |alias| alias.names).iter().copied())
}
