//! The one YAML file, in LiteLLM's shape plus a `tollgate:` section: text in, typed [`Config`] and
//! warnings out. Opens no file and reads no environment variable: both come in through an argument.

mod access;
mod aliases;
mod changes;
mod check;
mod decimal;
mod error;
mod expand;
mod explain;
mod json;
mod kind;
mod known;
mod model;
mod page;
mod params;
pub mod providers;
mod resolve;
mod routing;
mod secret;
mod settings;
mod source;
mod tree;
mod view;
mod without_file;

use std::cell::RefCell;
use std::collections::HashMap;

pub use access::{Access, Network};
pub use changes::at_next_start;
pub use check::Strictness;
pub use decimal::DecimalText;
pub use error::{ConfigError, ConfigErrors, Warning, summary};
pub use explain::{Catalog, Listed, check, check_with};
pub use model::{AuthScheme, Dialect, ModelEntry, ModelLimits, ModelTimeouts, Shape, Trust};
pub use page::settings_page;
pub use params::{Lack, OPENAI_PARAMS, Params};
pub use providers::Quirk;
pub use routing::{
    Check, Cooldown, FailureKind, Fallbacks, HealthChecks, Hints, Looks, OfName, PaidCheck,
    Retries, Routing, Strategy,
};
pub use secret::Secret;
pub use settings::{
    AlertPost, AlertShape, Alerts, Budgets, Cache, ClickHouse, Config, DefaultModels, Demands,
    Drain, JournalConfig, Kafka, Limits, Log, LogFile, LogFormat, LogLevel, LongContext, Metrics,
    NewKeys, Period, Redis, SeedKey, Server, Shortening, SyncMode, Timeouts,
};
pub use source::{Added, LeftOut, Resolved, Source, model_secrets};
pub use without_file::{providers_from_env, without_file};

/// A configuration that may be used, and what to tell its writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
}

/// Reads a file. `name` is what errors call it; `env` looks a variable up, or the text of a file where the
/// name begins with `file/`, which no variable's does.
///
/// Similar answers of the cache are on when the cache is on and `tollgate.cache.semantic` says so; unsaid,
/// when a `similarity_threshold` is given, when the `type` is a semantic one, or when no `type` is given.
///
/// # Errors
/// Everything that is wrong with it, at once. A variable that is not set is wrong where the setting takes
/// effect.
pub fn parse(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigErrors> {
    parse_with(text, name, env, Strictness::Strict)
}

/// As [`parse`], with a choice of what a missing variable does.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    strictness: Strictness,
) -> Result<Loaded, ConfigErrors> {
    parse_beside(text, name, env, strictness, &[])
}

/// How many entries the `model_list` of a file has.
pub(crate) fn entries(text: &str) -> usize {
    let root = tree::read(text, &mut Vec::new()).ok();
    root.and_then(|root| Some(root.get("model_list")?.value.list()?.len()))
        .unwrap_or(0)
}

/// As [`parse_with`], with more entries at the end of `model_list`.
pub(crate) fn parse_beside(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    strictness: Strictness,
    beside: &[&serde_json::Value],
) -> Result<Loaded, ConfigErrors> {
    let mut faults = Vec::new();
    let root = match tree::read(text, &mut faults) {
        Ok(root) => tree::with_items(root, "model_list", beside),
        Err(fault) => {
            faults.push(fault);
            return Err(in_order(
                faults.into_iter().map(|fault| told(name, fault)).collect(),
            ));
        }
    };
    let own = own_variables(&root, env);
    let lookup = |variable: &str| own.get(variable).cloned().or_else(|| env(variable));
    let context = check::Context {
        file: name,
        env: &lookup,
        strictness,
        errors: RefCell::new(faults.into_iter().map(|fault| told(name, fault)).collect()),
        warnings: RefCell::new(Vec::new()),
    };
    check::check(&context, &root);
    let config = resolve::resolve(&view::View::root(&context, &root));
    let errors = context.errors.into_inner();
    if !errors.is_empty() {
        return Err(in_order(errors));
    }
    let mut warnings = context.warnings.into_inner();
    warnings.sort_by_key(|warning| warning.line);
    warnings.dedup();
    Ok(Loaded { config, warnings })
}

/// `environment_variables:` of the file. Each may use those above it.
fn own_variables(root: &tree::Node, env: expand::Env<'_>) -> HashMap<String, String> {
    let entries = root
        .get("environment_variables")
        .and_then(|entry| entry.value.map())
        .unwrap_or_default();
    let mut own: HashMap<String, String> = HashMap::new();
    for entry in entries {
        let tree::Value::Scalar(text) = &entry.value.value else {
            continue;
        };
        let lookup = |name: &str| own.get(name).cloned().or_else(|| env(name));
        if let Ok(value) = expand::expand(text, &lookup) {
            own.insert(entry.key.clone(), value);
        }
    }
    own
}

fn told(file: &str, fault: tree::Fault) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        line: fault.line,
        path: fault.path,
        message: fault.message,
    }
}

fn in_order(mut errors: Vec<ConfigError>) -> ConfigErrors {
    errors.sort_by_key(|error| error.line);
    errors.dedup();
    ConfigErrors(errors)
}
