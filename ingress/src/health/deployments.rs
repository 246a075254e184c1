//! `GET /health`: the deployments that the caller's key may call, as calls and checks have found them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use config::Looks;
use http::HeaderMap;
use routing::{Health, Status};
use serde_json::{Value, json};

use crate::auth::authenticate;
use crate::models::Deployment;
use crate::{Error, Gateway};

/// Asks nobody: no provider is called for it. `?model=` takes the deployments of one name, `?model_id=` one.
pub async fn deployments(
    State(gateway): State<Arc<Gateway>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    let caller = authenticate(&gateway, &headers, gateway.now())?;
    let (now, models) = (gateway.moment(), gateway.models.load_full());
    let asked = |name: &str, value: &str| query.get(name).is_none_or(|asked| asked == value);
    let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
    for (name, deployment) in models.deployments() {
        let wanted = asked("model", name) && asked("model_id", &deployment.id);
        if !wanted || caller.may_use(name).is_err() {
            continue;
        }
        let status = deployment.state.status(now);
        let told = told(&gateway, name, deployment, &status);
        if status.health == Health::Down {
            unhealthy.push(told);
        } else {
            healthy.push(told);
        }
    }
    Ok(Json(json!({
        "healthy_count": healthy.len(),
        "unhealthy_count": unhealthy.len(),
        "healthy_endpoints": healthy,
        "unhealthy_endpoints": unhealthy,
    })))
}

fn told(gateway: &Gateway, name: &str, deployment: &Deployment, status: &Status) -> Value {
    let entry = &deployment.entry;
    let mut told = json!({
        "model": format!("{}/{}", deployment.provider, entry.upstream_model),
        "model_name": name,
        "model_id": &*deployment.id,
    });
    if status.health == Health::Down {
        told["error"] = if status.cooled_for.is_some() {
            "left alone after failures".into()
        } else {
            "does not answer its health check".into()
        };
    }
    let config = gateway.config();
    if !config.routing.health.details {
        return told;
    }
    let base = deployment.shown_base.as_ref();
    told["api_base"] = base.and_then(|base| base.to_str().ok()).into();
    told["state"] = (status.health as u8).into();
    told["in_flight"] = status.in_flight.into();
    told["successes"] = status.successes.into();
    told["failures"] = status.failures.into();
    told["time_to_first_token_s"] = status.first_token_s.into();
    told["time_per_output_token_s"] = status.per_token_s.into();
    told["cooldown_s"] = status.cooled_for.map(|left| left.as_secs_f64()).into();
    told["checked_s_ago"] = status.checked.map(|ago| ago.as_secs_f64()).into();
    told["check"] = match (&entry.hints.check, config.routing.health.looks) {
        (_, Looks::None) => "none",
        (check, _) if check.disabled => "none",
        (check, Looks::All) if check.paid.is_some() => "paid call",
        _ => "list of models",
    }
    .into();
    told
}
