//! What follows a failure: retries, other names, rest.

use std::collections::BTreeMap;

use super::pick::{first, flag, pick};
use crate::routing::{FailureKind, Routing};
use crate::settings::Config;
use crate::view::View;

pub(super) fn retries(root: &View<'_>, config: &Config, routing: &mut Routing) {
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
        View::span,
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
    let mut others = None;
    for (word, view) in section.entries() {
        if word == "DefaultRetries" {
            others = view.count_u32();
            continue;
        }
        match (FailureKind::of(&word), view.count_u32()) {
            (Some(kind), Some(count)) => {
                found.insert(kind, count);
            }
            (None, _) => view.error("is not a kind of failure; write e.g. TimeoutErrorRetries"),
            (Some(_), None) => {}
        }
    }
    // Whatever has no number of its own.
    for (kind, count) in FailureKind::ALL.into_iter().zip(others.into_iter().cycle()) {
        found.entry(kind).or_insert(count);
    }
    found
}

pub(super) fn fallbacks(root: &View<'_>, config: &Config, routing: &mut Routing) {
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
        own.wait = item.at("retry_delay").span().or(own.wait);
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

pub(super) fn known_name(config: &Config, view: &View<'_>, name: &str) {
    if config.deployments(name).is_empty() {
        view.warn(format!("{name} is not a model_name of this file"));
    }
}

pub(super) fn cooldown(root: &View<'_>, routing: &mut Routing) {
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
        View::span,
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
