//! What an entry of `model_list` says for routing.

use crate::routing::{Check, Hints, PaidCheck};
use crate::view::View;

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
        latency: meta.at("latency").milliseconds(),
        cost: meta.at("cost").usd_rounded(),
        retries: params
            .at("num_retries")
            .count_u32()
            .or_else(|| params.at("max_retries").count_u32()),
        cooldown: params.at("cooldown_time").span(),
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
