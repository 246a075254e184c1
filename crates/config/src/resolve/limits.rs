//! What a deployment costs and how much it may be asked for.

use super::pick::pick;
use crate::model::ModelLimits;
use crate::view::View;
use crate::{DecimalText, known};

/// Every price field of the two places where LiteLLM looks.
pub(super) fn prices(params: &View<'_>, info: &View<'_>) -> Vec<(String, DecimalText)> {
    let mut prices: Vec<(String, DecimalText)> = Vec::new();
    for (section, place) in [(params, "litellm_params"), (info, "model_info")] {
        for (name, view) in section.entries() {
            let Some(price) = view.decimal().filter(|_| known::is_price(&name)) else {
                continue;
            };
            match prices.iter().find(|(known, _)| *known == name) {
                None => prices.push((name, price)),
                Some((_, first)) if *first == price => {}
                Some(_) => view.warn(format!(
                    "litellm_params.{name} has another price and wins over that of {place}"
                )),
            }
        }
    }
    prices
}

/// The most output tokens that a model makes.
pub(super) fn output_of(info: &View<'_>) -> Option<u32> {
    info.at("max_output_tokens")
        .count_u32()
        .or_else(|| info.at("max_tokens").count_u32())
}

pub(super) fn limits(item: &View<'_>, default_parallel: Option<u32>) -> ModelLimits {
    let (params, info) = (item.at("litellm_params"), item.at("model_info"));
    let minute = |name: &str| {
        [&params, &info, item]
            .into_iter()
            .find_map(|at| at.at(name).count())
    };
    let makes = output_of(&info);
    let input = [info.at("max_input_tokens"), item.get("metadata.max_tokens")];
    ModelLimits {
        max_output_tokens: match (makes, max_tokens(&params)) {
            (Some(makes), Some(sent)) => Some(makes.min(sent)),
            (makes, sent) => makes.or(sent),
        },
        max_input_tokens: input.iter().find_map(View::count_u32),
        rpm: minute("rpm"),
        tpm: minute("tpm"),
        max_parallel_requests: params
            .at("max_parallel_requests")
            .count_u32()
            .or(default_parallel),
    }
}

/// The bound that is sent with requests without one.
pub(super) fn max_tokens(params: &View<'_>) -> Option<u32> {
    let first = params.at("max_tokens").count_u32();
    first.or_else(|| params.at("max_completion_tokens").count_u32())
}

/// The largest request.
pub(super) fn body_bytes_max(root: &View<'_>) -> Option<u64> {
    let view = pick(root, "tollgate.limits.body_bytes_max")?;
    let scale = if view.path.ends_with("_mb") {
        1 << 20
    } else {
        1
    };
    Some(view.count()?.saturating_mul(scale))
}
