//! What changes while the gateway runs: its file, and models over the API. No open call notices.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::client::Answered;
use tests::provider::Script;
use tests::world::MASTER;
use tests::{Shape, World};

use crate::sdk::python;

tests::in_both_shapes!(
    a_file_comes_into_force_while_a_stream_is_open_and_a_bad_one_does_not,
    a_model_comes_over_the_api_stays_after_a_kill_and_goes,
    a_price_that_leaves_the_file_ends_and_what_was_billed_stays,
);

fn lists(answer: &Answered, model: &str) -> bool {
    let list = answer.json();
    let data = list["data"].as_array().cloned().unwrap_or_default();
    data.iter().any(|known| known["id"] == model)
}

/// As editors do it: written beside, then put in its place.
fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}

/// As Kubernetes does it: the name leads to another file.
fn swap(file: &Path, text: &str) {
    let there = file.with_extension("mounted");
    std::fs::write(&there, text).unwrap();
    let link = file.with_extension("link");
    std::os::unix::fs::symlink(there, &link).unwrap();
    std::fs::rename(link, file).unwrap();
}

async fn a_file_comes_into_force_while_a_stream_is_open_and_a_bad_one_does_not(shape: Shape) {
    let world = World::start(shape).await;
    let file = world.path("tollgate.yaml");
    let first = std::fs::read_to_string(&file).unwrap();
    let slow = Script {
        pace: std::time::Duration::from_millis(100),
        ..Script::of_tokens(30)
    };
    world.provider.script("scripted-upstream", slow);
    let open = world.chat("hi");
    let open = tokio::spawn(async move { open.stream().await });
    while world.provider.books().requests == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    replace(
        &file,
        &first.replace("model_name: scripted", "model_name: renamed"),
    );
    world
        .everywhere("/v1/models", |answer| lists(answer, "renamed"))
        .await;
    assert_eq!(
        world.chat("hi").send().await.status,
        400,
        "its name is gone"
    );
    let open = open.await.unwrap();
    assert!(open.done, "the stream that was open ends as it would have");
    assert_eq!(open.content(), Script::of_tokens(30).tokens.concat());
    world
        .provider
        .script("scripted-upstream", Script::default());
    let told = world.chat("hi").with("model", "renamed").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert!(
        !told.header("x-litellm-response-cost").is_empty(),
        "it has its price"
    );

    // Refused whole, though only its end is wrong: the name of before is not there again.
    std::fs::write(&file, format!("{first}router_setings:\n  num_retries: 1\n")).unwrap();
    for ingress in &world.ingresses {
        hang_up(ingress.pid());
    }
    world
        .everywhere("/health/readiness", |answer| {
            answer.text.contains("router_setings")
        })
        .await;
    let ready = world.get("/health/readiness").await;
    assert_eq!(ready.status, 200);
    let line = first.lines().count() + 1;
    let place = format!("tollgate.yaml:{line}: router_setings: unknown key");
    assert!(ready.text.contains(&place), "{}", ready.text);
    let metrics = world.get("/metrics").await.text;
    assert!(
        metrics.contains("\ntollgate_config_in_force 0\n"),
        "{metrics}"
    );
    let told = world.chat("hi").with("model", "renamed").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(world.chat("hi").send().await.status, 400);

    swap(&file, &first);
    world
        .everywhere("/v1/models", |answer| lists(answer, "scripted"))
        .await;
    world
        .everywhere("/health/readiness", |answer| {
            !answer.text.contains("router_setings")
        })
        .await;
    assert_eq!(world.chat("hi").send().await.status, 200);
    world.rows(4).await;
    assert_eq!(world.ledger(), world.invoice());
}

fn hang_up(pid: u32) {
    let pid = pid.to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    assert!(sent.success());
}

