//! From the entries of `model_list` to deployments.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::address::{address, azure_version, either, key, key_from};
use super::headers::headers;
use super::limits::{limits, prices};
use super::pick::pick;
use super::providers::{Own, default_trust, own, trust};
use super::stand_in::{is_another_model, says_its_share};
use super::timeouts::default_timeouts;
use super::{hints, params};
use crate::model::{Dialect, ModelEntry, ModelLimits, ModelTimeouts, Shape};
use crate::providers::{self, Provider};
use crate::settings::Timeouts;
use crate::view::View;
use crate::{AuthScheme, Hints, Params, Secret, Trust};

/// Every entry of `model_list` that can be called.
pub(crate) fn models(root: &View<'_>, timeouts: &Timeouts) -> Vec<ModelEntry> {
    let defaults = default_timeouts(root, timeouts);
    let parallel = pick(root, "router_settings.default_max_parallel_requests")
        .and_then(|view| view.count_u32());
    let everywhere = params::Everywhere::of(root);
    let (own, by_default) = (own(root), default_trust(root));
    let mut models: Vec<ModelEntry> = Vec::new();
    let mut ids: HashMap<String, String> = HashMap::new();
    for item in root.at("model_list").items() {
        let Some(mut entry) = entry(&item, &own, &by_default, defaults, parallel, everywhere)
        else {
            continue;
        };
        let id = item.get("model_info.id");
        if let Some(first) = ids.get(&entry.deployment_id) {
            if id.is_set() {
                id.error(format!("is the id of {first} as well"));
                continue;
            }
            // The same deployment once more, perhaps with another key.
            let nth = (2..).find(|n| !ids.contains_key(&format!("{}-{n}", entry.deployment_id)));
            entry.deployment_id = format!("{}-{}", entry.deployment_id, nth.unwrap_or_default());
        }
        ids.insert(entry.deployment_id.clone(), item.path.clone());
        if entry.hints.order == 0 && !says_its_share(&item) {
            let first = models.iter().find(|m| m.model_name == entry.model_name);
            entry.hints.stands_in = first.is_some_and(|first| is_another_model(first, &entry));
            entry.hints.order = u32::from(entry.hints.stands_in);
        }
        models.push(entry);
    }
    models
}

