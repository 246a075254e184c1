//! Odd YAML: anchors, tags, numbers, documents. Read as YAML says, or refused with its line.

use super::{check, fails, load};

#[test]
fn duplicate_keys_and_bad_yaml_are_errors_with_lines() {
    check(
        "litellm_settings:\n  cache: true\n  cache: false\n",
        &["f.yaml:3: litellm_settings.cache: the key is already set on line 2"],
    );
    check(
        "model_list:\n- model_name: a\n  litellm_params:\n    model: openai/x\n    rpm: 1\n    rpm: 2\n",
        &["f.yaml:6: model_list[0].litellm_params.rpm: the key is already set on line 5"],
    );
    let errors = fails("general_settings:\n  port: [1\n");
    assert!(
        errors[0].starts_with("f.yaml:") && errors[0].contains("not valid YAML"),
        "{errors:?}"
    );
    assert!(
        fails("a: 1\n---\nb: 2\n")
            .iter()
            .any(|error| error.contains("second document"))
    );
    assert!(fails("general_settings: {master_key: ${X}}\n")[0].contains("put quotes around"));
    assert!(fails("a: *nowhere\n")[0].contains("not valid YAML"));
}

#[test]
fn anchors_and_merge_keys_work() {
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: &base\n    model: openai/gpt-4o\n    timeout: 30\n\
         - model_name: b\n  litellm_params:\n    <<: *base\n    timeout: 60\n",
    );
    let timeouts: Vec<_> = loaded
        .config
        .models
        .iter()
        .map(|model| model.timeouts.total.as_secs())
        .collect();
    assert_eq!(timeouts, [30, 60]);
    // Of several anchors the first that has a key; what a mapping has itself wins, wherever it stands.
    let loaded = load(
        "environment_variables: {A: x}\nmodel_list:\n- {model_name: a, litellm_params: &one {model: openai/gpt-4o, timeout: 1}}\n\
         - {model_name: b, litellm_params: &two {model: openai/gpt-4o, timeout: 2, rpm: 2}}\n\
         - {model_name: c, litellm_params: {<<: [*one, *two]}}\n- {model_name: d, litellm_params: {timeout: 4, <<: *two}}\n",
    );
    let last: Vec<_> = loaded.config.models[2..]
        .iter()
        .map(|model| (model.timeouts.total.as_secs(), model.limits.rpm))
        .collect();
    assert_eq!(last, [(1, Some(2)), (4, Some(2))]);
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: &base\n    model: openai/gpt-4o\n    timeout: 30\n\
         - model_name: b\n  litellm_params:\n    <<: *base\n    timeout: 60\n",
    );
    assert_eq!(loaded.config.models[1].upstream_model, "gpt-4o");
}

#[test]
fn a_file_of_anchors_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(fails(&text)[0].contains("too large"), "{text}");
    assert!(fails(&"[".repeat(5_000))[0].contains("f.yaml"));
}

#[test]
fn tags_of_yaml_are_read_and_others_are_refused() {
    let loaded = load(
        "model_list:\n- model_name: !!str 4\n  litellm_params:\n    model: openai/x\n    timeout: !!int \"30\"\n    \
         extra_body: !!map {text: !!str 12, number: !!int \"12\", none: !!null \"\"}\n",
    );
    let model = &loaded.config.models[0];
    assert_eq!(
        (model.model_name.as_str(), model.timeouts.total.as_secs()),
        ("4", 30)
    );
    let sent: Vec<_> = model
        .params
        .extra_body
        .iter()
        .map(|(_, json)| json.as_str())
        .collect();
    assert_eq!(sent, ["\"12\"", "12", "null"]);
    for value in [
        "!vault x",
        "!env OPENAI_API_KEY",
        "!!python/name:os.system x",
        "!!binary aGk=",
        "!x [a]",
        "!x {a: b}",
    ] {
        let errors = fails(&format!("general_settings:\n  master_key: {value}\n"));
        assert!(
            errors[0].starts_with("f.yaml:2: a tag that is not YAML's own"),
            "{errors:?}"
        );
    }
}

