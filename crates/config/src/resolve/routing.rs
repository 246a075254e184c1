//! How one of several deployments is chosen and looked at: one meaning from `router_settings`, `litellm_settings`,
//! `general_settings` and `router`.

use super::failover::{cooldown, fallbacks, known_name, retries};
use super::pick::{flag, pick, pick_map};
use super::timeouts::default_timeouts;
use crate::routing::{Looks, Routing, Strategy};
use crate::settings::Config;
use crate::view::View;

/// The rules over all deployments. The deployments are resolved already.
pub(super) fn routing(root: &View<'_>, config: &Config) -> Routing {
    let router = root.at("router_settings");
    let mut routing = Routing::default();
    strategy(root, &mut routing);
    let timeouts = default_timeouts(root, &config.timeouts);
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
    routing.cost_threshold =
        pick(root, "router_settings.cost_threshold").and_then(|v| v.usd_rounded());
    routing.context_threshold =
        pick(root, "router_settings.context_threshold").and_then(|view| view.count());
    routing.latency_threshold = root.get("router.latency_threshold").milliseconds();
    retries(root, config, &mut routing);
    fallbacks(root, config, &mut routing);
    cooldown(root, &mut routing);
    health(root, &mut routing);
    let timeouts = root.at("tollgate").at("timeouts");
    routing.hedge_after = timeouts.at("hedge_after_s").seconds();
    routing
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
