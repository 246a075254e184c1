//! A file with models beside it, and what changes between two files.

use config::{Added, Config, Loaded, Source, at_next_start, model_secrets};
use serde_json::{Value, json};

const FILE: &str = "
model_list:
  - model_name: gpt
    litellm_params: {model: openai/gpt-4o, api_key: sk-of-the-file}
    model_info: {id: of-the-file}
router_settings:
  timeout: 30
tollgate:
  budgets: {hold_s: 700}
";

fn source(text: &str) -> Source {
    Source::file("a.yaml", text, |name| {
        (name == "KEY").then(|| "sk-of-the-environment".to_owned())
    })
}

fn added(id: &str, change: impl FnOnce(&mut Value)) -> Added {
    let mut entry = json!({
        "model_name": "more",
        "litellm_params": {
            "model": "openai/gpt-4o-mini",
            "api_key": "os.environ/KEY",
            "input_cost_per_token": serde_json::from_str::<Value>("0.000000150000000000").unwrap(),
        },
        "model_info": { "id": id },
    });
    change(&mut entry);
    Added {
        id: id.to_owned(),
        entry,
    }
}

#[test]
fn a_model_beside_the_file_is_as_one_of_it() {
    let resolved = source(FILE).resolve(&[added("a", |_| {})]).unwrap();
    assert_eq!(resolved.left_out, []);
    let models = &resolved.loaded.config.models;
    assert_eq!(models.len(), 2);
    let more = &models[1];
    assert_eq!(
        (more.model_name.as_str(), more.deployment_id.as_str()),
        ("more", "a")
    );
    assert_eq!(
        more.timeouts.total.as_secs(),
        30,
        "defaults of the file hold"
    );
    assert_eq!(
        more.api_key.as_ref().unwrap().expose(),
        "sk-of-the-environment"
    );
    assert_eq!(
        more.prices[0].1.as_str(),
        "0.000000150000000000",
        "a price keeps its digits"
    );
}

#[test]
fn one_with_a_fault_is_left_out_with_its_field() {
    let all = [
        added("good", |_| {}),
        added("typo", |entry| {
            entry["litellm_params"]["modell"] = "x".into()
        }),
        added("unset", |entry| {
            entry["litellm_params"]["api_key"] = "os.environ/NOPE".into()
        }),
        added("of-the-file", |_| {}),
        // Together with the file's hold_s only.
        added("long", |entry| {
            entry["litellm_params"]["timeout"] = 5000.into()
        }),
    ];
    let resolved = source(FILE).resolve(&all).unwrap();
    let told: Vec<(&str, &str)> = resolved
        .left_out
        .iter()
        .map(|left| (left.id.as_str(), left.path.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("typo", "litellm_params.modell"),
            ("unset", "litellm_params.api_key"),
            ("of-the-file", "model_info.id"),
            ("long", ""),
        ]
    );
    let names: Vec<&str> = resolved
        .loaded
        .config
        .models
        .iter()
        .map(|model| model.deployment_id.as_str())
        .collect();
    assert_eq!(names, ["of-the-file", "good"]);
}

#[test]
fn a_fault_of_the_file_is_the_files() {
    let broken = format!("{FILE}router_setings: {{}}\n");
    let errors = source(&broken).resolve(&[added("a", |_| {})]).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
    assert!(
        errors
            .to_string()
            .starts_with("a.yaml:10: router_setings: "),
        "{errors}"
    );
}

#[test]
fn models_come_beside_what_no_file_holds_too() {
    let made = Loaded {
        config: Config::default(),
        warnings: Vec::new(),
    };
    let made = Source::made(made, |name| (name == "KEY").then(|| "sk-1".to_owned()));
    let resolved = made
        .resolve(&[added("a", |_| {}), added("a", |_| {})])
        .unwrap();
    assert_eq!(resolved.loaded.config.models.len(), 1);
    assert_eq!(resolved.left_out.len(), 1);
}

#[test]
fn every_secret_of_a_model_is_found() {
    let mut entry = json!({
        "model_name": "m",
        "litellm_params": {
            "model": "azure/x", "api_key": "k", "client_secret": "c", "api_base": "https://x",
            "extra_headers": { "authorization": "h" }, "azure_password": "p", "timeout": 3,
        },
    });
    let mut found = Vec::new();
    model_secrets(&mut entry, &mut |path, value| {
        found.push(format!("{path}={}", value.as_str().unwrap()));
    });
    found.sort();
    let place = |rest: &str| format!("litellm_params.{rest}");
    assert_eq!(
        found,
        [
            place("api_key=k"),
            place("azure_password=p"),
            place("client_secret=c"),
            place("extra_headers.authorization=h"),
        ]
    );
}

#[test]
fn what_waits_for_the_next_start_is_named() {
    let of = |text: &str| source(text).resolve(&[]).unwrap().loaded.config;
    let before = of(FILE);
    assert!(at_next_start(&before, &before).is_empty());
    let after = of(&format!(
        "{FILE}general_settings: {{port: 4001, global_max_budget: 5}}\nlitellm_settings: {{cache: true}}\n"
    ));
    assert_eq!(
        at_next_start(&before, &after),
        [
            "general_settings.port",
            "the cache, switched on",
            "the cache, for similar answers too",
        ]
    );
    assert!(at_next_start(&after, &after).is_empty());
}
