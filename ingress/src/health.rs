//! Whether the process lives, whether it can serve, and the metrics: public. How its deployments do: for those
//! with a key. Never a paid call.

mod deployments;
mod shown;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, json};

use crate::auth::authenticate;
use crate::router::Routes;
use crate::{Beside as _, Error, Gateway, follow, metrics};

pub use shown::listed;

/// The routes of health.
pub fn routes(routes: Routes) -> Routes {
    routes
        .get("/health", deployments::deployments)
        .get("/health/liveliness", alive)
        .get("/health/liveness", alive)
        .get("/health/readiness", ready)
        .get("/health/services", shown::services)
        .get("/health/shared-status", shown::shared)
        .get("/test", shown::test)
}

/// `GET /health/liveliness`, `/health/liveness`.
async fn alive() -> Json<&'static str> {
    Json("I'm alive!")
}

/// `GET /health/readiness`: 503 with what is missing. What is only late or out of reach, while calls go on,
/// stands under `degraded`.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut missing = Vec::new();
    let mut degraded = Vec::new();
    match gateway.journal.takes() {
        Err(error) => missing.push(error.cause().to_owned()),
        Ok(()) if gateway.journal.stats().short => {
            degraded.push("journal: no disk space for the next segment".to_owned());
        }
        Ok(()) => {}
    }
    if !gateway.budgets.ready() {
        missing.push("budgets: their state is being rebuilt from the log".to_owned());
    }
    if gateway.is_draining() {
        missing.push("shutting down".to_owned());
    }
    let followed = [
        ("config", Some(&gateway.config_follow)),
        ("catalog", gateway.catalog_follow.as_ref()),
    ];
    let mut versions = Map::new();
    for (name, watch) in followed {
        let Some(state) = watch.map(follow::Watch::state) else {
            continue;
        };
        let age = state
            .as_of
            .map(|at| gateway.now().0.saturating_sub(at.0).max(0) / 1_000_000);
        match (&state, age) {
            (state, _) if !state.grounded => missing.push(format!(
                "{name}: not read from the log yet, and there is no snapshot{}",
                because(&state.problem)
            )),
            (state, Some(age)) if state.problem.is_some() || !state.caught_up => {
                degraded.push(format!(
                    "{name} as of version {}, {age} seconds old{}",
                    state.version,
                    because(&state.problem)
                ));
            }
            _ => {}
        }
        versions.insert(
            name.to_owned(),
            json!({ "version": state.version, "newest": state.newest, "age_s": age }),
        );
    }
    gateway.reloads.standing.degraded(&mut degraded);
    for part in &gateway.beside {
        part.missing(&mut missing);
        part.degraded(&mut degraded);
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
        "last_updated": jiff::Timestamp::now().to_string(),
        "missing": missing,
        "degraded": degraded,
        "versions": versions,
    });
    (status, Json(body)).into_response()
}

fn because(problem: &Option<String>) -> String {
    problem
        .as_ref()
        .map_or_else(String::new, |problem| format!(": {problem}"))
}

/// `GET /metrics`, public unless the configuration says otherwise.
///
/// # Errors
/// As [`authenticate`], where a key is wanted.
pub fn prometheus(gateway: &Gateway, headers: &HeaderMap) -> Result<Response, Error> {
    if gateway.config().server.metrics.needs_key {
        authenticate(gateway, headers, gateway.now())?;
    }
    let mut response = metrics::render(gateway).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    Ok(response)
}
