//! Models that come over the API: made, changed, shown, deleted; and what becomes of their secrets.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Secret;
use ingress::directory::{Directory, Quota};
use ingress::follow::{Follow, Snapshot};
use journal::{EventLog, Journal, Options};
use serde_json::{Value, json};

use crate::provider::{Provider, plain};
use crate::world::{MASTER, PATIENCE, Shared, Told, World};

const KEY: &str = "sk-a-provider-key-that-nobody-may-see";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A model at the world's provider whose key stands in the environment.
fn added(provider: &Provider, name: &str) -> Value {
    json!({
        "model_name": name,
        "litellm_params": {
            "model": "openai/up-2",
            "api_base": provider.base(),
            "api_key": "os.environ/STORY_KEY",
            "rpm": null,
        },
        "model_info": { "id": format!("the-{name}"), "max_output_tokens": 500, "owner": "search" },
    })
}

async fn ask(world: &World, key: &str, model: &str) -> Told {
    world.chat(key, json!({ "model": model })).await
}

async fn names(world: &World) -> Vec<String> {
    let list = world.get("/v1/models").await.json();
    let data = list["data"].as_array().unwrap();
    let id = |model: &Value| model["id"].as_str().unwrap().to_owned();
    data.iter().map(id).collect()
}

/// Everything that lies on disk below a folder.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(bytes_below(&path));
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_model_is_there_from_the_answer_on_until_it_is_deleted() {
    let world = World::start().await;
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 400);
    let made = world
        .manage(MASTER, "/model/new", added(&world.provider, "fresh"))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    let row = made.json();
    assert_eq!(row["model_id"], "the-fresh");
    assert_eq!(
        (&row["created_by"], &row["model_name"]),
        (&json!("master"), &json!("fresh"))
    );
    assert!(names(&world).await.contains(&"fresh".to_owned()));
    world.provider.script(plain("up-2"));
    let told = ask(&world, MASTER, "fresh").await;
    assert_eq!(
        (told.status, told.header("x-litellm-model-id")),
        (200, "the-fresh")
    );
    let head = world.provider.heads().pop().unwrap();
    assert!(
        head.contains("authorization: Bearer sk-of-the-environment"),
        "{head}"
    );

    let info = world
        .get("/model/info?litellm_model_id=the-fresh")
        .await
        .json();
    let shown = &info["data"][0];
    assert_eq!(shown["model_info"]["db_model"], true);
    assert_eq!(shown["model_info"]["owner"], "search");
    assert_eq!(shown["model_info"]["max_tokens"], 500);
    assert_eq!(
        shown["model_info"]["input_cost_per_token"].to_string(),
        "0.000001"
    );
    assert_eq!(shown["litellm_params"]["model"], "openai/up-2");
    assert_eq!(shown["litellm_params"].get("api_key"), None);
    let all = world.get("/v1/model/info").await;
    assert_eq!(all.json()["data"].as_array().unwrap().len(), 6);
    for secret in ["sk-upstream-secret", "sk-of-the-environment"] {
        assert!(!all.text.contains(secret), "{}", all.text);
    }

    // What is not given stays.
    let elsewhere = Provider::start().await;
    let change = json!({
        "litellm_params": { "api_base": elsewhere.base() },
        "model_info": { "id": "the-fresh" },
    });
    let changed = world.manage(MASTER, "/model/update", change).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 200);
    let head = elsewhere.heads().pop().unwrap();
    assert!(
        head.contains("authorization: Bearer sk-of-the-environment"),
        "{head}"
    );

    let gone = world
        .manage(MASTER, "/model/delete", json!({ "id": "the-fresh" }))
        .await;
    assert_eq!(
        (gone.status, gone.json()["message"].as_str().unwrap()),
        (200, "Model: the-fresh deleted successfully")
    );
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 400);
    assert!(!names(&world).await.contains(&"fresh".to_owned()));
    world.stop().await;
}

#[tokio::test]
async fn a_model_without_an_id_gets_one_and_two_of_a_name_share_its_calls() {
    let world = World::start().await;
    let mut model = added(&world.provider, "one");
    model.as_object_mut().unwrap().remove("model_info");
    let made = world.manage(MASTER, "/model/new", model).await.json();
    let id = made["model_id"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), &made["model_info"]["id"]), (36, &json!(id)));
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let told = ask(&world, MASTER, "one").await;
        seen.insert(told.header("x-litellm-model-id").to_owned());
    }
    assert!(seen.contains(&id) && seen.contains("id-of-one"));
    let group = world.get("/model_group/info?model_group=one").await.json();
    let takes = group["data"][0]["supported_openai_params"].to_string();
    assert!(
        takes.contains("\"temperature\"") && takes.contains("\"max_tokens\""),
        "{takes}"
    );
    let group = &group["data"][0];
    assert_eq!(group["providers"], json!(["openai"]));
    assert_eq!(
        (&group["max_input_tokens"], &group["rpm"]),
        (&json!(100_000), &Value::Null)
    );
    assert_eq!(group["output_cost_per_token"].to_string(), "0.000002");
    world.stop().await;
}

