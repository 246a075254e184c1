//! What is wrong with a file is told at once, with line, path and the probable meaning, and without secrets.

use config::{Loaded, Strictness, parse, parse_with};

fn env(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-real".to_owned()),
        "PORT" => Some("4010".to_owned()),
        "WORDS" => Some("not a number".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Loaded {
    parse(text, "f.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn fails(text: &str) -> Vec<String> {
    match parse(text, "f.yaml", &env) {
        Ok(_) => panic!("no error in {text}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(fails(text), expected, "{text}");
}

const MODEL: &str = "model_list:\n- model_name: a\n  litellm_params: {model: openai/gpt-4o}\n";

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

#[test]
fn duplicate_keys_and_bad_yaml_are_errors_with_lines() {
    check(
        "litellm_settings:\n  cache: true\n  cache: false\n",
        &["f.yaml:3: litellm_settings.cache: the key is already set on line 2"],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params:\n    model: openai/x\n    rpm: 1\n    rpm: 2\n",
        &["f.yaml:6: model_list[0].litellm_params.rpm: the key is already set on line 5"],
    );
    let errors = fails("general_settings:\n  port: [1\n");
    assert!(
        errors[0].starts_with("f.yaml:") && errors[0].contains("not valid YAML"),
        "{errors:?}"
    );
    assert!(
        fails("a: 1\n---\nb: 2\n")
            .iter()
            .any(|error| error.contains("second document"))
    );
    assert!(fails("general_settings: {master_key: ${X}}\n")[0].contains("put quotes around"));
    assert!(fails("a: *nowhere\n")[0].contains("not valid YAML"));
}

#[test]
fn anchors_and_merge_keys_work() {
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: &base\n    model: openai/gpt-4o\n    timeout: 30\n\
         - model_name: b\n  litellm_params:\n    <<: *base\n    timeout: 60\n",
    );
    let timeouts: Vec<_> = loaded
        .config
        .models
        .iter()
        .map(|model| model.timeouts.total.as_secs())
        .collect();
    assert_eq!(timeouts, [30, 60]);
    assert_eq!(loaded.config.models[1].upstream_model, "gpt-4o");
}

#[test]
fn a_file_of_anchors_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(fails(&text)[0].contains("too large"), "{text}");
    assert!(fails(&"[".repeat(5_000))[0].contains("f.yaml"));
}

#[test]
fn variables_fill_every_kind_of_value() {
    let loaded = load(
        "environment_variables: {OWN: \"0.5\", SECRET_OF_OWN: os.environ/OPENAI_API_KEY}\n\
         general_settings: {port: \"${PORT}\", host: \"${HOST:-::1}\", master_key: os.environ/SECRET_OF_OWN}\n\
         litellm_settings: {cache: true, cache_params: {similarity_threshold: os.environ/OWN}}\n",
    );
    assert_eq!(
        (
            loaded.config.server.port,
            loaded.config.server.host.as_str()
        ),
        (4010, "::1")
    );
    assert_eq!(
        loaded
            .config
            .server
            .master_key
            .map(|key| key.expose().to_owned())
            .as_deref(),
        Some("sk-real")
    );
    assert_eq!(loaded.config.cache.threshold.as_str(), "0.5");
    check(
        "general_settings: {port: os.environ/WORDS}\n",
        &["f.yaml:1: general_settings.port: expected a port from 1 to 65535"],
    );
}

#[test]
fn a_missing_variable_matters_only_where_the_setting_does() {
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, api_key: os.environ/NOPE}\n\
                litellm_settings: {langfuse_public_key: os.environ/NOPE_2}\n";
    check(
        text,
        &[
            "f.yaml:3: model_list[0].litellm_params.api_key: the environment variable NOPE is not set",
        ],
    );
    let loaded = parse_with(text, "f.yaml", &env, Strictness::AllowMissingVariables)
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.config.models[0].api_key, None);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.reason.contains("NOPE is not set"))
    );
}

