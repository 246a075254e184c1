//! What `/key/generate` gives where a request does not say, and what it gives at most:
//! `default_key_generate_params` and `upperbound_key_generate_params`.

use config::NewKeys;
use metering::{Period, Zone};
use schemas::{Micros, NanoUsd};
use serde_json::{Map, Value};

use super::fields::Field;
use super::key_fields::says;
use crate::error::Error;

/// Fills in what is missing, defaults first, then the bounds.
///
/// # Errors
/// 400 naming the field that asks for more than a key may have.
pub fn complete(
    rules: &NewKeys,
    request: &mut Map<String, Value>,
    now: Micros,
) -> Result<(), Error> {
    for (name, json) in &rules.defaults {
        if !says(request, name) {
            request.insert(name.clone(), value(json));
        }
    }
    for (name, json) in &rules.bounds {
        let most = value(json);
        let Some(asked) = request.get(name).filter(|asked| !asked.is_null()) else {
            request.insert(name.clone(), most);
            continue;
        };
        let asked = Field { name, value: asked };
        let most = Field { name, value: &most };
        if size(asked, now)? > size(most, now)? {
            return Err(asked.refuse(format_args!(
                "{} is more than this gateway gives, which is {}",
                plain(asked.value),
                plain(most.value)
            )));
        }
    }
    Ok(())
}

/// The configuration wrote it as JSON.
fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// How much a field asks for; what never ends is the most.
fn size(field: Field<'_>, now: Micros) -> Result<i128, Error> {
    Ok(match field.name {
        "max_budget" => {
            let amount = NanoUsd::floor(&plain(field.value)).map_err(|e| field.refuse(e))?;
            i128::from(amount.0)
        }
        "budget_duration" => {
            let word = plain(field.value);
            let period: Period = word.parse().map_err(|e| field.refuse(e))?;
            let window = period.window(now, now, &Zone::default());
            i128::from(window.end.0) - i128::from(window.start.0)
        }
        "duration" => field
            .expiry(now)?
            .map_or(i128::MAX, |end| i128::from(end.0)),
        _ => field.count()?.map_or(i128::MAX, i128::from),
    })
}
