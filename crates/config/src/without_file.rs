//! What is served when there is no file: the built-in model, and every provider whose key is there.

use crate::expand::Env;
use crate::providers::{self, PROVIDERS};
use crate::resolve::{SECRET_KEY_MIN, master_from, plain_entry, secret_key_from};
use crate::{Config, ConfigError, ConfigErrors, Dialect, Loaded, ModelEntry, Secret, Timeouts};

/// The configuration of a start without a file. `model` is `--model`: only that one is served.
///
/// # Errors
/// A `model` whose provider is not known, or whose key or address is not there.
pub fn without_file(env: Env<'_>, model: Option<&str>) -> Result<Loaded, ConfigErrors> {
    let mut config = Config::default();
    config.server.master_key = master_from(env);
    config.server.secret_key = secret_key_from(env)
        .map(|(_, key)| key)
        .filter(|key| key.expose().len() >= SECRET_KEY_MIN);
    let timeouts = &config.timeouts;
    config.models = match model {
        Some(model) => vec![one(model, env, timeouts)?],
        None => {
            let demo = providers::find("tollgate").map(|demo| {
                plain_entry("tollgate/demo", demo, "demo", String::new(), None, timeouts)
            });
            demo.into_iter().chain(providers_from_env(env)).collect()
        }
    };
    Ok(Loaded {
        config,
        warnings: Vec::new(),
    })
}

fn one(model: &str, env: Env<'_>, timeouts: &Timeouts) -> Result<ModelEntry, ConfigErrors> {
    let fail = |message: String| {
        ConfigErrors(vec![ConfigError {
            file: String::new(),
            line: 0,
            path: "--model".to_owned(),
            message,
        }])
    };
    let (provider, upstream) = providers::identify(model, None, false).map_err(fail)?;
    if let Dialect::Unsupported(why) = provider.dialect {
        return Err(fail(why.to_owned()));
    }
    let base = if provider.dialect == Dialect::Demo {
        String::new()
    } else {
        provider.base_from(env).map_err(fail)?
    };
    let key = provider
        .key_from(env)
        .map(|(_, key)| Secret::new(key.trim()));
    if key.is_none() && !provider.key_optional {
        return Err(fail(format!(
            "the environment variable {} is not set",
            provider.key_env.join(" or ")
        )));
    }
    Ok(plain_entry(model, provider, &upstream, base, key, timeouts))
}

/// One wildcard entry (`openai/*`) for every provider whose key variable is set and whose address is known.
/// A provider that needs no key counts when the variable of its address is set.
#[must_use]
pub fn providers_from_env(env: Env<'_>) -> Vec<ModelEntry> {
    let timeouts = Config::default().timeouts;
    let speaks = PROVIDERS
        .iter()
        .filter(|provider| matches!(provider.dialect, Dialect::OpenAi | Dialect::Azure));
    speaks
        .filter_map(|provider| {
            let key = provider
                .key_from(env)
                .map(|(_, key)| Secret::new(key.trim()));
            let addressed = || {
                provider
                    .base_env
                    .iter()
                    .any(|name| env(name).is_some_and(|base| !base.trim().is_empty()))
            };
            if key.is_none() && !(provider.key_optional && addressed()) {
                return None;
            }
            let base = provider.base_from(env).ok()?;
            Some(plain_entry(
                &format!("{}/*", provider.prefix),
                provider,
                "*",
                base,
                key,
                &timeouts,
            ))
        })
        .collect()
}
