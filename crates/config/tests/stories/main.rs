//! What a file says, as its users see it: what is resolved, what is told, what is refused.

mod across;
mod deployments;
mod mangled;
mod models;
mod own_settings;
mod page;
mod reference_configs;
mod source;
mod stores;
mod variables;
mod wrong;
mod yaml;

use config::{Loaded, parse};

fn env(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-real".to_owned()),
        "PORT" => Some("4010".to_owned()),
        "WORDS" => Some("not a number".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Loaded {
    parse(text, "f.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn fails(text: &str) -> Vec<String> {
    match parse(text, "f.yaml", &env) {
        Ok(_) => panic!("no error in {text}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(fails(text), expected, "{text}");
}

const MODEL: &str = "model_list:\n- model_name: a\n  litellm_params: {model: openai/gpt-4o}\n";
