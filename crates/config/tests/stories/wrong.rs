//! What is wrong with a file is told at once, with line, path and the probable meaning.

use super::{check, fails, load};

#[test]
fn unknown_keys_name_line_path_and_neighbour() {
    check(
        "litellm_settings:\n  cach: true\n",
        &[r#"f.yaml:2: litellm_settings.cach: unknown key, did you mean "cache"?"#],
    );
    check(
        "modle_list: []\n",
        &[r#"f.yaml:1: modle_list: unknown key, did you mean "model_list"?"#],
    );
    check(
        "router_settings:\n  drop_params: true\n",
        &[
            "f.yaml:2: router_settings.drop_params: unknown key; it belongs in model_list[].litellm_params or litellm_settings",
        ],
    );
    check(
        "master_key: sk-secret\n",
        &["f.yaml:1: master_key: unknown key; it belongs in general_settings"],
    );
    check(
        "general_settings: {master_key: of-my-own}\n",
        &["f.yaml:1: general_settings.master_key: must begin with sk-"],
    );
    check(
        "general_settings:\n  zzzz: 1\n",
        &["f.yaml:2: general_settings.zzzz: unknown key"],
    );
    check(
        "tollgate:\n  journal:\n    snyc: os\n  budgets:\n    hold: 3\n",
        &[
            r#"f.yaml:3: tollgate.journal.snyc: unknown key, did you mean "sync"?"#,
            r#"f.yaml:5: tollgate.budgets.hold: unknown key, did you mean "hold_s"?"#,
        ],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params:\n    model: openai/x\n    api_kye: k\n    frobnicate: 1\n",
        &[
            r#"f.yaml:5: model_list[0].litellm_params.api_kye: unknown key, did you mean "api_key"?"#,
            "f.yaml:6: model_list[0].litellm_params.frobnicate: unknown key; parameters for the provider itself go under extra_body",
        ],
    );
}

#[test]
fn notes_in_model_info_stay_and_near_misses_do_not() {
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: {model: gpt-4o}\n  model_info: {owner_of_it: x}\n",
    );
    assert_eq!(
        loaded.warnings[0].path,
        "model_list[0].model_info.owner_of_it"
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: gpt-4o}\n  model_info: {input_cost_per_tokn: 1}\n",
        &[
            r#"f.yaml:4: model_list[0].model_info.input_cost_per_tokn: unknown key, did you mean "input_cost_per_token"?"#,
        ],
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let errors = fails(
        "model_list:\n- model_name: a\n  litellm_params:\n    model: openai/x\n    timeout: 0\n    rpm: -1\n    api_key: os.environ/NOPE\n\
         - litellm_params: {}\n\
         general_settings:\n  port: 70000\n  master_key: ${ALSO_NOPE}\n\
         tollgate:\n  budgets: {timezone: Mars/Olympus, refusal_status: 500}\n  cache: {threshold: 1.5}\n",
    );
    assert_eq!(
        errors,
        [
            "f.yaml:5: model_list[0].litellm_params.timeout: expected seconds above 0, such as 30 or 2.5, or a time with a unit such as 30s or 5m; 0 is not allowed here",
            "f.yaml:6: model_list[0].litellm_params.rpm: expected a whole number, 1 or more",
            "f.yaml:7: model_list[0].litellm_params.api_key: the environment variable NOPE is not set",
            "f.yaml:8: model_list[1].litellm_params.model: is required and not set",
            "f.yaml:8: model_list[1].model_name: is required and not set",
            "f.yaml:10: general_settings.port: expected a port from 1 to 65535",
            "f.yaml:11: general_settings.master_key: the environment variable ALSO_NOPE is not set",
            "f.yaml:13: tollgate.budgets.refusal_status: expected one of 429, 402",
            "f.yaml:13: tollgate.budgets.timezone: is not a time zone; write an IANA name such as UTC or Europe/Berlin",
            "f.yaml:14: tollgate.cache.threshold: expected a number from 0 to 1",
        ]
    );
}

#[test]
fn shapes_are_told() {
    check(
        "- a\n",
        &["f.yaml:1: the file must be a mapping with keys such as model_list"],
    );
    check(
        "just text\n",
        &["f.yaml:1: the file must be a mapping with keys such as model_list"],
    );
    check(
        "model_list: {model_name: a}\n",
        &["f.yaml:1: model_list: expected a list; put `- ` before each item"],
    );
    check(
        "general_settings: [1]\n",
        &["f.yaml:1: general_settings: expected a mapping, found a list"],
    );
    check(
        "general_settings: true\n",
        &["f.yaml:1: general_settings: expected a mapping"],
    );
    check(
        "litellm_settings: {cache: maybe}\n",
        &["f.yaml:1: litellm_settings.cache: expected true or false"],
    );
    check(
        "router_settings: {routing_strategy: least-bussy}\n",
        &[
            "f.yaml:1: router_settings.routing_strategy: expected one of simple-shuffle, least-busy, latency-based, \
           latency-based-routing, usage-based-routing, usage-based-routing-v2, cost-based, cost-based-routing, \
           cost_optimized, capability-based, weighted_round_robin, priority, auto; did you mean \"least-busy\"?",
        ],
    );
}

/// A setting of a thousand deployments is warned about once.
#[test]
fn warnings_are_told_in_groups() {
    let entry = "- {model_name: m, litellm_params: {model: openai/x, itpm: 5}}\n";
    let loaded = load(&format!(
        "model_list:\n{}litellm_settings: {{drop_params: false}}\n",
        entry.repeat(1000)
    ));
    assert_eq!(loaded.warnings.len(), 1000);
    let lines = config::summary(&loaded.warnings);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("line 2: model_list[].litellm_params.itpm (1000 times): "),
        "{lines:?}"
    );
}

