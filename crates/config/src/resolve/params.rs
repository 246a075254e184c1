//! From `litellm_params` to what happens to the members of a request.

use super::limits::{max_tokens, output_of};
use crate::kind::{Kind, parse_bool};
use crate::known;
use crate::view::View;
use crate::{Params, json};

/// What decides what a call may cost or where it goes: the request's own, where budgets see it.
const OURS: &[&str] = &[
    "model",
    "messages",
    "input",
    "prompt",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "prediction",
];

/// `litellm_settings` that hold for every deployment that says nothing itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Everywhere {
    drop: bool,
    modify: bool,
}

impl Everywhere {
    pub fn of(root: &View<'_>) -> Self {
        let set = |name: &str| root.at("litellm_settings").at(name).bool() == Some(true);
        Self {
            drop: set("drop_params"),
            modify: set("modify_params"),
        }
    }
}

pub(super) fn params(item: &View<'_>, everywhere: Everywhere) -> Params {
    let (params, info) = (item.at("litellm_params"), item.at("model_info"));
    let supported = info.at("supported_openai_params");
    let modify = params.at("modify_params").bool();
    Params {
        defaults: defaults(&params),
        extra_body: extra_body(&params.at("extra_body")),
        max_tokens: max_tokens(&params),
        drop: params.at("drop_params").bool().unwrap_or(everywhere.drop),
        also_drop: also_drop(&params.at("additional_drop_params")),
        allow: params.at("allowed_openai_params").texts(),
        output_ceiling: output_of(&info).filter(|_| modify.unwrap_or(everywhere.modify)),
        supported: supported.is_set().then(|| supported.texts()),
    }
}

fn also_drop(list: &View<'_>) -> Vec<String> {
    let kept = |name: &str| {
        OURS.contains(&name) && !matches!(name, "n" | "best_of" | "stream_options" | "prediction")
    };
    list.items()
        .iter()
        .filter_map(|view| {
            let name = view.text()?;
            if kept(&name) {
                view.warn(format!("{name} stays: a budget counts on it"));
                return None;
            }
            Some(name)
        })
        .collect()
}

fn defaults(params: &View<'_>) -> Vec<(String, String)> {
    let entries = params.entries().into_iter();
    entries
        .filter_map(|(name, view)| {
            let kind = known::default_of_requests(&name)?;
            Some((name, typed(&view, kind)?.to_string()))
        })
        .collect()
}

/// A value as JSON of its kind, however it was quoted.
fn typed(view: &View<'_>, kind: &Kind) -> Option<serde_json::Value> {
    match kind {
        Kind::Number | Kind::Signed | Kind::Ratio | Kind::Count | Kind::Positive => {
            json::number(view.raw()?.trim()).map(Into::into)
        }
        Kind::Bool => parse_bool(&view.raw()?).map(Into::into),
        Kind::Text => view.text().map(Into::into),
        Kind::List(_) => match view.json()? {
            one if view.is_set() && !one.is_array() => Some(vec![one].into()),
            list => Some(list),
        },
        _ => view.json().filter(|value| !value.is_null()),
    }
}

fn extra_body(section: &View<'_>) -> Vec<(String, String)> {
    let entries = section.entries().into_iter();
    entries
        .filter_map(|(name, view)| {
            if OURS.contains(&name.as_str()) {
                view.error(
                    "cannot be set here: it decides what a call may cost or where it goes, which is the request's own",
                );
                return None;
            }
            let value = view.json();
            if value.is_none() {
                view.error("needs an environment variable that is not set");
            }
            Some((name, value?.to_string()))
        })
        .collect()
}
