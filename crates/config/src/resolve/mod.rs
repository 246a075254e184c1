//! From the checked tree to [`Config`]: aliases, defaults, and the rules across settings.

mod alerts;
mod cache;
mod keys;
mod models;
mod params;
mod providers;
mod routing;
mod server;
mod stores;

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Secret;
use crate::aliases::names_of;
use crate::settings::{
    Budgets, Config, JournalConfig, LogFile, LogFormat, LogLevel, LongContext, Shortening, SyncMode,
};
use crate::view::View;

pub(crate) use models::plain_entry;

/// What a hold outlives the longest call by: the time its billing may take.
const HOLD_MARGIN: Duration = Duration::from_secs(300);
/// The smallest segment holds any record; the largest is what the journal maps at once.
const SEGMENT_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
const PAGE_BYTES: u64 = 4096;
/// An hour: no call waits longer for what it can go on without.
const WAIT_MS_MAX: u64 = 3_600_000;
/// Ten years: no call is that long, and every clock has room for it.
const HOLD_S_MAX: u64 = 315_360_000;

pub(crate) fn resolve(root: &View<'_>) -> Config {
    let mut config = Config::default();
    server::server(root, &mut config);
    timeouts(root, &mut config);
    config.models = models::models(root, &config.timeouts);
    config.long_context = long_context(root);
    config.routing = routing::routing(root, &config);
    config.seed_keys = keys::seed_keys(root, &config);
    budgets(root, &mut config);
    config.alerts = alerts::alerts(root);
    config.new_keys = keys::new_keys(root);
    config.cache = cache::cache(root, config.cache);
    config.journal = journal(&root.get("tollgate.journal"), config.journal);
    stores::stores(root, &mut config);
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

/// A key that others could guess would seal nothing.
pub(crate) const SECRET_KEY_MIN: usize = 16;

fn secret_key(root: &View<'_>) -> Option<Secret> {
    let own = root.get("tollgate.secret_key");
    if let Some(key) = own.secret() {
        if key.expose().len() < SECRET_KEY_MIN {
            own.error(format!("must have {SECRET_KEY_MIN} characters or more"));
        }
        return Some(key);
    }
    let (name, key) = secret_key_from(root.context().env)?;
    if key.expose().len() < SECRET_KEY_MIN {
        own.warn(format!(
            "{name} is not used: it must have {SECRET_KEY_MIN} characters or more"
        ));
        return None;
    }
    Some(key)
}

/// The key of the environment that seals secrets, with the name of its variable.
pub(crate) fn secret_key_from(env: crate::expand::Env<'_>) -> Option<(&'static str, Secret)> {
    let names = ["TOLLGATE_SECRET_KEY", "LITELLM_SALT_KEY"];
    let found = names.map(|name| (name, env(name).unwrap_or_default()));
    found
        .into_iter()
        .find(|(_, key)| !key.trim().is_empty())
        .map(|(name, key)| (name, Secret::new(key.trim())))
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

fn budgets(root: &View<'_>, config: &mut Config) {
    let section = root.get("tollgate.budgets");
    let budgets = &mut config.budgets;
    budgets.global_max_budget =
        pick(root, "litellm_settings.max_budget").and_then(|view| view.usd());
    budgets.global_parallel = pick(root, "general_settings.global_max_parallel_requests")
        .and_then(|view| view.count_u32());
    let period = pick(root, "litellm_settings.budget_duration");
    budgets.global_period = period.as_ref().and_then(View::period);
    if let (Some(period), None) = (period, budgets.global_max_budget) {
        period.warn("has no effect without a budget over all keys (litellm_settings.max_budget)");
    }
    default_budgets(root, budgets);
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
    hold.at_most(HOLD_S_MAX);
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

/// Of customers and users without a budget of their own.
fn default_budgets(root: &View<'_>, budgets: &mut Budgets) {
    budgets.end_user_budget = root.get("litellm_settings.max_end_user_budget").usd();
    let user = pick(root, "litellm_settings.max_internal_user_budget");
    budgets.user_budget = user.and_then(|view| view.usd());
    let period = root.get("litellm_settings.internal_user_budget_duration");
    budgets.user_period = period.period();
    if period.is_set() && budgets.user_budget.is_none() {
        period.warn("has no effect without max_internal_user_budget");
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
    if !SEGMENT_BYTES.contains(&segment_bytes) || !segment_bytes.is_multiple_of(PAGE_BYTES) {
        segment.error(format!(
            "must be a multiple of {PAGE_BYTES} from {} to {}",
            SEGMENT_BYTES.start(),
            SEGMENT_BYTES.end()
        ));
    }
    let cap = section.at("cap_bytes");
    let cap_bytes = cap.count().unwrap_or(defaults.cap_bytes);
    if cap_bytes < segment_bytes.saturating_mul(2) {
        cap.error(format!(
            "must hold two segments, {} bytes, or more",
            segment_bytes.saturating_mul(2)
        ));
    }
    let wait = section.at("group_wait_us");
    wait.at_most(1_000_000);
    JournalConfig {
        sync,
        segment_bytes,
        cap_bytes,
        retention_days: section
            .at("retention_days")
            .count_u32()
            .unwrap_or(defaults.retention_days),
        group_wait_us: wait.count().unwrap_or(defaults.group_wait_us),
    }
}

fn long_context(root: &View<'_>) -> Option<LongContext> {
    let section = root.get("tollgate.long_context");
    let known: Vec<String> = root
        .at("model_list")
        .items()
        .iter()
        .filter_map(|item| item.at("model_name").text())
        .collect();
    let is_known = |name: &String| {
        known
            .iter()
            .any(|known| known == name || known.contains('*'))
    };
    let model = section.at("model");
    let by = match section.at("strategy").text()?.to_ascii_lowercase().as_str() {
        "drop_middle" => {
            if model.is_set() {
                model.warn("has no effect without strategy: summarise");
            }
            Shortening::DropMiddle
        }
        _ => {
            let name = model.text();
            if !name.as_ref().is_some_and(is_known) {
                model.error("must name the model of model_list that summarises");
            }
            Shortening::Summarise { model: name? }
        }
    };
    let models = section.at("models");
    for view in models.items() {
        if view.text().is_some_and(|name| !is_known(&name)) {
            view.error("is no name of model_list");
        }
    }
    Some(LongContext {
        by,
        over_tokens: section.at("over_tokens").count(),
        keep_last_turns: section.at("keep_last_turns").count_u32().unwrap_or(1),
        models: models.texts(),
    })
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
    let (to_file, path) = (litellm.at("log_to_file"), litellm.at("log_file_path"));
    match (to_file.bool(), path.text()) {
        (Some(true), Some(path)) => config.log.file = Some(LogFile::At(path)),
        (Some(true), None) => config.log.file = Some(LogFile::InDataDir),
        (_, Some(_)) => path.warn("has no effect without log_to_file: true"),
        _ => {}
    }
    config.log.calls = litellm.at("log_completion_tokens").bool() == Some(true);
    for callbacks in [
        "success_callback",
        "failure_callback",
        "callbacks",
        "service_callback",
        "service_callbacks",
    ] {
        for view in litellm.at(callbacks).items() {
            if view.text().is_some_and(|name| name != "prometheus") {
                view.warn(crate::known::CALLBACK);
            }
        }
    }
    for name in ["disable_pii_logging", "turn_off_message_logging"] {
        let view = litellm.at(name);
        if view.bool() == Some(false) {
            view.warn("prompts and answers are never logged");
        }
    }
}
