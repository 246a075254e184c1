//! `/model/*` and `/model_group/info`: models that come and go while the gateway runs, beside those of the
//! file. A provider's key is never written as it is, and never shown.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use http::HeaderMap;
use schemas::{ConfigEntity, Micros, Text};
use serde_json::{Map, Value, json};

use super::fields::{object, required};
use super::keys::actor;
use super::{changes, show, show_models};
use crate::auth::{authenticate, authenticate_admin};
use crate::body::Whole;
use crate::directory::{ModelRecord, Principal};
use crate::error::Error;
use crate::reload::place;
use crate::{Gateway, prices, seal};

type Answer = Result<Json<Value>, Error>;

/// `POST /model/new`.
pub async fn new(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let now = gateway.now();
    let admin = changer(&gateway, &headers, now, "/model/new")?;
    let mut entry = without_nulls(object(&body)?);
    let id = match id_of(&entry)? {
        Some(id) => id,
        None => uuid::Uuid::new_v4().to_string().into(),
    };
    name_it(&mut entry, &id)?;
    seal_secrets(&gateway, &id, &mut entry)?;
    let who = actor(&admin);
    let record = ModelRecord {
        model_id: id.clone(),
        entry,
        prices_version: 0,
        created_at: now,
        updated_at: now,
        created_by: who.clone(),
        updated_by: who.clone(),
    };
    let _one_at_a_time = gateway.directory.changes.lock().await;
    if gateway.directory.model(&id).is_some() || is_of_file(&gateway, &id) {
        return Err(Error::bad_request(
            format!("model_info.id: {id:?} is in use already"),
            "model_info.id",
        ));
    }
    put(&gateway, record, &who, now).await
}

/// `POST /model/update`: the fields given, and nothing else. The model is that of `model_info.id`.
pub async fn update(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let request = without_nulls(object(&body)?);
    let id = id_of(&request)?;
    let id = id.ok_or_else(|| Error::bad_request("model_info.id: required", "model_info.id"))?;
    change(&gateway, &headers, "/model/update", &id, request).await
}

/// `PATCH /model/{id}/update`.
pub async fn patch(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let request = without_nulls(object(&body)?);
    let id: Text = id.into();
    if id_of(&request)?.is_some_and(|other| other != id) {
        return Err(Error::bad_request(
            "model_info.id: an id stays as it is",
            "model_info.id",
        ));
    }
    change(&gateway, &headers, "/model/{id}/update", &id, request).await
}

/// `POST /model/delete`: `{"id": …}`.
pub async fn delete(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let now = gateway.now();
    let admin = changer(&gateway, &headers, now, "/model/delete")?;
    let id = required(&object(&body)?, "id")?;
    let _one_at_a_time = gateway.directory.changes.lock().await;
    known(&gateway, &id, "id")?;
    changes::delete(&gateway, ConfigEntity::Model, &id, &actor(&admin), now).await?;
    in_force(&gateway).await?;
    Ok(Json(
        json!({ "message": format!("Model: {id} deleted successfully") }),
    ))
}

/// `GET /model/info`, `/v1/model/info`: what the caller may use, or the one of `litellm_model_id`.
pub async fn info(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let now = gateway.now();
    let caller = authenticate(&gateway, &headers, now)?;
    let asked = query.get("litellm_model_id");
    let models = gateway.models.load();
    let rows: Vec<Value> = models
        .deployments()
        .filter(|(name, deployment)| {
            caller.may_use(name).is_ok() && asked.is_none_or(|id| **id == *deployment.id)
        })
        .map(|(_, deployment)| show_models::row(&gateway, deployment, now))
        .collect();
    match asked {
        Some(_) if rows.is_empty() => Err(Error::not_found("model", "litellm_model_id")),
        _ => Ok(Json(json!({ "data": rows }))),
    }
}

/// `GET /model_group/info`: the names the caller may use, or the one of `model_group`.
pub async fn groups(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let now = gateway.now();
    let caller = authenticate(&gateway, &headers, now)?;
    let asked = query.get("model_group");
    let models = gateway.models.load();
    let mut names: Vec<&Text> = Vec::new();
    for (name, _) in models.deployments() {
        if !names.contains(&name) && asked.is_none_or(|asked| **asked == **name) {
            names.push(name);
        }
    }
    let rows: Vec<Value> = names
        .into_iter()
        .filter(|name| caller.may_use(name).is_ok())
        .map(|name| show_models::group(&gateway, &models, name, now))
        .collect();
    Ok(Json(json!({ "data": rows })))
}

