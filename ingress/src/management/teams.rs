//! `/team/*`: teams, whose limits their keys share.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use schemas::{ConfigEntity, NanoUsd, RequestId, Text};
use serde_json::{Value, json};

use super::fields::{Field, object};
use super::{changes, show, team_fields};
use crate::Gateway;
use crate::auth::{authenticate, authenticate_admin};
use crate::body::Whole;
use crate::directory::{Role, TeamRecord};
use crate::error::Error;

type Answer = Result<Json<Value>, Error>;

/// `POST /team/new`.
pub async fn new(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let now = gateway.now();
    authenticate_admin(&gateway, &headers, now, "/team/new")?;
    let request = object(&body)?;
    let asked = match request.get("team_id") {
        Some(value) => Field {
            name: "team_id",
            value,
        }
        .text()?,
        None => None,
    };
    let id: Text = asked.unwrap_or_else(|| RequestId::fresh().to_string().into());
    let mut team = TeamRecord {
        created_at: now,
        updated_at: now,
        ..TeamRecord::default()
    }
    .of(&id);
    team.quota.anchor = now;
    team_fields::apply(&mut team, &request, now)?;

    let _one_at_a_time = gateway.directory.changes.lock().await;
    if gateway.directory.team(&id).is_some() {
        return Err(Error::bad_request(
            format!("team_id: {id:?} is in use already"),
            "team_id",
        ));
    }
    changes::put(&gateway, ConfigEntity::Team, &id, &team, "master", now).await?;
    Ok(Json(Value::Object(show::team(
        &gateway,
        &team,
        Some(NanoUsd::ZERO),
        now,
    ))))
}

/// `GET /team/info?team_id=`: the team and its keys; for the admin and for the team's own keys.
pub async fn info(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let now = gateway.now();
    let caller = authenticate(&gateway, &headers, now)?;
    let own = caller.team.as_ref().map(|team| team.team_id.to_string());
    let id = query
        .get("team_id")
        .cloned()
        .or_else(|| own.clone())
        .ok_or_else(|| Error::bad_request("team_id: required", "team_id"))?;
    if caller.role != Role::Master && own.as_ref() != Some(&id) {
        return Err(Error::NotYours { what: "team" });
    }
    let team = gateway
        .directory
        .team(&id)
        .ok_or_else(|| Error::not_found("team", "team_id"))?;
    let keys: Vec<_> = gateway
        .directory
        .keys()
        .into_iter()
        .filter(|key| key.team_id.as_deref() == Some(&id))
        .collect();
    let mut budgets = vec![(&team.budget, &team.quota)];
    budgets.extend(keys.iter().map(|key| (&key.budget, &key.quota)));
    let spends = show::spend(&gateway, &budgets, now).await;
    let team_row = show::team(&gateway, &team, spends.first().copied().flatten(), now);
    let key_rows: Vec<Value> = keys
        .iter()
        .zip(spends.iter().skip(1))
        .map(|(key, spend)| {
            let mut row = show::key(&gateway, key, *spend, now);
            row.insert("token".into(), json!(key.hash.to_string()));
            Value::Object(row)
        })
        .collect();
    Ok(Json(json!({
        "team_id": id,
        "team_info": team_row,
        "keys": key_rows,
        "team_memberships": [],
    })))
}
