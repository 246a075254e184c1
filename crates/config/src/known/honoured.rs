//! Holds the table against the code: a setting that is said to take effect changes what is resolved, and a name
//! for another setting does what that one does.

use serde_json::{Value, json};

use crate::kind::{Effect, Kind, Setting};
use crate::{Config, aliases, known, parse};

/// What is always so, whatever a file says; and variables, which others are made of.
const ALWAYS: &[&str] = &[
    "environment_variables",
    "litellm_settings.callbacks",
    "litellm_settings.disable_pii_logging",
    "litellm_settings.failure_callback",
    "litellm_settings.redact_messages_in_exceptions",
    "litellm_settings.redact_user_api_key_info",
    "litellm_settings.return_response_headers",
    "litellm_settings.service_callback",
    "litellm_settings.service_callbacks",
    "litellm_settings.success_callback",
    "litellm_settings.turn_off_message_logging",
];

fn env(name: &str) -> Option<String> {
    match name {
        "SLACK_WEBHOOK_URL" | "WEBHOOK_URL" => Some("https://hooks.example/x".to_owned()),
        _ => name.ends_with("_KEY").then(|| format!("key-of-{name}")),
    }
}

/// Nothing but what must be there, and what settings need beside them to mean anything.
fn files() -> [Value; 3] {
    let plain = json!({
        "model_list": [
            {"model_name": "m", "litellm_params": {"model": "openai/gpt-4o"}},
            {"model_name": "n", "litellm_params": {"model": "acme/x"}},
        ],
        "key_settings": [{"api_key": "key-1"}],
        "user_api_key_list": [{"api_key": "key-2"}],
        "fallback_config": [{"model_name": "m", "fallback_to": ["n"]}],
        "tollgate": {
            "providers": {"acme": {"base_url": "http://acme.test"}},
            "kafka": {"bootstrap_servers": "k"},
            "long_context": {"strategy": "drop_middle"},
        },
    });
    let mut full = plain.clone();
    for (path, value) in [
        ("litellm_settings.cache", json!(true)),
        ("litellm_settings.cache_params.type", json!("redis")),
        ("litellm_settings.cache_params.host", json!("r")),
        ("litellm_settings.log_to_file", json!(true)),
        ("litellm_settings.max_budget", json!(5)),
        ("litellm_settings.max_internal_user_budget", json!(5)),
        ("general_settings.alerting", json!(["slack"])),
        ("general_settings.allowed_ips", json!(["10.0.0.1"])),
        ("user_api_key_list.0.max_budget", json!(5)),
        ("tollgate.redis.url", json!("redis://r")),
        ("tollgate.long_context.strategy", json!("summarise")),
        ("tollgate.long_context.model", json!("n")),
        ("tollgate.providers.acme.api_key", json!("k")),
        ("tollgate.providers.acme.auth", json!("header")),
        ("tollgate.providers.acme.auth_header", json!("x-key")),
        ("model_list.0.model_info.max_output_tokens", json!(100)),
        ("tollgate.clickhouse.url", json!("http://ch")),
    ] {
        put(&mut full, path, Some(value));
    }
    let mut switch = plain.clone();
    let params = json!({"type": "redis", "host": "r"});
    put(&mut switch, "litellm_settings.cache", Some(params));
    [plain, full, switch]
}

/// Puts a value where a path leads, or takes it away.
fn put(file: &mut Value, path: &str, value: Option<Value>) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = file;
    for step in parents.split('.').filter(|step| !step.is_empty()) {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
        if at.is_null() {
            *at = json!({});
        }
    }
    // Parameters of the cache may stand in the place of its switch.
    if !at.is_object() {
        *at = json!({});
    }
    match value {
        Some(value) => at[last] = value,
        None => drop(at.as_object_mut().unwrap().remove(last)),
    }
}

fn resolved(file: &Value) -> Option<Config> {
    // JSON is YAML.
    let loaded = parse(&file.to_string(), "f.yaml", &env).ok()?;
    Some(loaded.config)
}