#[test]
fn an_empty_file_is_a_configuration() {
    for text in [
        "",
        "# nothing\n",
        "model_list:\n",
        "{}",
        "general_settings: {}\n",
        "\u{feff}model_list: []\n",
    ] {
        assert_eq!(load(text).config.models, []);
    }
}

/// A setting in a shape that nothing would be read from is an error, and no silence.
#[test]
fn what_would_be_read_as_nothing_is_refused() {
    for (text, message) in [
        (
            "router_settings: {fallbacks: [a, b]}",
            "router_settings.fallbacks[0]: expected a mapping",
        ),
        (
            "router_settings: {fallbacks: {a: [b]}}",
            "router_settings.fallbacks: expected a list; put `- ` before each item",
        ),
        (
            "router_settings: {fallbacks: [{a: [[b]]}]}",
            "router_settings.fallbacks[0].a[0]: expected a mapping or text, found a list",
        ),
        (
            "litellm_settings: {context_window_fallbacks: [a]}",
            "litellm_settings.context_window_fallbacks[0]: expected a mapping",
        ),
        (
            "litellm_settings: {content_policy_fallbacks: a}",
            "litellm_settings.content_policy_fallbacks: expected a list",
        ),
        (
            "router_settings: {model_group_alias: {a: [b]}}",
            "router_settings.model_group_alias.a: expected a mapping or text, found a list",
        ),
        (
            "router_settings: {model_group_alias: {a: {hidden: true}}}",
            "router_settings.model_group_alias.a.model: is required and not set",
        ),
        (
            "litellm_settings: {model_alias_map: [a]}",
            "litellm_settings.model_alias_map: expected a mapping, found a list",
        ),
        (
            "router_settings: {model_group_retry_policy: {a: 3}}",
            "router_settings.model_group_retry_policy.a: expected a mapping",
        ),
        (
            "router_settings: {model_group_retry_policy: {a: {TimeoutErrorRetries: no}}}",
            "router_settings.model_group_retry_policy.a.TimeoutErrorRetries: expected a whole number",
        ),
        (
            "litellm_settings: {ssl_verify: [false]}",
            "litellm_settings.ssl_verify: expected text, found a list",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/x}, model_info: {supports_vision: maybe}}]",
            "model_list[0].model_info.supports_vision: expected true or false",
        ),
        (
            "general_settings: {host: our.host}",
            "general_settings.host: is not an address such as 127.0.0.1",
        ),
        (
            "general_settings: {master_key: \"sk-a\\nb\"}",
            "general_settings.master_key: holds a space or another character",
        ),
        (
            "key_settings: [{api_key: a b}]",
            "key_settings[0].api_key: holds a space or another character",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/x, api_base: 'http://h/v1?key=k'}}]",
            "model_list[0].litellm_params.api_base: expected a URL",
        ),
        (
            "general_settings: {alert_to_webhook_url: {budget_alerts: xoxb-1}}",
            "general_settings.alert_to_webhook_url.budget_alerts: expected a URL",
        ),
    ] {
        let errors = fails(text);
        assert!(
            errors.iter().any(|error| error.contains(message)),
            "{text}: {errors:?}"
        );
    }
    let loaded = load(
        "model_list:\n- {model_name: a, litellm_params: {model: openai/gpt-4o}, metadata: {priority: high}}\n\
         - {model_name: b, litellm_params: {model: openai/gpt-4o, fallbacks: [{model: a, messages: []}]}}\n\
         router_settings: {fallbacks: [{a: [{model: b}]}], model_group_alias: {c: {model: a, hidden: true}, d: b}}\n",
    );
    let told: Vec<_> = loaded.warnings.iter().map(|w| w.path.as_str()).collect();
    assert_eq!(
        told,
        [
            "model_list[0].metadata.priority",
            "router_settings.fallbacks[0].a[0]"
        ]
    );
    let routing = &loaded.config.routing;
    assert!(routing.hidden.contains("c") && !routing.hidden.contains("d"));
    assert_eq!(routing.aliases["d"], "b");
}