#[tokio::test]
async fn only_the_master_changes_models_and_keys_see_their_own() {
    let world = World::start().await;
    let key = world.key(json!({ "models": ["up-2"] })).await;
    for route in ["/model/new", "/model/update", "/model/delete"] {
        let told = world
            .manage(&key, route, added(&world.provider, "fresh"))
            .await;
        assert_eq!(told.status, 403, "{route}: {}", told.text);
    }
    for route in ["/model/info", "/model_group/info"] {
        let sent = world
            .http
            .get(world.url(route))
            .bearer_auth(&key)
            .send()
            .await;
        let told = Told::read(sent.unwrap()).await.json();
        assert_eq!(told["data"].as_array().unwrap().len(), 1, "{told}");
        assert!(told.to_string().contains("\"up-2\""), "{told}");
    }
    // Those of the file are changed in the file.
    let of_file = json!({ "model_info": { "id": "id-of-one" }, "model_name": "other" });
    let told = world.manage(MASTER, "/model/update", of_file).await;
    assert_eq!(told.status, 400);
    assert!(told.message().contains("change it there"), "{}", told.text);
    let told = world
        .manage(MASTER, "/model/delete", json!({ "id": "nobody" }))
        .await;
    assert_eq!(told.status, 400);
    world
        .reload(|config| config.server.models_change = false)
        .await
        .unwrap();
    let told = world
        .manage(MASTER, "/model/new", added(&world.provider, "fresh"))
        .await;
    assert_eq!(told.status, 400);
    assert!(
        told.message().contains("store_model_in_db"),
        "{}",
        told.text
    );
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_by_the_name_of_its_field() {
    let world = World::start().await;
    for (part, field, value, says) in [
        (
            "litellm_params",
            "modell",
            json!("gpt-4o"),
            "litellm_params.modell: unknown key",
        ),
        (
            "litellm_params",
            "api_key",
            json!("os.environ/NOT_THERE"),
            "NOT_THERE is not set",
        ),
        (
            "litellm_params",
            "api_key",
            json!("os.environ/LITELLM_MASTER_KEY"),
            "no provider is to get",
        ),
        (
            "litellm_params",
            "api_base",
            json!("http://x/${LITELLM_SALT_KEY}"),
            "no provider is to get",
        ),
        (
            "litellm_params",
            "api_key",
            json!("file/etc/passwd"),
            "only the configuration file may",
        ),
        (
            "litellm_params",
            "api_base",
            json!("ftp://x"),
            "litellm_params.api_base: expected a URL",
        ),
        (
            "litellm_params",
            "rpm",
            json!(0),
            "litellm_params.rpm: expected a whole number, 1",
        ),
        (
            "litellm_params",
            "extra_headers",
            json!({"x y": "${STORY_KEY}"}),
            "is not a header name",
        ),
        ("model_info", "id", json!("id-of-one"), "is in use already"),
    ] {
        let mut model = added(&world.provider, "fresh");
        model[part][field] = value;
        let told = world.manage(MASTER, "/model/new", model).await;
        assert_eq!(told.status, 400, "{field}: {}", told.text);
        assert!(told.message().contains(says), "{says}: {}", told.text);
    }
    let told = world
        .manage(MASTER, "/model/new", json!({ "model_name": "fresh" }))
        .await;
    assert!(
        told.message().contains("litellm_params: is required"),
        "{}",
        told.text
    );
    assert_eq!(world.gateway.directory.models().0.len(), 0);
    assert_eq!(names(&world).await.len(), 5);
    world.stop().await;
}

#[tokio::test]
async fn a_secret_is_refused_or_sealed_and_never_written() {
    let world = World::start().await;
    let mut model = added(&world.provider, "fresh");
    model["litellm_params"]["api_key"] = KEY.into();
    let told = world.manage(MASTER, "/model/new", model.clone()).await;
    assert_eq!(
        (told.status, told.json()["error"]["param"].as_str()),
        (400, Some("litellm_params.api_key"))
    );
    assert!(told.message().contains("os.environ/NAME"), "{}", told.text);
    assert!(!told.text.contains(KEY), "{}", told.text);

    let secret = |config: &mut config::Config| {
        config.server.secret_key = Some(Secret::new("a secret of sixteen and more"));
    };
    world.reload(secret).await.unwrap();
    model["litellm_params"]["extra_headers"] = json!({ "x-tenant": "another-secret-of-ours" });
    let told = world.manage(MASTER, "/model/new", model).await;
    assert_eq!(told.status, 200, "{}", told.text);
    world.provider.script(plain("up-2"));
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 200);
    let head = world.provider.heads().pop().unwrap();
    assert!(
        head.contains(&format!("authorization: Bearer {KEY}")),
        "{head}"
    );
    assert!(head.contains("x-tenant: another-secret-of-ours"), "{head}");
    // A change of something else keeps it.
    let change = json!({ "model_info": { "id": "the-fresh" }, "litellm_params": { "timeout": 7 } });
    let told = world.manage(MASTER, "/model/update", change).await;
    assert_eq!(told.json()["litellm_params"]["timeout"].to_string(), "7");
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 200);
    let info = world.get("/model/info?litellm_model_id=the-fresh").await;
    let metrics = world.get("/metrics").await;
    for told in [&told.text, &info.text, &metrics.text] {
        assert!(
            !told.contains(KEY) && !told.contains("another-secret"),
            "{told}"
        );
        assert!(!told.contains("tollgate.sealed"), "{told}");
    }

    // Without the key it is left out here, and said.
    world.reload(|_| {}).await.unwrap();
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 400);
    let ready = world.get("/health/readiness").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready
            .text
            .contains("model the-fresh of the log cannot be called here"),
        "{}",
        ready.text
    );
    assert!(
        world
            .get("/metrics")
            .await
            .text
            .contains("tollgate_models_left_out 1")
    );
    world.reload(secret).await.unwrap();
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 200);
    let folder = world.stop().await;
    let written = bytes_below(folder.path());
    assert!(holds(&written, "tollgate.sealed.v1:"));
    assert!(!holds(&written, KEY) && !holds(&written, "another-secret-of-ours"));
}