#[test]
fn numbers_are_read_in_one_way_or_refused() {
    let loaded = load(
        "model_list:\n- model_name: a\n  litellm_params: {model: openai/x, temperature: .5, top_k: 5, seed: +7, presence_penalty: -.5, \
         frequency_penalty: 1., extra_body: {a: .5, b: 0x1F, c: 007, d: .nan, e: 1_000, f: 2026-11-21}}\n",
    );
    let shown = |list: &[(String, String)]| -> Vec<String> {
        list.iter()
            .map(|(name, json)| format!("{name}={json}"))
            .collect()
    };
    let params = &loaded.config.models[0].params;
    assert_eq!(
        shown(&params.defaults),
        [
            "temperature=0.5",
            "top_k=5",
            "seed=7",
            "presence_penalty=-0.5",
            "frequency_penalty=1"
        ]
    );
    assert_eq!(
        shown(&params.extra_body),
        [
            "a=0.5",
            "b=31",
            "c=7",
            "d=\".nan\"",
            "e=\"1_000\"",
            "f=\"2026-11-21\""
        ]
    );
    for (value, message) in [
        (
            "08080",
            "expected a port from 1 to 65535; other readers take a number that begins with 0 for an octal one",
        ),
        ("0x1F90", "expected a port from 1 to 65535"),
        ("8_080", "expected a port from 1 to 65535"),
        (".nan", "expected a port from 1 to 65535"),
        ("4000.0", "expected a port from 1 to 65535"),
        ("true", "expected a port from 1 to 65535"),
    ] {
        check(
            &format!("general_settings: {{port: {value}}}\n"),
            &[&format!("f.yaml:1: general_settings.port: {message}")],
        );
    }
}

/// What no clock, no counter and no file of the journal could hold is refused, and never brings a process down.
#[test]
fn numbers_beyond_all_measure_are_refused() {
    const HUGE: &str = "18446744073709551615";
    for (setting, message) in [
        (
            "router_settings: {num_retries: HUGE}",
            "expected a whole number, 0 or more; at most 9007199254740991",
        ),
        (
            "router_settings: {timeout: HUGE}",
            "expected seconds above 0",
        ),
        (
            "router_settings: {timeout: .inf}",
            "expected seconds above 0",
        ),
        (
            "litellm_settings: {max_budget: HUGE}",
            "expected an amount in USD",
        ),
        (
            "litellm_settings: {max_budget: .nan}",
            "expected an amount in USD",
        ),
        (
            "litellm_settings: {cache_ttl: HUGE}",
            "expected seconds above 0",
        ),
        (
            "tollgate: {cache: {ttl_s: 400000000}}",
            "expected seconds above 0",
        ),
        (
            "tollgate: {cache: {timeout_ms: 3600001}}",
            "must be 3600000 or less",
        ),
        (
            "tollgate: {redis: {url: 'redis://r', wait_ms: 3600001}}",
            "must be 3600000 or less",
        ),
        (
            "tollgate: {journal: {segment_bytes: 2147483648, cap_bytes: 8589934592}}",
            "must be a multiple of 4096 from 65536 to 1073741824",
        ),
        (
            "tollgate: {journal: {segment_bytes: 1000000}}",
            "must be a multiple of 4096",
        ),
        (
            "tollgate: {journal: {cap_bytes: HUGE}}",
            "expected a whole number, 1 or more; at most 9007199254740991",
        ),
        (
            "tollgate: {journal: {group_wait_us: 1000001}}",
            "must be 1000000 or less",
        ),
        (
            "tollgate: {budgets: {hold_s: 400000000}}",
            "must be 315360000 or less",
        ),
        (
            "general_settings: {health_check_interval: HUGE}",
            "expected seconds above 0",
        ),
    ] {
        let errors = fails(&setting.replace("HUGE", HUGE));
        assert!(
            errors.len() == 1 && errors[0].contains(message),
            "{setting}: {errors:?}"
        );
    }
}

#[test]
fn what_is_no_yaml_says_where() {
    for (text, line) in [
        ("general_settings:\n\tport: 1\n", 2),
        ("general_settings:\n  port: 1\n port: 2\n", 3),
        ("a: 'open\n\n\n", 1),
        ("a: b: c\n", 1),
        ("? {a: b}\n: c\n", 1),
        (": x\n", 1),
        ("~: x\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: &x [*x]\n", 1),
        ("<<: 3\n", 1),
        ("%YAML 9.9\na: 1\n", 2),
    ] {
        let errors = fails(text);
        let place = format!("f.yaml:{line}: ");
        assert!(errors[0].starts_with(&place), "{text:?}: {errors:?}");
    }
    // One document, however it is written down.
    for text in [
        "--- {}\n...\n",
        "%YAML 1.2\n---\ngeneral_settings:\r\n  port: 4001\r\n...\n",
        "# only a comment\n---\n",
    ] {
        load(text);
    }
}