#[test]
fn keys_come_from_the_environment_and_go_only_to_their_provider() {
    let key = |text: &str| {
        load(text).config.models[0]
            .api_key
            .clone()
            .map(|key| key.expose().to_owned())
    };
    assert_eq!(key(MODEL).as_deref(), Some("sk-real"));
    let elsewhere = "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, api_base: http://vllm:8000/v1}\n";
    assert_eq!(key(elsewhere), None);
    assert!(
        load(elsewhere).warnings[0]
            .reason
            .contains("OPENAI_API_KEY is for OpenAI")
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: groq/llama}\n",
        &[
            "f.yaml:3: model_list[0].litellm_params.api_key: there is no api_key, and the environment variable GROQ_API_KEY is not set",
        ],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: azure/x, api_key: k}\n",
        &[
            "f.yaml:3: model_list[0].litellm_params.model: Azure OpenAI has no address of its own: give api_base, or AZURE_API_BASE or AZURE_OPENAI_ENDPOINT",
        ],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: opnai/gpt-4o}\n",
        &[
            "f.yaml:3: model_list[0].litellm_params.model: its provider is not known; write provider/model, such as openai/gpt-4o, or give api_base; did you mean \"openai\"?",
        ],
    );
}

#[test]
fn addresses_get_the_path_of_their_dialect() {
    let url = |params: &str| {
        let loaded = load(&format!(
            "model_list:\n- model_name: a\n  litellm_params: {{{params}}}\n"
        ));
        let model = &loaded.config.models[0];
        model.url("/chat/completions", &model.upstream_model)
    };
    for (params, expected) in [
        (
            "model: openai/x, api_base: 'http://h:1/v1/', api_key: k",
            "http://h:1/v1/chat/completions",
        ),
        (
            "model: ollama/llama3, api_base: 'http://h:11434'",
            "http://h:11434/v1/chat/completions",
        ),
        (
            "model: ollama/llama3",
            "http://localhost:11434/v1/chat/completions",
        ),
        (
            "model: anthropic/c, api_base: 'https://api.anthropic.com', api_key: k",
            "https://api.anthropic.com/v1/chat/completions",
        ),
        (
            "model: gemini/g, api_key: k",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        (
            "model: azure/dep, api_base: 'https://r.openai.azure.com/', api_key: k, api_version: 2025-01-01-preview",
            "https://r.openai.azure.com/openai/deployments/dep/chat/completions?api-version=2025-01-01-preview",
        ),
        (
            "model: azure/dep, api_base: 'https://r.openai.azure.com', api_key: k, api_version: v1",
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "model: azure/dep, api_base: 'https://r.openai.azure.com/openai/v1/', api_key: k, api_version: preview",
            "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview",
        ),
    ] {
        assert_eq!(url(params), expected, "{params}");
    }
}

#[test]
fn wildcards_carry_the_rest_of_the_name() {
    let loaded = load(
        "model_list:\n\
         - {model_name: 'openai/*', litellm_params: {model: 'openai/*'}}\n\
         - {model_name: 'openai/gpt-4*', litellm_params: {model: 'openai/gpt-4*', timeout: 7}}\n\
         - {model_name: exact, litellm_params: {model: openai/gpt-4o}}\n\
         - {model_name: '*', litellm_params: {model: '*', timeout: 9}}\n",
    );
    let found = |name: &str| {
        let found = loaded.config.deployments(name);
        found
            .iter()
            .map(|(entry, upstream)| format!("{} {upstream}", entry.model_name))
            .collect::<Vec<_>>()
    };
    assert_eq!(found("openai/o3"), ["openai/* o3"]);
    assert_eq!(found("openai/gpt-4o"), ["openai/gpt-4* gpt-4o"]);
    assert_eq!(found("exact"), ["exact gpt-4o"]);
    assert_eq!(found("anything"), ["* anything"]);
    assert_eq!(found("openai/"), ["* openai/"]);
    check(
        "model_list:\n- {model_name: a, litellm_params: {model: 'openai/*'}}\n",
        &["f.yaml:2: model_list[0].litellm_params.model: holds a `*`, and model_name does not"],
    );
}

#[test]
fn deployment_ids_are_stable_and_unique() {
    let text = "model_list:\n- {model_name: a, litellm_params: {model: openai/x, api_key: k1}}\n\
                - {model_name: a, litellm_params: {model: openai/x, api_key: k2}}\n\
                - {model_name: a, litellm_params: {model: openai/y}, model_info: {id: mine}}\n";
    let ids: Vec<_> = load(text)
        .config
        .models
        .into_iter()
        .map(|model| model.deployment_id)
        .collect();
    assert_eq!(ids[1], format!("{}-2", ids[0]));
    assert_eq!(ids[2], "mine");
    let other_key = load(&text.replace("k1", "k9")).config.models[0]
        .deployment_id
        .clone();
    assert_eq!(other_key, ids[0]);
    check(
        "model_list:\n- {model_name: a, litellm_params: {model: openai/x}, model_info: {id: i}}\n- {model_name: b, litellm_params: {model: openai/x}, model_info: {id: i}}\n",
        &["f.yaml:3: model_list[1].model_info.id: is the id of model_list[0] as well"],
    );
}

#[test]
fn prices_keep_their_digits_and_litellm_params_win() {
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, input_cost_per_token: 3e-06, cache_read_input_token_cost: 0.00000030}\n\
         \x20 model_info: {input_cost_per_token: 0.5, output_cost_per_token: '1.10', input_cost_per_token_above_200k_tokens: 0.000006}\n",
    );
    let prices: Vec<_> = loaded.config.models[0]
        .prices
        .iter()
        .map(|(name, price)| format!("{name} {price}"))
        .collect();
    assert_eq!(
        prices,
        [
            "input_cost_per_token 3e-06",
            "cache_read_input_token_cost 0.00000030",
            "output_cost_per_token 1.10",
            "input_cost_per_token_above_200k_tokens 0.000006",
        ]
    );
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.path == "model_list[0].model_info.input_cost_per_token")
    );
    assert!(fails("model_list:\n- {model_name: a, litellm_params: {model: gpt-4o, input_cost_per_token: free}}\n")[0].contains("expected a number"));
}

