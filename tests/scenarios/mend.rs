//! What an operator does about events that the lanes cannot: one that is lost, and those that nobody could read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use kafka::framing;
use parking_lot::Mutex;
use schemas::{Event as _, Identity, Partition, Pseq, SourceId, Usage};
use serde_json::{Value, json};
use tests::topics::{self, IDENTITY, Raw};
use tests::{Gateway, Shape, World};

const USAGE: &str = "usage.v1";

/// Runs a command of the world, and gives what it said.
fn said(world: &World, succeeds: bool, arguments: &[&str]) -> String {
    let (success, said) = tokio::task::block_in_place(|| world.try_command(arguments));
    assert_eq!(success, succeeds, "{arguments:?}: {said}\n{}", world.log());
    said
}

/// Waits until a billing process says this of itself.
async fn told(world: &World, words: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let mut texts = Vec::new();
        for billing in &world.billing {
            let url = format!("{}/health/readiness", billing.url());
            if let Ok(answer) = world.http.get(url).send().await {
                texts.push(answer.text().await.unwrap_or_default());
            }
        }
        if texts.iter().any(|text| text.contains(words)) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "nobody says {words:?}, but {texts:?}\n{}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An event is lost, then budget state: what was spent behind the lost one is in nobody's sum. Hard budgets stay
/// closed until an operator says that it is lost for good; then all the rest is billed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_event_is_accepted_as_lost_before_hard_budgets_open_again() {
    let mut world = World::with(Shape::Split, "").processes(1, 2).start().await;
    let limited = world.key(json!({"max_budget": 10})).await;
    let free = world.key(json!({})).await;
    let call = async |world: &World, key: &str| world.chat_as(key, "hi").send().await.status;
    // Nobody reads while the topic is made anew without one of its records.
    world.billing.iter_mut().for_each(Gateway::stop);
    for _ in 0..9 {
        assert_eq!(call(&world, &limited).await, 200);
    }
    world
        .until(|| "the relay", || topics::count(&world, USAGE) >= 9)
        .await;
    let records = topics::read(&world, USAGE);
    assert_eq!(records.len(), 9, "one key, one partition");
    topics::clear(&world, USAGE).await;
    world.billing.iter_mut().for_each(Gateway::again);
    let rest: Vec<Raw> = records
        .iter()
        .filter(|record| record.pseq() != 4)
        .cloned()
        .collect();
    topics::write(&world, USAGE, &rest);
    world.rows(3).await;
    told(&world, "lacks events 4 to 4").await;
    let source = u64::from_be_bytes(records[0].source().try_into().unwrap());
    let name = |span: &str| format!("{source:016x}/{}/{span}", records[0].partition);
    let list = said(&world, true, &["gap", "list"]);
    assert_eq!(
        list,
        format!("{}  1 missing, 5 wait behind\n", name("4-4")),
        "{}",
        world.log()
    );
    // Hard budgets know of the calls behind it, for their process told of their ends.
    world.ready().await;
    assert_eq!(call(&world, &limited).await, 200);

    // All of that goes: budget state, and the process that could tell.
    world.ingresses[0].kill();
    world.parts.as_ref().unwrap().forget(&world.prefix);
    world.ingresses[0].again();
    told(&world, "hard budgets refuse").await;
    let deadline = Instant::now() + Duration::from_secs(120);
    let is_served = async || {
        let answer = world.chat_as(&free, "hi").try_send().await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    while !is_served().await {
        assert!(
            Instant::now() < deadline,
            "no call is served\n{}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..5 {
        assert_eq!(call(&world, &limited).await, 503);
    }

    let reason = "the broker lost a segment, ticket 7";
    for wrong in ["3-4", "4-5", "5-5"] {
        let accept = ["gap", "accept", &name(wrong), "--reason", reason];
        let refused = said(&world, false, &accept);
        assert!(refused.contains("not missing"), "{refused}");
    }
    let accept = ["gap", "accept", &name("4-4"), "--reason", reason];
    let accepted = said(&world, true, &accept);
    assert!(accepted.contains("both lanes have gone past"), "{accepted}");
    world.ready().await;
    assert_eq!(call(&world, &limited).await, 200);
    // Nine less one, one before the flush, one after, and those that a key without a budget made.
    let made = world.provider.books().requests;
    world.rows(usize::try_from(made).unwrap() - 1).await;
    let audit = tokio::task::block_in_place(|| world.audit());
    let report = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.status.success(), "{report}\n{}", world.log());
    assert!(report.contains("1 accepted as lost"), "{report}");
    assert_eq!(world.spend_of(&limited).await, {
        let one = world.ledger().0 / i64::try_from(made - 1).unwrap();
        schemas::NanoUsd(one * 10)
    });
    assert_eq!(said(&world, true, &["gap", "list"]), "nothing is missing\n");
    let letters = said(&world, true, &["dlq"]);
    assert_eq!(letters.matches(reason).count(), 2, "{letters}");
    let left = said(&world, true, &["dlq", "retry"]);
    assert!(left.contains("it is lost"), "{left}");

    // Once more from the topics alone: the same books.
    let before = world.ledger();
    tokio::task::block_in_place(|| {
        world.stop();
        world.delete_projections();
    });
    world.restart().await;
    world.rows(usize::try_from(made).unwrap() - 1).await;
    assert_eq!(world.ledger(), before);
}

/// A schema registry: an id for each schema, and one that it learns of late.
#[derive(Default)]
struct Registry {
    ids: Mutex<HashMap<String, u32>>,
    knows_late: AtomicBool,
}

const LATE: u32 = 77_777;

async fn register(State(registry): State<Arc<Registry>>, Json(body): Json<Value>) -> Json<Value> {
    let schema = body["schema"].as_str().unwrap().to_owned();
    let mut ids = registry.ids.lock();
    let next = 500 + u32::try_from(ids.len()).unwrap();
    let id = *ids.entry(schema).or_insert(next);
    Json(json!({ "id": id }))
}

async fn schema(
    State(registry): State<Arc<Registry>>,
    Path(id): Path<u32>,
) -> Result<Json<Value>, StatusCode> {
    if id == LATE && registry.knows_late.load(Ordering::Relaxed) {
        return Ok(Json(json!({ "schema": Usage::SCHEMA })));
    }
    let ids = registry.ids.lock();
    let known = ids.iter().find(|(_, known)| **known == id);
    let (text, _) = known.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "schema": text })))
}

