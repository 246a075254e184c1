//! Appending without a journal.

use std::time::{Duration, Instant};

use journal::{EventLog as _, Start};
use kafka::{Log, topics};
use schemas::{Partition, Topic};
use test_servers::Kafka;

use crate::world::{PATIENCE, Sink, append, body, settings, take};

/// A broker that is away is an error within the time limit; the numbers of a source have no hole after it.
#[tokio::test]
async fn a_broker_that_is_away_is_an_error_in_time_and_leaves_no_hole() {
    let kafka = Kafka::start().await;
    let mut settings = settings(&kafka, 1);
    topics::create(&settings).await.expect("topics");
    settings.timeout = Duration::from_secs(2);
    let log = Log::new(settings.clone()).expect("a log");
    let before = append(&log, 0, "1").await;
    append(&log, 0, "2").await;
    let start = Start::Beginning;
    let reader = log.reader("", &[Topic::Usage], start).await;
    let mut idle = reader.expect("a reader");
    take(&mut *idle, 2).await;
    kafka.kill();
    let asked = Instant::now();
    let refused = log.append(Topic::Usage, Partition(0), body("3")).await;
    assert!(
        matches!(refused, Err(journal::Error::Broker(_))),
        "{refused:?}"
    );
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "{:?}",
        asked.elapsed()
    );
    // Who has nothing to read says so as well, as long as it is so and no longer.
    let wait = Duration::from_millis(100);
    while let Ok(none) = idle.next(10, wait).await {
        assert!(none.is_empty(), "{none:?}");
    }
    for _ in 0..3 {
        idle.next(10, wait).await.expect_err("it is still away");
    }
    kafka.restart().await;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = idle.next(10, wait).await {
        assert!(Instant::now() < deadline, "it is back: {error}");
    }
    // A broker that has just started may need longer than this log waits.
    let after = loop {
        if let Ok(appended) = log.append(Topic::Usage, Partition(0), body("4")).await {
            break appended;
        }
    };
    assert_ne!(after.identity.source_id, before.identity.source_id);
    settings.timeout = Duration::from_secs(20);
    let log = Log::new(settings).expect("a log");
    let mut reader = log
        .reader("", &[Topic::Usage], Start::Beginning)
        .await
        .expect("a reader");
    let (mut sink, mut last) = (Sink::default(), 0);
    while last < after.version {
        let records = take(&mut *reader, 1).await;
        last = records.last().expect("one").version;
        sink.take(&records);
    }
    assert_eq!(sink.gaps, 0);
    assert!(sink.applied >= 3);
}

/// What no reader could read is not written.
#[tokio::test]
async fn a_body_without_a_released_schema_is_refused() {
    let log = crate::world::log(1).await;
    for strange in [&b""[..], b"short", b"12345678 of no schema"] {
        let refused = log.append(Topic::Usage, Partition(0), strange.into()).await;
        assert!(
            matches!(refused, Err(journal::Error::Broker(_))),
            "{refused:?}"
        );
    }
}
