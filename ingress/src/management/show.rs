//! Records as the API shows them: every field by the name clients know, spend from the budget state.

use schemas::{Micros, NanoUsd, Text};
use serde_json::{Map, Value, json};

use crate::Gateway;
use crate::directory::{KeyRecord, Quota, TeamRecord};

/// RFC 3339 in UTC; `null` for none and for an instant no calendar has.
pub fn time(at: Option<Micros>) -> Value {
    at.and_then(|at| jiff::Timestamp::from_microsecond(at.0).ok())
        .map_or(Value::Null, |at| Value::String(at.to_string()))
}

/// What has been spent of each budget in its current window, calls that just ended included. `None` where
/// budget state cannot be asked: nobody is told that nothing was spent.
pub async fn spend(
    gateway: &Gateway,
    asked: &[(&Text, &Quota)],
    now: Micros,
) -> Vec<Option<NanoUsd>> {
    let windows: Vec<_> = asked
        .iter()
        .map(|(budget, quota)| {
            (
                (*budget).clone(),
                quota.window(now, &gateway.directory.zone).start,
            )
        })
        .collect();
    match gateway.budgets.spend(&windows).await {
        Ok(spends) => spends.iter().map(|spend| Some(spend.shown())).collect(),
        Err(error) => {
            tracing::warn!("spend cannot be shown: {error}");
            vec![None; asked.len()]
        }
    }
}

/// A key without its secret: it has none to show.
pub fn key(
    gateway: &Gateway,
    key: &KeyRecord,
    spend: Option<NanoUsd>,
    now: Micros,
) -> Map<String, Value> {
    let mut row = key.kept.clone();
    row.extend(quota(gateway, &key.quota, spend, now));
    for (name, value) in [
        ("key_name", json!(key.key_name)),
        ("key_alias", json!(key.key_alias)),
        ("team_id", json!(key.team_id)),
        ("user_id", json!(key.user_id)),
        ("organization_id", json!(key.organization_id)),
        ("models", json!(key.models)),
        ("allowed_routes", json!(key.allowed_routes)),
        ("tags", json!(key.tags)),
        ("metadata", json!(key.metadata)),
        ("blocked", json!(key.blocked)),
        ("expires", time(key.expires)),
        ("created_by", json!(key.created_by)),
        ("updated_by", json!(key.updated_by)),
        ("created_at", time(Some(key.created_at))),
        ("updated_at", time(Some(key.updated_at))),
        ("litellm_budget_table", Value::Null),
    ] {
        row.insert(name.to_owned(), value);
    }
    row.entry("budget_id").or_insert(Value::Null);
    row
}

/// A team with its members.
pub fn team(
    gateway: &Gateway,
    team: &TeamRecord,
    spend: Option<NanoUsd>,
    now: Micros,
) -> Map<String, Value> {
    let mut row = team.kept.clone();
    row.extend(quota(gateway, &team.quota, spend, now));
    let of_role = |role: &str| -> Vec<&Text> {
        team.members
            .iter()
            .filter(|m| &*m.role == role)
            .map(|m| &m.user_id)
            .collect()
    };
    for (name, value) in [
        ("team_id", json!(team.team_id)),
        ("team_alias", json!(team.team_alias)),
        ("organization_id", json!(team.organization_id)),
        ("models", json!(team.models)),
        ("tags", json!(team.tags)),
        ("metadata", json!(team.metadata)),
        ("blocked", json!(team.blocked)),
        ("admins", json!(of_role("admin"))),
        ("members", json!(of_role("user"))),
        ("members_with_roles", json!(team.members)),
        ("created_at", time(Some(team.created_at))),
        ("updated_at", time(Some(team.updated_at))),
    ] {
        row.insert(name.to_owned(), value);
    }
    row
}

fn quota(
    gateway: &Gateway,
    quota: &Quota,
    spend: Option<NanoUsd>,
    now: Micros,
) -> Map<String, Value> {
    let window = quota.window(now, &gateway.directory.zone);
    let resets = quota.budget_duration.is_some().then_some(window.end);
    let object = json!({
        "spend": spend,
        "max_budget": quota.max_budget,
        "soft_budget": quota.soft_budget,
        "budget_duration": quota.budget_duration,
        "budget_reset_at": time(resets),
        "rpm_limit": quota.rpm_limit,
        "tpm_limit": quota.tpm_limit,
        "max_parallel_requests": quota.max_parallel_requests,
    });
    match object {
        Value::Object(mut object) => {
            if quota.temp_budget_increase.is_some() {
                object.insert(
                    "temp_budget_increase".into(),
                    json!(quota.temp_budget_increase),
                );
                object.insert("temp_budget_expiry".into(), time(quota.temp_budget_expiry));
            }
            object
        }
        _ => Map::new(),
    }
}
