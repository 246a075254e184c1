//! From the checked tree to [`Config`]: aliases, defaults, and the rules across settings.

use std::time::Duration;

use crate::aliases::names_of;
use crate::resolve_models::models;
use crate::settings::{Cache, Config, JournalConfig, Kafka, LogFormat, LogLevel, SyncMode};
use crate::view::View;
use crate::{Period, Secret, SeedKey};

/// What a hold outlives the longest call by: the time its billing may take.
const HOLD_MARGIN: Duration = Duration::from_secs(300);
/// The smallest segment that holds any record.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

pub(crate) fn resolve(root: &View<'_>) -> Config {
    let mut config = Config::default();
    server(root, &mut config);
    timeouts(root, &mut config);
    config.models = models(root, &config.timeouts);
    config.seed_keys = seed_keys(root, &config);
    budgets(root, &mut config);
    config.cache = cache(root, config.cache);
    config.journal = journal(&root.get("tollgate.journal"), config.journal);
    stores(root, &mut config);
    log(root, &mut config);
    if let Some(bytes) = pick(root, "tollgate.limits.body_bytes_max").and_then(|view| {
        let scale = if view.path.ends_with("_mb") {
            1 << 20
        } else {
            1
        };
        Some(view.count()?.saturating_mul(scale))
    }) {
        config.limits.body_bytes_max = bytes;
    }
    config.data_dir = root.get("tollgate.data_dir").text();
    config
}

/// The first name of a setting that is set. Two names with different values are an error.
fn pick<'a>(root: &View<'a>, canonical: &'static str) -> Option<View<'a>> {
    let mut set = names_of(canonical)
        .map(|name| root.get(name))
        .filter(|view| view.is_set() && !view.is_mapping());
    let first = set.next()?;
    for other in set {
        if other.raw() != first.raw() {
            other.error(format!(
                "is the same setting as {} on line {}, with another value",
                first.path, first.line
            ));
        }
    }
    Some(first)
}

fn server(root: &View<'_>, config: &mut Config) {
    let general = root.at("general_settings");
    let server = &mut config.server;
    if let Some(host) = general.at("host").text() {
        server.host = host;
    }
    if let Some(port) = general.at("port").port() {
        server.port = port;
    }
    let master = general.at("master_key");
    server.master_key = if master.is_set() {
        master.secret()
    } else {
        master_from(root.context().env)
    };
    if let Some(key) = master.secret()
        && !key.expose().starts_with("sk-")
    {
        master.warn("does not begin with sk-; some clients refuse such keys");
    }
    server.always_include_stream_usage = general
        .at("always_include_stream_usage")
        .bool()
        .unwrap_or(false);
    let metrics = general.at("enable_prometheus_metrics");
    if metrics.bool() == Some(false) {
        metrics.warn("cannot be switched off: /metrics is always there");
    }
    let path = general.at("prometheus_metrics_url");
    if path
        .text()
        .is_some_and(|path| path.trim_end_matches('/') != "/metrics")
    {
        path.warn("another path does not take effect yet; metrics are at /metrics");
    }
}

/// The master key of the environment.
pub(crate) fn master_from(env: crate::expand::Env<'_>) -> Option<Secret> {
    let first = ["TOLLGATE_MASTER_KEY", "LITELLM_MASTER_KEY"]
        .into_iter()
        .find_map(|name| env(name).filter(|key| !key.trim().is_empty()));
    first.map(|key| Secret::new(key.trim()))
}

fn timeouts(root: &View<'_>, config: &mut Config) {
    let section = root.get("tollgate.timeouts");
    let timeouts = &mut config.timeouts;
    timeouts.first_byte = section.at("first_byte_s").seconds();
    for (name, field) in [
        ("connect_s", &mut timeouts.connect),
        ("idle_s", &mut timeouts.idle),
        ("total_s", &mut timeouts.total),
    ] {
        if let Some(span) = section.at(name).seconds() {
            *field = span;
        }
    }
}

fn seed_keys(root: &View<'_>, config: &Config) -> Vec<SeedKey> {
    let mut keys: Vec<SeedKey> = Vec::new();
    for section in ["key_settings", "user_api_key_list"] {
        for item in root.at(section).items() {
            let Some(key) = item.at("api_key").secret() else {
                continue;
            };
            if let Some(first) = keys.iter().find(|seed| seed.key == key) {
                item.at("api_key")
                    .error(format!("is the same key as that of {}", first.path));
                continue;
            }
            if config.server.master_key.as_ref() == Some(&key) {
                item.at("api_key")
                    .error("is the master key; a virtual key must be another");
                continue;
            }
            keys.push(if section == "key_settings" {
                key_setting(&item, key)
            } else {
                user_key(&item, key)
            });
        }
    }
    keys
}

