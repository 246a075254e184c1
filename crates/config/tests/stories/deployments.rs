//! What an entry of `model_list` says beyond its address: parameters, fallbacks of its own, standing in.

use config::{AlertShape, FailureKind, Loaded, parse};

fn env(name: &str) -> Option<String> {
    match name {
        "SLACK_WEBHOOK_URL" => Some("https://hooks.slack.example/services/secret-part".to_owned()),
        _ => name.ends_with("_KEY").then(|| format!("sk-of-{name}")),
    }
}

fn load(text: &str) -> Loaded {
    parse(text, "f.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn entry(params: &str) -> String {
    format!("model_list:\n- model_name: a\n  litellm_params:\n    model: openai/gpt-4o\n{params}")
}

#[test]
fn parameters_keep_their_types_and_their_digits() {
    let loaded = load(&entry(
        "    temperature: 0.70\n    seed: \"42\"\n    stop: END\n    logprobs: true\n    modalities: text\n    \
         extra_body: {flag: yes, text: \"12\", number: 12, none: ~, deep: [1, {b: false}]}\n",
    ));
    let params = &loaded.config.models[0].params;
    let shown = |list: &[(String, String)]| -> Vec<String> {
        list.iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    };
    assert_eq!(
        shown(&params.defaults),
        [
            "temperature=0.70",
            "seed=42",
            "stop=\"END\"",
            "logprobs=true",
            "modalities=[\"text\"]"
        ]
    );
    assert_eq!(
        shown(&params.extra_body),
        [
            "flag=\"yes\"",
            "text=\"12\"",
            "number=12",
            "none=null",
            "deep=[1,{\"b\":false}]"
        ]
    );
}

#[test]
fn what_a_budget_counts_on_is_the_requests_own() {
    let text = entry("    extra_body: {n: 4}\n    additional_drop_params: [max_tokens, user]\n");
    let errors = parse(&text, "f.yaml", &env).unwrap_err().to_string();
    assert!(
        errors.contains("f.yaml:5: model_list[0].litellm_params.extra_body.n: cannot be set here"),
        "{errors}"
    );
    let loaded = load(&entry("    additional_drop_params: [max_tokens, user]\n"));
    assert_eq!(loaded.config.models[0].params.also_drop, ["user"]);
    assert!(
        loaded.warnings[0].reason.contains("max_tokens stays"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn a_deployment_names_its_own_fallbacks() {
    let text = entry(
        "    fallbacks: [b, {a: [c]}]\n    context_window_fallback_dict: {gpt-4o: c}\n    \
         retry_policy: {TimeoutErrorRetries: 3}\n",
    ) + "- model_name: b\n  litellm_params: {model: openai/gpt-4o}\n- model_name: c\n  litellm_params: {model: openai/gpt-4.1}\n";
    let loaded = load(&text);
    let routing = &loaded.config.routing;
    assert_eq!(routing.fallbacks.general["a"], ["b", "c"]);
    assert_eq!(routing.fallbacks.context_window["a"], ["c"]);
    assert_eq!(routing.names["a"].by_kind[&FailureKind::Timeout], 3);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn another_model_under_the_same_name_stands_in() {
    let orders = |second: &str| -> Vec<u32> {
        let text = format!(
            "model_list:\n- model_name: a\n  litellm_params: {{model: openai/gpt-4o}}\n- model_name: a\n  litellm_params: {second}\n"
        );
        let loaded = load(&text);
        loaded
            .config
            .models
            .iter()
            .map(|model| model.hints.order)
            .collect()
    };
    for (second, order) in [
        // Another one, by its name.
        ("{model: openai/gpt-4o-mini}", 1),
        ("{model: anthropic/claude-sonnet-4-6}", 1),
        (
            "{model: openrouter/anthropic/claude-sonnet-4.6, api_key: k}",
            1,
        ),
        // The same one, elsewhere or in another release.
        ("{model: openai/gpt-4o-2024-08-06}", 0),
        ("{model: openrouter/openai/gpt-4o, api_key: k}", 0),
        (
            "{model: openai/gpt-4o, api_base: \"http://elsewhere/v1\", api_key: k}",
            0,
        ),
        // Names that say nothing.
        (
            "{model: azure/our-own-name, api_base: \"http://azure\", api_key: k}",
            0,
        ),
        ("{model: openai/our-own-name}", 0),
        // Told how calls are shared.
        ("{model: openai/gpt-4o-mini, weight: 1}", 0),
        ("{model: openai/gpt-4o-mini, rpm: 100}", 0),
    ] {
        assert_eq!(orders(second), [0, order], "{second}");
    }
}

#[test]
fn alerts_are_told_where_to_go_and_never_tell_it() {
    let loaded = load(
        "general_settings:\n  alerting: [slack, email]\n  alert_types: [budget_alerts, llm_too_slow]\n  \
         alert_to_webhook_url: {llm_exceptions: [\"https://hooks.slack.example/services/other\"]}\n",
    );
    let alerts = loaded.config.alerts.clone().unwrap();
    assert!(alerts.budgets && !alerts.exceptions);
    let posts: Vec<_> = alerts
        .posts
        .iter()
        .map(|p| (p.shape, p.budgets, p.exceptions))
        .collect();
    assert_eq!(
        posts,
        [
            (AlertShape::Slack, false, true),
            (AlertShape::Slack, true, true)
        ]
    );
    let paths: Vec<_> = loaded.warnings.iter().map(|w| w.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "general_settings.alerting[1]",
            "general_settings.alert_types[1]"
        ]
    );
    let told = config::check(&loaded);
    assert!(
        told.contains("posted to Slack at hooks.slack.example"),
        "{told}"
    );
    assert!(!told.contains("services"), "{told}");
}

#[test]
fn a_file_is_explained_name_by_name() {
    let text = include_str!("../../../../deploy/reference-configs/01-full-stack.yaml");
    let told = config::check(&load(text));
    for line in [
        "  gpt-4o\n    - openai/gpt-4o at https://api.openai.com/v1, key: the variable OPENAI_API_KEY  [",
        "        a call takes at most 600 s, 10000 requests a minute, 2000000 tokens a minute\n",
        "    - stands in: openai/gpt-4o-mini at https://api.openai.com/v1, key: the variable OPENAI_API_KEY  [",
        "    when a call fails: 3 retries, the same deployment again after 5 s at the earliest\n    then the next name: claude-sonnet-4-6\n",
        "    2 deployments share its calls: the one with the fewest calls in flight\n",
        "at http://vllm-2:8000/v1, key: line 26 of this file",
        "  a deployment that fails more than 2 times in a minute rests for 60 s\n",
        "cache\n  the same question, and similar ones from 0.90; answers live 3600 s\n",
        "line 54: general_settings.database_url: there is no relational database",
    ] {
        assert!(told.contains(line), "{line}\nis not in\n{told}");
    }
}
