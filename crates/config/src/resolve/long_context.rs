//! How long chats are made shorter.

use crate::settings::{LongContext, Shortening};
use crate::view::View;

pub(super) fn long_context(root: &View<'_>) -> Option<LongContext> {
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