#[test]
fn two_names_of_one_setting_must_agree() {
    check(
        "litellm_settings: {max_budget: 5}\ngeneral_settings: {global_max_budget: 6}\n",
        &[
            "f.yaml:2: general_settings.global_max_budget: is the same setting as litellm_settings.max_budget on line 1, with another value",
        ],
    );
    let loaded = load(
        "litellm_settings: {max_budget: 5, budget_duration: 30d}\ngeneral_settings: {global_max_budget: 5}\n",
    );
    assert_eq!(
        loaded.config.budgets.global_period,
        Some(config::Period::Monthly)
    );
    check(
        "litellm_settings: {cache: true, enable_cache: false}\n",
        &[
            "f.yaml:1: litellm_settings.enable_cache: is the same setting as litellm_settings.cache on line 1, with another value",
        ],
    );
}

#[test]
fn rules_across_settings() {
    check(
        "tollgate: {budgets: {hold_s: 60}}\n",
        &[
            "f.yaml:1: tollgate.budgets.hold_s: must be longer than the longest call may take, which is 600 s",
        ],
    );
    check(
        "tollgate: {journal: {segment_bytes: 1000000, cap_bytes: 1000001}}\n",
        &["f.yaml:1: tollgate.journal.cap_bytes: must hold two segments, 2000000 bytes, or more"],
    );
    // A longer call makes holds live longer of itself.
    let loaded =
        load("model_list:\n- {model_name: a, litellm_params: {model: gpt-4o, timeout: 6000}}\n");
    assert_eq!(loaded.config.budgets.hold.as_secs(), 6300);
    check(
        "general_settings: {master_key: sk-1}\nkey_settings: [{api_key: sk-1}, {api_key: k}, {api_key: k}]\n",
        &[
            "f.yaml:2: key_settings[0].api_key: is the master key; a virtual key must be another",
            "f.yaml:2: key_settings[2].api_key: is the same key as that of key_settings[1]",
        ],
    );
    check(
        "user_api_key_list: [{api_key: k, max_budget: 1, budget_reset_period: fortnightly}]\n",
        &[
            "f.yaml:1: user_api_key_list[0].budget_reset_period: expected daily, weekly, monthly, yearly, or a time with a unit such as 12h, 7d or 1mo",
        ],
    );
    check(
        "model_list:\n- {model_name: a, litellm_params: {model: gpt-4o, extra_headers: {\"a b\": x, ok: \"l1\\nl2\"}}}\n",
        &[
            "f.yaml:2: model_list[0].litellm_params.extra_headers.\"a b\": is not a header name",
            "f.yaml:2: model_list[0].litellm_params.extra_headers.ok: holds a line break or another character that a header cannot carry",
        ],
    );
}

