//! `GET /key/list`: keys by page, filtered and sorted.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use schemas::NanoUsd;
use serde_json::{Value, json};

use super::keys::hash_of;
use super::show;
use crate::Gateway;
use crate::auth::authenticate_admin;
use crate::directory::KeyRecord;
use crate::error::Error;

/// A page, if the client says nothing, and at most.
const SIZE: usize = 10;
const SIZE_MAX: usize = 100;

/// What clients may sort by. The last is not in the record.
const SORTS: [&str; 11] = [
    "created_at",
    "updated_at",
    "expires",
    "key_alias",
    "key_name",
    "team_id",
    "user_id",
    "max_budget",
    "rpm_limit",
    "tpm_limit",
    "spend",
];

/// The parameters of the question; an empty one is none.
struct Asked(HashMap<String, String>);

impl Asked {
    fn get(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    fn number(&self, name: &'static str, default: usize, most: usize) -> Result<usize, Error> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|n| (1..=most).contains(n));
        number.ok_or_else(|| {
            let message = if most == usize::MAX {
                format!("{name}: expected a number from 1 on, got {text:?}")
            } else {
                format!("{name}: expected a number from 1 to {most}, got {text:?}")
            };
            Error::bad_request(message, name)
        })
    }

    /// One of these words, the first if none is given.
    fn word(&self, name: &'static str, words: &[&'static str]) -> Result<&'static str, Error> {
        let asked = self.get(name).unwrap_or(words[0]);
        let known = words.iter().find(|word| word.eq_ignore_ascii_case(asked));
        known.copied().ok_or_else(|| {
            Error::bad_request(
                format!("{name}: {asked:?} is none of {}", words.join(", ")),
                name,
            )
        })
    }

    fn matches(&self, key: &KeyRecord) -> bool {
        let same =
            |name, value: Option<&str>| self.get(name).is_none_or(|asked| value == Some(asked));
        same("team_id", key.team_id.as_deref())
            && same("user_id", key.user_id.as_deref())
            && same("organization_id", key.organization_id.as_deref())
            && same("key_alias", key.key_alias.as_deref())
            && self
                .get("key_hash")
                .is_none_or(|asked| hash_of(asked) == key.hash)
    }
}

/// `GET /key/list`: a page of hashes, or of rows with `return_full_object`. Newest first, unless it is said
/// otherwise.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, Error> {
    let now = gateway.now();
    authenticate_admin(&gateway, &headers, now, "/key/list")?;
    let asked = Asked(query);
    let page = asked.number("page", 1, usize::MAX)?;
    let size = asked.number("size", SIZE, SIZE_MAX)?;
    let sort = asked.word("sort_by", &SORTS)?;
    let rising = asked.word("sort_order", &["desc", "asc"])? == "asc";
    if let Some(status) = asked.get("status").filter(|status| *status != "active") {
        let message = format!("status: keys that are {status} are not kept to be listed");
        return Err(Error::bad_request(message, "status"));
    }
    let mut keys = gateway.directory.keys();
    keys.retain(|key| asked.matches(key));
    let total = keys.len();
    let from = (page - 1).saturating_mul(size).min(total);
    let until = from.saturating_add(size).min(total);
    let full = asked
        .get("return_full_object")
        .is_some_and(|flag| flag.eq_ignore_ascii_case("true"));

    let spends = async |keys: &[Arc<KeyRecord>]| {
        let budgets: Vec<_> = keys.iter().map(|key| (&key.budget, &key.quota)).collect();
        show::spend(&gateway, &budgets, now).await
    };
    let mut rows: Vec<(Arc<KeyRecord>, Option<NanoUsd>)>;
    if sort == "spend" {
        let spent = spends(&keys).await;
        rows = keys.into_iter().zip(spent).collect();
        rows.sort_by(|(_, a), (_, b)| in_order(a.cmp(b), rising));
        rows = rows.drain(from..until).collect();
    } else {
        // Those that are the same by it stay newest first.
        keys.sort_by(|a, b| in_order(by(sort, a, b), rising));
        let shown = &keys[from..until];
        let spent = if full {
            spends(shown).await
        } else {
            vec![None; shown.len()]
        };
        rows = shown.iter().cloned().zip(spent).collect();
    }
    let shown = rows.into_iter().map(|(key, spend)| {
        let token = json!(key.hash.to_string());
        if !full {
            return token;
        }
        let mut row = show::key(&gateway, &key, spend, now);
        row.insert("token".into(), token);
        Value::Object(row)
    });
    Ok(Json(json!({
        "keys": shown.collect::<Vec<_>>(),
        "total_count": total,
        "current_page": page,
        "total_pages": total.div_ceil(size),
    })))
}

const fn in_order(order: Ordering, rising: bool) -> Ordering {
    if rising { order } else { order.reverse() }
}

/// By a field of the record; what is not set is the least.
fn by(sort: &str, a: &KeyRecord, b: &KeyRecord) -> Ordering {
    match sort {
        "updated_at" => a.updated_at.cmp(&b.updated_at),
        "expires" => a.expires.cmp(&b.expires),
        "key_alias" => a.key_alias.cmp(&b.key_alias),
        "key_name" => a.key_name.cmp(&b.key_name),
        "team_id" => a.team_id.cmp(&b.team_id),
        "user_id" => a.user_id.cmp(&b.user_id),
        "max_budget" => a.quota.max_budget.cmp(&b.quota.max_budget),
        "rpm_limit" => a.quota.rpm_limit.cmp(&b.quota.rpm_limit),
        "tpm_limit" => a.quota.tpm_limit.cmp(&b.quota.tpm_limit),
        _ => a.created_at.cmp(&b.created_at),
    }
}
