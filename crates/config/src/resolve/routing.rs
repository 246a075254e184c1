//! Routing and failing over: one meaning from `router_settings`, `litellm_settings`, `router` and
//! `fallback_config`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::NanoUsd;

use super::{models, pick};
use crate::routing::{Check, FailureKind, Hints, Looks, PaidCheck, Routing, Strategy};
use crate::settings::Config;
use crate::view::View;

/// The rules over all deployments. The deployments are resolved already.
pub(super) fn routing(root: &View<'_>, config: &Config) -> Routing {
    let router = root.at("router_settings");
    let mut routing = Routing::default();
    strategy(root, &mut routing);
    let timeouts = models::default_timeouts(root, &config.timeouts);
    (routing.deadline, routing.deadline_stream) = (timeouts.total, timeouts.total_stream);

    let aliases = ["model_group_alias_map", "model_alias_map"]
        .into_iter()
        .flat_map(|name| root.at("litellm_settings").at(name).entries());
    for (alias, view) in router
        .at("model_group_alias")
        .entries()
        .into_iter()
        .chain(aliases)
    {
        // LiteLLM also takes `{model: …, hidden: …}`.
        let (target, hidden) = if view.is_mapping() {
            (view.at("model").text(), view.at("hidden").bool())
        } else {
            (view.text(), None)
        };
        if let Some(target) = target {
            known_name(config, &view, &target);
            if hidden == Some(true) {
                routing.hidden.insert(alias.clone());
            }
            routing.aliases.insert(alias, target);
        }
    }
    if let Some(weights) = pick_map(root, "router_settings.weights") {
        for (name, view) in weights.entries() {
            known_name(config, &view, &name);
            if let Some(share) = view.decimal() {
                routing.weights.insert(name, share.to_f64());
            }
        }
        let shares: f64 = routing.weights.values().sum();
        if shares <= 0.0 {
            weights.error("leaves every name without a share");
        }
    }
    flag(&router, "enable_tag_filtering", &mut routing.tag_filtering);
    flag(
        &router,
        "tag_filtering_match_any",
        &mut routing.tags_match_any,
    );
    for name in ["enable_pre_call_checks", "enable_pre_call_check"] {
        flag(&router, name, &mut routing.pre_call_checks);
    }
    for view in router.at("optional_pre_call_checks").items() {
        match view.text().as_deref() {
            Some(
                "prompt_caching"
                | "session_affinity"
                | "deployment_affinity"
                | "responses_api_deployment_check",
            ) => routing.sticky_sessions = true,
            Some("enforce_model_rate_limits") | None => {}
            Some(_) => view.warn("this check does not take effect yet"),
        }
    }
    let by_prompt = root.get("litellm_settings.cache_system_prompt_only").bool() == Some(true);
    routing.sticky_by_prompt = by_prompt;
    routing.sticky_sessions |= by_prompt;
    routing.cost_threshold = pick(root, "router_settings.cost_threshold").and_then(|v| usd(&v));
    routing.context_threshold =
        pick(root, "router_settings.context_threshold").and_then(|view| view.count());
    routing.latency_threshold = root.get("router.latency_threshold").decimal().map(|ms| {
        // As `metadata.latency`: milliseconds.
        Duration::from_secs_f64((ms.to_f64() / 1_000.0).clamp(0.0, 86_400.0))
    });
    retries(root, config, &mut routing);
    fallbacks(root, config, &mut routing);
    cooldown(root, &mut routing);
    health(root, &mut routing);
    let timeouts = root.at("tollgate").at("timeouts");
    routing.hedge_after = timeouts.at("hedge_after_s").seconds();
    routing
}

/// USD, of any number of decimals; finer than a nano-dollar is rounded.
fn usd(view: &View<'_>) -> Option<NanoUsd> {
    let usd = view.decimal()?.to_f64();
    // In range by the bound, and a threshold is no bill: a float may do.
    Some(NanoUsd((usd.clamp(0.0, 1e9) * 1e9).round() as i64))
}

fn strategy(root: &View<'_>, routing: &mut Routing) {
    let read = |name: &str| {
        let view = root.get(name);
        let word = view.text()?;
        let found = Strategy::of(&word);
        if found.is_none() {
            view.warn("this strategy does not take effect yet; simple-shuffle is used");
        }
        found
    };
    let own = read("router_settings.routing_strategy");
    let of_litellm = read("litellm_settings.routing_strategy");
    let extra = read("router.routing_strategy");
    let kind = read("router.type");
    let mut words = [own, of_litellm, extra, kind].into_iter().flatten();
    if let Some(first) = words.next() {
        routing.strategy = first;
        routing.then = words.find(|word| *word != first);
    }
}