async fn change(
    gateway: &Gateway,
    headers: &HeaderMap,
    route: &str,
    id: &Text,
    request: Map<String, Value>,
) -> Answer {
    let now = gateway.now();
    let admin = changer(gateway, headers, now, route)?;
    let _one_at_a_time = gateway.directory.changes.lock().await;
    let mut record = (*known(gateway, id, "model_info.id")?).clone();
    for (name, value) in request {
        match (record.entry.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(given)) => known.extend(given),
            (_, value) => drop(record.entry.insert(name, value)),
        }
    }
    name_it(&mut record.entry, id)?;
    seal_secrets(gateway, id, &mut record.entry)?;
    let who = actor(&admin);
    (record.updated_at, record.updated_by) = (now, who.clone());
    put(gateway, record, &who, now).await
}

/// Brings a model's prices onto their log, then the model onto its own, and answers when it is in force. The
/// caller holds `directory.changes`.
async fn put(gateway: &Gateway, mut record: ModelRecord, actor: &str, now: Micros) -> Answer {
    let entry = gateway.try_model(&record).await?;
    if let Some(book) = &gateway.prices {
        let stated =
            prices::stated(&[entry]).map_err(|why| Error::bad_request(why, "litellm_params"))?;
        record.prices_version = book.seed(&stated, actor).await?;
    }
    let id = record.model_id.clone();
    changes::put(gateway, ConfigEntity::Model, &id, &record, actor, now).await?;
    in_force(gateway).await?;
    Ok(Json(stored(&record)))
}

/// As LiteLLM's row of its table of models.
fn stored(record: &ModelRecord) -> Value {
    let entry = show_models::without_secrets(record);
    let part = |name: &str| entry.get(name).cloned().unwrap_or_else(|| json!({}));
    json!({
        "model_id": record.model_id,
        "model_name": part("model_name"),
        "litellm_params": part("litellm_params"),
        "model_info": part("model_info"),
        "created_at": show::time(Some(record.created_at)),
        "created_by": record.created_by,
        "updated_at": show::time(Some(record.updated_at)),
        "updated_by": record.updated_by,
    })
}

async fn in_force(gateway: &Gateway) -> Result<(), Error> {
    gateway.refresh().await.map_err(|error| {
        Error::Change(format!(
            "the change is on the log, and not in force here yet: {error}"
        ))
    })
}

/// The caller, if it may change models.
fn changer(
    gateway: &Gateway,
    headers: &HeaderMap,
    now: Micros,
    route: &str,
) -> Result<Principal, Error> {
    let admin = authenticate_admin(gateway, headers, now, route)?;
    if !gateway.config().server.models_change {
        return Err(Error::bad_request(
            "models change in the file only: general_settings.store_model_in_db is false",
            "store_model_in_db",
        ));
    }
    Ok(admin)
}

/// The model of an id, if it can be changed over the API.
fn known(gateway: &Gateway, id: &str, param: &str) -> Result<Arc<ModelRecord>, Error> {
    gateway.directory.model(id).ok_or_else(|| {
        if is_of_file(gateway, id) {
            Error::bad_request(
                format!("{param}: model {id:?} is one of the configuration file: change it there"),
                param,
            )
        } else {
            Error::bad_request(format!("{param}: there is no model with id {id:?}"), param)
        }
    })
}

fn is_of_file(gateway: &Gateway, id: &str) -> bool {
    let models = gateway.models.load();
    gateway.directory.model(id).is_none() && models.deployments().any(|(_, one)| &*one.id == id)
}

/// `null` says nothing, as in the file.
fn without_nulls(mut object: Map<String, Value>) -> Map<String, Value> {
    object.retain(|_, value| !value.is_null());
    for value in object.values_mut() {
        if let Value::Object(inner) = value {
            inner.retain(|_, value| !value.is_null());
        }
    }
    object
}

