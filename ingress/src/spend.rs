//! What was spent, over HTTP, in the shapes that LiteLLM's clients know. Reads the usage tables, which are
//! about a second behind; what a budget has used in its window stands in `/key/info`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use analytics::{Caller, DayRow, Dimension, LogFilter, LogRow, Span, SpendRow, Store};
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use schemas::{KeyHash, Micros, NanoUsd};
use serde_json::{Map, Value, json};

use crate::Gateway;
use crate::auth::authenticate_admin;
use crate::error::Error;
use crate::management::show;
use crate::moment::Moment;
use crate::router::Routes;

/// Rows of one raw answer at most; more are told in a header, as LiteLLM does.
const LOG_ROWS_MAX: u32 = 10_000;

type Asked = Query<HashMap<String, String>>;

/// The spend routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .get("/spend/keys", keys)
        .get("/spend/models", models)
        .get("/spend/logs", logs)
}

/// `GET /spend/keys`: every key that made calls, with its total, highest first.
async fn keys(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Asked,
) -> Result<Json<Value>, Error> {
    let store = store(&gateway, &headers, "/spend/keys")?;
    let now = gateway.now();
    let rows = store
        .spend(Dimension::Key, span(&query)?)
        .await
        .map_err(failed)?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let known = KeyHash::from_hex(&row.name).and_then(|hash| gateway.directory.key(&hash));
            // A deleted key keeps its place in the sums.
            let mut object = known.map_or_else(Map::new, |key| {
                show::key(&gateway, &key, Some(row.spend), now)
            });
            object.insert("token".into(), json!(token(&gateway, &row.name)));
            object.insert("spend".into(), json!(row.spend));
            if !row.alias.is_empty() {
                object
                    .entry("key_alias")
                    .or_insert_with(|| json!(row.alias));
            }
            object.insert("requests".into(), json!(row.requests));
            Value::Object(object)
        })
        .collect();
    Ok(Json(Value::Array(rows)))
}

/// `GET /spend/models`: every model with its total, highest first.
async fn models(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Asked,
) -> Result<Json<Value>, Error> {
    let store = store(&gateway, &headers, "/spend/models")?;
    let rows = store
        .spend(Dimension::Model, span(&query)?)
        .await
        .map_err(failed)?;
    let model = |row: &SpendRow| {
        json!({
            "model": row.name,
            "total_spend": row.spend,
            "total_tokens": row.input_tokens + row.output_tokens,
            "prompt_tokens": row.input_tokens,
            "completion_tokens": row.output_tokens,
            "requests": row.requests,
            "saved": row.saved,
        })
    };
    Ok(Json(rows.iter().map(model).collect()))
}

/// `GET /spend/logs`: a row a day, or with `summarize=false` a row an attempt.
async fn logs(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Asked,
) -> Result<Response, Error> {
    let store = store(&gateway, &headers, "/spend/logs")?;
    let filter = LogFilter {
        span: span(&query)?,
        caller: query.get("api_key").map(|asked| {
            let hash = KeyHash::from_hex(asked).unwrap_or_else(|| KeyHash::of(asked));
            if hash == gateway.master_key {
                Caller::Master
            } else {
                Caller::Key(hash)
            }
        }),
        user_id: query.get("user_id").cloned(),
        request_id: query.get("request_id").cloned(),
    };
    let summarize = query
        .get("summarize")
        .is_none_or(|flag| !flag.eq_ignore_ascii_case("false"));
    let dated = filter.span != Span::default();
    if summarize && dated && filter.request_id.is_none() {
        let rows = store.spend_days(&filter).await.map_err(failed)?;
        return Ok(Json(days(&gateway, &rows)).into_response());
    }
    let rows = store
        .spend_logs(&filter, LOG_ROWS_MAX + 1, 0)
        .await
        .map_err(failed)?;
    let shown = rows.iter().take(LOG_ROWS_MAX as usize);
    let models = gateway.models.load();
    let bases = models.deployments().filter_map(|(_, deployment)| {
        let base = deployment.shown_base.as_ref()?.to_str().ok()?;
        Some((&*deployment.id, base))
    });
    let bases: HashMap<&str, &str> = bases.collect();
    let mut answer = Json(
        shown
            .map(|row| log(&gateway, &bases, row))
            .collect::<Value>(),
    )
    .into_response();
    if rows.len() > LOG_ROWS_MAX as usize {
        answer.headers_mut().insert(
            "x-litellm-spend-logs-truncated",
            http::HeaderValue::from_static("true"),
        );
    }
    Ok(answer)
}