/// What LiteLLM's documentation lists in November 2026 is known here: it takes effect, or its reason is told.
#[test]
fn settings_of_litellm_today_are_known() {
    for (section, names) in [
        ("litellm_settings", "
        langfuse_enable_update_trace_keys request_correlation_in_logs enable_redis_auth_cache
        disable_stop_sequence_limit disable_aiohttp_transport http2 force_redis_hash_tag_grouping
        disable_end_user_cost_tracking cost_discount_config key_generation_settings
        route_all_chat_openai_to_responses skip_system_message_in_guardrail skip_tool_message_in_guardrail
        key_alias_pattern user_url_validation default_team_params budget_reset_time
        overwrite_user_with_key_hash ssl_verify timezone"),
        ("general_settings", "
        enable_drain_endpoint drain_endpoint_token disable_env_credential_login allow_unmanaged_response_ids
        vector_store_deny_by_default search_tool_deny_by_default enforce_fallback_model_access
        enforce_fallback_budget missing_session_id disable_batch_input_file_rate_limiting
        skip_batch_input_file_rate_limiting_for_providers skip_batch_input_file_rate_limiting_for_models
        dangerously_permit_weak_or_unset_master_key fail_closed_budget_enforcement
        fail_closed_rate_limit_enforcement max_in_flight_requests_per_worker max_queued_requests_per_worker
        admission_queue_timeout_seconds scope_spend_list_endpoints_to_caller
        legacy_unscoped_spend_list_endpoints max_batch_file_records max_batch_file_uploads_per_day
        max_file_downloads_per_minute max_file_size_mb allowed_file_extensions blocked_file_extensions
        custom_key_policy user_api_key_cache_max_size include_call_id_in_error_body spend_capture_rate_check
        max_failed_login_attempts_per_source max_failed_login_attempts_per_source_overrides
        failed_login_window_seconds failed_login_block_seconds sse_keepalive_ping_interval_seconds
        trusted_proxy_ranges maximum_daily_tag_spend_retention_period auto_redirect_ui_login_to_sso
        enable_mcp_registry enforce_rbac forward_llm_provider_auth_headers
        require_end_user_mcp_access_defined require_key_mcp_access_defined
        health_check_skip_disabled_background_models database_connection_pool_timeout
        mcp_trusted_proxy_ranges background_health_check_model_groups"),
        ("router_settings", "
        enable_weighted_failover fallback_access_check fallback_budget_check keepalive_seconds
        allow_client_keepalive_override background_health_check_model_groups
        health_check_ignore_transient_errors auto_router_capability_limit heuristic_v2_router_limit redis_db"),
    ] {
        for name in names.split_whitespace() {
            let text = format!("{section}: {{{name}: null}}\n");
            let told = config::parse(&text, "f.yaml", &super::env);
            assert!(told.is_ok(), "{told:?}");
        }
    }
    let loaded = load(
        "router_settings: {retry_policy: {TimeoutErrorRetries: 3, DefaultRetries: 1}}\n\
         litellm_settings: {max_budget: 0, timezone: US/Eastern}\n",
    );
    let kinds = &loaded.config.routing.retries.by_kind;
    assert_eq!(kinds[&config::FailureKind::Timeout], 3);
    assert_eq!(kinds[&config::FailureKind::Server], 1);
    let budgets = &loaded.config.budgets;
    assert_eq!(
        (budgets.global_max_budget, &*budgets.timezone),
        (None, "US/Eastern")
    );
    assert_eq!(loaded.warnings[0].path, "litellm_settings.max_budget");
    let none = load("general_settings: {global_max_budget: 0}\n").config;
    assert_eq!(none.budgets.global_max_budget, Some(schemas::NanoUsd::ZERO));
}