fn entry(
    item: &View<'_>,
    own: &[Own],
    by_default: &Trust,
    defaults: ModelTimeouts,
    default_parallel: Option<u32>,
    everywhere: params::Everywhere,
) -> Option<ModelEntry> {
    let model_name = item.at("model_name").text()?;
    let params = item.at("litellm_params");
    let info = item.at("model_info");
    let model = params.at("model");
    if model_name.matches('*').count() > 1 {
        item.at("model_name").error("may hold one `*` only");
        return None;
    }
    let base = either(&params, "api_base", "base_url");
    let custom = params.at("custom_llm_provider").text();
    let name = model.text()?;
    let (own, name) = own_of(own, custom.as_deref(), name);
    // One of the file's own is an endpoint of OpenAI's shape whose whole name is the model's.
    let custom = custom.filter(|_| own.is_none());
    let custom = own.map_or(custom.as_deref(), |_| Some("custom_openai"));
    let (provider, upstream_model) =
        match providers::identify(&name, custom, base.is_set() || own.is_some()) {
            Ok(found) => found,
            Err(why) => {
                model.error(why);
                return None;
            }
        };
    if upstream_model.is_empty() {
        model.error("ends after its provider; write provider/model");
        return None;
    }
    if upstream_model.contains('*') && !model_name.contains('*') {
        model.error("holds a `*`, and model_name does not");
        return None;
    }
    let mock = params.at("mock_response").text();
    let asks = mock.is_none();
    if let Dialect::Unsupported(why) = provider.dialect
        && asks
    {
        model.warn(format!("{why}; calls to it are refused"));
    }
    let api_base = match own {
        _ if !asks => None,
        Some(own) if !base.is_set() => Some(own.base_url.clone()),
        _ => address(&params, &base, provider),
    };
    let called = own.map_or(provider.prefix, |own| &own.name);
    let timeout = params.at("timeout").seconds();
    let timeouts = ModelTimeouts {
        total: timeout.unwrap_or(defaults.total),
        total_stream: params
            .at("stream_timeout")
            .seconds()
            .or(timeout)
            .unwrap_or(defaults.total_stream),
        ..defaults
    };
    let deployment_id = info.at("id").text().unwrap_or_else(|| {
        deployment_id(
            &model_name,
            called,
            &upstream_model,
            api_base.as_deref().unwrap_or_default(),
        )
    });
    let mut headers = headers(&params);
    let (auth, api_key) = match own {
        _ if !asks => (AuthScheme::None, None),
        Some(own) => {
            let theirs = own.headers.iter();
            let unsaid = theirs.filter(|(name, _)| !headers.iter().any(|(known, _)| known == name));
            let unsaid: Vec<_> = unsaid.cloned().collect();
            headers.extend(unsaid);
            // A key of the provider's goes only where the provider is.
            let key = params.at("api_key").secret();
            let shared = || own.key.clone().filter(|_| !base.is_set());
            own.auth(key.or_else(shared), &mut headers)
        }
        None => (provider.auth, key(&params, &base, provider)),
    };
    // One of the environment that is not sent there is not this deployment's.
    let said_key =
        key_from(&params, provider).filter(|_| api_key.is_some() || params.at("api_key").is_set());
    let shape = Shape {
        chat_path: own.and_then(|own| own.path.clone()),
        quirks: own.map_or_else(|| provider.quirks.to_vec(), |own| own.quirks.clone()),
        trust: trust(&params.at("ssl_verify"))
            .or_else(|| own.and_then(|own| own.trust.clone()))
            .unwrap_or_else(|| by_default.clone()),
    };
    Some(ModelEntry {
        api_key,
        api_base: api_base.unwrap_or_default(),
        deployment_id,
        provider: called.to_owned(),
        upstream_model,
        base_model: info.at("base_model").text(),
        dialect: if asks {
            provider.dialect
        } else {
            Dialect::Demo
        },
        auth,
        api_version: params
            .at("api_version")
            .text()
            .or_else(|| azure_version(item, provider)),
        organization: params.at("organization").text(),
        headers,
        prices: prices(&params, &info),
        limits: limits(item, default_parallel),
        timeouts,
        hints: Hints {
            key_from: said_key,
            ..hints::hints(item)
        },
        params: params::params(item, everywhere),
        shape,
        mock,
        line: item.line,
        model_name,
    })
}

/// The file's own provider that a model is at, and the name without it.
fn own_of<'a>(own: &'a [Own], custom: Option<&str>, model: String) -> (Option<&'a Own>, String) {
    let named = |name: &str| own.iter().find(|own| own.name == name);
    let split = model.split_once('/');
    let found = split.and_then(|(prefix, rest)| Some((named(prefix)?, rest)));
    match (custom, found) {
        (None, Some((own, rest))) => (Some(own), rest.to_owned()),
        (Some(custom), found) => match (named(custom), found) {
            (Some(own), Some((same, rest))) if same.name == own.name => {
                (Some(own), rest.to_owned())
            }
            (found, _) => (found, model),
        },
        (None, None) => (None, model),
    }
}

/// Sixteen hex digits of SHA-256 over what a deployment is.
fn deployment_id(parts_name: &str, provider: &str, upstream: &str, base: &str) -> String {
    let mut hash = Sha256::new();
    for part in [parts_name, provider, upstream, base] {
        // Lengths keep the parts apart.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..8])
}

/// An entry that no file wrote.
pub(crate) fn plain_entry(
    model_name: &str,
    provider: &Provider,
    upstream: &str,
    base: String,
    key: Option<Secret>,
    timeouts: &Timeouts,
) -> ModelEntry {
    ModelEntry {
        deployment_id: deployment_id(model_name, provider.prefix, upstream, &base),
        model_name: model_name.to_owned(),
        provider: provider.prefix.to_owned(),
        upstream_model: upstream.to_owned(),
        base_model: None,
        dialect: provider.dialect,
        api_base: base,
        auth: provider.auth,
        api_key: key,
        api_version: None,
        organization: None,
        headers: Vec::new(),
        prices: Vec::new(),
        limits: ModelLimits::default(),
        timeouts: ModelTimeouts::of(timeouts),
        hints: Hints::default(),
        params: Params::default(),
        shape: Shape {
            quirks: provider.quirks.to_vec(),
            ..Shape::default()
        },
        mock: None,
        line: 0,
    }
}
