//! Every route, in one list.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tower_service::Service as _;

use crate::endpoint::Endpoint;
use crate::reply::Content;
use crate::{
    Error, Gateway, Worker, cache_routes, call, headers, health, management, models, spend,
};

/// Management bodies are small.
const MANAGEMENT_BODY_MAX: usize = 4 << 20;

/// Answers a request: a call to a model at once, anything else by its route. What axum's routing costs is little,
/// but a third of what a call costs beside it.
pub async fn answer(
    worker: Arc<Worker>,
    mut routes: Router,
    request: Request<Incoming>,
) -> Result<Response<Content>, Infallible> {
    if let Some((endpoint, model)) = Endpoint::of(request.uri().path()) {
        if request.method() != Method::POST {
            let mut refusal = Error::NotPost.into_response();
            headers::version(refusal.headers_mut());
            return Ok(refusal.map(Content::Routed));
        }
        let model = model.map(|model| percent_decode_str(model).decode_utf8_lossy().into());
        return Ok(call::receive(&worker, request, endpoint, model)
            .await
            .into());
    }
    let mut response = Box::pin(routes.call(request)).await?;
    headers::version(response.headers_mut());
    Ok(response.map(Content::Routed))
}

/// The routes beside it.
pub fn routes(gateway: &Arc<Gateway>) -> Router {
    let rest: Router<Arc<Gateway>> = Router::new()
        .route("/v1/models", get(models::list))
        .route("/models", get(models::list))
        .route("/health", get(health::deployments))
        .route("/health/liveliness", get(health::alive))
        .route("/health/liveness", get(health::alive))
        .route("/health/readiness", get(health::ready))
        .route("/health/services", get(health::services))
        .route("/health/shared-status", get(health::shared))
        .route("/routes", get(health::routes))
        .route("/test", get(health::test))
        .merge(management::routes())
        .merge(spend::routes())
        .merge(cache_routes::routes())
        .layer(DefaultBodyLimit::max(MANAGEMENT_BODY_MAX))
        .fallback(unknown);
    rest.with_state(gateway.clone())
}

/// What has no route of its own: the metrics, whose path is the operator's choice, and the note to crawlers.
async fn unknown(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let config = gateway.config();
    let server = &config.server;
    let is_get = method == Method::GET;
    if is_get && server.metrics.path.as_deref() == Some(uri.path()) {
        return health::prometheus(&gateway, &headers);
    }
    if is_get && server.blocks_robots && uri.path() == "/robots.txt" {
        return Ok("User-agent: *\nDisallow: /\n".into_response());
    }
    Err(Error::NotFound {
        what: format!("route {}", uri.path()).into(),
        param: None,
    })
}