#[test]
fn the_cache_is_semantic_when_the_file_means_it() {
    let semantic = |text: &str| {
        let cache = load(text).config.cache;
        (cache.enabled, cache.semantic)
    };
    assert_eq!(semantic(""), (false, false));
    assert_eq!(semantic("litellm_settings: {cache: true}\n"), (true, true));
    assert_eq!(
        semantic("litellm_settings: {enable_cache: on}\n"),
        (true, true)
    );
    assert_eq!(
        semantic("litellm_settings: {cache: true, cache_params: {type: local}}\n"),
        (true, false)
    );
    assert_eq!(
        semantic("litellm_settings: {cache: true, cache_params: {type: redis-semantic}}\n"),
        (true, true)
    );
    assert_eq!(
        semantic(
            "litellm_settings: {cache: true, cache_params: {type: redis, similarity_threshold: 0.8}}\n"
        ),
        (true, true)
    );
    assert_eq!(
        semantic("litellm_settings: {cache: true}\ntollgate: {cache: {semantic: false}}\n"),
        (true, false)
    );
    assert_eq!(
        semantic("litellm_settings: {cache_params: {similarity_threshold: 0.8}}\n"),
        (false, false)
    );
}

#[test]
fn our_own_section_is_read_whole() {
    let config = load(
        "litellm_settings: {cache: true}\ntollgate:\n  data_dir: /var/lib/tollgate\n  journal: {sync: always, segment_bytes: 1048576, cap_bytes: 4194304, retention_days: 1, group_wait_us: 50}\n\
         \x20 clickhouse: {url: 'http://ch:8123', user: u, password: pw-secret, database: spend, port: 8124}\n\
         \x20 kafka: {bootstrap_servers: 'k1:9092,k2:9092', properties: {security.protocol: SASL_SSL, sasl.password: pw-secret}, topic_prefix: tg, partitions: 8, replication_factor: 1, schema_registry_url: 'http://sr:8081'}\n\
         \x20 redis: {url: 'redis://:pw-secret@r:6379', prefix: tg, wait_ms: 700, ca: '-----BEGIN CERTIFICATE----- x'}\n\
         \x20 drain: {lame_duck_s: 5, deadline_s: 1m}\n\
         \x20 cache: {url: 'http://cache:7000', timeout_ms: 40, token: pw-secret, redis_url: 'redis://:pw-secret@r', threshold: 0.95, ttl_s: 60, max_bytes: 1000, semantic: true}\n\
         \x20 budgets: {hold_s: 1200, unpriced_ceiling: 0.25, timezone: Europe/Berlin, refusal_status: 402}\n\
         \x20 limits: {body_bytes_max: 1024}\n  timeouts: {connect_s: 1, first_byte_s: 2.5, idle_s: 30s, total_s: 5m}\n  log: {level: trace, format: json}\n",
    );
    let debug = format!("{config:?}");
    assert!(
        !debug.contains("pw-secret") && debug.contains("[redacted]"),
        "{debug}"
    );
    let config = config.config;
    assert_eq!(config.data_dir.as_deref(), Some("/var/lib/tollgate"));
    assert_eq!(config.journal.sync, config::SyncMode::Always);
    assert_eq!(config.clickhouse.url.as_deref(), Some("http://ch:8123"));
    assert_eq!(config.clickhouse.database, "spend");
    let secret = |text: &str| config::Secret::new(text);
    assert_eq!(
        config.kafka,
        Some(config::Kafka {
            bootstrap_servers: "k1:9092,k2:9092".to_owned(),
            properties: vec![
                ("security.protocol".to_owned(), secret("SASL_SSL")),
                ("sasl.password".to_owned(), secret("pw-secret")),
            ],
            topic_prefix: "tg".to_owned(),
            partitions: 8,
            replication_factor: Some(1),
            schema_registry_url: Some("http://sr:8081".to_owned()),
        })
    );
    assert_eq!(
        config.redis,
        Some(config::Redis {
            url: secret("redis://:pw-secret@r:6379"),
            prefix: "tg".to_owned(),
            wait: std::time::Duration::from_millis(700),
            ca: Some(secret("-----BEGIN CERTIFICATE----- x")),
        })
    );
    assert_eq!(
        (
            config.drain.lame_duck.as_secs(),
            config.drain.deadline.as_secs()
        ),
        (5, 60)
    );
    assert_eq!(
        (
            config.cache.service_url.as_deref(),
            config.cache.timeout.as_millis(),
            config.cache.token
        ),
        (Some("http://cache:7000"), 40, Some(secret("pw-secret")))
    );
    assert_eq!(
        (config.cache.threshold.as_str(), config.cache.ttl.as_secs()),
        ("0.95", 60)
    );
    assert_eq!(config.budgets.unpriced_ceiling.to_string(), "0.25");
    assert_eq!(
        (
            config.budgets.refusal_status,
            config.budgets.timezone.as_str()
        ),
        (402, "Europe/Berlin")
    );
    assert_eq!(
        config.timeouts.first_byte.map(|span| span.as_millis()),
        Some(2500)
    );
    assert_eq!(config.timeouts.total.as_secs(), 300);
    assert_eq!(config.limits.body_bytes_max, 1024);
}