fn key_setting(item: &View<'_>, key: Secret) -> SeedKey {
    let (rate, budget) = (item.at("rate_limit"), item.at("budget"));
    let windows = [
        ("daily_limit", Some(Period::Daily)),
        ("weekly_limit", Some(Period::Weekly)),
        ("monthly_limit", Some(Period::Monthly)),
        ("yearly_limit", Some(Period::Yearly)),
        ("total_limit", None),
    ];
    let mut set = windows
        .into_iter()
        .filter_map(|(name, period)| Some((budget.at(name).usd()?, period, budget.at(name))));
    let first = set.next();
    if let (Some((_, _, first)), Some((_, _, second))) = (&first, set.next()) {
        second.error(format!(
            "a key has one budget, and {} is set already",
            first.path
        ));
    }
    SeedKey {
        max_budget: first.as_ref().map(|(usd, _, _)| *usd),
        budget_period: first.and_then(|(_, period, _)| period),
        rpm_limit: rate.at("requests_per_minute").count(),
        tpm_limit: rate.at("tokens_per_minute").count(),
        max_parallel_requests: rate.at("max_parallel_requests").count_u32(),
        ..common_key(item, key)
    }
}

fn user_key(item: &View<'_>, key: Secret) -> SeedKey {
    let period = one_of(item, &["budget_reset_period", "budget_duration"]);
    SeedKey {
        max_budget: item.at("max_budget").usd(),
        budget_period: period.and_then(|view| view.period()),
        rpm_limit: item.at("rpm_limit").count(),
        tpm_limit: item.at("tpm_limit").count(),
        max_parallel_requests: item.at("max_parallel_requests").count_u32(),
        ..common_key(item, key)
    }
}

fn common_key(item: &View<'_>, key: Secret) -> SeedKey {
    let models = one_of(item, &["allowed_models", "models"])
        .map(|view| view.texts())
        .unwrap_or_default();
    // LiteLLM's words for "everything".
    let all = models
        .iter()
        .any(|model| model == "*" || model == "all-proxy-models" || model == "all-team-models");
    SeedKey {
        key,
        key_alias: item.at("key_alias").text(),
        user_id: item.at("user_id").text(),
        team_id: item.at("team_id").text(),
        max_budget: None,
        budget_period: None,
        rpm_limit: None,
        tpm_limit: None,
        max_parallel_requests: None,
        models: if all { Vec::new() } else { models },
        path: item.path.clone(),
    }
}

/// The one of several names in a section that is set.
fn one_of<'a>(section: &View<'a>, names: &[&str]) -> Option<View<'a>> {
    let mut set = names
        .iter()
        .map(|name| section.at(name))
        .filter(View::is_set);
    let first = set.next()?;
    if let Some(second) = set.next() {
        second.error(format!(
            "is the same setting as {} on line {}; keep one",
            first.path, first.line
        ));
    }
    Some(first)
}

fn budgets(root: &View<'_>, config: &mut Config) {
    let section = root.get("tollgate.budgets");
    let budgets = &mut config.budgets;
    budgets.global_max_budget =
        pick(root, "litellm_settings.max_budget").and_then(|view| view.usd());
    let period = pick(root, "litellm_settings.budget_duration");
    budgets.global_period = period.as_ref().and_then(View::period);
    if let (Some(period), None) = (period, budgets.global_max_budget) {
        period.warn("has no effect without a budget over all keys (litellm_settings.max_budget)");
    }
    if let Some(share) = root
        .get("general_settings.budget_alert_threshold")
        .decimal()
    {
        budgets.alert_threshold = share;
    }
    if let Some(usd) = section.at("unpriced_ceiling").usd() {
        budgets.unpriced_ceiling = usd;
    }
    let zone = section.at("timezone");
    if let Some(name) = zone.text() {
        match jiff::tz::TimeZone::get(&name) {
            Ok(_) => budgets.timezone = name,
            Err(_) => {
                zone.error("is not a time zone; write an IANA name such as UTC or Europe/Berlin")
            }
        }
    }
    if let Some(status) = section.at("refusal_status").count() {
        budgets.refusal_status = if status == 402 { 402 } else { 429 };
    }
    // A hold that ended before its call would let others spend the same money.
    let per_model = config
        .models
        .iter()
        .map(|model| model.timeouts.total.max(model.timeouts.total_stream));
    let longest = per_model
        .chain([config.timeouts.total])
        .max()
        .unwrap_or_default();
    let hold = section.at("hold_s");
    match hold.count() {
        Some(seconds) if Duration::from_secs(seconds) <= longest => {
            hold.error(format!(
                "must be longer than the longest call may take, which is {} s",
                longest.as_secs()
            ));
        }
        Some(seconds) => budgets.hold = Duration::from_secs(seconds),
        None => budgets.hold = budgets.hold.max(longest.saturating_add(HOLD_MARGIN)),
    }
}

