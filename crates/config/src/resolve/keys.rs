//! Virtual keys that the file brings along: `key_settings` and `user_api_key_list`.

use super::secrets::must_fit_a_header;
use crate::settings::Config;
use crate::view::View;
use crate::{NewKeys, Period, Secret, SeedKey};

/// The keys of both sections, each once.
pub(super) fn seed_keys(root: &View<'_>, config: &Config) -> Vec<SeedKey> {
    let mut keys: Vec<SeedKey> = Vec::new();
    for section in ["key_settings", "user_api_key_list"] {
        for item in root.at(section).items() {
            let Some(key) = item.at("api_key").secret() else {
                continue;
            };
            must_fit_a_header(&item.at("api_key"), &key);
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

/// What `/key/generate` gives where a request does not say, and at most.
pub(super) fn new_keys(root: &View<'_>) -> NewKeys {
    let fields = |name: &str| {
        let section = root.at("litellm_settings").at(name);
        let entries = section.entries().into_iter();
        entries
            .filter_map(|(name, view)| Some((name, view.json()?.to_string())))
            .collect()
    };
    NewKeys {
        defaults: fields("default_key_generate_params"),
        bounds: fields("upperbound_key_generate_params"),
    }
}
