//! Models as management answers show them, in LiteLLM's words. Never a secret.

use config::ModelEntry;
use metering::{Price, PriceKey};
use schemas::{AttoUsd, Meter, Micros};
use serde_json::{Map, Value, json};

use crate::Gateway;
use crate::directory::ModelRecord;
use crate::models::{Deployment, Models, without_userinfo};

/// What LiteLLM calls the prices of a token.
const RATES: [(&str, Meter); 6] = [
    ("input_cost_per_token", Meter::InputText),
    ("output_cost_per_token", Meter::OutputText),
    ("cache_read_input_token_cost", Meter::InputCacheRead),
    ("cache_creation_input_token_cost", Meter::InputCacheWrite5m),
    ("input_cost_per_audio_token", Meter::InputAudio),
    ("output_cost_per_audio_token", Meter::OutputAudio),
];

/// The capabilities that LiteLLM names in every answer; `null` where nobody says.
const FLAGS: [&str; 6] = [
    "parallel_function_calling",
    "vision",
    "function_calling",
    "response_schema",
    "reasoning",
    "audio_input",
];

/// One row of `/model/info`.
pub fn row(gateway: &Gateway, deployment: &Deployment, now: Micros) -> Value {
    let record = gateway.directory.model(&deployment.id);
    let entry = &deployment.entry;
    let mut params = of_file(entry);
    let mut info = info(gateway, deployment, now);
    info.insert("db_model".into(), json!(record.is_some()));
    if let Some(record) = &record {
        let own = without_secrets(record);
        for (name, to) in [("litellm_params", &mut params), ("model_info", &mut info)] {
            if let Some(Value::Object(own)) = own.get(name) {
                to.extend(own.clone());
            }
        }
    }
    json!({ "model_name": entry.model_name, "litellm_params": params, "model_info": info })
}

/// One row of `/model_group/info`: the most that its deployments can do, their limits added up.
pub fn group(gateway: &Gateway, models: &Models, name: &str, now: Micros) -> Value {
    let members: Vec<&Deployment> = models
        .deployments()
        .filter(|(of, _)| ***of == *name)
        .map(|(_, deployment)| &**deployment)
        .collect();
    let mut providers: Vec<&str> = Vec::new();
    for one in &members {
        if !providers.contains(&&*one.provider) {
            providers.push(&one.provider);
        }
    }
    let infos: Vec<Map<String, Value>> =
        members.iter().map(|one| info(gateway, one, now)).collect();
    let mut row = Map::new();
    row.insert("model_group".into(), json!(name));
    row.insert("providers".into(), json!(providers));
    for field in ["max_input_tokens", "max_output_tokens"]
        .into_iter()
        .chain(RATES.map(|(name, _)| name))
    {
        row.insert(field.into(), most(&infos, field));
    }
    row.insert("mode".into(), mode(gateway, &members));
    for (field, of) in [
        (
            "rpm",
            members
                .iter()
                .map(|one| one.entry.limits.rpm)
                .collect::<Vec<_>>(),
        ),
        (
            "tpm",
            members.iter().map(|one| one.entry.limits.tpm).collect(),
        ),
    ] {
        // One without a limit has room for all.
        let sum: Option<u64> = of.into_iter().sum();
        row.insert(field.into(), json!(sum));
    }
    for flag in FLAGS {
        let name = format!("supports_{flag}");
        let any = infos
            .iter()
            .any(|i| i.get(&name) == Some(&Value::Bool(true)));
        row.insert(name, json!(any));
    }
    row.insert("supported_openai_params".into(), json!(params(&members)));
    Value::Object(row)
}

/// The parameters that one of a name's deployments takes at least, in the order of the alphabet.
fn params(members: &[&Deployment]) -> Vec<&'static str> {
    // The bound of the output and streams are the gateway's own to keep: every deployment takes them.
    let mut found = vec![
        "max_completion_tokens",
        "max_tokens",
        "stream",
        "stream_options",
    ];
    let takes = |one: &&Deployment, param: &str| {
        let lacks = one.entry.lacking(&one.entry.upstream_model);
        !lacks.iter().any(|lack| lack.param == param)
    };
    found.extend(
        config::OPENAI_PARAMS
            .iter()
            .filter(|param| members.iter().any(|one| takes(one, param))),
    );
    found.sort_unstable();
    found
}