#[test]
fn the_whole_of_our_section_takes_effect_and_is_explained() {
    let text = "model_list: [{model_name: m, litellm_params: {model: tollgate/demo}}]\n\
         tollgate:\n  kafka: {bootstrap_servers: 'k1:9092'}\n  redis_url: 'redis://:pw@r:6379'\n\
         \x20 clickhouse: {url: 'http://ch:8123'}\nlitellm_settings: {cache: true, cache_params: {type: redis, host: h}}\n";
    let loaded = load(text);
    assert_eq!(loaded.warnings, []);
    let told = config::check(&loaded);
    for line in [
        "log: Kafka at k1:9092, topics tollgate.*, 0 properties of librdkafka",
        "budget state: Redis at redis://r:6379, keys {tollgate}*",
        "usage tables: http://ch:8123, database default",
        "kept by this process, answers in Redis at redis://h:6379/0",
        "when it is stopped\n  calls in progress have 20 s to end",
        "everything in this file takes effect",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    assert!(!told.contains("pw"), "{told}");
    assert!(
        config::reference()
            .lines()
            .filter(|line| line.starts_with("tollgate."))
            .all(|line| line.contains(": takes effect; "))
    );
}

#[test]
fn secrets_stand_in_files_of_their_own() {
    let outside = |name: &str| match name {
        "file//run/secrets/redis" => Some("redis://:pw@r:6379\n".to_owned()),
        "file/provider.key" => Some("  sk-provider ".to_owned()),
        "file/empty" => Some("\n".to_owned()),
        _ => None,
    };
    let text = "model_list: [{model_name: file/model, litellm_params: {model: openai/m, api_key: file/provider.key}}]\n\
         tollgate: {redis: {url: file//run/secrets/redis}}\n";
    let config = config::parse(text, "f.yaml", &outside)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config;
    assert_eq!(
        config.redis.map(|redis| redis.url),
        Some(config::Secret::new("redis://:pw@r:6379"))
    );
    assert_eq!(
        config.models[0].api_key,
        Some(config::Secret::new("sk-provider"))
    );
    assert_eq!(config.models[0].model_name, "file/model");
    let errors = config::parse(
        "tollgate:\n  kafka:\n    bootstrap_servers: k\n    properties: {sasl.password: file/empty}\n  redis: {url: file/nowhere}\n",
        "f.yaml",
        &outside,
    )
    .expect_err("nothing there")
    .to_string();
    assert_eq!(
        errors,
        "f.yaml:4: tollgate.kafka.properties.\"sasl.password\": the file empty cannot be read, or is empty\n\
         f.yaml:5: tollgate.redis.url: the file nowhere cannot be read, or is empty"
    );
}

#[test]
fn parts_outside_are_held_to_what_works() {
    for (text, message) in [
        (
            "tollgate: {kafka: {topic_prefix: tg}}",
            "f.yaml:1: tollgate.kafka.bootstrap_servers: is required and not set",
        ),
        (
            "tollgate: {kafka: {bootstrap_servers: k, properties: {acks: '1'}}}",
            "f.yaml:1: tollgate.kafka.properties.acks: is set by Tollgate itself: another value could lose or double events",
        ),
        (
            "tollgate: {kafka: {bootstrap_servers: k, partitions: 5000}}",
            "f.yaml:1: tollgate.kafka.partitions: must be 1024 or less",
        ),
        (
            "tollgate: {kafka: {bootstrap_servers: k, topic_prefix: 'a b'}}",
            "f.yaml:1: tollgate.kafka.topic_prefix: use 1 to 100 of a-z A-Z 0-9 - _ .",
        ),
        (
            "tollgate: {redis: {prefix: tg}}",
            "f.yaml:1: tollgate.redis.url: is required and not set",
        ),
        (
            "tollgate: {redis: {url: 'rediss://r#insecure'}}",
            "f.yaml:1: tollgate.redis.url: #insecure is not served: name the certificates that sign the server's in redis.ca",
        ),
        (
            "tollgate: {redis: {url: 'rediss://r', ca: nothing}}",
            "f.yaml:1: tollgate.redis.ca: expected certificates in PEM, or file/PATH of them",
        ),
        (
            "tollgate: {redis: {url: 'redis://r', wait_ms: 0}}",
            "f.yaml:1: tollgate.redis.wait_ms: expected a whole number, 1 or more; 0 is not allowed here",
        ),
        (
            "tollgate: {redis: {url: 'r:6379'}}",
            "f.yaml:1: tollgate.redis.url: expected a URL that begins with redis:// or rediss://",
        ),
        (
            "tollgate: {redis_url: 'redis://a', redis: {url: 'redis://b'}}",
            "f.yaml:1: tollgate.redis_url: is the same setting as tollgate.redis.url on line 1, with another value",
        ),
    ] {
        let errors = config::parse(text, "f.yaml", &env).expect_err(text);
        assert_eq!(errors.to_string(), message);
    }
}

#[test]
fn without_a_file_the_demo_and_the_providers_of_the_environment() {
    let loaded = config::without_file(&env, None).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = loaded
        .config
        .models
        .iter()
        .map(|model| model.model_name.as_str())
        .collect();
    assert_eq!(names, ["tollgate/demo", "openai/*"]);
    assert_eq!(loaded.config.deployments("openai/gpt-4o")[0].1, "gpt-4o");
    assert_eq!(
        loaded.config.deployments("tollgate/demo")[0].0.dialect,
        config::Dialect::Demo
    );
    let one =
        config::without_file(&env, Some("gpt-4o")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(one.config.models.len(), 1);
    let errors = config::without_file(&env, Some("groq/llama"))
        .expect_err("no key")
        .to_string();
    assert_eq!(
        errors,
        "--model: the environment variable GROQ_API_KEY is not set"
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

/// Every alias names settings that the table knows.
#[test]
fn aliases_and_table_agree() {
    for alias in config::ALIASES {
        for name in std::iter::once(&alias.canonical).chain(alias.names) {
            assert!(
                config::effect(name.trim_end_matches("[]")).is_some(),
                "{name}"
            );
        }
    }
    assert!(config::reference().lines().count() > 500);
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

/// An address in the environment is used, and must be one.
#[test]
fn addresses_of_the_environment() {
    let env = |name: &str| match name {
        "OPENAI_API_KEY" => Some("k".to_owned()),
        "OPENAI_BASE_URL" => Some("https://proxy/v1/".to_owned()),
        "OLLAMA_API_BASE" => Some("hunter2".to_owned()),
        _ => None,
    };
    let loaded = parse(MODEL, "f.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.config.models[0].api_base, "https://proxy/v1");
    let errors = parse(
        "model_list: [{model_name: a, litellm_params: {model: ollama/x}}]\n",
        "f.yaml",
        &env,
    )
    .expect_err("no URL")
    .to_string();
    assert!(
        errors.contains("OLLAMA_API_BASE is not a URL") && !errors.contains("hunter2"),
        "{errors}"
    );
    let found = config::providers_from_env(&env);
    assert_eq!(
        found
            .iter()
            .map(|model| model.model_name.as_str())
            .collect::<Vec<_>>(),
        ["openai/*"]
    );
}

#[test]
fn who_may_reach_which_route_is_read_and_checked() {
    let loaded = load(
        "general_settings:\n  allowed_ips: [10.0.0.0/8, '::1']\n  use_x_forwarded_for: true\n  \
         allowed_routes: [/chat/completions, /key/*]\n  admin_only_routes: [/key/info]\n",
    );
    let access = &loaded.config.server.access;
    assert!(access.addresses[0].holds("10.3.4.5".parse().unwrap()) && access.forwarded);
    assert_eq!((access.routes.len(), access.admin_routes.len()), (2, 1));
    let told = config::check(&loaded);
    for said in [
        "answers only 10.0.0.0/8, ::1, by the last address of x-forwarded-for",
        "only the routes /chat/completions, /key/*",
        "for the master key only: /key/info",
    ] {
        assert!(told.contains(said), "{told}");
    }
    check(
        "general_settings:\n  allowed_ips: [localhost]\n  allowed_routes: []\n  admin_only_routes: [key]\n",
        &[
            "f.yaml:2: general_settings.allowed_ips[0]: expected an IP address, such as 10.1.2.3, or a network, such as 10.0.0.0/8",
            "f.yaml:3: general_settings.allowed_routes: an empty list would answer nobody; leave it out to answer everybody",
            "f.yaml:4: general_settings.admin_only_routes[0]: expected a route, such as /chat/completions or /key/*",
        ],
    );
}

#[test]
fn users_and_customers_have_default_budgets() {
    let loaded = load(
        "litellm_settings: {max_end_user_budget: 0.5, default_max_internal_user_budget: 10, internal_user_budget_duration: 1mo}\n",
    );
    let budgets = &loaded.config.budgets;
    assert_eq!(budgets.end_user_budget, "0.5".parse().ok());
    assert_eq!(budgets.user_budget, "10".parse().ok());
    assert_eq!(budgets.user_period, Some(config::Period::Monthly));
    let told = config::check(&loaded);
    assert!(
        told.contains("0.5 USD for the life of each customer"),
        "{told}"
    );
    assert!(told.contains("over the keys of each user"), "{told}");
    let alone = load("litellm_settings: {internal_user_budget_duration: 1d}\n");
    assert_eq!(
        alone.warnings[0].reason,
        "has no effect without max_internal_user_budget"
    );
}

#[test]
fn time_outs_of_the_file_come_to_each_deployment() {
    let loaded = load(
        "model_list:\n- {model_name: a, litellm_params: {model: openai/gpt-4o, timeout: 9}}\n\
         tollgate: {timeouts: {connect_s: 1, first_byte_s: 2, idle_s: 3}}\n",
    );
    let timeouts = loaded.config.models[0].timeouts;
    assert_eq!(timeouts.connect.as_secs(), 1);
    assert_eq!(timeouts.first_byte.map(|span| span.as_secs()), Some(2));
    assert_eq!((timeouts.idle.as_secs(), timeouts.total.as_secs()), (3, 9));
}

#[test]
fn a_file_is_explained_where_its_variables_are_missing() {
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: openai/gpt-4o, api_key: \"${NOT_HERE}\"}\n\
                - model_name: b\n  litellm_params: {model: openai/gpt-4o}\nrouter: {weights: {a: 1, b: 1}}\n";
    let lenient = config::Strictness::AllowMissingVariables;
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk".to_owned());
    let loaded = config::parse_with(text, "f.yaml", &env, lenient).unwrap();
    let told = config::check(&loaded);
    for said in [
        "key: the variable NOT_HERE, which is not there",
        "key: the variable OPENAI_API_KEY  [id",
        "when a call fails: 2 retries, at its other deployments",
        "when this file changes",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
}
