//! `/key/*`: making, changing, showing and ending virtual keys.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use schemas::{ConfigEntity, KeyHash, Micros, NanoUsd, Text};
use serde_json::{Map, Value, json};

use super::fields::{Field, object, required};
use super::{changes, key_fields, new_keys, show};
use crate::Gateway;
use crate::auth::{authenticate, authenticate_admin, shorten};
use crate::body::Whole;
use crate::directory::{KeyRecord, Principal, Role};
use crate::error::Error;

type Answer = Result<Json<Value>, Error>;

/// `POST /key/generate`: the only answer that ever holds the key's text.
pub async fn generate(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let now = gateway.now();
    let admin = authenticate_admin(&gateway, &headers, now, "/key/generate")?;
    let mut request = object(&body)?;
    new_keys::complete(&gateway.config().new_keys, &mut request, now)?;
    let text = match request.get("key") {
        None | Some(Value::Null) => fresh_key(),
        Some(value) => chosen_key(Field { name: "key", value })?,
    };
    let actor = actor(&admin);
    let mut key = KeyRecord {
        key_name: shorten(&text).into(),
        created_at: now,
        updated_at: now,
        created_by: actor.clone(),
        updated_by: actor.clone(),
        ..KeyRecord::default()
    }
    .of(KeyHash::of(&text));
    key.quota.anchor = now;
    key_fields::apply(&mut key, &request, now)?;

    let _one_at_a_time = gateway.directory.changes.lock().await;
    if gateway.directory.key(&key.hash).is_some() || key.hash == gateway.master_key {
        return Err(Error::bad_request("key: is in use already", "key"));
    }
    check_references(&gateway, &key)?;
    changes::put(
        &gateway,
        ConfigEntity::Key,
        &key.hash.to_string(),
        &key,
        &actor,
        now,
    )
    .await?;

    let mut row = show::key(&gateway, &key, Some(NanoUsd::ZERO), now);
    let token = json!(key.hash.to_string());
    row.insert("key".into(), json!(text));
    row.insert("token".into(), token.clone());
    row.insert("token_id".into(), token);
    Ok(Json(Value::Object(row)))
}

/// `POST /key/update`: the fields given, and nothing else.
pub async fn update(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let request = object(&body)?;
    let changed = change(&gateway, &headers, "/key/update", &request, |key, now| {
        key_fields::apply(key, &request, now)
    })
    .await?;
    let row = row(&gateway, &changed).await;
    // As LiteLLM: the key as asked for, and what was changed as it now stands.
    let mut answer: Map<String, Value> = row
        .into_iter()
        .filter(|(name, _)| request.contains_key(name))
        .collect();
    answer.insert(
        "key".into(),
        request.get("key").cloned().unwrap_or_default(),
    );
    answer.insert("expires".into(), show::time(changed.expires));
    answer.insert("budget_reset_at".into(), budget_reset(&gateway, &changed));
    Ok(Json(Value::Object(answer)))
}

/// `POST /key/block`.
pub async fn block(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    set_blocked(&gateway, &headers, &body, "/key/block", true).await
}

/// `POST /key/unblock`.
pub async fn unblock(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    set_blocked(&gateway, &headers, &body, "/key/unblock", false).await
}

async fn set_blocked(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: &[u8],
    route: &str,
    blocked: bool,
) -> Answer {
    let request = object(body)?;
    if let Some(odd) = request.keys().find(|name| *name != "key") {
        return Err(Error::bad_request(format!("{odd}: unknown field"), odd));
    }
    let changed = change(gateway, headers, route, &request, |key, _| {
        key.blocked = blocked;
        Ok(())
    })
    .await?;
    let mut row = row(gateway, &changed).await;
    row.insert("token".into(), json!(changed.hash.to_string()));
    Ok(Json(Value::Object(row)))
}

/// `POST /key/delete`: by key, hash or alias; what is not there is left out of the answer.
pub async fn delete(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let now = gateway.now();
    let admin = authenticate_admin(&gateway, &headers, now, "/key/delete")?;
    let request = object(&body)?;
    if let Some(odd) = request
        .keys()
        .find(|name| !matches!(name.as_str(), "keys" | "key_aliases"))
    {
        return Err(Error::bad_request(format!("{odd}: unknown field"), odd));
    }
    let list = |name: &str| match request.get(name) {
        Some(value) => Field { name, value }.texts(),
        None => Ok(Vec::new()),
    };
    let (keys, aliases) = (list("keys")?, list("key_aliases")?);
    if keys.is_empty() && aliases.is_empty() {
        return Err(Error::bad_request(
            "keys: give keys or key_aliases to delete",
            "keys",
        ));
    }
    let _one_at_a_time = gateway.directory.changes.lock().await;
    let mut found: Vec<(Text, KeyHash)> = Vec::new();
    let of_keys = keys
        .into_iter()
        .map(|asked| (gateway.directory.key(&hash_of(&asked)), asked));
    let of_aliases = aliases
        .into_iter()
        .map(|alias| (gateway.directory.key_of_alias(&alias), alias));
    for (key, asked) in of_keys.chain(of_aliases) {
        // One that is named twice goes once.
        if let Some(key) = key
            && !found.iter().any(|(_, hash)| *hash == key.hash)
        {
            found.push((asked, key.hash));
        }
    }
    if found.is_empty() {
        return Err(Error::not_found("key", "keys"));
    }
    let actor = actor(&admin);
    for (_, hash) in &found {
        changes::delete(&gateway, ConfigEntity::Key, &hash.to_string(), &actor, now).await?;
    }
    let deleted: Vec<Text> = found.into_iter().map(|(asked, _)| asked).collect();
    Ok(Json(json!({ "deleted_keys": deleted })))
}

