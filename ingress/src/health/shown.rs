//! What LiteLLM's clients and dashboards ask a proxy of itself, beside its health.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use config::AlertShape;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use crate::auth::{authenticate, authenticate_admin};
use crate::router::Told;
use crate::{Error, Gateway};

/// Callbacks and alerts that LiteLLM tests by name, and what of ours each is.
const SERVICES: [(&str, Option<AlertShape>); 14] = [
    ("slack", Some(AlertShape::Slack)),
    ("slack_budget_alerts", Some(AlertShape::Slack)),
    ("webhook", Some(AlertShape::Webhook)),
    ("email", None),
    ("langfuse", None),
    ("langfuse_otel", None),
    ("openmeter", None),
    ("braintrust", None),
    ("datadog", None),
    ("datadog_llm_observability", None),
    ("generic_api", None),
    ("arize", None),
    ("sqs", None),
    ("otel", None),
];

/// `GET /routes`: every path with its methods.
pub async fn listed(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    told: Arc<[Told]>,
) -> Result<Json<Value>, Error> {
    authenticate(&gateway, &headers, gateway.now())?;
    let config = gateway.config();
    let metrics = config.server.metrics.path.as_deref();
    let routes: Vec<Value> = told
        .iter()
        .map(|told| (told.path.as_str(), told.method))
        .chain(metrics.map(|path| (path, "GET")))
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

/// `GET /health/services?service=…`: an alert is sent there, as a test. What is not set up says so.
pub async fn services(
    State(gateway): State<Arc<Gateway>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    authenticate_admin(&gateway, &headers, gateway.now(), "/health/services")?;
    let service = query.get("service").map_or("", String::as_str);
    let found = SERVICES.iter().find(|(name, _)| *name == service);
    let message = match (found, &gateway.alerts) {
        (Some((_, Some(shape))), Some(alerts)) if alerts.test(*shape) => {
            return Ok(Json(json!({
                "status": "success",
                "message": format!("a test alert is on its way to {service}: see whether it arrives"),
            })));
        }
        (Some((_, Some(_))), _) => {
            format!("{service} is not set up in general_settings.alerting, so it cannot be tested")
        }
        (Some((_, None)), _) => format!("{service} does not take effect here"),
        (None, _) => {
            let known: Vec<_> = SERVICES.iter().map(|(name, _)| *name).collect();
            format!("service must be one of {}", known.join(", "))
        }
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
