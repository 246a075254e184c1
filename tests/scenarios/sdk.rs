//! The official SDKs, unmodified: the same answer in Python and Node, plain and streamed, and the same
//! bill to the nano-dollar.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use tests::{Shape, World};

tests::in_both_shapes!(
    both_sdks_get_the_same_answers_and_the_same_bill,
    the_demo_model_answers_both_sdks_without_any_provider,
);

/// Runs a driver of `tests/sdk`; one document a case.
fn run(mut command: Command, world: &World, key: &str, model: &str) -> BTreeMap<String, Value> {
    let base = format!("{}/v1", world.url());
    let output = command.args([&base, key, model]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let mut case: Value = serde_json::from_str(line).unwrap();
            case.as_object_mut().unwrap().remove("call_id");
            (case["case"].as_str().unwrap().to_owned(), case)
        })
        .collect()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run through ./tollgate test"))
}

pub fn python(script: &str) -> Command {
    let mut command = Command::new(variable("TOLLGATE_TEST_PYTHON"));
    command.arg(format!(
        "{}/sdk/python/{script}",
        env!("CARGO_MANIFEST_DIR")
    ));
    command
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .current_dir(variable("TOLLGATE_TEST_NODE_DIR"))
        .arg(script);
    command
}

/// Both SDKs against one model; answers compared, bills compared.
async fn compare(world: &World, model: &str) {
    let alice = world.key(json!({"key_alias": "python"})).await;
    let bob = world.key(json!({"key_alias": "node"})).await;
    let by_python = run(python("chat.py"), world, &alice, model);
    let by_node = run(node("chat.mjs"), world, &bob, model);
    assert_eq!(by_python.len(), 10);
    for (case, python) in &by_python {
        // Classes of errors have their own names in each language; the rest is the same.
        let without_class = |case: &Value| {
            let mut case = case.clone();
            case.as_object_mut().unwrap().remove("models");
            if let Some(error) = case["error"].as_object_mut() {
                error.remove("class");
            }
            case
        };
        assert_eq!(
            without_class(python),
            without_class(&by_node[case]),
            "{case}"
        );
    }
    let case = |name: &str| &by_python[name];
    for name in [
        "plain",
        "stream",
        "stream_usage",
        "tools",
        "tools_stream",
        "n",
        "n_stream",
    ] {
        assert_eq!(case(name)["error"], Value::Null, "{name}");
    }
    assert_eq!(case("plain")["text"], case("stream")["text"]);
    assert_eq!(case("plain")["text"], case("stream_usage")["text"]);
    assert_eq!(
        case("plain")["finish_reasons"],
        case("stream")["finish_reasons"]
    );
    assert_eq!(case("plain")["usage"], case("stream_usage")["usage"]);
    assert_eq!(
        case("stream")["usage"],
        Value::Null,
        "usage only for those who ask"
    );
    assert_eq!(case("stream")["usage_chunk_seen"], false);
    assert_eq!(
        case("tools")["tool_calls"],
        case("tools_stream")["tool_calls"]
    );
    assert_eq!(case("tools")["tool_calls"].as_array().unwrap().len(), 1);
    assert_eq!(case("n")["text"], case("n_stream")["text"]);
    assert_eq!(case("n")["text"].as_array().unwrap().len(), 2);
    assert_eq!(case("wrong_key")["error"]["status"], 401);
    assert_eq!(case("unknown_model")["error"]["status"], 400);
    let models = case("models")["models"].as_array().unwrap();
    assert!(models.contains(&json!(model)), "{models:?}");

    world.rows(14).await;
    let (python, node) = (world.spend_of(&alice).await, world.spend_of(&bob).await);
    assert_eq!(python, node);
    assert!(python.0 > 0);
    assert_eq!(world.ledger().0, python.0 + node.0);
    // A streamed call costs what the same plain call costs.
    let amounts = world.sql(
        "select count(distinct amount) from cost_ledger final inner join \
         (select pseq, source_id, kpart, stream from usage_rows final) as u using (pseq, source_id, kpart) \
         group by key_hash",
    );
    assert_eq!(
        amounts
            .lines()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1
    );
}

// The drivers block their thread, and the scripted provider needs another.
async fn both_sdks_get_the_same_answers_and_the_same_bill(shape: Shape) {
    let world = World::start(shape).await;
    compare(&world, "scripted").await;
    let books = world.provider.books();
    assert_eq!(books.completed, 14);
    assert_eq!(world.ledger(), world.invoice());
}

async fn the_demo_model_answers_both_sdks_without_any_provider(shape: Shape) {
    let world = World::with(shape, "").demo().start().await;
    compare(&world, "tollgate/demo").await;
    assert_eq!(world.provider.books().requests, 0);
}
