//! Names, addresses, ids, prices and time-outs of the entries of `model_list`.

use super::{check, fails, load};

#[test]
fn addresses_get_the_path_of_their_dialect() {
    let url = |params: &str| {
        let loaded = load(&format!(
            "model_list:\n- model_name: a\n  litellm_params: {{{params}}}\n"
        ));
        let model = &loaded.config.models[0];
        model.url("/chat/completions", &model.upstream_model)
    };
    for (params, expected) in [
        (
            "model: openai/x, api_base: 'http://h:1/v1/', api_key: k",
            "http://h:1/v1/chat/completions",
        ),
        (
            "model: ollama/llama3, api_base: 'http://h:11434'",
            "http://h:11434/v1/chat/completions",
        ),
        (
            "model: ollama/llama3",
            "http://localhost:11434/v1/chat/completions",
        ),
        (
            "model: anthropic/c, api_base: 'https://api.anthropic.com', api_key: k",
            "https://api.anthropic.com/v1/chat/completions",
        ),
        (
            "model: gemini/g, api_key: k",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        (
            "model: azure/dep, api_base: 'https://r.openai.azure.com/', api_key: k, api_version: 2025-01-01-preview",
            "https://r.openai.azure.com/openai/deployments/dep/chat/completions?api-version=2025-01-01-preview",
        ),
        (
            "model: azure/dep, api_base: 'https://r.openai.azure.com', api_key: k, api_version: v1",
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "model: azure/dep, api_base: 'https://r.openai.azure.com/openai/v1/', api_key: k, api_version: preview",
            "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview",
        ),
    ] {
        assert_eq!(url(params), expected, "{params}");
    }
}

#[test]
fn wildcards_carry_the_rest_of_the_name() {
    let loaded = load(
        "model_list:\n\
         - {model_name: 'openai/*', litellm_params: {model: 'openai/*'}}\n\
         - {model_name: 'openai/gpt-4*', litellm_params: {model: 'openai/gpt-4*', timeout: 7}}\n\
         - {model_name: exact, litellm_params: {model: openai/gpt-4o}}\n\
         - {model_name: '*', litellm_params: {model: '*', timeout: 9}}\n",
    );
    let found = |name: &str| {
        let found = loaded.config.deployments(name);
        found
            .iter()
            .map(|(entry, upstream)| format!("{} {upstream}", entry.model_name))
            .collect::<Vec<_>>()
    };
    assert_eq!(found("openai/o3"), ["openai/* o3"]);
    assert_eq!(found("openai/gpt-4o"), ["openai/gpt-4* gpt-4o"]);
    assert_eq!(found("exact"), ["exact gpt-4o"]);
    assert_eq!(found("anything"), ["* anything"]);
    assert_eq!(found("openai/"), ["* openai/"]);
    check(
        "model_list:\n- {model_name: a, litellm_params: {model: 'openai/*'}}\n",
        &["f.yaml:2: model_list[0].litellm_params.model: holds a `*`, and model_name does not"],
    );
}

#[test]
fn deployment_ids_are_stable_and_unique() {
    let text = "model_list:\n- {model_name: a, litellm_params: {model: openai/x, api_key: k1}}\n\
                - {model_name: a, litellm_params: {model: openai/x, api_key: k2}}\n\
                - {model_name: a, litellm_params: {model: openai/y}, model_info: {id: mine}}\n";
    let ids: Vec<_> = load(text)
        .config
        .models
        .into_iter()
        .map(|model| model.deployment_id)
        .collect();
    assert_eq!(ids[1], format!("{}-2", ids[0]));
    assert_eq!(ids[2], "mine");
    let other_key = load(&text.replace("k1", "k9")).config.models[0]
        .deployment_id
        .clone();
    assert_eq!(other_key, ids[0]);
    check(
        "model_list:\n- {model_name: a, litellm_params: {model: openai/x}, model_info: {id: i}}\n- {model_name: b, litellm_params: {model: openai/x}, model_info: {id: i}}\n",
        &["f.yaml:3: model_list[1].model_info.id: is the id of model_list[0] as well"],
    );
}

#[test]
fn prices_keep_their_digits_and_litellm_params_win() {
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, input_cost_per_token: 3e-06, cache_read_input_token_cost: 0.00000030}\n\
         \x20 model_info: {input_cost_per_token: 0.5, output_cost_per_token: '1.10', input_cost_per_token_above_200k_tokens: 0.000006}\n",
    );
    let prices: Vec<_> = loaded.config.models[0]
        .prices
        .iter()
        .map(|(name, price)| format!("{name} {price}"))
        .collect();
    assert_eq!(
        prices,
        [
            "input_cost_per_token 3e-06",
            "cache_read_input_token_cost 0.00000030",
            "output_cost_per_token 1.10",
            "input_cost_per_token_above_200k_tokens 0.000006",
        ]
    );
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.path == "model_list[0].model_info.input_cost_per_token")
    );
    assert!(fails("model_list:\n- {model_name: a, litellm_params: {model: gpt-4o, input_cost_per_token: free}}\n")[0].contains("expected a number"));
}

#[test]
fn time_outs_of_the_file_come_to_each_deployment() {
    let loaded = load(
        "model_list:\n- {model_name: a, litellm_params: {model: openai/gpt-4o, timeout: 9}}\n\
         tollgate: {timeouts: {connect_s: 1, first_byte_s: 2, idle_s: 3}}\n",
    );
    let timeouts = loaded.config.models[0].timeouts;
    assert_eq!(timeouts.connect.as_secs(), 1);
    assert_eq!(timeouts.first_byte.map(|span| span.as_secs()), Some(2));
    assert_eq!((timeouts.idle.as_secs(), timeouts.total.as_secs()), (3, 9));
}
