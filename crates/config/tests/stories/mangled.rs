//! No text makes the reader panic, and no secret of a file comes back in what is said about it.

use config::parse;
use proptest::prelude::*;

const FILE: &str = include_str!("../../../../deploy/reference-configs/01-full-stack.yaml");
const SECRET: &str = "hunter2hunter2";

fn env(name: &str) -> Option<String> {
    name.ends_with("KEY").then(|| SECRET.to_owned())
}

/// Says everything that can be said about a text.
fn said(text: &str) -> String {
    match parse(text, "f.yaml", &env) {
        Ok(loaded) => format!("{loaded:?}{}", config::check(&loaded)),
        Err(errors) => format!("{errors}{errors:?}"),
    }
}

/// Paths at which a secret can be written by mistake.
const PLACES: &[&str] = &[
    "model_list: SECRET",
    "model_list: [SECRET]",
    "general_settings: {sk-SECRET: 1}",
    "sk-SECRET: 1",
    "model_list: [{model_name: a, litellm_params: SECRET}]",
    "model_list: [{model_name: a, litellm_params: {model: SECRET}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: SECRET, timeout: SECRET}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_base: SECRET}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_base: 'http://user:SECRET@h/v1'}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, custom_llm_provider: SECRET}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, rpm: SECRET, input_cost_per_token: SECRET}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, extra_headers: {x: SECRET}}}]",
    "general_settings: {port: SECRET, global_max_budget: SECRET, always_include_stream_usage: SECRET}",
    "general_settings: {master_key: SECRET, database_url: 'postgres://u:SECRET@h/d'}",
    "litellm_settings: {cache: SECRET}",
    "litellm_settings: {cache: true, cache_params: {type: redis, host: h, password: SECRET, ttl: SECRET}}",
    "router_settings: {routing_strategy: SECRET, redis_password: SECRET}",
    "key_settings: [{api_key: SECRET, rate_limit: SECRET}]",
    "user_api_key_list: [{api_key: SECRET}, {api_key: SECRET}]",
    "environment_variables: {A: SECRET}",
    "tollgate: {redis: {url: 'redis://:SECRET@h'}, budgets: {timezone: SECRET}}",
    "tollgate: {kafka: {bootstrap_servers: k, properties: {sasl.password: SECRET}}}",
    "tollgate: {clickhouse: {url: 'http://u:SECRET@h', password: SECRET}}",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_base: 'http://u:SECRET/x@h/v1'}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: '${K-SECRET}'}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: '${K:-SECRET}'}}]",
    "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: os.environ/sk-SECRET}}]",
    "tollgate: {redis: {url: 'redis://:SECRET/x@h'}}",
    "tollgate: {redis: {url: 'redis://:SECRET#x@h'}}",
    "{litellm_settings: {cache: true, cache_params: {type: redis, url: 'redis://:SECRET/x@h'}}}",
    "{litellm_settings: {cache: true, cache_params: {type: redis, url: SECRET}}}",
    "general_settings: {alerting: [SECRET], alert_types: [SECRET]}",
    "general_settings: {alert_to_webhook_url: {budget_alerts: SECRET}}",
    "general_settings: {alert_to_webhook_url: {budget_alerts: 'https://hooks.example/SECRET'}}",
    "litellm_settings: {routing_strategy: SECRET, success_callback: [SECRET]}",
    "router_settings: {optional_pre_call_checks: [SECRET], fallback_on: [SECRET]}",
    "tollgate: {cache: {token: SECRET, redis_url: 'redis://u:SECRET@h'}, secret_key: SECRETSECRETSECRET}",
    "tollgate: {providers: {acme: {base_url: 'http://h', api_key: SECRET, headers: {x: SECRET}}}}",
    "tollgate: {long_context: {strategy: summarise, model: SECRET}}",
    "general_settings: !SECRET x",
];

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for place in PLACES {
        for text in [
            place.replace("SECRET", SECRET),
            place.replace("SECRET", "${SOME_KEY}"),
        ] {
            let said = said(&text);
            assert!(!said.contains(SECRET), "{text}: {said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        said(&text);
    }

    #[test]
    fn yaml_like_text_is_read_or_refused(text in "[-a-z:{}\\[\\]&*!|>'\"#%@, \n<~$]{0,120}") {
        said(&text);
    }

    #[test]
    fn a_mangled_file_is_read_or_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[-:{}\\[\\]&*'\"\n a0]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = FILE.chars().collect();
        for (from, length, insert) in cuts {
            let from = from.index(text.len() + 1);
            let length = length.index(20).min(text.len() - from);
            text.splice(from..from + length, insert.chars());
        }
        let text: String = text.into_iter().collect();
        prop_assert!(!said(&text).contains(SECRET));
    }
}
