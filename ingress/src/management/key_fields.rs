//! The fields of `/key/generate` and `/key/update`, one line each: what a field does to the record.

use schemas::Micros;
use serde_json::{Map, Value};

use super::fields::Field;
use crate::access;
use crate::directory::{KeyRecord, Quota};
use crate::error::Error;

/// Puts the fields of a request onto a record.
///
/// # Errors
/// 400 naming the first field that is unknown, malformed, or would be taken without effect.
pub fn apply(key: &mut KeyRecord, request: &Map<String, Value>, now: Micros) -> Result<(), Error> {
    for (name, value) in request {
        let field = Field { name, value };
        if apply_quota(&mut key.quota, field, now)? {
            continue;
        }
        match name.as_str() {
            // Read by the handlers themselves, and below.
            "key" | "keys" | "key_type" => {}
            "key_alias" => key.key_alias = field.text()?,
            "team_id" => key.team_id = field.text()?,
            "user_id" => key.user_id = field.text()?,
            "organization_id" => key.organization_id = field.text()?,
            "models" => key.models = field.texts()?,
            "tags" => key.tags = field.texts()?,
            "metadata" => key.metadata = field.object()?,
            "blocked" => key.blocked = field.flag()?,
            "duration" => key.expires = field.expiry(now)?,
            "allowed_routes" => {
                key.allowed_routes = access::routes_of_key(field.texts()?).map_err(|odd| {
                    field.refuse(format_args!(
                        "{odd:?} is neither a route, such as /chat/completions or /key/*, nor one of \
                         llm_api_routes, openai_routes, info_routes"
                    ))
                })?;
            }
            // A budget of its own would limit the key, and there are none.
            "budget_id" => match field.text()? {
                None => {}
                Some(id) => return Err(field.refuse(format_args!("there is no budget {id:?}"))),
            },
            // What the owner wants kept and shown; it limits nothing.
            "config" | "permissions" | "project_id" | "agent_id" | "prompts"
            | "send_invite_email" => drop(key.kept.insert(name.clone(), value.clone())),
            "spend"
            | "aliases"
            | "model_max_budget"
            | "model_rpm_limit"
            | "model_tpm_limit"
            | "budget_fallbacks"
            | "guardrails"
            | "policies"
            | "allowed_cache_controls"
            | "allowed_passthrough_routes"
            | "allowed_vector_store_indexes"
            | "enforced_params"
            | "object_permission"
            | "access_group_ids"
            | "router_settings"
            | "auto_rotate"
            | "rotation_interval"
            | "tpm_limit_type"
            | "rpm_limit_type" => {
                field.nothing_asked()?;
            }
            _ => return Err(field.refuse("unknown field")),
        }
    }
    if let Some(value) = request.get("key_type") {
        let name = "key_type";
        apply_type(key, Field { name, value }, request.get("allowed_routes"))?;
    }
    let quota = &key.quota;
    if quota.temp_budget_increase.is_some() != quota.temp_budget_expiry.is_some() {
        let message = "temp_budget_increase and temp_budget_expiry: one needs the other";
        return Err(Error::bad_request(message, "temp_budget_increase"));
    }
    Ok(())
}

/// Whether a field is there and is not `null`.
pub fn says(request: &Map<String, Value>, name: &str) -> bool {
    request.get(name).is_some_and(|value| !value.is_null())
}

/// A type stands for routes; `default` for all of them, unless the request names its own.
fn apply_type(key: &mut KeyRecord, field: Field<'_>, routes: Option<&Value>) -> Result<(), Error> {
    let named = routes
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    let of_type: &[&str] = match field.text()?.as_deref() {
        None => return Ok(()),
        Some("default") if named => return Ok(()),
        Some("default") => &[],
        Some("llm_api") => &["llm_api_routes"],
        Some("read_only") => &["info_routes"],
        Some("management") => return field.nothing_asked(),
        Some(odd) => {
            return Err(field.refuse(format_args!(
                "{odd:?} is none of default, llm_api, read_only"
            )));
        }
    };
    if named {
        return Err(field.refuse("give a key_type or allowed_routes, not both"));
    }
    key.allowed_routes = of_type.iter().map(|route| (*route).into()).collect();
    Ok(())
}

/// The fields that limit a key, a team or a user alike. `false`: not one of them.
pub fn apply_quota(quota: &mut Quota, field: Field<'_>, now: Micros) -> Result<bool, Error> {
    match field.name {
        "max_budget" => quota.max_budget = field.money()?,
        "soft_budget" => quota.soft_budget = field.money()?,
        "budget_duration" => quota.budget_duration = field.period()?,
        "rpm_limit" => quota.rpm_limit = field.count()?,
        "tpm_limit" => quota.tpm_limit = field.count()?,
        "max_parallel_requests" => quota.max_parallel_requests = field.count()?,
        "temp_budget_increase" => quota.temp_budget_increase = field.money()?,
        "temp_budget_expiry" => quota.temp_budget_expiry = field.instant(now)?,
        _ => return Ok(false),
    }
    Ok(true)
}
