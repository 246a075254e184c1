//! Whether a name's later deployment stands in for its first, because it certainly is another model.

use crate::model::{Dialect, ModelEntry};
use crate::providers;
use crate::view::View;

/// Whether an entry says how calls are shared with others of its name.
pub(super) fn says_its_share(item: &View<'_>) -> bool {
    let params = item.at("litellm_params");
    ["weight", "order", "rpm", "tpm", "tags", "region_name"]
        .iter()
        .any(|name| params.at(name).is_set() || item.at(name).is_set())
        || item.get("metadata.priority").is_set()
}

/// Whether a name's later deployment certainly serves another model than its first: Claude beside GPT, or the
/// small one of a family beside the large. Nobody who asks for a model by its name wants half of the answers
/// from another one, so it only stands in. Names that say nothing of their maker are never judged.
pub(super) fn is_another_model(first: &ModelEntry, other: &ModelEntry) -> bool {
    let named = |entry: &ModelEntry| {
        let is_free = entry.dialect == Dialect::Azure || entry.is_wildcard();
        let free = is_free && entry.base_model.is_none();
        let model = entry.base_model.as_deref().unwrap_or(&entry.upstream_model);
        (!free).then(|| Some((providers::maker(model)?, plain_name(model))))?
    };
    match (named(first), named(other)) {
        (Some((maker, model)), Some((other_maker, other_model))) => {
            maker != other_maker || model != other_model
        }
        _ => false,
    }
}

/// A model's name without its release: `claude-3-5-sonnet-20241022` and `anthropic/claude-3.5-sonnet` alike.
fn plain_name(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.to_ascii_lowercase().replace(['.', '@', ':'], "-");
    let mut parts: Vec<&str> = name.split('-').collect();
    let is_date = |part: &str| {
        (part.len() >= 4 || part.len() == 2) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    while parts.len() > 2
        && parts
            .last()
            .is_some_and(|part| matches!(*part, "latest" | "preview") || is_date(part))
    {
        parts.pop();
    }
    parts.join("-")
}
