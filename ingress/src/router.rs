//! Every route, in one list.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get};
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use tower_service::Service as _;

use crate::reply::Reply;
use crate::{Error, Gateway, Worker, chat, health, management, models, spend};

/// Management bodies are small.
const MANAGEMENT_BODY_MAX: usize = 4 << 20;

/// Paths of the chat endpoint.
const CHAT: [&str; 2] = ["/v1/chat/completions", "/chat/completions"];

/// Answers a request: a chat call at once, anything else by its route. What axum's routing costs is little,
/// but a third of what a call costs beside it.
pub async fn answer(
    worker: Arc<Worker>,
    mut routes: Router,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    if request.method() == Method::POST && CHAT.contains(&request.uri().path()) {
        return Ok(chat::complete(&worker, request).await);
    }
    let response = Box::pin(routes.call(request)).await?;
    Ok(response.map(Reply::Routed))
}

/// The routes beside it.
pub fn routes(gateway: &Arc<Gateway>) -> Router {
    let rest: Router<Arc<Gateway>> = Router::new()
        .route(CHAT[0], any(only_post))
        .route(CHAT[1], any(only_post))
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
    rest.with_state(gateway.clone())
}

async fn only_post() -> Error {
    Error::NotPost
}

async fn unknown(uri: Uri) -> Error {
    Error::NotFound {
        what: format!("route {}", uri.path()).into(),
        param: None,
    }
}