/// `GET /key/info?key=`: any key for the admin, one's own for others.
pub async fn info(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let caller = authenticate(&gateway, &headers, gateway.now())?;
    let own = caller.key.as_ref().map(|key| key.hash);
    let (asked, hash) = match (query.get("key"), own) {
        (Some(asked), _) => (asked.clone(), hash_of(asked)),
        (None, Some(own)) => (own.to_string(), own),
        (None, None) => {
            return Err(Error::bad_request(
                "key: required with the master key",
                "key",
            ));
        }
    };
    if caller.role != Role::Master && own != Some(hash) {
        return Err(Error::NotYours { what: "key" });
    }
    let key = gateway
        .directory
        .key(&hash)
        .ok_or_else(|| Error::not_found("key", "key"))?;
    let row = row(&gateway, &key).await;
    Ok(Json(json!({ "key": asked, "info": row })))
}

/// Reads, changes and logs one key that the request names.
async fn change(
    gateway: &Gateway,
    headers: &HeaderMap,
    route: &str,
    request: &Map<String, Value>,
    edit: impl FnOnce(&mut KeyRecord, Micros) -> Result<(), Error>,
) -> Result<KeyRecord, Error> {
    let now = gateway.now();
    let admin = authenticate_admin(gateway, headers, now, route)?;
    let hash = hash_of(&required(request, "key")?);
    let _one_at_a_time = gateway.directory.changes.lock().await;
    let old = gateway
        .directory
        .key(&hash)
        .ok_or_else(|| Error::not_found("key", "key"))?;
    let mut key = (*old).clone();
    edit(&mut key, now)?;
    check_references(gateway, &key)?;
    key.updated_at = now;
    key.updated_by = actor(&admin);
    changes::put(
        gateway,
        ConfigEntity::Key,
        &hash.to_string(),
        &key,
        &key.updated_by,
        now,
    )
    .await?;
    Ok(key)
}

/// What a record may not contradict: the alias is its own, the team exists.
fn check_references(gateway: &Gateway, key: &KeyRecord) -> Result<(), Error> {
    if let Some(alias) = &key.key_alias
        && let Some(other) = gateway.directory.key_of_alias(alias)
        && other.hash != key.hash
    {
        return Err(Error::bad_request(
            format!("key_alias: {alias:?} is in use already"),
            "key_alias",
        ));
    }
    if let Some(team) = &key.team_id
        && gateway.directory.team(team).is_none()
    {
        return Err(Error::bad_request(
            format!("team_id: there is no team {team:?}"),
            "team_id",
        ));
    }
    Ok(())
}

async fn row(gateway: &Gateway, key: &KeyRecord) -> Map<String, Value> {
    let now = gateway.now();
    let spend = show::spend(gateway, &[(&key.budget, &key.quota)], now).await;
    show::key(gateway, key, spend.first().copied().flatten(), now)
}

fn budget_reset(gateway: &Gateway, key: &KeyRecord) -> Value {
    let window = key.quota.window(gateway.now(), &gateway.directory.zone);
    show::time(key.quota.budget_duration.is_some().then_some(window.end))
}

/// The hash of a key given as text or as its hash.
pub(super) fn hash_of(asked: &str) -> KeyHash {
    KeyHash::from_hex(asked).unwrap_or_else(|| KeyHash::of(asked))
}

pub(super) fn actor(admin: &Principal) -> Text {
    admin
        .key
        .as_ref()
        .map_or_else(|| "master".into(), |key| key.hash.to_string().into())
}

/// `sk-` and 22 URL-safe characters: 16 random bytes.
fn fresh_key() -> String {
    format!("sk-{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()))
}

/// A key that the caller chose: long enough not to be guessed, and in a header's alphabet.
fn chosen_key(field: Field<'_>) -> Result<String, Error> {
    let text = field.text()?.unwrap_or_default();
    if !text.starts_with("sk-") || text.len() < 16 {
        return Err(field.refuse("must begin with sk- and have at least 16 characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(field.refuse("must be printable ASCII without spaces"));
    }
    Ok(text.to_string())
}
