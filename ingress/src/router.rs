//! Every route, in one list, which `GET /routes` tells as it is.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::handler::Handler;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, patch, post};
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tower_service::Service as _;

use crate::endpoint::Endpoint;
use crate::reply::Content;
use crate::{
    Error, Gateway, Worker, access, cache_routes, call, headers, health, management, models, spend,
};

/// Answers a request: a call to a model at once, anything else by its route. What axum's routing costs is little,
/// but a third of what a call costs beside it.
pub async fn answer(
    worker: Arc<Worker>,
    mut routes: Router,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Content>, Infallible> {
    if let Some((endpoint, model)) = Endpoint::of(request.uri().path()) {
        if request.method() != Method::POST {
            let mut refusal = Error::NotPost.into_response();
            headers::version(refusal.headers_mut());
            return Ok(refusal.map(Content::Routed));
        }
        let model = model.map(|model| percent_decode_str(model).decode_utf8_lossy().into());
        return Ok(call::receive(&worker, request, endpoint, model, peer)
            .await
            .into());
    }
    let allowed = access::routed(
        &worker.gateway,
        peer,
        request.uri().path(),
        request.headers(),
    );
    if let Err(refusal) = allowed {
        let mut refusal = refusal.into_response();
        headers::version(refusal.headers_mut());
        return Ok(refusal.map(Content::Routed));
    }
    let mut response = Box::pin(routes.call(request)).await?;
    headers::version(response.headers_mut());
    Ok(response.map(Content::Routed))
}

/// Routes as they are put together: what answers them, and what is told of them.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<Gateway>>,
    told: Vec<Told>,
}

/// A route by its path and method.
#[derive(Debug, Clone)]
pub struct Told {
    pub path: String,
    pub method: &'static str,
}

impl Routes {
    #[must_use]
    pub fn get<H: Handler<T, Arc<Gateway>>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, "GET", get(handler))
    }

    #[must_use]
    pub fn post<H: Handler<T, Arc<Gateway>>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, "POST", post(handler))
    }

    #[must_use]
    pub fn patch<H: Handler<T, Arc<Gateway>>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.on(path, "PATCH", patch(handler))
    }

    fn on(mut self, path: &str, method: &'static str, handler: MethodRouter<Arc<Gateway>>) -> Self {
        self.told.push(Told {
            path: path.to_owned(),
            method,
        });
        Self {
            router: self.router.route(path, handler),
            told: self.told,
        }
    }

    /// With the routes of a part.
    #[must_use]
    pub fn with(self, part: fn(Self) -> Self) -> Self {
        part(self)
    }
}

/// Whether something answers at this path, whatever a file says.
#[must_use]
pub fn is_taken(path: &str) -> bool {
    Endpoint::of(path).is_some() || path == OWN || fixed().told.iter().any(|told| told.path == path)
}

/// `GET /routes`
const OWN: &str = "/routes";

/// Those whose paths nobody chooses.
fn fixed() -> Routes {
    Routes::default()
        .get("/v1/models", models::list)
        .get("/models", models::list)
        .get("/openai/models", models::list)
        .get("/openai/v1/models", models::list)
        .with(health::routes)
        .with(management::routes)
        .with(spend::routes)
        .with(cache_routes::routes)
}

/// The routes beside it.
pub fn routes(gateway: &Arc<Gateway>) -> Router {
    let routes = fixed();
    let calls = Endpoint::paths().map(|path| Told {
        path,
        method: "POST",
    });
    let own = Told {
        path: OWN.to_owned(),
        method: "GET",
    };
    let told: Arc<[Told]> = calls.chain(routes.told).chain([own]).collect();
    let rest = routes
        .router
        .route(
            OWN,
            get(move |gateway, headers| health::listed(gateway, headers, told)),
        )
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown);
    rest.with_state(gateway.clone())
}

/// A route that is there, asked in another way than it answers.
async fn wrong_method(method: Method, uri: Uri) -> Error {
    Error::WrongMethod {
        method,
        route: uri.path().to_owned(),
    }
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
