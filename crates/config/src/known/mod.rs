//! Every setting that Tollgate knows, with its kind and whether it takes effect: LiteLLM's
//! (docs.litellm.ai/docs/proxy/config_settings), those of files in the wild, and our own.
//!
//! The table is the single source for checking, for warnings and for `config check`.

mod extra;
mod general;
#[cfg(test)]
mod honoured;
mod litellm;
mod models;
mod router;
mod tollgate;

use crate::kind::{Effect, Kind, Setting};

/// Takes effect.
const fn on(name: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting {
        name,
        kind,
        effect: Effect::Effective,
        doc,
        required: false,
    }
}

/// Takes effect and must be there.
const fn must(name: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting {
        name,
        kind,
        effect: Effect::Effective,
        doc,
        required: true,
    }
}

/// Depends on its value.
const fn judged(name: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting {
        name,
        kind,
        effect: Effect::Judged,
        doc,
        required: false,
    }
}

/// Checked, and without effect in this version.
const fn later(name: &'static str, kind: Kind, reason: &'static str) -> Setting {
    Setting {
        name,
        kind,
        effect: Effect::NotYet(reason),
        doc: "",
        required: false,
    }
}

/// Checked, and never honoured.
const fn never(name: &'static str, kind: Kind, reason: &'static str) -> Setting {
    Setting {
        name,
        kind,
        effect: Effect::NeverHonoured(reason),
        doc: "",
        required: false,
    }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const ANY_LIST: Kind = Kind::List(&Kind::Any);
const ANY_MAP: Kind = Kind::Map(&Kind::Any);
/// Names of `model_list`; LiteLLM's form with parameters of its own is told about where it is read.
const NAMES: Kind = Kind::List(&Kind::Either {
    mapping: &ANY_MAP,
    other: &Kind::Text,
});
/// `- name: [other, another]`
const FALLBACKS: Kind = Kind::List(&Kind::Map(&NAMES));

const ROUTING: &str = "this way of choosing a deployment does not take effect yet";
const HEALTH: &str = "this part of health checks does not take effect yet; each provider's list of models is looked at";
pub(crate) const CALLBACK: &str =
    "callbacks do not take effect yet; usage is in the event log, ClickHouse and /metrics";
pub(crate) const ALERTS: &str =
    "this alert does not take effect yet; budget_alerts and llm_exceptions do";
const DATABASE: &str = "there is no relational database: the log and ClickHouse hold everything";
const UI: &str = "belongs to LiteLLM's web interface";
const SSO: &str = "other ways to sign in than keys do not take effect yet";
const GUARDRAILS: &str = "guardrails do not take effect yet";
const PASS_THROUGH: &str = "pass-through endpoints do not take effect yet";
const PARAMETERS: &str = "this change of requests does not take effect yet; drop_params, additional_drop_params and extra_body do";
/// Of settings about another store than ours.
const SHARED: &str = "give tollgate.redis.url: limits and budgets that several processes share";
const TOKENIZERS: &str = "prompts are counted by tokenizers that are built in";

/// The keys of the file itself.
#[rustfmt::skip] // a table is read by its rows
pub(crate) const TOP: &[Setting] = &[
    on("model_list", Kind::List(&Kind::Section(&[models::ENTRY])), "the deployments and the names that clients call them by"),
    on("router_settings", Kind::Section(&[router::SETTINGS]), "time-outs, routing, failing over"),
    on("litellm_settings", Kind::Section(&[litellm::SETTINGS]), "cache, the budget over everything, logging"),
    on("general_settings", Kind::Section(&[general::SETTINGS]), "the master key, host and port"),
    on("tollgate", Kind::Section(&[tollgate::SETTINGS]), "what LiteLLM has no word for"),
    on("environment_variables", Kind::Map(&Kind::Any), "variables for the rest of the file; they win over the real ones"),
    on("key_settings", Kind::List(&Kind::Section(&[extra::KEY_SETTINGS])), "virtual keys with their limits"),
    on("user_api_key_list", Kind::List(&Kind::Section(&[extra::USER_API_KEY])), "virtual keys with their limits"),
    on("router", Kind::Section(&[extra::ROUTER]), "how deployments are chosen, by names that LiteLLM does not have"),
    on("fallback_config", Kind::List(&Kind::Section(&[extra::FALLBACK])), "names to try after a name has failed"),
    never("database", Kind::Section(&[extra::DATABASE_SECTION]), DATABASE),
    later("callback_settings", ANY_MAP, CALLBACK),
    later("guardrails", ANY_LIST, GUARDRAILS),
    later("policies", Kind::Any, GUARDRAILS),
    later("mcp_servers", ANY_MAP, "MCP servers do not take effect yet"),
    later("mcp_tools", ANY_LIST, "MCP servers do not take effect yet"),
    later("agent_list", ANY_LIST, "agents do not take effect yet"),
    later("vector_store_registry", ANY_LIST, "vector stores do not take effect yet"),
    later("search_tools", ANY_LIST, "search tools do not take effect yet"),
    later("prompts", ANY_LIST, "stored prompts do not take effect yet"),
    later("credential_list", ANY_LIST, "named credentials do not take effect yet; give api_key in litellm_params"),
    later("finetune_settings", ANY_LIST, "fine-tuning endpoints do not take effect yet"),
    later("files_settings", ANY_LIST, "file endpoints do not take effect yet"),
    later("assistant_settings", ANY_MAP, "assistants do not take effect yet"),
    later("default_vertex_config", ANY_MAP, "Vertex AI's own dialect does not take effect yet"),
    later("default_team_settings", ANY_LIST, CALLBACK),
    never("worker_registry", ANY_LIST, UI),
    later("include", TEXTS, "other files are not read: put their contents into this one"),
];

/// An entry of `model_list`.
pub(crate) const MODEL: Kind = Kind::Section(&[models::ENTRY]);

/// Sections by name, for "it belongs in …".
pub(crate) const SECTIONS: &[(&str, &[&[Setting]])] = &[
    ("the top level", &[TOP]),
    ("model_list[]", &[models::ENTRY]),
    (
        "model_list[].litellm_params",
        &[models::PARAMS, models::PRICES],
    ),
    ("model_list[].model_info", &[models::INFO, models::PRICES]),
    ("router_settings", &[router::SETTINGS]),
    ("litellm_settings", &[litellm::SETTINGS]),
    ("litellm_settings.cache_params", &[litellm::CACHE_PARAMS]),
    ("general_settings", &[general::SETTINGS]),
    (
        "litellm_settings.default_key_generate_params",
        &[litellm::KEY_DEFAULTS_OF],
    ),
    ("router", &[extra::ROUTER]),
    ("key_settings[]", &[extra::KEY_SETTINGS]),
    ("user_api_key_list[]", &[extra::USER_API_KEY]),
    ("fallback_config[]", &[extra::FALLBACK]),
    ("database", &[extra::DATABASE_SECTION]),
    ("tollgate", &[tollgate::SETTINGS]),
    ("tollgate.journal", &[tollgate::JOURNAL]),
    ("tollgate.budgets", &[tollgate::BUDGETS]),
    ("tollgate.cache", &[tollgate::CACHE]),
    ("tollgate.timeouts", &[tollgate::TIMEOUTS]),
    ("tollgate.limits", &[tollgate::LIMITS]),
    ("tollgate.log", &[tollgate::LOG]),
    ("tollgate.long_context", &[tollgate::LONG_CONTEXT]),
    ("tollgate.providers.NAME", &[tollgate::PROVIDER]),
    ("tollgate.clickhouse", &[tollgate::CLICKHOUSE]),
    ("tollgate.kafka", &[tollgate::KAFKA]),
    ("tollgate.redis", &[tollgate::REDIS]),
    ("tollgate.drain", &[tollgate::DRAIN]),
];

/// The setting of this name: itself first, else one that covers it with `*`.
pub(crate) fn find<'t>(groups: &[&'t [Setting]], key: &str) -> Option<&'t Setting> {
    let all = || groups.iter().flat_map(|group| group.iter());
    all().find(|setting| setting.name == key).or_else(|| {
        all().find(|setting| {
            setting
                .name
                .strip_suffix('*')
                .is_some_and(|head| key.len() > head.len() && key.starts_with(head))
        })
    })
}

/// Names of the sections that know this very key.
pub(crate) fn sections_with(key: &str) -> Vec<&'static str> {
    SECTIONS
        .iter()
        .filter(|(_, groups)| {
            groups
                .iter()
                .any(|group| group.iter().any(|setting| setting.name == key))
        })
        .map(|(name, _)| *name)
        .take(3)
        .collect()
}

/// The kind of a member of requests that `litellm_params` may give a default for.
pub(crate) fn default_of_requests(key: &str) -> Option<&'static Kind> {
    models::PARAMS
        .iter()
        .find(|setting| setting.name == key && setting.doc == models::DEFAULT)
        .map(|setting| &setting.kind)
}

/// Whether a key of `litellm_params` or `model_info` is a price that takes effect.
pub(crate) fn is_price(key: &str) -> bool {
    find(&[models::PRICES], key).is_some_and(|setting| setting.effect == Effect::Effective)
}