const LOCAL_ONLY: &str =
    "this store does not take effect yet; answers are kept by this process, on local disk";

fn cache(root: &View<'_>, defaults: Cache) -> Cache {
    let (litellm, ours) = (root.at("litellm_settings"), root.get("tollgate.cache"));
    let switch = litellm.at("cache");
    let enable = litellm.at("enable_cache");
    if let (Some(a), Some(b)) = (switch.bool(), enable.bool())
        && a != b
    {
        enable.error(format!(
            "is the same setting as {} on line {}, with another value",
            switch.path, switch.line
        ));
    }
    let enabled = switch
        .bool()
        .or(enable.bool())
        .unwrap_or(switch.is_mapping());
    let params = if switch.is_mapping() {
        let params = litellm.at("cache_params");
        if params.is_set() {
            params.error(format!(
                "stands beside the parameters in {} on line {}; keep one",
                switch.path, switch.line
            ));
        }
        switch
    } else {
        litellm.at("cache_params")
    };
    let kind = params
        .at("type")
        .text()
        .map(|kind| kind.to_ascii_lowercase());
    let threshold = pick(root, "tollgate.cache.threshold");
    // Files written for other readers name an exact store and expect exact answers only.
    let semantic = ours.at("semantic").bool().unwrap_or_else(|| {
        let by_type = kind
            .as_deref()
            .is_none_or(|kind| kind.ends_with("-semantic"));
        by_type || params.at("similarity_threshold").is_set() || ours.at("threshold").is_set()
    });
    let redis_url = cache_redis(&params, &ours, kind.as_deref());
    if !matches!(kind.as_deref(), None | Some("local" | "disk")) && enabled {
        params.at("type").warn(LOCAL_ONLY);
    }
    let service = ours.at("url");
    if service.is_set() {
        required_variable(&service);
        service.warn(
            "a cache-service of its own does not take effect yet; answers are kept by this process",
        );
    }
    Cache {
        enabled,
        semantic: enabled && semantic,
        threshold: threshold
            .and_then(|view| view.decimal())
            .unwrap_or(defaults.threshold),
        ttl: pick(root, "tollgate.cache.ttl_s")
            .and_then(|view| view.seconds())
            .unwrap_or(defaults.ttl),
        max_bytes: ours.at("max_bytes").count().unwrap_or(defaults.max_bytes),
        on_request_only: params
            .at("mode")
            .text()
            .is_some_and(|mode| mode.eq_ignore_ascii_case("default_off")),
        service_url: service.url(),
        redis_url,
    }
}

fn cache_redis(params: &View<'_>, ours: &View<'_>, kind: Option<&str>) -> Option<Secret> {
    let own = ours.at("redis_url");
    if own.is_set() {
        required_variable(&own);
        own.warn(LOCAL_ONLY);
        return own.secret();
    }
    if !kind.is_some_and(|kind| kind.starts_with("redis") || kind.starts_with("valkey")) {
        return None;
    }
    for name in [
        "url",
        "redis_url",
        "host",
        "port",
        "password",
        "username",
        "db",
    ] {
        let view = params.at(name);
        if let Some(variable) = view.missing_variable() {
            view.warn(format!(
                "the environment variable {variable} is not set; {LOCAL_ONLY}"
            ));
            return None;
        }
    }
    if let Some(url) = params
        .at("url")
        .secret()
        .or_else(|| params.at("redis_url").secret())
    {
        return Some(url);
    }
    let host = params.at("host").text()?;
    let scheme = if params.at("ssl").bool() == Some(true) {
        "rediss"
    } else {
        "redis"
    };
    let user = params.at("username").secret();
    let login = match (user, params.at("password").secret()) {
        (None, None) => String::new(),
        (user, password) => {
            let text = |secret: Option<Secret>| {
                secret
                    .map(|secret| percent_encoded(secret.expose()))
                    .unwrap_or_default()
            };
            format!("{}:{}@", text(user), text(password))
        }
    };
    let port = params.at("port").port().unwrap_or(6379);
    let db = params.at("db").count().unwrap_or(0);
    Some(Secret::new(format!("{scheme}://{login}{host}:{port}/{db}")))
}