async fn a_model_comes_over_the_api_stays_after_a_kill_and_goes(shape: Shape) {
    let mut world = World::with(shape, "")
        .tollgate("  secret_key: a-secret-of-this-very-scenario\n")
        .start()
        .await;
    let made = world
        .post(
            "/model/new",
            json!({
                "model_name": "fresh",
                "litellm_params": {
                    "model": "openai/fresh-upstream",
                    "api_base": world.provider.base_url(),
                    "api_key": "sk-of-the-fresh-provider",
                    "input_cost_per_token": 0.000001,
                    "output_cost_per_token": 0.000002,
                },
                "model_info": { "max_output_tokens": 1000, "max_input_tokens": 100_000 },
            }),
        )
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert!(!made.text.contains("sk-of-the-fresh"), "{}", made.text);
    let id = made.json()["model_id"].as_str().unwrap().to_owned();
    world
        .everywhere("/v1/models", |answer| lists(answer, "fresh"))
        .await;
    let info = world
        .get(&format!("/model/info?litellm_model_id={id}"))
        .await;
    assert_eq!(
        info.json()["data"][0]["model_info"]["output_cost_per_token"].to_string(),
        "0.000002"
    );

    let asked = python("chat.py")
        .args([&format!("{}/v1", world.url()), MASTER, "fresh"])
        .args(["plain", "stream", "models"])
        .output()
        .unwrap();
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let cases: Vec<Value> = String::from_utf8(asked.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&cases[0]["error"], &cases[1]["error"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(cases[0]["text"], cases[1]["text"]);
    assert!(
        cases[2]["models"]
            .as_array()
            .unwrap()
            .contains(&json!("fresh"))
    );
    let sent = world.provider.headers().pop().unwrap();
    assert_eq!(sent["authorization"], "Bearer sk-of-the-fresh-provider");

    for ingress in &mut world.ingresses {
        ingress.again();
    }
    for at in 0..world.ingresses.len() {
        world.ingresses[at].ready().await;
    }
    for _ in 0..world.ingresses.len() {
        let told = world.chat("hi").with("model", "fresh").send().await;
        assert_eq!(
            (told.status, told.header("x-litellm-model-id")),
            (200, &*id)
        );
    }
    let gone = world.post("/model/delete", json!({ "id": id })).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    world
        .everywhere("/v1/models", |answer| !lists(answer, "fresh"))
        .await;
    let told = world.chat("hi").with("model", "fresh").send().await;
    assert_eq!(told.status, 400, "{}", told.text);
    world.rows(2 + world.ingresses.len()).await;
    assert_eq!(world.ledger(), world.invoice());
}

async fn a_price_that_leaves_the_file_ends_and_what_was_billed_stays(shape: Shape) {
    let world = World::start(shape).await;
    let file = world.path("tollgate.yaml");
    let priced = std::fs::read_to_string(&file).unwrap();
    let unpriced: String = priced
        .lines()
        .filter(|line| !line.contains("cost_per_token"))
        .map(|line| format!("{line}\n"))
        .collect();
    let has_price = |answer: &Answered| {
        let rows = answer.json()["data"].clone();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let one = rows.iter().find(|row| row["model_name"] == "scripted");
        one.is_some_and(|row| row["model_info"]["input_cost_per_token"].is_number())
    };
    let mut costs = Vec::new();
    for (text, expected) in [
        (None, true),
        (Some(&unpriced), false),
        (Some(&priced), true),
    ] {
        if let Some(text) = text {
            replace(&file, text);
        }
        world
            .everywhere("/model/info", |answer| has_price(answer) == expected)
            .await;
        let told = world.chat("hi").send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        let cost: schemas::NanoUsd = told.header("x-litellm-response-cost").parse().unwrap();
        costs.push(cost);
    }
    assert!(costs[0] > schemas::NanoUsd::ZERO);
    assert_eq!(costs, [costs[0], schemas::NanoUsd::ZERO, costs[0]]);
    world.rows(3).await;
    assert_eq!(world.ledger(), costs[0].saturating_add(costs[2]));
    assert_eq!(
        world.sql("select countIf(unpriced_reason != '') from usage_rows final"),
        "1"
    );
}