fn id_of(entry: &Map<String, Value>) -> Result<Option<Text>, Error> {
    match entry.get("model_info").and_then(|info| info.get("id")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if !id.trim().is_empty() => Ok(Some(id.as_str().into())),
        Some(_) => Err(Error::bad_request(
            "model_info.id: expected text",
            "model_info.id",
        )),
    }
}

/// Puts the id where entries have it. What LiteLLM's clients send back of an answer is not ours to keep.
fn name_it(entry: &mut Map<String, Value>, id: &Text) -> Result<(), Error> {
    let info = entry.entry("model_info").or_insert_with(|| json!({}));
    let Value::Object(info) = info else {
        return Err(Error::bad_request(
            "model_info: expected an object",
            "model_info",
        ));
    };
    info.insert("id".to_owned(), json!(id));
    for ours in [
        "db_model",
        "created_at",
        "created_by",
        "updated_at",
        "updated_by",
    ] {
        info.remove(ours);
    }
    Ok(())
}

/// Leaves names of variables in the places of secrets, and seals what is a secret itself.
///
/// # Errors
/// A secret and no key to seal it with; a name of what no provider is meant to get.
fn seal_secrets(gateway: &Gateway, id: &Text, entry: &mut Map<String, Value>) -> Result<(), Error> {
    let config = gateway.config();
    let key = config.server.secret_key.as_ref();
    let mut whole = Value::Object(std::mem::take(entry));
    let mut refused = names_ours(&whole).then(|| {
        let why = "names a secret of this gateway, which no provider is to get";
        Error::bad_request(format!("litellm_params: {why}"), "litellm_params")
    });
    config::model_secrets(&mut whole, &mut |path, value| {
        let text = match &*value {
            Value::String(text) => text.trim().to_owned(),
            // Told by the check, and never written meanwhile.
            other => other.to_string(),
        };
        let why = match variable(&text) {
            Some(_) => None,
            None if text.is_empty() => None,
            None if seal::is_sealed(&text) => None,
            None if text.starts_with("file/") => {
                Some("names a file, which only the configuration file may".to_owned())
            }
            None => match key.map(|key| seal::seal(key, &place(id, path), &text)) {
                Some(Ok(sealed)) => {
                    *value = sealed.into();
                    None
                }
                Some(Err(error)) => Some(error.to_string()),
                None => Some(
                    "is a secret, which is not written to the log as it is: name a variable, os.environ/NAME, \
                     or set tollgate.secret_key (LITELLM_SALT_KEY) so that it can be sealed"
                        .to_owned(),
                ),
            },
        };
        if let (Some(why), None) = (why, &refused) {
            refused = Some(Error::bad_request(format!("{path}: {why}"), path));
        }
    });
    if let Value::Object(whole) = whole {
        *entry = whole;
    }
    refused.map_or(Ok(()), Err)
}

/// Whether something in it asks for a variable of the gateway's own.
fn names_ours(value: &Value) -> bool {
    match value {
        Value::String(text) => ["os.environ/", "${"].iter().any(|before| {
            let ours = |rest: &str| rest.starts_with("TOLLGATE_") || rest.starts_with("LITELLM_");
            text.split(before).skip(1).any(ours)
        }),
        Value::Array(items) => items.iter().any(names_ours),
        Value::Object(fields) => fields.values().any(names_ours),
        _ => false,
    }
}

/// The variable that a text names, if that is all it does; a scheme may stand before it.
fn variable(text: &str) -> Option<&str> {
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let braces = || text.strip_prefix("${")?.strip_suffix('}');
    let name = text.strip_prefix("os.environ/").or_else(braces)?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_variable_is_told_from_a_secret() {
        assert_eq!(
            variable("os.environ/OPENAI_API_KEY"),
            Some("OPENAI_API_KEY")
        );
        assert_eq!(variable("${KEY}"), Some("KEY"));
        assert_eq!(variable("Bearer ${KEY}"), Some("KEY"));
        for secret in [
            "sk-1",
            "${KEY:-sk-1}",
            "os.environ/",
            "os.environ/A sk-1",
            "a${KEY}",
            "",
        ] {
            assert_eq!(variable(secret), None, "{secret}");
        }
    }
}
