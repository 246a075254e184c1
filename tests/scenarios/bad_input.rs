//! What is wrong is named, and nothing is lost.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::Answered;
use tests::gateway::{Gateway, Launch, free_port};
use tests::world::MASTER;
use tests::{Shape, World};

tests::in_both_shapes!(
    a_bad_body_is_refused_with_the_name_of_what_is_wrong,
    a_bad_key_is_told_from_another,
    what_is_in_use_is_named,
    a_damaged_segment_is_named_and_left_as_it_is,
);

async fn raw(world: &World, body: impl Into<reqwest::Body>) -> (u16, serde_json::Value) {
    let url = format!("{}/v1/chat/completions", world.url());
    let answer = world
        .http
        .post(url)
        .bearer_auth(MASTER)
        .body(body)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

async fn a_bad_body_is_refused_with_the_name_of_what_is_wrong(shape: Shape) {
    let world = World::with(shape, "")
        .tollgate("  limits:\n    body_bytes_max: 20000\n")
        .start()
        .await;
    let cases: [(&str, &str); 7] = [
        (r#"{"model": "scripted", "messages": ["#, "json"),
        (r#"["scripted"]"#, "object"),
        (r#"{"messages": []}"#, "model"),
        (r#"{"model": 5, "messages": []}"#, "model"),
        (r#"{"model": "scripted"}"#, "messages"),
        (
            r#"{"model": "scripted", "messages": [{"role":"user","content":"hi"}], "max_tokens": "many"}"#,
            "max_tokens",
        ),
        (
            r#"{"model": "scripted", "messages": [{"role":"user","content":"hi"}], "stream": 1}"#,
            "stream",
        ),
    ];
    for (body, names) in cases {
        let (status, answer) = raw(&world, body).await;
        let message = answer["error"]["message"].as_str().unwrap().to_lowercase();
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(message.contains(names), "{body}: {message}");
        assert_eq!(answer["error"]["code"], "400");
    }
    let (status, answer) = raw(&world, "").await;
    assert_eq!(status, 400, "{answer}");
    let long = format!(
        r#"{{"model":"scripted","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(30_000)
    );
    let (status, answer) = raw(&world, long).await;
    assert_eq!(status, 413, "{answer}");
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("20000"),
        "{answer}"
    );
    assert_eq!(world.provider.books().requests, 0);
}

async fn a_bad_key_is_told_from_another(shape: Shape) {
    let world = World::start(shape).await;
    let no_key = world.chat_as("", "hi").send().await;
    assert_eq!(
        (
            no_key.status,
            no_key.message().contains("No api key passed in.")
        ),
        (401, true),
        "{}",
        no_key.text
    );
    let unknown = world.chat_as("sk-nobody-has-this-key", "hi").send().await;
    assert_eq!(
        (unknown.status, unknown.error_type().as_str()),
        (401, "token_not_found_in_db")
    );
    assert!(
        !unknown.text.contains("sk-nobody-has-this-key"),
        "{}",
        unknown.text
    );

    let blocked = world.key(json!({})).await;
    world.post("/key/block", json!({"key": blocked})).await;
    let info = format!("/key/info?key={blocked}");
    let is_blocked = |answer: &Answered| answer.json()["info"]["blocked"] == true;
    world.everywhere(&info, is_blocked).await;
    let answer = world.chat_as(&blocked, "hi").send().await;
    assert_eq!(
        (answer.status, answer.message().contains("Key is blocked")),
        (401, true),
        "{}",
        answer.text
    );
    world.post("/key/unblock", json!({"key": blocked})).await;
    world.everywhere(&info, |answer| !is_blocked(answer)).await;
    assert_eq!(world.chat_as(&blocked, "hi").send().await.status, 200);

    let short = world
        .key(json!({"duration": "1s", "key_alias": "mayfly"}))
        .await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let expired = loop {
        let answer = world.chat_as(&short, "hi").send().await;
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "it never expires");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(
        (expired.status, expired.error_type().as_str()),
        (401, "expired_key"),
        "{}",
        expired.text
    );
    assert!(expired.message().contains("mayfly"));

    let model = world.chat("hi").with("model", "gpt-99").send().await;
    assert_eq!(model.status, 400);
    assert!(
        model
            .message()
            .contains("Invalid model name passed in model=gpt-99"),
        "{}",
        model.text
    );
    let limited = world.key(json!({"models": ["other"]})).await;
    let denied = world.chat_as(&limited, "hi").send().await;
    assert_eq!(
        (denied.status, denied.error_type().as_str()),
        (403, "key_model_access_denied"),
        "{}",
        denied.text
    );
    let admin = world
        .http
        .post(format!("{}/key/generate", world.url()))
        .bearer_auth(&limited)
        .send()
        .await
        .unwrap();
    assert_eq!(admin.status(), 403);
}

fn said(output: &Output) -> String {
    assert!(!output.status.success(), "it was to refuse");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn launch(folder: &std::path::Path, yaml: &str) -> Launch {
    let config = folder.join("tollgate.yaml");
    std::fs::write(&config, yaml).unwrap();
    Launch::up(Some(config), folder.join("data"))
}

#[test]
fn a_bad_file_is_refused_whole_with_every_mistake_named() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "model_list:\n  - model_name: a\n    litellm_params:\n      model: openai/gpt-4o\n      api_key: os.environ/NO_SUCH_VARIABLE_OF_MINE\n\
                litellm_settings:\n  cach: true\ntollgate:\n  budgets:\n    hold_s: 0\n";
    let text = said(&Gateway::refused(&launch(folder.path(), yaml)));
    for part in [
        "litellm_settings.cach",
        "did you mean",
        "cache",
        "NO_SUCH_VARIABLE_OF_MINE",
        "tollgate.budgets.hold_s",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let text = said(&Gateway::refused(&launch(folder.path(), "model_list: [\n")));
    assert!(text.contains("tollgate.yaml"), "{text}");
    let missing = Launch {
        config: Some(folder.path().join("nowhere.yaml")),
        ..launch(folder.path(), "")
    };
    assert!(said(&Gateway::refused(&missing)).contains("nowhere.yaml"));
}

async fn what_is_in_use_is_named(shape: Shape) {
    let world = World::start(shape).await;
    let other = tempfile::tempdir().unwrap();
    let first = &world.gateway().launch;
    let port = Launch {
        data_dir: other.path().join("data"),
        clickhouse_port: free_port(),
        ..first.clone()
    };
    let text = said(&Gateway::refused(&port));
    assert!(
        text.contains(&first.port.to_string()) && text.contains("in use"),
        "{text}"
    );
    // An ingress has no engine.
    if shape == Shape::OneMachine {
        let clickhouse = Launch {
            data_dir: other.path().join("more"),
            port: free_port(),
            ..first.clone()
        };
        let text = said(&Gateway::refused(&clickhouse));
        assert!(
            text.contains("--clickhouse-port") && text.contains("in use"),
            "{text}"
        );
    }
    let data = Launch {
        port: free_port(),
        clickhouse_port: free_port(),
        ..first.clone()
    };
    let text = said(&Gateway::refused(&data));
    assert!(
        text.contains(first.data_dir.to_str().unwrap())
            && text.contains(&world.gateway().pid().to_string()),
        "{text}"
    );
    assert_eq!(
        world.chat("hi").send().await.status,
        200,
        "the first one goes on"
    );
}

/// A flipped byte in the middle of the log is never stepped over.
async fn a_damaged_segment_is_named_and_left_as_it_is(shape: Shape) {
    let mut world = World::start(shape).await;
    for _ in 0..3 {
        let chat = world.chat_first(MASTER, "hi");
        assert_eq!(chat.send().await.status, 200);
    }
    world.rows(3).await;
    world.ingresses[0].stop();
    let segment = newest_segment(&world.gateway().launch.data_dir.join("journal"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let model = bytes
        .windows(8)
        .position(|window| window == b"scripted")
        .unwrap();
    bytes[model] ^= 0x20;
    std::fs::write(&segment, &bytes).unwrap();
    let text = said(&Gateway::refused(&world.gateway().launch));
    assert!(
        text.contains(segment.file_name().unwrap().to_str().unwrap()),
        "{text}"
    );
    assert_eq!(
        std::fs::read(&segment).unwrap(),
        bytes,
        "nothing was touched"
    );
    bytes[model] ^= 0x20;
    std::fs::write(&segment, &bytes).unwrap();
    world.ingresses[0].again();
    world.ready().await;
    world.rows(3).await;
}

/// The largest file that holds records.
fn newest_segment(journal: &std::path::Path) -> std::path::PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![journal.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path)
                .unwrap()
                .windows(8)
                .any(|window| window == b"scripted")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files.pop().unwrap()
}

/// A full disk refuses new calls and keeps what is there. In one machine: many processes share the broker
/// that would have to stand still; `tests/faults/` has one to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_refuses_calls_and_loses_nothing() {
    let world = World::with(Shape::OneMachine, "")
        .tollgate("  journal:\n    cap_bytes: 1048576\n    segment_bytes: 65536\n")
        .start()
        .await;
    // The consumers stand still: the engine is stopped, and what it has not taken must be kept.
    let engine = tests::gateway::children(world.gateway().pid(), "clickhouse")[0];
    tests::gateway::signal(engine, "STOP");
    let big = json!({"role": "user", "content": "hi"});
    let tags: Vec<String> = (0..100).map(|at| format!("tag-{at:0100}")).collect();
    let mut served = 0;
    let refused = loop {
        let chat = world
            .chat("")
            .with("messages", json!([big]))
            .with("metadata", json!({"tags": tags}));
        let answer = chat.send().await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < 1_000, "the cap does not hold");
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(
        refused.error_type(),
        "journal_unavailable",
        "{}",
        refused.text
    );
    tests::gateway::signal(engine, "CONT");
    world.rows(served).await;
    assert_eq!(world.ledger(), world.invoice());
    // The consumers' positions follow their rows by a moment.
    serves_again(&world).await;
}

async fn serves_again(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while world.chat("hi").send().await.status != 200 {
        assert!(Instant::now() < deadline, "no room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Journal and tables lie on one disk, and something else fills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_calls_by_its_name_and_loses_nothing() {
    if !tests::gateway::can_have_a_disk() {
        eprintln!("not run: this machine gives no process a mount namespace");
        return;
    }
    let world = World::with(Shape::OneMachine, "")
        .tollgate("  journal:\n    segment_bytes: 65536\n")
        .disk(128 << 20)
        .start()
        .await;
    assert_eq!(world.chat("hi").send().await.status, 200);
    let litter = world.gateway().data_dir().join("litter");
    let mut file = std::fs::File::create(&litter).unwrap();
    let full = loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &[7; 4_096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut served = 1;
    let refused = loop {
        let answer = world.chat("hi").send().await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < 1_000, "a full disk takes everything");
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("no disk space"), "{}", refused.text);
    let readiness = format!("{}/health/readiness", world.url());
    let readiness = world.http.get(readiness).send().await.unwrap();
    assert_eq!(readiness.status(), 503);
    assert!(readiness.text().await.unwrap().contains("no disk space"));
    drop(file);
    std::fs::remove_file(&litter).unwrap();
    serves_again(&world).await;
    world.rows(served + 1).await;
    assert_eq!(world.ledger(), world.invoice());
}
