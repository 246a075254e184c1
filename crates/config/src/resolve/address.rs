//! Where the calls of a deployment go, and with which key.

use crate::model::Dialect;
use crate::providers::Provider;
use crate::view::View;
use crate::{AuthScheme, Secret};

pub(super) fn either<'a>(section: &View<'a>, name: &str, other: &str) -> View<'a> {
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

pub(super) fn azure_version(item: &View<'_>, provider: &Provider) -> Option<String> {
    let version =
        (item.context().env)("AZURE_API_VERSION").filter(|version| !version.trim().is_empty());
    version.filter(|_| provider.dialect == Dialect::Azure)
}

pub(super) fn address(params: &View<'_>, base: &View<'_>, provider: &Provider) -> Option<String> {
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
pub(super) fn key(params: &View<'_>, base: &View<'_>, provider: &Provider) -> Option<Secret> {
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
pub(super) fn key_from(params: &View<'_>, provider: &Provider) -> Option<String> {
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
