//! Which clients are answered, and which routes they may call: `allowed_ips`, `allowed_routes` and
//! `admin_only_routes` of the file, `allowed_routes` of a key. Health and metrics are told to everybody who can
//! reach the port, as LiteLLM does.

use std::net::IpAddr;

use config::Access;
use http::HeaderMap;
use schemas::Text;

use crate::auth::{Sought, authenticate};
use crate::directory::{Principal, Role};
use crate::endpoint::Endpoint;
use crate::{Error, Gateway};

/// Told to everybody: whoever watches a process has no key.
const OPEN: [&str; 4] = [
    "/health/liveliness",
    "/health/liveness",
    "/health/readiness",
    "/robots.txt",
];
/// As Azure's clients call it.
const AZURE: &str = "/openai";
/// Routes with and without `/v1` beside those of calls.
const TWINS: [&str; 2] = ["/models", "/model/info"];
/// LiteLLM's `info_routes`, as far as they are here.
const INFO: [&str; 8] = [
    "/key/info",
    "/key/list",
    "/team/info",
    "/model/info",
    "/model_group/info",
    "/models",
    "/health",
    "/health/services",
];
/// What LiteLLM counts to the routes of calls beside them.
const BESIDE_CALLS: [&str; 3] = ["/models", "/model/info", "/model_group/info"];
/// LiteLLM's names for several routes that a key may have.
const GROUPS: [&str; 3] = ["llm_api_routes", "openai_routes", "info_routes"];

/// Whether a client may be here at all. `peer` is who the connection is from.
///
/// # Errors
/// 403 with the address.
pub fn address<H: Sought + ?Sized>(
    access: &Access,
    peer: IpAddr,
    headers: &H,
) -> Result<(), Error> {
    if access.addresses.is_empty() {
        return Ok(());
    }
    let forwarded = access.forwarded.then(|| headers.first("x-forwarded-for"));
    let shown = match forwarded.flatten() {
        // The proxy in front of us wrote the last one; what stands before it anybody may have written.
        Some(list) => list.rsplit(',').next().unwrap_or(list).trim().to_owned(),
        None => peer.to_canonical().to_string(),
    };
    let known = shown.parse().is_ok_and(|address| {
        let mut networks = access.addresses.iter();
        networks.any(|network| network.holds(address))
    });
    if known {
        return Ok(());
    }
    Err(Error::Forbidden(format!(
        "Access forbidden: IP address {shown} not allowed."
    )))
}

/// Whether a caller may make this kind of call.
///
/// # Errors
/// 403 naming the route.
pub fn call(access: &Access, caller: &Principal, endpoint: Endpoint) -> Result<(), Error> {
    let own = caller.key.as_ref().map(|key| &key.allowed_routes);
    let open = access.routes.is_empty() && access.admin_routes.is_empty();
    if open && own.is_none_or(Vec::is_empty) {
        return Ok(());
    }
    route(access, Some(caller), endpoint.path())
}

/// Whether a request that is no call may be answered.
///
/// # Errors
/// 403 naming the address or the route.
pub fn routed(
    gateway: &Gateway,
    peer: IpAddr,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), Error> {
    let models = gateway.models.load();
    let server = &models.config.server;
    if OPEN.contains(&path) || server.metrics.path.as_deref() == Some(path) {
        return Ok(());
    }
    address(&server.access, peer, headers)?;
    // Whoever has no good key is told so by the route itself.
    let caller = authenticate(gateway, headers, gateway.now()).ok();
    route(&server.access, caller.as_ref(), path)
}

fn route(access: &Access, caller: Option<&Principal>, path: &str) -> Result<(), Error> {
    if !access.routes.is_empty() && !holds(&access.routes, path) {
        return Err(Error::Forbidden(format!(
            "Access forbidden: Route {path} not allowed"
        )));
    }
    let Some(caller) = caller else {
        return Ok(());
    };
    if caller.role == Role::Master {
        return Ok(());
    }
    if holds(&access.admin_routes, path) {
        return Err(Error::Forbidden(format!(
            "user not allowed to access this route. Route={path} is an admin only route"
        )));
    }
    let own = caller.key.as_ref().map(|key| &key.allowed_routes);
    match own.filter(|list| !list.is_empty() && !holds(list, path)) {
        None => Ok(()),
        Some(list) => Err(Error::Forbidden(format!(
            "Virtual key is not allowed to call this route. Only allowed to call routes: {:?}. Tried to call \
             route: {path}",
            list.iter().map(AsRef::as_ref).collect::<Vec<&str>>()
        ))),
    }
}

/// The routes of a key, as they were asked for.
///
/// # Errors
/// The first that is none.
pub fn routes_of_key(list: Vec<Text>) -> Result<Vec<Text>, Text> {
    let known = |entry: &Text| entry.starts_with('/') || GROUPS.contains(&&**entry);
    match list.iter().find(|entry| !known(entry)) {
        None => Ok(list),
        Some(odd) => Err(odd.clone()),
    }
}

/// Whether a list holds a route, whichever of its forms either is written in.
fn holds<T: AsRef<str>>(list: &[T], path: &str) -> bool {
    if list.is_empty() {
        return false;
    }
    let path = path.strip_prefix(AZURE).unwrap_or(path);
    let bare = path.strip_prefix("/v1").unwrap_or(path);
    let is_call = Endpoint::of(path).is_some();
    let path = if is_call || TWINS.contains(&bare) {
        bare
    } else {
        path
    };
    let twin = (is_call || TWINS.contains(&path)).then(|| format!("/v1{path}"));
    list.iter().any(|entry| match entry.as_ref() {
        "llm_api_routes" => is_call || BESIDE_CALLS.contains(&path),
        "openai_routes" => is_call || path == "/models",
        "info_routes" => INFO.contains(&path),
        entry => matches(entry, path) || twin.as_deref().is_some_and(|twin| matches(entry, twin)),
    })
}

/// The very route, what lies below it, or what begins like a pattern.
fn matches(entry: &str, path: &str) -> bool {
    if let Some(head) = entry.strip_suffix('*') {
        return path.starts_with(head);
    }
    let rest = path.strip_prefix(entry.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_the_same_in_all_its_forms() {
        for (list, path, expected) in [
            (&["/chat/completions"][..], "/chat/completions", true),
            (&["/v1/chat/completions"], "/chat/completions", true),
            (&["/chat/completions"], "/completions", false),
            (&["/v1/*"], "/models", true),
            (&["/v1/*"], "/embeddings", true),
            (&["/v1/*"], "/key/info", false),
            (&["/key/*"], "/key/info", true),
            (&["/key"], "/key/info", true),
            (&["/ke"], "/key/info", false),
            (&["/models"], "/v1/models", true),
            (&["/models"], "/openai/v1/models", true),
            (&["/v1/model/info"], "/model/info", true),
            (&["llm_api_routes"], "/rerank", true),
            (&["llm_api_routes"], "/model/info", true),
            (&["openai_routes"], "/model/info", false),
            (&["llm_api_routes"], "/key/info", false),
            (&["info_routes"], "/key/info", true),
            (&["info_routes"], "/chat/completions", false),
            (&[], "/chat/completions", false),
        ] {
            assert_eq!(holds(list, path), expected, "{list:?} {path}");
        }
    }
}
