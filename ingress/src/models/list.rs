//! `GET /v1/models`: the names that a key may ask for, as OpenAI lists them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::auth::authenticate;
use crate::{Error, Gateway};

/// `GET /v1/models`: what the caller's key may ask for.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    let caller = authenticate(&gateway, &headers, gateway.now())?;
    let models = gateway.models.load();
    let data: Vec<Value> = models
        .names
        .iter()
        .filter(|(name, _)| caller.may_use(name).is_ok())
        .map(|(name, provider)| {
            json!({ "id": name, "object": "model", "created": gateway.started.as_secs(), "owned_by": provider })
        })
        .collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}