/// One object a day: its total, and the same by user, by model, by key.
fn days(gateway: &Gateway, rows: &[DayRow]) -> Value {
    #[derive(Default)]
    struct Day {
        total: NanoUsd,
        users: BTreeMap<String, NanoUsd>,
        models: BTreeMap<String, NanoUsd>,
        keys: BTreeMap<String, NanoUsd>,
    }
    let mut days: BTreeMap<&str, Day> = BTreeMap::new();
    for row in rows {
        let day = days.entry(&row.day).or_default();
        let add = |sums: &mut BTreeMap<String, NanoUsd>, name: &str| {
            let sum = sums.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(row.spend);
        };
        day.total = day.total.saturating_add(row.spend);
        add(&mut day.users, &row.user_id);
        add(&mut day.models, &row.model);
        add(&mut day.keys, &token(gateway, &row.key_hash));
    }
    days.into_iter()
        .map(|(name, day)| {
            let mut object = Map::new();
            object.insert("startTime".into(), json!(name));
            object.insert("spend".into(), json!(day.total));
            object.insert("users".into(), json!(day.users));
            object.insert("models".into(), json!(day.models));
            object.extend(day.keys.into_iter().map(|(key, spend)| (key, json!(spend))));
            Value::Object(object)
        })
        .collect()
}

/// The hash of the key; that of the master key where a row names none.
fn token(gateway: &Gateway, hash: &str) -> String {
    if hash.is_empty() {
        gateway.master_key.to_string()
    } else {
        hash.to_owned()
    }
}

/// A row with every field that LiteLLM's has. What is never kept here is empty: texts of requests and answers.
fn log(gateway: &Gateway, bases: &HashMap<&str, &str>, row: &LogRow) -> Value {
    let cached = row.outcome == "cache_hit";
    json!({
        "request_id": row.request_id,
        "call_type": "acompletion",
        "api_key": token(gateway, &row.key_hash),
        "spend": row.spend,
        "total_tokens": row.input_tokens + row.output_tokens,
        "prompt_tokens": row.input_tokens,
        "completion_tokens": row.output_tokens,
        "startTime": show::time(Some(row.started)),
        "endTime": show::time(Some(row.ended)),
        "completionStartTime": show::time((row.ttft_us > 0).then(|| Micros(row.started.0.saturating_add_unsigned(row.ttft_us)))),
        "model": row.model,
        "model_id": row.deployment_id,
        "model_group": row.model_requested,
        "api_base": bases.get(row.deployment_id.as_str()).copied().unwrap_or_default(),
        "user": row.user_id,
        "metadata": {
            "user_api_key_alias": row.key_alias,
            "call_id": row.call_id,
            "attempt_no": row.attempt_no,
            "estimated": row.estimated,
            "priced": row.priced,
            "outcome": row.outcome,
            "stream": row.stream,
            "finish_reason": row.finish_reason,
            "error_code": row.error_code,
            "cached_tokens": row.cached_tokens,
            "reasoning_tokens": row.reasoning_tokens,
            "cache_similarity": row.cache_similarity,
            "saved": row.saved,
        },
        "cache_hit": if cached { "True" } else { "False" },
        "cache_key": "",
        "request_tags": row.tags,
        "team_id": row.team_id,
        "end_user": row.end_user,
        "custom_llm_provider": row.provider,
        "requester_ip_address": null,
        "session_id": null,
        "messages": {},
        "response": {},
        "status": if matches!(row.outcome.as_str(), "ok" | "cache_hit") { "success" } else { "failure" },
    })
}

/// The tables, for the admin.
fn store<'a>(gateway: &'a Gateway, headers: &HeaderMap, route: &str) -> Result<&'a Store, Error> {
    authenticate_admin(gateway, headers, gateway.now(), route)?;
    gateway
        .store
        .as_ref()
        .ok_or_else(|| Error::Store("this process has no usage tables".to_owned()))
}

fn failed(error: analytics::Error) -> Error {
    Error::Store(error.to_string())
}

/// `start_date` and `end_date`, days or instants; the end day is part of the span.
fn span(query: &HashMap<String, String>) -> Result<Span, Error> {
    let moment = |name: &'static str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => Moment::read(text).map(Some).ok_or_else(|| {
            Error::bad_request(
                format!("{name}: {text:?} is not a day (2026-01-31) or an RFC 3339 time"),
                name,
            )
        }),
    };
    Ok(Span {
        since: moment("start_date")?.map(|moment| moment.begin),
        until: moment("end_date")?.map(|moment| moment.end),
    })
}