/// Values that a setting may have, likely ones first.
fn samples(name: &str, kind: &Kind) -> Vec<Value> {
    let own = match name {
        "host" | "allowed_ips" => Some("10.0.0.7"),
        "model" => Some("groq/llama"),
        "master_key" => Some("sk-of-mine"),
        "timezone" => Some("Europe/Berlin"),
        "custom_llm_provider" => Some("groq"),
        "budget_alerts" | "llm_exceptions" => Some("https://hooks.example/y"),
        "routing_strategy" => Some("least-busy"),
        "fallback_on" => Some("timeout"),
        "optional_pre_call_checks" => Some("session_affinity"),
        "prometheus_metrics_url" | "path" | "allowed_routes" | "admin_only_routes" => Some("/x"),
        "auth_header" | "litellm_key_header_name" | "user_header_name" => Some("x-mine"),
        "alert_types" => Some("budget_alerts"),
        "alerting" => Some("webhook"),
        "ca" => Some("-----BEGIN CERTIFICATE----- x"),
        _ => None,
    };
    if let Some(own) = own {
        return vec![json!(own), json!([own]), json!("m")];
    }
    match kind {
        Kind::Bool => vec![json!(true), json!(false)],
        Kind::Count | Kind::Positive | Kind::Port => {
            vec![json!(7), json!(65_536), json!(1200), json!(1 << 30)]
        }
        Kind::Number | Kind::Signed | Kind::Usd => vec![json!(0.5)],
        Kind::Ratio => vec![json!(0.25)],
        Kind::Seconds | Kind::Span => vec![json!("77s")],
        Kind::Window => vec![json!("weekly")],
        Kind::Url => vec![json!("http://other.test")],
        Kind::Secret => vec![json!("a-secret-that-is-long"), json!("redis://other")],
        Kind::Text => vec![json!("m"), json!("/etc/x.pem")],
        Kind::Word(words) => words.iter().map(|word| json!(word)).collect(),
        Kind::List(item) => samples(name, item)
            .into_iter()
            .map(|one| json!([one]))
            .collect(),
        Kind::Map(item) => ["m", "timeout"]
            .into_iter()
            .flat_map(|key| {
                samples(name, item)
                    .into_iter()
                    .map(move |one| json!({ key: one }))
            })
            .collect(),
        Kind::Either { mapping, other } => [samples(name, other), samples(name, mapping)].concat(),
        Kind::Section(_) | Kind::OpenSection(_) | Kind::Any => vec![json!("m"), json!(3)],
    }
}

/// Paths, and what may stand there.
type Leaves = Vec<(String, &'static Kind)>;

/// Every setting of the table with the path that leads to it in [`files`], and its kind.
fn leaves(groups: &'static [&'static [Setting]], path: &str, found: &mut Leaves) {
    for setting in groups.iter().flat_map(|group| group.iter()) {
        if !matches!(setting.effect, Effect::Effective | Effect::Judged) {
            continue;
        }
        let name = setting.name.replace('*', "vision");
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        };
        leaf(&setting.kind, path, found);
    }
}

fn leaf(kind: &'static Kind, path: String, found: &mut Leaves) {
    match kind {
        Kind::Section(groups) | Kind::OpenSection(groups) => leaves(groups, &path, found),
        Kind::List(Kind::Section(groups)) => leaves(groups, &format!("{path}.0"), found),
        Kind::Map(Kind::Section(groups)) => leaves(groups, &format!("{path}.acme"), found),
        Kind::Either { mapping, other } if matches!(mapping, Kind::Section(_)) => {
            leaf(mapping, path.clone(), found);
            leaf(other, path, found);
        }
        _ => found.push((path, kind)),
    }
}

fn all() -> Leaves {
    let mut all = Vec::new();
    leaves(&[known::TOP], "", &mut all);
    all
}

fn changes_something(path: &str, kind: &Kind) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    files().iter().any(|file| {
        let mut without = file.clone();
        put(&mut without, path, None);
        let before = resolved(&without).or_else(|| resolved(file));
        let before = before.unwrap_or_else(|| panic!("{path}: {without}"));
        samples(name, kind).into_iter().any(|value| {
            let mut with = file.clone();
            put(&mut with, path, Some(value));
            resolved(&with).is_some_and(|after| after != before)
        })
    })
}

#[test]
fn what_is_said_to_take_effect_changes_what_is_resolved() {
    let all = all();
    assert!(all.len() > 400, "{}", all.len());
    let idle: Vec<&str> = all
        .iter()
        .filter(|(path, kind)| !ALWAYS.contains(&&**path) && !changes_something(path, kind))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(idle, Vec::<&str>::new());
}

