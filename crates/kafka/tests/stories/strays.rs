//! Messages that are not as they should be: none is skipped in silence, none stops its neighbours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use journal::{EventLog as _, Start};
use kafka::{Log, topics};
use schemas::{DeadLetter, Event as _, Partition, Topic, Usage};
use test_servers::Kafka;

use crate::world::{append, body, framed, identity, log, produce, settings, take, usage_id};

#[tokio::test]
async fn garbage_lies_in_the_dead_letters_once_and_its_neighbours_come() {
    let log = log(1).await;
    append(&log, 0, "before").await;
    produce(log.settings(), 0, b"garbage", None);
    // Its body is beyond reading, its header is not: the consumer's own dead letters have a name for it.
    let named = identity(7, 0, 1);
    let header = kafka::framing::header(&named);
    produce(log.settings(), 0, b"\x01broken", Some(&header));
    // A schema that nobody knows.
    let unknown = framed(&identity(7, 0, 2), "new", 4_000_000);
    produce(log.settings(), 0, &unknown, None);
    // An event of another partition.
    produce(
        log.settings(),
        0,
        &framed(&identity(7, 3, 1), "lost", usage_id()),
        None,
    );
    append(&log, 0, "after").await;
    for _ in 0..2 {
        let start = Start::Beginning;
        let mut reader = log
            .reader("lane", &[Topic::Usage], start)
            .await
            .expect("a reader");
        let records = take(&mut *reader, 4).await;
        assert_eq!(records[0].body, body("before"));
        assert_eq!(
            (records[1].identity, &records[1].body[..]),
            (named, &b"\x01broken"[..])
        );
        assert_eq!(records[2].identity, identity(7, 0, 2));
        assert_eq!(records[2].body, unknown, "its own bytes");
        assert!(Usage::from_body(&records[2].body).is_err());
        assert_eq!(records[3].body, body("after"));
    }
    let mut letters = log.following(Topic::Dlq, 0).await.expect("follows");
    let mut found = Vec::new();
    while !letters.is_caught_up() {
        for record in letters
            .next(10, Duration::from_millis(100))
            .await
            .expect("readable")
        {
            found.push(DeadLetter::from_body(&record.body).expect("a letter"));
        }
    }
    assert_eq!(
        found.len(),
        2,
        "each once, however often it is read: {found:?}"
    );
    assert_eq!(found[0].original.0, b"garbage");
    assert_eq!(
        (found[0].of_source, found[0].of_pseq, &*found[0].lane),
        (0, 1, "lane")
    );
    assert!(
        found[1].error.contains("another partition"),
        "{}",
        found[1].error
    );
}

/// A schema registry, as far as it is asked.
#[derive(Default)]
struct Registry {
    down: AtomicBool,
}

async fn register(Path(subject): Path<String>) -> Json<serde_json::Value> {
    // Some number that is not ours.
    let id = 1_000 + subject.bytes().map(u32::from).sum::<u32>();
    Json(serde_json::json!({ "id": id }))
}

async fn schema(
    State(registry): State<Arc<Registry>>,
    Path(id): Path<u32>,
) -> Result<Json<serde_json::Value>, StatusCode> {
    if registry.down.load(Ordering::Relaxed) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    match id {
        77 => Ok(Json(serde_json::json!({ "schema": Usage::SCHEMA }))),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

#[tokio::test]
async fn a_registry_gives_the_ids_and_what_it_cannot_say_yet_waits() {
    let registry = Arc::new(Registry::default());
    let app = Router::new()
        .route("/subjects/{subject}/versions", post(register))
        .route("/schemas/ids/{id}", get(schema))
        .with_state(Arc::clone(&registry));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut settings = settings(Kafka::shared().await, 1);
    topics::create(&settings).await.expect("topics");
    settings.schema_registry_url = Some(format!("http://{address}/"));
    let log = Log::new(settings).expect("a log");
    append(&log, 0, "ours").await;
    // Another producer's id of the same schema, one that nobody knows, and ours again.
    produce(
        log.settings(),
        0,
        &framed(&identity(5, 0, 1), "theirs", 77),
        None,
    );
    let unknown = framed(&identity(5, 0, 2), "unknown", 78);
    produce(log.settings(), 0, &unknown, None);
    append(&log, 0, "again").await;
    registry.down.store(true, Ordering::Relaxed);
    let mut reader = log
        .reader("lane", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    let first = take(&mut *reader, 1).await;
    assert_eq!(first.len(), 1, "what comes after waits");
    assert_eq!(first[0].body, body("ours"));
    let told = loop {
        match reader.next(10, Duration::from_millis(100)).await {
            Ok(records) => assert!(records.is_empty(), "{records:?}"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(told.contains("schema registry"), "{told}");
    registry.down.store(false, Ordering::Relaxed);
    let mut rest = Vec::new();
    while rest.len() < 3 {
        // Until the registry is asked again, the reader may tell of its trouble once more.
        rest.extend(
            reader
                .next(10, Duration::from_millis(100))
                .await
                .unwrap_or_default(),
        );
    }
    assert_eq!(rest[0].body, body("theirs"));
    assert_eq!(rest[1].body, unknown);
    assert_eq!(rest[2].body, body("again"));
    assert_eq!(rest[2].identity.partition, Partition(0));
    serving.abort();
}