/// `model_info.mode`, where a model of the log says it.
fn mode(gateway: &Gateway, members: &[&Deployment]) -> Value {
    let said = |one: &&Deployment| {
        let record = gateway.directory.model(&one.id)?;
        record.entry.get("model_info")?.get("mode").cloned()
    };
    members.iter().find_map(said).unwrap_or(Value::Null)
}

/// The entry of a record, without what must never be shown.
pub fn without_secrets(record: &ModelRecord) -> Value {
    let mut entry = Value::Object(record.entry.clone());
    config::model_secrets(&mut entry, &mut |_, value| *value = Value::Null);
    drop_nulls(&mut entry);
    entry
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// The provider's side, as a file would say it.
fn of_file(entry: &ModelEntry) -> Map<String, Value> {
    let base = (!entry.api_base.is_empty())
        .then(|| without_userinfo(&entry.api_base))
        .flatten();
    let fields = [
        (
            "model",
            json!(format!("{}/{}", entry.provider, entry.upstream_model)),
        ),
        ("api_base", json!(base)),
        ("api_version", json!(entry.api_version)),
        ("organization", json!(entry.organization)),
        ("rpm", json!(entry.limits.rpm)),
        ("tpm", json!(entry.limits.tpm)),
        (
            "max_parallel_requests",
            json!(entry.limits.max_parallel_requests),
        ),
        ("timeout", json!(entry.timeouts.total.as_secs_f64())),
        (
            "stream_timeout",
            json!(entry.timeouts.total_stream.as_secs_f64()),
        ),
    ];
    let set = fields.into_iter().filter(|(_, value)| !value.is_null());
    set.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn info(gateway: &Gateway, deployment: &Deployment, now: Micros) -> Map<String, Value> {
    let entry = &deployment.entry;
    let catalog = gateway.catalog.load();
    let model = entry.base_model.as_deref().unwrap_or(&entry.upstream_model);
    let key = PriceKey {
        org: "default",
        deployment: &deployment.id,
        provider: &deployment.provider,
        model,
    };
    let price = catalog.price(&key, now, catalog.version());
    let output = entry.limits.max_output_tokens.map(u64::from);
    let output = output.or_else(|| price.and_then(Price::max_output));
    let input = entry.limits.max_input_tokens.map(u64::from);
    let input = input.or_else(|| price.and_then(Price::max_input));
    let mut info = Map::new();
    let mut put = |name: &str, value: Value| drop(info.insert(name.to_owned(), value));
    put("id", json!(deployment.id));
    put("key", json!(model));
    put("litellm_provider", json!(deployment.provider));
    put("base_model", json!(entry.base_model));
    put("max_tokens", json!(output));
    put("max_input_tokens", json!(input));
    put("max_output_tokens", json!(output));
    for (name, meter) in RATES {
        let unit = price.and_then(|price| price.unit(meter, None, 0).ok());
        put(name, unit.map_or(Value::Null, number));
    }
    let hints = &entry.hints;
    for flag in FLAGS {
        let says = |list: &[String]| list.iter().any(|word| word == flag);
        let supports = match (says(&hints.capabilities), says(&hints.lacks)) {
            (true, _) => json!(true),
            (false, true) => json!(false),
            (false, false) => Value::Null,
        };
        put(&format!("supports_{flag}"), supports);
    }
    info
}

/// A price as the number that it is, to its last digit.
fn number(price: AttoUsd) -> Value {
    serde_json::from_str(&price.to_string()).unwrap_or(Value::Null)
}

/// The largest of a field.
fn most(infos: &[Map<String, Value>], field: &str) -> Value {
    let numbers = infos.iter().filter_map(|info| info.get(field));
    let of = |value: &&Value| value.as_f64().unwrap_or(f64::MIN);
    let set = numbers.filter(|value| value.is_number());
    set.max_by(|a, b| of(a).total_cmp(&of(b)))
        .cloned()
        .unwrap_or(Value::Null)
}