/// For the login part of a URL.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// Reports a variable that a setting of this kind cannot do without.
fn required_variable(view: &View<'_>) {
    if let Some(name) = view.missing_variable() {
        view.context().missing(view.line, &view.path, &name);
    }
}

fn journal(section: &View<'_>, defaults: JournalConfig) -> JournalConfig {
    let sync = match section
        .at("sync")
        .text()
        .map(|word| word.to_ascii_lowercase())
        .as_deref()
    {
        Some("always") => SyncMode::Always,
        Some("os") => SyncMode::Os,
        _ => defaults.sync,
    };
    let segment = section.at("segment_bytes");
    let segment_bytes = segment.count().unwrap_or(defaults.segment_bytes);
    if segment_bytes < SEGMENT_BYTES_MIN {
        segment.error(format!("must be {SEGMENT_BYTES_MIN} or more"));
    }
    let cap = section.at("cap_bytes");
    let cap_bytes = cap.count().unwrap_or(defaults.cap_bytes);
    if cap_bytes < segment_bytes.saturating_mul(2) {
        cap.error(format!(
            "must hold two segments, {} bytes, or more",
            segment_bytes.saturating_mul(2)
        ));
    }
    JournalConfig {
        sync,
        segment_bytes,
        cap_bytes,
        retention_days: section
            .at("retention_days")
            .count_u32()
            .unwrap_or(defaults.retention_days),
        group_wait_us: section
            .at("group_wait_us")
            .count()
            .unwrap_or(defaults.group_wait_us),
    }
}

const SPLIT: &str = "the split mode does not take effect yet; everything runs in this process";

fn stores(root: &View<'_>, config: &mut Config) {
    let section = root.get("tollgate.clickhouse");
    let clickhouse = &mut config.clickhouse;
    clickhouse.url = section.at("url").url();
    clickhouse.user = section.at("user").text();
    clickhouse.password = section.at("password").secret();
    clickhouse.port = section.at("port").port().unwrap_or(clickhouse.port);
    let kafka = root.get("tollgate.kafka");
    if kafka.is_set() {
        kafka.warn(SPLIT);
        let servers = kafka.at("bootstrap_servers");
        required_variable(&servers);
        if !servers.is_set() {
            servers.error("is required and not set");
        }
        config.kafka = servers.text().map(|bootstrap_servers| Kafka {
            bootstrap_servers,
            properties: kafka
                .at("properties")
                .entries()
                .into_iter()
                .filter_map(|(name, view)| {
                    required_variable(&view);
                    Some((name, Secret::new(view.raw()?)))
                })
                .collect(),
        });
    }
    let redis = root.get("tollgate.redis");
    if redis.is_set() {
        redis.warn(SPLIT);
        let url = redis.at("url");
        required_variable(&url);
        if !url.is_set() {
            url.error("is required and not set");
        }
        config.redis_url = url.secret();
    }
}

fn log(root: &View<'_>, config: &mut Config) {
    let litellm = root.at("litellm_settings");
    let level = [root.get("tollgate.log.level"), litellm.at("log_level")]
        .into_iter()
        .find_map(|view| view.text());
    config.log.level = match level.map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("error" | "critical") => LogLevel::Error,
        Some("warn" | "warning") => LogLevel::Warn,
        Some("debug") => LogLevel::Debug,
        Some("trace") => LogLevel::Trace,
        Some(_) => LogLevel::Info,
        None if litellm.at("set_verbose").bool() == Some(true) => LogLevel::Debug,
        None => LogLevel::Info,
    };
    let format = [root.get("tollgate.log.format"), litellm.at("log_format")]
        .into_iter()
        .find_map(|view| view.text());
    let json = format.map_or_else(
        || litellm.at("json_logs").bool() == Some(true),
        |word| word.eq_ignore_ascii_case("json"),
    );
    config.log.format = if json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    for name in ["disable_pii_logging", "turn_off_message_logging"] {
        let view = litellm.at(name);
        if view.bool() == Some(false) {
            view.warn("prompts and answers are never logged");
        }
    }
}