/// Ids of schemas come from a registry. Events that it does not know the schema of are kept; once it does, they
/// are billed, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_billed_once_their_schema_is_known() {
    let registry = Arc::new(Registry::default());
    let routes = Router::new()
        .route("/subjects/{subject}/versions", post(register))
        .route("/schemas/ids/{id}", get(schema))
        .with_state(registry.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let world = World::with(Shape::Split, "")
        .processes(1, 2)
        .kafka(&format!("    schema_registry_url: {url}\n"))
        .start()
        .await;
    let key = world.key(json!({"max_budget": 10})).await;
    assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
    world.rows(1).await;
    let one = world.spend_of(&key).await;

    // Somebody else's copies of that event, under a schema id that nobody knows yet.
    let records = topics::read(&world, USAGE);
    let framed = framing::decode(&records[0].payload).expect("framed");
    let body = [&[0; 8][..], framed.fields].concat();
    let copies: Vec<Raw> = (1..=3)
        .map(|pseq| {
            let identity = Identity {
                source_id: SourceId(0xfeed),
                partition: Partition(u16::try_from(records[0].partition).unwrap()),
                pseq: Pseq(pseq),
            };
            let mut payload = Vec::new();
            framing::encode(&identity, &body, LATE, &mut payload);
            Raw {
                partition: records[0].partition,
                payload,
                key: None,
                headers: vec![(IDENTITY.to_owned(), framing::header(&identity).to_vec())],
            }
        })
        .collect();
    topics::write(&world, USAGE, &copies);
    let letters = std::cell::RefCell::new(String::new());
    world
        .until(
            || format!("six letters, not {}", letters.borrow()),
            || {
                *letters.borrow_mut() = world.try_command(&["dlq"]).1;
                letters.borrow().matches("000000000000feed").count() == 6
            },
        )
        .await;
    let bad = said(&world, true, &["dlq", "retry"]);
    assert!(bad.contains("0 billed, 3 no better, 0 to come"), "{bad}");

    registry.knows_late.store(true, Ordering::Relaxed);
    let partition = records[0].partition;
    let first = format!("000000000000feed/{partition}/1");
    let billed = said(&world, true, &["dlq", "retry", &first]);
    assert!(
        billed.contains("1 billed, 0 no better, 0 to come, of 1"),
        "{billed}"
    );
    let billed = said(&world, true, &["dlq", "retry"]);
    assert!(
        billed.contains("2 billed, 0 no better, 0 to come, of 3"),
        "{billed}"
    );
    assert_eq!(billed.matches("was brought before").count(), 1, "{billed}");
    let again = said(&world, true, &["dlq", "retry"]);
    assert_eq!(again.matches("was brought before").count(), 3, "{again}");
    said(&world, false, &["dlq", "retry", "000000000000beef/0/1"]);
    world.rows(4).await;
    assert_eq!(world.spend_of(&key).await.0, 4 * one.0);
    assert_eq!(world.ledger().0, 4 * one.0);
    let audit = tokio::task::block_in_place(|| world.audit());
    assert!(audit.status.success(), "{audit:?}\n{}", world.log());
    serving.abort();
}
