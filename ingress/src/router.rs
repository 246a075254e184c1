//! Every route, in one list.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use http::Uri;

use crate::{Error, Gateway, Worker, chat, health, management, models, spend};

/// Management bodies are small.
const MANAGEMENT_BODY_MAX: usize = 4 << 20;

/// The routes of one serving thread.
pub fn routes(worker: &Arc<Worker>) -> Router {
    let calls = Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/chat/completions", post(chat::complete))
        .with_state(worker.clone());
    let rest: Router<Arc<Gateway>> = Router::new()
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/health/liveliness", get(health::alive))
        .route("/health/liveness", get(health::alive))
        .route("/health/readiness", get(health::ready))
        .route("/metrics", get(health::prometheus))
        .merge(management::routes())
        .merge(spend::routes())
        .layer(DefaultBodyLimit::max(MANAGEMENT_BODY_MAX))
        .fallback(unknown);
    calls.merge(rest.with_state(worker.gateway.clone()))
}

async fn unknown(uri: Uri) -> Error {
    Error::NotFound {
        what: format!("route {}", uri.path()).into(),
        param: None,
    }
}