#[tokio::test]
async fn a_model_holds_on_every_gateway_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        Journal::open(&folder.path().join("log"), Options::default())
            .unwrap()
            .0
    };
    let log: Arc<dyn EventLog> = Arc::new(open());
    let sharing = |log: &Arc<dyn EventLog>, snapshot: Option<Snapshot>| Shared {
        log: Some(log.clone()),
        snapshot,
        ..Shared::default()
    };
    let here = World::sharing(|_| {}, Options::default(), sharing(&log, None)).await;
    let there = World::sharing(|_| {}, Options::default(), sharing(&log, None)).await;
    let model = added(&here.provider, "fresh");
    assert_eq!(here.manage(MASTER, "/model/new", model).await.status, 200);
    until("the model is there", async || {
        ask(&there, MASTER, "fresh").await.status == 200
    })
    .await;
    let change = json!({ "model_info": { "id": "the-fresh" }, "model_name": "renamed" });
    assert_eq!(
        there.manage(MASTER, "/model/update", change).await.status,
        200
    );
    assert_eq!(ask(&there, MASTER, "fresh").await.status, 400);
    until("the name is known here", async || {
        ask(&here, MASTER, "renamed").await.status == 200
    })
    .await;
    let provider = here.provider.base();
    for world in [here, there] {
        world.stop().await;
    }

    let kept = Snapshot {
        path: folder.path().join("snapshots").join("config"),
        origin: "a log".to_owned(),
    };
    let directory = Arc::new(Directory::new("UTC".parse().unwrap(), Quota::default()));
    let follow = Follow::start(log.clone(), directory, Some(kept.clone()));
    assert!(follow.watch().caught_up(PATIENCE).await);
    follow.stop().await;
    // From the log, then from its copy.
    for snapshot in [None, Some(kept)] {
        let again = World::sharing(|_| {}, Options::default(), sharing(&log, snapshot)).await;
        let info = again
            .get("/model/info?litellm_model_id=the-fresh")
            .await
            .json();
        let shown = &info["data"][0];
        assert_eq!(shown["model_name"], "renamed");
        assert_eq!(shown["litellm_params"]["api_base"], json!(provider));
        again.stop().await;
    }
}

#[tokio::test]
async fn a_file_may_not_take_the_id_of_a_model_of_the_log() {
    let world = World::start().await;
    let model = added(&world.provider, "fresh");
    assert_eq!(world.manage(MASTER, "/model/new", model).await.status, 200);
    world
        .reload(|config| config.models[0].deployment_id = "the-fresh".into())
        .await
        .unwrap();
    assert_eq!(
        ask(&world, MASTER, "fresh").await.status,
        400,
        "the file's is the one"
    );
    let status = world.gateway.reloads.standing.status();
    assert_eq!(
        status.left_out[0].to_string(),
        "model_info.id: is the id of another model"
    );
    world.reload(|_| {}).await.unwrap();
    assert_eq!(ask(&world, MASTER, "fresh").await.status, 200);
    world.stop().await;
}
