//! Variables and files of their own: put in, missing, and sent to nobody else than their provider.

use config::{Strictness, parse, parse_with};

use super::{MODEL, check, env, load};

#[test]
fn variables_fill_every_kind_of_value() {
    let loaded = load(
        "environment_variables: {OWN: \"0.5\", SECRET_OF_OWN: os.environ/OPENAI_API_KEY}\n\
         general_settings: {port: \"${PORT}\", host: \"${HOST:-::1}\", master_key: os.environ/SECRET_OF_OWN}\n\
         litellm_settings: {cache: true, cache_params: {similarity_threshold: os.environ/OWN}}\n",
    );
    assert_eq!(
        (
            loaded.config.server.port,
            loaded.config.server.host.as_str()
        ),
        (4010, "::1")
    );
    assert_eq!(
        loaded
            .config
            .server
            .master_key
            .map(|key| key.expose().to_owned())
            .as_deref(),
        Some("sk-real")
    );
    assert_eq!(loaded.config.cache.threshold.as_str(), "0.5");
    check(
        "general_settings: {port: os.environ/WORDS}\n",
        &["f.yaml:1: general_settings.port: expected a port from 1 to 65535"],
    );
}

#[test]
fn a_missing_variable_matters_only_where_the_setting_does() {
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, api_key: os.environ/NOPE}\n\
                litellm_settings: {langfuse_public_key: os.environ/NOPE_2}\n";
    check(
        text,
        &[
            "f.yaml:3: model_list[0].litellm_params.api_key: the environment variable NOPE is not set",
        ],
    );
    let loaded = parse_with(text, "f.yaml", &env, Strictness::AllowMissingVariables)
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.config.models[0].api_key, None);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.reason.contains("NOPE is not set"))
    );
}

#[test]
fn a_file_is_explained_where_its_variables_are_missing() {
    let text = "model_list:\n- model_name: a\n  litellm_params: {model: openai/gpt-4o, api_key: \"${NOT_HERE}\"}\n\
                - model_name: b\n  litellm_params: {model: openai/gpt-4o}\nrouter: {weights: {a: 1, b: 1}}\n";
    let lenient = config::Strictness::AllowMissingVariables;
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk".to_owned());
    let loaded = config::parse_with(text, "f.yaml", &env, lenient).unwrap();
    let told = config::check(&loaded);
    for said in [
        "key: the variable NOT_HERE, which is not there",
        "key: the variable OPENAI_API_KEY  [id",
        "when a call fails: 2 retries, at its other deployments",
        "when this file changes",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn keys_come_from_the_environment_and_go_only_to_their_provider() {
    let key = |text: &str| {
        load(text).config.models[0]
            .api_key
            .clone()
            .map(|key| key.expose().to_owned())
    };
    assert_eq!(key(MODEL).as_deref(), Some("sk-real"));
    let elsewhere = "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, api_base: http://vllm:8000/v1}\n";
    assert_eq!(key(elsewhere), None);
    assert!(
        load(elsewhere).warnings[0]
            .reason
            .contains("OPENAI_API_KEY is for OpenAI")
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: groq/llama}\n",
        &[
            "f.yaml:3: model_list[0].litellm_params.api_key: there is no api_key, and the environment variable GROQ_API_KEY is not set",
        ],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: azure/x, api_key: k}\n",
        &[
            "f.yaml:3: model_list[0].litellm_params.model: Azure OpenAI has no address of its own: give api_base, or AZURE_API_BASE or AZURE_OPENAI_ENDPOINT",
        ],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params: {model: opnai/gpt-4o}\n",
        &[
            "f.yaml:3: model_list[0].litellm_params.model: its provider is not known; write provider/model, such as openai/gpt-4o, or give api_base; did you mean \"openai\"?",
        ],
    );
}

