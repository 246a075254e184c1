//! The answer cache: one meaning from `cache`, `enable_cache`, `cache_params`, `cache_ttl` and `tollgate.cache`.

use std::time::Duration;

use super::pick::pick;
use crate::Secret;
use crate::settings::Cache;
use crate::view::View;

const LOCAL_ONLY: &str =
    "there is no such store; answers are kept on local disk, or in Redis where one is given";

/// What the file says about the cache, `defaults` where it says nothing.
pub(super) fn cache(root: &View<'_>, defaults: Cache) -> Cache {
    let (litellm, ours) = (root.at("litellm_settings"), root.get("tollgate.cache"));
    let switch = litellm.at("cache");
    let enable = litellm.at("enable_cache");
    if let (Some(a), Some(b)) = (switch.bool(), enable.bool())
        && a != b
    {
        enable.error(format!(
            "is the same setting as {} on line {}, with another value",
            switch.path, switch.line
        ));
    }
    let enabled = switch
        .bool()
        .or(enable.bool())
        .unwrap_or(switch.is_mapping());
    let params = if switch.is_mapping() {
        let params = litellm.at("cache_params");
        if params.is_set() {
            params.error(format!(
                "stands beside the parameters in {} on line {}; keep one",
                switch.path, switch.line
            ));
        }
        switch
    } else {
        litellm.at("cache_params")
    };
    let kind = params
        .at("type")
        .text()
        .map(|kind| kind.to_ascii_lowercase());
    let threshold = pick(root, "tollgate.cache.threshold");
    // Files written for other readers name an exact store and expect exact answers only.
    let semantic = ours.at("semantic").bool().unwrap_or_else(|| {
        let by_type = kind
            .as_deref()
            .is_none_or(|kind| kind.ends_with("-semantic"));
        by_type || params.at("similarity_threshold").is_set() || ours.at("threshold").is_set()
    });
    let redis_url = cache_redis(&params, &ours, kind.as_deref());
    let known = |kind: &str| matches!(kind, "local" | "disk") || is_redis(kind);
    if !kind.as_deref().is_none_or(known) && enabled {
        params.at("type").warn(LOCAL_ONLY);
    }
    ours.at("timeout_ms").at_most(super::WAIT_MS_MAX);
    let service = pick(root, "tollgate.cache.url");
    if let (Some(service), false) = (&service, enabled) {
        service.warn("has no effect without the cache itself (litellm_settings.cache: true)");
    }
    Cache {
        enabled,
        semantic: enabled && semantic,
        per_user: litellm.at("cache_system_prompt_only").bool() == Some(true),
        threshold: threshold
            .and_then(|view| view.decimal())
            .unwrap_or(defaults.threshold),
        ttl: pick(root, "tollgate.cache.ttl_s")
            .and_then(|view| view.seconds())
            .unwrap_or(defaults.ttl),
        max_bytes: ours.at("max_bytes").count().unwrap_or(defaults.max_bytes),
        on_request_only: params
            .at("mode")
            .text()
            .is_some_and(|mode| mode.eq_ignore_ascii_case("default_off")),
        service_url: service.and_then(|view| view.url()),
        timeout: ours
            .at("timeout_ms")
            .count()
            .map_or(defaults.timeout, Duration::from_millis),
        token: ours.at("token").secret(),
        redis_url,
    }
}

fn is_redis(kind: &str) -> bool {
    kind.starts_with("redis") || kind.starts_with("valkey")
}

fn cache_redis(params: &View<'_>, ours: &View<'_>, kind: Option<&str>) -> Option<Secret> {
    let own = ours.at("redis_url");
    if own.is_set() {
        return own.secret();
    }
    if !kind.is_some_and(is_redis) {
        return None;
    }
    for name in [
        "url",
        "redis_url",
        "host",
        "port",
        "password",
        "username",
        "db",
    ] {
        let view = params.at(name);
        if let Some(why) = view.unread() {
            view.warn(format!("{why}; answers are kept on local disk"));
            return None;
        }
    }
    if let Some(url) = params
        .at("url")
        .secret()
        .or_else(|| params.at("redis_url").secret())
    {
        return Some(url);
    }
    let host = params.at("host").text()?;
    let scheme = if params.at("ssl").bool() == Some(true) {
        "rediss"
    } else {
        "redis"
    };
    let user = params.at("username").secret();
    let login = match (user, params.at("password").secret()) {
        (None, None) => String::new(),
        (user, password) => {
            let text = |secret: Option<Secret>| {
                secret
                    .map(|secret| percent_encoded(secret.expose()))
                    .unwrap_or_default()
            };
            format!("{}:{}@", text(user), text(password))
        }
    };
    let port = params.at("port").port().unwrap_or(6379);
    let db = params.at("db").count().unwrap_or(0);
    Some(Secret::new(format!("{scheme}://{login}{host}:{port}/{db}")))
}

/// For the login part of a URL.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