/// Aliases that say the same in another shape, each with a value and what it is by the other name; and where one
/// of the two says more than the other, what stands beside it.
#[rustfmt::skip] // a table is read by its rows
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("litellm_settings.enable_cache", "litellm_settings: {enable_cache: true}", "litellm_settings: {cache: true}"),
    ("litellm_settings.cache.ttl", "litellm_settings: {cache: {type: local, ttl: 9}}", "litellm_settings: {cache: true, cache_params: {type: local, ttl: 9}}"),
    ("litellm_settings.cache.similarity_threshold", "litellm_settings: {cache: {type: redis, host: h, similarity_threshold: 0.8}}", "litellm_settings: {cache: true, cache_params: {type: redis-semantic, host: h, similarity_threshold: 0.8}}"),
    ("litellm_settings.cache_params.similarity_threshold", "litellm_settings: {cache: true, cache_params: {similarity_threshold: 0.8}}", "{litellm_settings: {cache: true}, tollgate: {cache: {threshold: 0.8}}}"),
    ("key_settings[]", "key_settings: [{api_key: k, rate_limit: {requests_per_minute: 6, tokens_per_minute: 7}, budget: {monthly_limit: 5}}]", "user_api_key_list: [{api_key: k, rpm_limit: 6, tpm_limit: 7, max_budget: 5, budget_reset_period: monthly}]"),
    ("key_settings[].models", "key_settings: [{api_key: k, models: [m]}]", "user_api_key_list: [{api_key: k, allowed_models: [m]}]"),
    ("key_settings[].allowed_models", "key_settings: [{api_key: k, allowed_models: [m]}]", "user_api_key_list: [{api_key: k, models: [m]}]"),
    ("litellm_settings.set_verbose", "litellm_settings: {set_verbose: true}", "tollgate: {log: {level: debug}}"),
    ("litellm_settings.json_logs", "litellm_settings: {json_logs: true}", "tollgate: {log: {format: json}}"),
    ("litellm_settings.disable_pii_logging", "litellm_settings: {disable_pii_logging: true}", "litellm_settings: {turn_off_message_logging: true}"),
    ("litellm_settings.log_file_path", "litellm_settings: {log_to_file: true, log_file_path: /l}", "{litellm_settings: {log_to_file: true, log_file_path: /l}}"),
    ("general_settings.prometheus_metrics_url", "general_settings: {prometheus_metrics_url: /metrics}", "general_settings: {enable_prometheus_metrics: true}"),
    ("fallback_config[]", "fallback_config: [{model_name: m, fallback_to: [n]}]", "router_settings: {fallbacks: [{m: [n]}]}"),
    ("router.type", "router: {type: latency}", "router_settings: {routing_strategy: latency-based-routing}"),
    ("router.routing_strategy", "router: {routing_strategy: cost_optimized}", "router_settings: {routing_strategy: cost-based}"),
    ("general_settings.max_request_size_mb", "general_settings: {max_request_size_mb: 2}", "tollgate: {limits: {body_bytes_max: 2097152}}"),
    ("database.connection_string", "database: {connection_string: x}", "general_settings: {database_url: x}"),
    ("database.url", "database: {url: x}", "general_settings: {database_url: x}"),
];

fn of_text(text: &str) -> Config {
    let loaded = parse(text, "f.yaml", &env);
    let mut config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
    // Where a key stands in the file, and that a name was mentioned, is not what it does.
    config.seed_keys.iter_mut().for_each(|key| key.path.clear());
    config.routing.names.clear();
    config
}

#[test]
fn a_name_for_another_setting_does_what_that_one_does() {
    let all = all();
    let place = |name: &str| name.replace("[]", ".0");
    for alias in aliases::ALIASES {
        for name in alias.names {
            if let Some((_, this, other)) = OTHERWISE.iter().find(|(own, ..)| own == name) {
                assert_eq!(of_text(this), of_text(other), "{name}");
                continue;
            }
            let kind = |name: &str| {
                let found = all.iter().find(|(path, _)| *path == place(name));
                found.unwrap_or_else(|| panic!("{name} is in no table")).1
            };
            let (canonical, short) = (alias.canonical, name.rsplit('.').next().unwrap());
            let same = files().iter().any(|file| {
                samples(short, kind(name)).into_iter().any(|value| {
                    let with = |name: &str| {
                        let mut file = file.clone();
                        put(&mut file, &place(canonical), None);
                        put(&mut file, &place(name), Some(value.clone()));
                        resolved(&file)
                    };
                    let (this, other) = (with(name), with(canonical));
                    this.is_some() && this == other && this != resolved(file)
                })
            });
            assert!(same, "{name} is not {canonical}");
            kind(canonical);
        }
    }
}