/// An address in the environment is used, and must be one.
#[test]
fn addresses_of_the_environment() {
    let env = |name: &str| match name {
        "OPENAI_API_KEY" => Some("k".to_owned()),
        "OPENAI_BASE_URL" => Some("https://proxy/v1/".to_owned()),
        "OLLAMA_API_BASE" => Some("hunter2".to_owned()),
        _ => None,
    };
    let loaded = parse(MODEL, "f.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.config.models[0].api_base, "https://proxy/v1");
    let errors = parse(
        "model_list: [{model_name: a, litellm_params: {model: ollama/x}}]\n",
        "f.yaml",
        &env,
    )
    .expect_err("no URL")
    .to_string();
    assert!(
        errors.contains("OLLAMA_API_BASE is not a URL") && !errors.contains("hunter2"),
        "{errors}"
    );
    let found = config::providers_from_env(&env);
    assert_eq!(
        found
            .iter()
            .map(|model| model.model_name.as_str())
            .collect::<Vec<_>>(),
        ["openai/*"]
    );
}

#[test]
fn secrets_stand_in_files_of_their_own() {
    let outside = |name: &str| match name {
        "file//run/secrets/redis" => Some("redis://:pw@r:6379\n".to_owned()),
        "file/provider.key" => Some("  sk-provider ".to_owned()),
        "file/empty" => Some("\n".to_owned()),
        _ => None,
    };
    let text = "model_list: [{model_name: file/model, litellm_params: {model: openai/m, api_key: file/provider.key}}]\n\
         tollgate: {redis: {url: file//run/secrets/redis}}\n";
    let config = config::parse(text, "f.yaml", &outside)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config;
    assert_eq!(
        config.redis.map(|redis| redis.url),
        Some(config::Secret::new("redis://:pw@r:6379"))
    );
    assert_eq!(
        config.models[0].api_key,
        Some(config::Secret::new("sk-provider"))
    );
    assert_eq!(config.models[0].model_name, "file/model");
    let errors = config::parse(
        "tollgate:\n  kafka:\n    bootstrap_servers: k\n    properties: {sasl.password: file/empty}\n  redis: {url: file/nowhere}\n",
        "f.yaml",
        &outside,
    )
    .expect_err("nothing there")
    .to_string();
    assert_eq!(
        errors,
        "f.yaml:4: tollgate.kafka.properties.\"sasl.password\": the file empty cannot be read, or is empty\n\
         f.yaml:5: tollgate.redis.url: the file nowhere cannot be read, or is empty"
    );
}

#[test]
fn without_a_file_the_demo_and_the_providers_of_the_environment() {
    let loaded = config::without_file(&env, None).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = loaded
        .config
        .models
        .iter()
        .map(|model| model.model_name.as_str())
        .collect();
    assert_eq!(names, ["tollgate/demo", "openai/*"]);
    assert_eq!(loaded.config.deployments("openai/gpt-4o")[0].1, "gpt-4o");
    assert_eq!(
        loaded.config.deployments("tollgate/demo")[0].0.dialect,
        config::Dialect::Demo
    );
    let one =
        config::without_file(&env, Some("gpt-4o")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(one.config.models.len(), 1);
    let errors = config::without_file(&env, Some("groq/llama"))
        .expect_err("no key")
        .to_string();
    assert_eq!(
        errors,
        "--model: the environment variable GROQ_API_KEY is not set"
    );
}

#[test]
fn variables_stand_in_variables_and_defaults() {
    let loaded = load(
        "environment_variables: {FIRST: \"sk-of\", SECOND: \"${FIRST}-mine\"}\n\
         general_settings: {master_key: \"${NOPE:-${SECOND}}\", port: \"${PORT:-${NOPE}}\"}\n",
    );
    let server = &loaded.config.server;
    assert_eq!(server.master_key.as_ref().unwrap().expose(), "sk-of-mine");
    assert_eq!(server.port, 4010);
    // What a shell knows and this file does not is never taken for the value.
    let told = "a variable is written ${NAME}, or ${NAME:-default}; $${ stands for ${ itself";
    for text in ["${NOPE:?must be there}", "${PORT-4000}", "${PORT:+4000}"] {
        let path = "f.yaml:1: general_settings.master_key";
        check(
            &format!("general_settings: {{master_key: \"{text}\"}}\n"),
            &[&format!("{path}: {told}")],
        );
    }
    // A key that stands where the name of its variable was meant.
    check(
        "general_settings: {master_key: os.environ/sk-the-key-itself}\n",
        &[
            "f.yaml:1: general_settings.master_key: what stands after os.environ/ is not the name of a variable that is set",
        ],
    );
}