/// As [`pick`], for a setting that is a mapping.
fn pick_map<'a>(root: &View<'a>, canonical: &'static str) -> Option<View<'a>> {
    let mut set = crate::aliases::names_of(canonical)
        .map(|name| root.get(name))
        .filter(View::is_set);
    let first = set.next()?;
    if let Some(other) = set.next() {
        other.error(format!(
            "is the same setting as {} on line {}; keep one",
            first.path, first.line
        ));
    }
    Some(first)
}

fn flag(section: &View<'_>, name: &str, into: &mut bool) {
    if let Some(value) = section.at(name).bool() {
        *into = value;
    }
}

/// A number of seconds, 0 included.
fn span(view: &View<'_>) -> Option<Duration> {
    let seconds = view.decimal()?.to_f64();
    Some(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)))
}

/// The first of several places that says it.
fn first<'a, T>(
    root: &View<'a>,
    names: &[&str],
    read: impl Fn(&View<'a>) -> Option<T>,
) -> Option<T> {
    names.iter().find_map(|name| read(&root.get(name)))
}

fn retries(root: &View<'_>, config: &Config, routing: &mut Routing) {
    routing.retries.count = first(
        root,
        &[
            "router_settings.num_retries",
            "litellm_settings.num_retries",
            "router_settings.max_retries",
            "litellm_settings.max_retries",
        ],
        View::count_u32,
    );
    if let Some(wait) = first(
        root,
        &[
            "router_settings.retry_after",
            "litellm_settings.retry_after",
        ],
        span,
    ) {
        routing.retries.wait = wait;
    }
    routing.retries.by_kind = by_kind(&root.get("router_settings.retry_policy"));
    for (name, view) in root
        .get("router_settings.model_group_retry_policy")
        .entries()
    {
        known_name(config, &view, &name);
        routing.names.entry(name).or_default().by_kind = by_kind(&view);
    }
}

/// `TimeoutErrorRetries: 2` and its like.
fn by_kind(section: &View<'_>) -> BTreeMap<FailureKind, u32> {
    let mut found = BTreeMap::new();
    for (word, view) in section.entries() {
        match (FailureKind::of(&word), view.count_u32()) {
            (Some(kind), Some(count)) => {
                found.insert(kind, count);
            }
            (None, _) => view.error("is not a kind of failure; write e.g. TimeoutErrorRetries"),
            (Some(_), None) => {}
        }
    }
    found
}

fn fallbacks(root: &View<'_>, config: &Config, routing: &mut Routing) {
    let lists = &mut routing.fallbacks;
    for section in ["router_settings", "litellm_settings"] {
        for (name, into) in [
            ("fallbacks", &mut lists.general),
            ("context_window_fallbacks", &mut lists.context_window),
            ("content_policy_fallbacks", &mut lists.content_policy),
        ] {
            for item in root.at(section).at(name).items() {
                for (model, view) in item.entries() {
                    if model != "*" {
                        known_name(config, &view, &model);
                    }
                    names(config, &view, into.entry(model).or_default());
                }
            }
        }
    }
    for item in root.at("model_list").items() {
        let Some(model) = item.at("model_name").text() else {
            continue;
        };
        let params = item.at("litellm_params");
        for view in params.at("fallbacks").items() {
            // LiteLLM's list of names, or of mappings from a name to a list.
            match view.entries().as_slice() {
                [] => names(
                    config,
                    &view,
                    lists.general.entry(model.clone()).or_default(),
                ),
                all => {
                    for (_, view) in all {
                        names(
                            config,
                            view,
                            lists.general.entry(model.clone()).or_default(),
                        );
                    }
                }
            }
        }
        for (_, view) in params.at("context_window_fallback_dict").entries() {
            let into = lists.context_window.entry(model.clone()).or_default();
            names(config, &view, into);
        }
        let by_kind = by_kind(&params.at("retry_policy"));
        if !by_kind.is_empty() {
            routing
                .names
                .entry(model)
                .or_default()
                .by_kind
                .extend(by_kind);
        }
    }
    for item in root.at("fallback_config").items() {
        let Some(model) = item.at("model_name").text() else {
            continue;
        };
        known_name(config, &item.at("model_name"), &model);
        names(
            config,
            &item.at("fallback_to"),
            lists.general.entry(model.clone()).or_default(),
        );
        let own = routing.names.entry(model).or_default();
        own.retries = item.at("retry_attempts").count_u32().or(own.retries);
        own.wait = span(&item.at("retry_delay")).or(own.wait);
    }
    if let Some(view) = pick(root, "router_settings.default_fallbacks") {
        names(config, &view, &mut lists.default);
    }
    if let Some(view) = pick(root, "router_settings.fallback_on") {
        let mut on = Vec::new();
        for item in view.items() {
            match item.text().and_then(|word| FailureKind::of(&word)) {
                Some(kind) => on.push(kind),
                None => item.error(format!(
                    "is not a kind of failure; known are {}",
                    FailureKind::ALL.map(FailureKind::name).join(", ")
                )),
            }
        }
        lists.on = Some(on);
    }
    if let Some(each) =
        pick(root, "router_settings.max_retries_per_fallback").and_then(|view| view.count_u32())
    {
        lists.attempts_each = each.max(1);
    }
    if let Some(most) = first(
        root,
        &[
            "router_settings.max_fallbacks",
            "litellm_settings.max_fallbacks",
        ],
        View::count_u32,
    ) {
        lists.names_max = most;
    }
}

