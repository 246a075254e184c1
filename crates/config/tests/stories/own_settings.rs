//! What the section `tollgate:` says of providers and long chats, and whose certificates are believed.

use config::{
    AuthScheme, Dialect, Loaded, LongContext, ModelEntry, Quirk, Shortening, Trust, parse,
};

fn env(name: &str) -> Option<String> {
    match name {
        "ACME_KEY" => Some("sk-acme".to_owned()),
        "SSL_VERIFY" => Some("/etc/everybody.pem".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Loaded {
    parse(text, "f.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn model(text: &str) -> ModelEntry {
    load(text).config.models.remove(0)
}

fn fails(text: &str, part: &str) {
    let errors = parse(text, "f.yaml", &env).unwrap_err().to_string();
    assert!(errors.contains(part), "{errors}");
}

const ACME: &str = "
tollgate:
  providers:
    acme:
      base_url: https://models.acme.test/v2
      path: /{model}/talk
      api_key: os.environ/ACME_KEY
      auth: header
      auth_header: X-Acme-Key
      auth_prefix: Token
      headers: {X-Team: search}
      quirks: [no_stream_options, max_tokens_only]
      ssl_verify: /etc/acme.pem
";

#[test]
fn a_provider_of_ones_own_is_called_by_its_prefix() {
    let model = model(&format!(
        "model_list:\n- model_name: a\n  litellm_params: {{model: acme/large/7, extra_headers: {{x-more: b}}}}\n{ACME}"
    ));
    assert_eq!(
        (&*model.provider, &*model.upstream_model, model.dialect),
        ("acme", "large/7", Dialect::OpenAi)
    );
    assert_eq!(
        model.url("/chat/completions", "large/7"),
        "https://models.acme.test/v2/large/7/talk"
    );
    assert_eq!(
        model.url("/embeddings", "large/7"),
        "https://models.acme.test/v2/embeddings"
    );
    // The key stands in a header of its own.
    assert_eq!((model.auth, model.api_key), (AuthScheme::None, None));
    let headers: Vec<_> = model
        .headers
        .iter()
        .map(|(name, value)| (&**name, value.expose()))
        .collect();
    assert_eq!(
        headers,
        [
            ("x-more", "b"),
            ("x-team", "search"),
            ("x-acme-key", "Token sk-acme")
        ]
    );
    assert_eq!(
        model.shape.quirks,
        [Quirk::NoStreamOptions, Quirk::MaxTokensOnly]
    );
    assert_eq!(model.shape.trust, Trust::File("/etc/acme.pem".to_owned()));
}

#[test]
fn its_models_may_be_patterns_and_its_key_stays_with_it() {
    let own =
        "tollgate:\n  providers:\n    acme: {base_url: 'http://acme.test', api_key: sk-all}\n";
    let wild = model(&format!(
        "model_list:\n- model_name: acme/*\n  litellm_params: {{model: acme/*}}\n{own}"
    ));
    assert_eq!(wild.serves("acme/m-7").as_deref(), Some("m-7"));
    assert_eq!(wild.auth, AuthScheme::Bearer);
    assert_eq!(wild.api_key.unwrap().expose(), "sk-all");
    let named = model(&format!(
        "model_list:\n- model_name: a\n  litellm_params: {{model: m-7, custom_llm_provider: acme}}\n{own}"
    ));
    assert_eq!((&*named.provider, &*named.upstream_model), ("acme", "m-7"));
    // Another address than the provider's does not get the provider's key.
    let elsewhere = model(&format!(
        "model_list:\n- model_name: a\n  litellm_params: {{model: acme/m, api_base: 'http://other.test'}}\n{own}"
    ));
    assert_eq!(
        (&*elsewhere.api_base, elsewhere.api_key),
        ("http://other.test", None)
    );
}

#[test]
fn what_is_wrong_with_a_provider_is_told() {
    for (provider, part) in [
        (
            "openai: {base_url: 'http://x'}",
            "is the prefix of OpenAI already",
        ),
        ("acme: {path: /talk}", "base_url"),
        (
            "acme: {base_url: 'http://x', path: talk}",
            "must begin with /",
        ),
        (
            "acme: {base_url: 'http://x', auth: header}",
            "is required with auth: header",
        ),
        (
            "acme: {base_url: 'http://x', quirks: [odd]}",
            "one of no_stream_options",
        ),
        (
            "acme: {base_url: 'http://x', headers: {'a b': c}}",
            "is not a header name",
        ),
    ] {
        fails(&format!("tollgate:\n  providers:\n    {provider}\n"), part);
    }
    fails(
        "model_list:\n- model_name: a\n  litellm_params: {model: acme/}\ntollgate:\n  providers:\n    acme: {base_url: 'http://x'}\n",
        "ends after its provider",
    );
}

#[test]
fn the_nearest_word_on_certificates_holds() {
    let of = |params: &str, more: &str| {
        model(&format!(
            "model_list:\n- model_name: a\n  litellm_params: {{model: openai/m, api_key: k{params}}}\n{more}"
        ))
        .shape
        .trust
    };
    let file = |path: &str| Trust::File(path.to_owned());
    // A model's own, the file's, the environment's.
    assert_eq!(of(", ssl_verify: /m.pem", ""), file("/m.pem"));
    assert_eq!(
        of(
            ", ssl_verify: true",
            "litellm_settings: {ssl_verify: /f.pem}"
        ),
        Trust::System
    );
    assert_eq!(
        of("", "litellm_settings: {ssl_verify: /f.pem}"),
        file("/f.pem")
    );
    assert_eq!(of("", ""), file("/etc/everybody.pem"));
    let loaded = load("litellm_settings:\n  ssl_verify: false\n");
    assert!(
        loaded.warnings[0]
            .reason
            .contains("certificates are not verified")
    );
}

#[test]
fn long_chats_are_made_shorter_as_the_file_says() {
    let models = "model_list:\n- model_name: a\n  litellm_params: {model: tollgate/demo}\n";
    let of = |rule: &str| {
        load(&format!("{models}tollgate:\n  long_context: {{{rule}}}\n"))
            .config
            .long_context
            .unwrap()
    };
    assert_eq!(
        of("strategy: drop_middle"),
        LongContext {
            by: Shortening::DropMiddle,
            over_tokens: None,
            keep_last_turns: 1,
            models: vec![],
        }
    );
    assert_eq!(
        of("strategy: summarize, model: a, over_tokens: 8000, keep_last_turns: 3, models: [a]"),
        LongContext {
            by: Shortening::Summarise {
                model: "a".to_owned()
            },
            over_tokens: Some(8000),
            keep_last_turns: 3,
            models: vec!["a".to_owned()],
        }
    );
    assert_eq!(load(models).config.long_context, None);
    for (rule, part) in [
        ("strategy: summarise", "must name the model"),
        ("strategy: summarise, model: nobody", "must name the model"),
        ("strategy: forget", "one of drop_middle"),
        ("model: a", "strategy"),
        (
            "strategy: drop_middle, models: [x]",
            "is no name of model_list",
        ),
        ("strategy: drop_middle, over_tokens: 0", "1 or more"),
    ] {
        fails(
            &format!("{models}tollgate:\n  long_context: {{{rule}}}\n"),
            part,
        );
    }
}
