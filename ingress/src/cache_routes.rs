//! The answer cache over HTTP, in the shapes that LiteLLM's clients know. A key takes out only what
//! answers its own calls; the master key anything.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Gateway;
use crate::auth::authenticate;
use crate::body::Whole;
use crate::directory::Role;
use crate::error::Error;
use crate::router::Routes;

/// Keys of one call at most.
const KEYS_MAX: usize = 1_000;

/// The cache's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .get("/cache/ping", ping)
        .post("/cache/delete", delete)
}

/// `GET /cache/ping`: 503 while nothing can be had from the cache.
async fn ping(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    authenticate(&gateway, &headers, gateway.now())?;
    let cache = gateway.cache.as_ref().ok_or_else(no_cache)?;
    match cache.state() {
        "unavailable" => Err(Error::Cache),
        state => Ok(Json(json!({
            "status": "healthy",
            "cache_type": state,
            "ping_response": true,
        }))),
    }
}

#[derive(Deserialize)]
struct Keys {
    /// Values of `x-litellm-cache-key`.
    keys: Vec<String>,
}

/// `POST /cache/delete`: takes answers out, for every gateway.
async fn delete(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Json<Value>, Error> {
    let caller = authenticate(&gateway, &headers, gateway.now())?;
    let cache = gateway.cache.as_ref().ok_or_else(no_cache)?;
    let Keys { keys } = serde_json::from_slice(&body)
        .map_err(|error| Error::bad_request(format!("keys: {error}"), "keys"))?;
    if keys.len() > KEYS_MAX {
        return Err(Error::bad_request(
            format!("keys: more than {KEYS_MAX} at once"),
            "keys",
        ));
    }
    let own = match caller.role {
        Role::Master => None,
        Role::Key => Some(caller.attribution()),
    };
    let mut deleted = 0u64;
    for key in &keys {
        let was = cache.forget(own.as_ref(), key).await;
        deleted += u64::from(was.map_err(|_| Error::Cache)?);
    }
    Ok(Json(json!({"status": "success", "deleted": deleted})))
}

fn no_cache() -> Error {
    Error::NotFound {
        what: "a cache (litellm_settings.cache)".into(),
        param: None,
    }
}
