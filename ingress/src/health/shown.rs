//! What LiteLLM's clients and dashboards ask a proxy of itself, beside its health.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use crate::auth::authenticate;
use crate::{Error, Gateway};

/// Callbacks and alerts that LiteLLM tests by name. None of them is sent to here.
const SERVICES: [&str; 14] = [
    "slack_budget_alerts",
    "langfuse",
    "langfuse_otel",
    "slack",
    "openmeter",
    "webhook",
    "email",
    "braintrust",
    "datadog",
    "datadog_llm_observability",
    "generic_api",
    "arize",
    "sqs",
    "otel",
];

/// Every route, by path and methods.
const ROUTES: &[(&str, &str)] = &[
    ("/v1/chat/completions", "POST"),
    ("/chat/completions", "POST"),
    ("/v1/completions", "POST"),
    ("/completions", "POST"),
    ("/v1/embeddings", "POST"),
    ("/embeddings", "POST"),
    ("/v1/responses", "POST"),
    ("/responses", "POST"),
    ("/v1/moderations", "POST"),
    ("/moderations", "POST"),
    ("/v1/images/generations", "POST"),
    ("/images/generations", "POST"),
    ("/v1/audio/speech", "POST"),
    ("/audio/speech", "POST"),
    ("/v1/audio/transcriptions", "POST"),
    ("/audio/transcriptions", "POST"),
    ("/v1/audio/translations", "POST"),
    ("/audio/translations", "POST"),
    ("/v1/rerank", "POST"),
    ("/v2/rerank", "POST"),
    ("/rerank", "POST"),
    ("/openai/deployments/{model}/chat/completions", "POST"),
    ("/openai/deployments/{model}/completions", "POST"),
    ("/openai/deployments/{model}/embeddings", "POST"),
    ("/v1/models", "GET"),
    ("/models", "GET"),
    ("/health", "GET"),
    ("/health/liveliness", "GET"),
    ("/health/liveness", "GET"),
    ("/health/readiness", "GET"),
    ("/health/services", "GET"),
    ("/health/shared-status", "GET"),
    ("/metrics", "GET"),
    ("/routes", "GET"),
    ("/test", "GET"),
    ("/key/generate", "POST"),
    ("/key/update", "POST"),
    ("/key/delete", "POST"),
    ("/key/info", "GET"),
    ("/key/list", "GET"),
    ("/key/block", "POST"),
    ("/key/unblock", "POST"),
    ("/team/new", "POST"),
    ("/team/info", "GET"),
    ("/spend/keys", "GET"),
    ("/spend/models", "GET"),
    ("/spend/logs", "GET"),
    ("/cache/ping", "GET"),
    ("/cache/delete", "POST"),
];

/// `GET /routes`.
pub async fn routes(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    authenticate(&gateway, &headers, gateway.now())?;
    let routes: Vec<Value> = ROUTES
        .iter()
        .map(|(path, method)| json!({ "path": path, "methods": [method] }))
        .collect();
    Ok(Json(json!({ "routes": routes })))
}

/// `GET /test`: whether a key is good.
pub async fn test(
    State(gateway): State<Arc<Gateway>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    authenticate(&gateway, &headers, gateway.now())?;
    Ok(Json(json!({ "route": uri.path() })))
}

/// `GET /health/services?service=…`: a test of a callback or an alert. There are none to test, and it says so.
pub async fn services(
    State(gateway): State<Arc<Gateway>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    authenticate(&gateway, &headers, gateway.now())?;
    let service = query.get("service").map_or("", String::as_str);
    let message = if SERVICES.contains(&service) {
        format!("{service} is not set up: callbacks and alerts do not take effect yet")
    } else {
        format!("service must be one of {}", SERVICES.join(", "))
    };
    Err(Error::bad_request(message, "service"))
}

/// `GET /health/shared-status`: each ingress looks at deployments by itself, since what one can reach another
/// may not.
pub async fn shared(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    authenticate(&gateway, &headers, gateway.now())?;
    Ok(Json(json!({
        "shared_health_check_enabled": false,
        "message": "Shared health check is not enabled: each ingress looks by itself",
    })))
}