fn names(config: &Config, list: &View<'_>, into: &mut Vec<String>) {
    for view in list.items() {
        if view.is_mapping() {
            view.warn("a fallback with parameters of its own does not take effect yet; give names");
            continue;
        }
        if let Some(name) = view.text() {
            known_name(config, &view, &name);
            if !into.contains(&name) {
                into.push(name);
            }
        }
    }
}

fn known_name(config: &Config, view: &View<'_>, name: &str) {
    if config.deployments(name).is_empty() {
        view.warn(format!("{name} is not a model_name of this file"));
    }
}

fn cooldown(root: &View<'_>, routing: &mut Routing) {
    let rules = &mut routing.cooldown;
    if let Some(fails) = first(
        root,
        &[
            "router_settings.allowed_fails",
            "litellm_settings.allowed_fails",
        ],
        View::count_u32,
    ) {
        rules.allowed_fails = Some(fails);
    }
    if let Some(time) = first(
        root,
        &[
            "router_settings.cooldown_time",
            "litellm_settings.cooldown_time",
        ],
        span,
    ) {
        rules.time = time;
    }
    flag(
        &root.at("router_settings"),
        "disable_cooldowns",
        &mut rules.disabled,
    );
    rules.by_kind = by_kind(&root.get("router_settings.allowed_fails_policy"));
}

fn health(root: &View<'_>, routing: &mut Routing) {
    let rules = &mut routing.health;
    let general = root.at("general_settings");
    if let Some(all) = general.at("background_health_checks").bool() {
        rules.looks = if all { Looks::All } else { Looks::None };
    }
    if let Some(interval) = general.at("health_check_interval").seconds() {
        (rules.interval, rules.interval_paid) = (interval, interval);
    }
    if let Some(count) = general.at("health_check_concurrency").count_u32() {
        rules.at_once = usize::try_from(count.max(1)).unwrap_or(usize::MAX);
    }
    flag(&general, "health_check_details", &mut rules.details);
    for section in ["general_settings", "router_settings"] {
        flag(
            &root.at(section),
            "enable_health_check_routing",
            &mut rules.steer,
        );
    }
}

/// What one entry of `model_list` says for routing.
pub(super) fn hints(item: &View<'_>) -> Hints {
    let (params, info, meta) = (
        item.at("litellm_params"),
        item.at("model_info"),
        item.at("metadata"),
    );
    let mut capabilities = info.at("capabilities").texts();
    capabilities.extend(meta.at("capabilities").texts());
    let priority = meta.at("priority");
    if priority.is_set() && priority.count_u32().is_none() {
        priority.warn("is not a whole number, and steers nothing; lower ones are chosen first");
    }
    let mut lacks = Vec::new();
    for (name, view) in info.entries() {
        let Some(what) = name.strip_prefix("supports_") else {
            continue;
        };
        match view.bool() {
            Some(true) => capabilities.push(what.to_owned()),
            Some(false) => lacks.push(what.to_owned()),
            None => {}
        }
    }
    Hints {
        weight: params.at("weight").decimal().map(|weight| weight.to_f64()),
        order: params
            .at("order")
            .count_u32()
            .or_else(|| priority.count_u32())
            .unwrap_or(0),
        stands_in: false,
        key_from: None,
        tags: params.at("tags").texts(),
        region: params
            .at("region_name")
            .text()
            .or_else(|| info.at("region_name").text())
            .or_else(|| meta.at("region").text()),
        capabilities,
        lacks,
        latency: meta
            .at("latency")
            .decimal()
            .map(|ms| Duration::from_secs_f64((ms.to_f64() / 1_000.0).clamp(0.0, 86_400.0))),
        cost: usd(&meta.at("cost")),
        retries: params
            .at("num_retries")
            .count_u32()
            .or_else(|| params.at("max_retries").count_u32()),
        cooldown: span(&params.at("cooldown_time")),
        check: check(&info),
    }
}

fn check(info: &View<'_>) -> Check {
    let (tokens, model) = (
        info.at("health_check_max_tokens").count_u32(),
        info.at("health_check_model").text(),
    );
    Check {
        disabled: info.at("disable_background_health_check").bool() == Some(true),
        timeout: info.at("health_check_timeout").seconds(),
        paid: (tokens.is_some() || model.is_some()).then(|| PaidCheck {
            max_tokens: tokens.unwrap_or(1).max(1),
            model,
        }),
    }
}
