//! From the entries of `model_list` to deployments: provider, address, key, prices, bounds.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::providers::{Own, default_trust, own};
use super::{params, pick};
use crate::known;
use crate::model::{Dialect, ModelEntry, ModelLimits, ModelTimeouts, Shape};
use crate::providers::{self, Provider};
use crate::settings::Timeouts;
use crate::view::View;
use crate::{AuthScheme, DecimalText, Hints, Params, Secret, Trust};

/// Every entry of `model_list` that can be called.
pub(crate) fn models(root: &View<'_>, timeouts: &Timeouts) -> Vec<ModelEntry> {
    let defaults = default_timeouts(root, timeouts);
    let parallel = pick(root, "router_settings.default_max_parallel_requests")
        .and_then(|view| view.count_u32());
    let everywhere = params::Everywhere::of(root);
    let (own, trust) = (own(root), default_trust(root));
    let mut models: Vec<ModelEntry> = Vec::new();
    let mut ids: HashMap<String, String> = HashMap::new();
    for item in root.at("model_list").items() {
        let Some(mut entry) = entry(&item, &own, &trust, defaults, parallel, everywhere) else {
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

/// Whether an entry says how calls are shared with others of its name.
fn says_its_share(item: &View<'_>) -> bool {
    let params = item.at("litellm_params");
    ["weight", "order", "rpm", "tpm", "tags", "region_name"]
        .iter()
        .any(|name| params.at(name).is_set() || item.at(name).is_set())
        || item.get("metadata.priority").is_set()
}

/// Whether a name's later deployment certainly serves another model than its first: Claude beside GPT, or the
/// small one of a family beside the large. Nobody who asks for a model by its name wants half of the answers
/// from another one, so it only stands in. Names that say nothing of their maker are never judged.
fn is_another_model(first: &ModelEntry, other: &ModelEntry) -> bool {
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

pub(super) fn default_timeouts(root: &View<'_>, timeouts: &Timeouts) -> ModelTimeouts {
    let total = root.get("router_settings.timeout").seconds();
    let total = total
        .or_else(|| root.get("litellm_settings.request_timeout").seconds())
        .unwrap_or(timeouts.total);
    ModelTimeouts {
        total,
        total_stream: root
            .get("router_settings.stream_timeout")
            .seconds()
            .unwrap_or(total),
        ..ModelTimeouts::of(timeouts)
    }
}

fn entry(
    item: &View<'_>,
    own: &[Own],
    trust: &Trust,
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
        trust: super::providers::trust(&params.at("ssl_verify"))
            .or_else(|| own.and_then(|own| own.trust.clone()))
            .unwrap_or_else(|| trust.clone()),
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
            ..super::routing::hints(item)
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

fn either<'a>(section: &View<'a>, name: &str, other: &str) -> View<'a> {
    let (first, second) = (section.at(name), section.at(other));
    if first.is_set() && second.is_set() {
        second.error(format!(
            "is the same setting as {name} on line {}; keep one",
            first.line
        ));
    }
    if second.is_set() && !first.is_set() {
        second
    } else {
        first
    }
}

fn azure_version(item: &View<'_>, provider: &Provider) -> Option<String> {
    let version =
        (item.context().env)("AZURE_API_VERSION").filter(|version| !version.trim().is_empty());
    version.filter(|_| provider.dialect == Dialect::Azure)
}

fn address(params: &View<'_>, base: &View<'_>, provider: &Provider) -> Option<String> {
    match provider.dialect {
        Dialect::Demo | Dialect::Unsupported(_) => return None,
        Dialect::OpenAi | Dialect::Azure => {}
    }
    if base.is_set() {
        // A value that is no URL was told by the check.
        return base.url().map(|url| provider.complete(&url));
    }
    match provider.base_from(params.context().env) {
        Ok(base) => Some(base.trim_end_matches('/').to_owned()),
        Err(why) => {
            let place = params.at("model");
            match params.context().strictness {
                crate::Strictness::Strict => place.error(why),
                crate::Strictness::AllowMissingVariables => place.warn(why),
            }
            None
        }
    }
}

/// The key of the file, else that of the environment. A key of the environment goes only where its
/// provider is: an address of the file's own gets none that the file does not give it.
fn key(params: &View<'_>, base: &View<'_>, provider: &Provider) -> Option<Secret> {
    let key = params.at("api_key");
    if key.is_set() || provider.auth == AuthScheme::None {
        return key.secret();
    }
    let found = provider.key_from(params.context().env);
    let elsewhere = !provider.base_url.is_empty()
        && base
            .url()
            .is_some_and(|url| host(&url) != host(provider.base_url));
    match found {
        Some((name, _)) if elsewhere => {
            params.warn(format!(
                "no key is sent to this api_base: {name} is for {}; write api_key: os.environ/{name} to send it",
                provider.name
            ));
            None
        }
        Some((_, key)) => Some(Secret::new(key.trim())),
        None if provider.key_optional || elsewhere => None,
        None => {
            let names = provider.key_env.join(" or ");
            let message =
                format!("there is no api_key, and the environment variable {names} is not set");
            match params.context().strictness {
                crate::Strictness::Strict => params.at("api_key").error(message),
                crate::Strictness::AllowMissingVariables => params.at("api_key").warn(message),
            }
            None
        }
    }
}

/// Where [`key`] found what it found.
fn key_from(params: &View<'_>, provider: &Provider) -> Option<String> {
    let key = params.at("api_key");
    if key.is_set() {
        return key.origin();
    }
    let found = provider.key_from(params.context().env);
    found.map(|(name, _)| format!("the variable {name}"))
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

fn headers(params: &View<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for section in ["extra_headers", "headers"] {
        headers.extend(headers_of(&params.at(section)));
    }
    headers
}

/// A mapping of headers.
pub(super) fn headers_of(section: &View<'_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (name, view) in section.entries() {
        match view.secret() {
            _ if !is_token(&name) => view.error("is not a header name"),
            Some(value)
                if value
                    .expose()
                    .bytes()
                    .any(|b| b < b' ' && b != b'\t' || b == 0x7f) =>
            {
                view.error("holds a line break or another character that a header cannot carry");
            }
            Some(value) => headers.push((name.to_ascii_lowercase(), value)),
            None => {}
        }
    }
    headers
}

/// Whether it can be the name of a header.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Every price field of the two places where LiteLLM looks.
fn prices(params: &View<'_>, info: &View<'_>) -> Vec<(String, DecimalText)> {
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

fn limits(item: &View<'_>, default_parallel: Option<u32>) -> ModelLimits {
    let (params, info) = (item.at("litellm_params"), item.at("model_info"));
    let minute = |name: &str| {
        [&params, &info, item]
            .into_iter()
            .find_map(|at| at.at(name).count())
    };
    let makes = output_of(&info);
    let input = [info.at("max_input_tokens"), item.get("metadata.max_tokens")];
    ModelLimits {
        max_output_tokens: match (makes, params::max_tokens(&params)) {
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
