//! Whether the process lives, whether it can serve, and the metrics. Public, and never a paid call.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{Gateway, metrics};

/// `GET /health/liveliness`, `/health/liveness`.
pub async fn alive() -> Json<&'static str> {
    Json("I'm alive!")
}

/// `GET /health/readiness`: 503 with what is missing.
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let pressure = gateway.journal.pressure();
    let full = pressure.used_bytes >= pressure.cap_bytes;
    let mut missing = Vec::new();
    if full {
        missing.push("journal: full, its consumers are too far behind");
    }
    if !gateway.budgets.ready() {
        missing.push("budgets: their state is being rebuilt from the log");
    }
    if gateway.is_draining() {
        missing.push("shutting down");
    }
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "status": if missing.is_empty() { "connected" } else { "not ready" },
        // LiteLLM's word for the store of spend; ours may be away without a call failing.
        "db": if gateway.store.is_some() { "connected" } else { "Not connected" },
        "cache": gateway.cache.as_ref().map(|cache| cache.state()),
        "litellm_version": env!("CARGO_PKG_VERSION"),
        "success_callbacks": [],
        "missing": missing,
    });
    (status, Json(body)).into_response()
}

/// `GET /metrics`.
pub async fn prometheus(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut response = metrics::render(&gateway).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
