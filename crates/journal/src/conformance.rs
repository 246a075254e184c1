//! What every backend of the log must do, as one suite: each backend's tests call it.
//!
//! Panics where a promise is broken, so it is for tests only.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use schemas::{Event as _, Identity, Partition, Topic, Usage};

use crate::{EventLog, HighWater, Lag, Mark, Reader, Record, Start, Verdict};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Wait for something that must not come.
const BRIEF: Duration = Duration::from_millis(30);

/// Runs all promises, each on a new, empty log that `make` provides. Topics used: `Usage`, `Cost`;
/// partitions 0 to 3.
///
/// # Panics
/// When a promise is broken.
pub async fn conformance<L: EventLog>(make: impl AsyncFn() -> L) {
    records_come_in_order_and_without_holes(&make().await).await;
    the_newest_version_is_known(&make().await).await;
    topics_are_separate(&make().await).await;
    what_was_committed_does_not_come_again(&make().await).await;
    groups_do_not_know_each_other(&make().await).await;
    a_reader_goes_where_it_is_told(&make().await).await;
    a_waiting_reader_is_woken(&make().await).await;
    who_looks_at_the_end_knows_of_all_before(&make().await).await;
    an_empty_log_answers_in_time(&make().await).await;
    large_batches_and_bodies_arrive(&make().await).await;
}

async fn append(
    log: &impl EventLog,
    topic: Topic,
    partition: u16,
    body: impl AsRef<[u8]>,
) -> Identity {
    let appended = log.append(topic, Partition(partition), with_schema(body));
    appended.await.expect("the log takes a record").identity
}

/// A body begins with the fingerprint of a released schema; what follows is opaque to a log.
fn with_schema(fields: impl AsRef<[u8]>) -> Bytes {
    [&Usage::FINGERPRINT.to_le_bytes(), fields.as_ref()]
        .concat()
        .into()
}

/// Reads until so many distinct records have come; repeats are allowed, as after a relay's retry.
async fn take(reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut seen = HashSet::new();
    let mut records = Vec::new();
    while records.len() < count {
        let batch = reader
            .next(1000, PATIENCE)
            .await
            .expect("the log can be read");
        assert!(
            !batch.is_empty(),
            "{} of {count} records came",
            records.len()
        );
        records.extend(
            batch
                .into_iter()
                .filter(|r| seen.insert((r.topic, r.identity))),
        );
    }
    assert_eq!(records.len(), count, "more came than was appended");
    records
}

fn texts(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| &record.body[8..]).collect()
}

async fn records_come_in_order_and_without_holes(log: &impl EventLog) {
    let mut named = Vec::new();
    for n in 0..200u16 {
        named.push(append(log, Topic::Usage, n % 4, format!("body {n}")).await);
    }
    let mut reader = log
        .reader("order", &[Topic::Usage], Start::Beginning)
        .await
        .expect("a reader");
    let mut marks = HighWater::default();
    for record in take(&mut *reader, named.len()).await {
        assert_eq!(
            marks.advance(record.topic, &record.identity),
            Verdict::Apply,
            "{}",
            record.identity
        );
        let n = named
            .iter()
            .position(|identity| *identity == record.identity)
            .expect("was appended");
        assert_eq!(record.body, with_schema(format!("body {n}")));
    }
    assert_eq!(marks.marks().count(), 4);
}

async fn the_newest_version_is_known(log: &impl EventLog) {
    let newest = async || {
        log.newest(Topic::Usage, Partition(0))
            .await
            .expect("can be reached")
    };
    assert!(matches!(newest().await, None | Some(0)));
    append(log, Topic::Usage, 0, "1").await;
    let second = log
        .append(Topic::Usage, Partition(0), with_schema("2"))
        .await
        .expect("takes it");
    let told = newest().await;
    assert!(
        told.is_none_or(|version| version == second.version),
        "{told:?}"
    );
}

async fn topics_are_separate(log: &impl EventLog) {
    append(log, Topic::Usage, 0, "u1").await;
    let cost = append(log, Topic::Cost, 0, "c1").await;
    append(log, Topic::Usage, 0, "u2").await;
    assert_eq!(cost.pseq.0, 1, "each topic counts for itself");
    let mut only = log
        .reader("one", &[Topic::Cost], Start::Beginning)
        .await
        .expect("a reader");
    assert_eq!(texts(&take(&mut *only, 1).await), [b"c1"]);
    assert!(only.next(10, BRIEF).await.expect("readable").is_empty());
    let mut both = log
        .reader("both", &[Topic::Cost, Topic::Usage], Start::Beginning)
        .await
        .expect("a reader");
    assert_eq!(take(&mut *both, 3).await.len(), 3);
}

async fn what_was_committed_does_not_come_again(log: &impl EventLog) {
    for n in 0..10 {
        append(log, Topic::Usage, 0, format!("{n}")).await;
    }
    {
        let mut reader = log
            .reader("group", &[Topic::Usage], Start::Committed)
            .await
            .expect("a reader");
        let mut done = Vec::new();
        while done.len() < 4 {
            done.extend(reader.next(1, PATIENCE).await.expect("readable"));
        }
        reader.commit().await.expect("commits");
        let more = reader.next(3, PATIENCE).await.expect("readable");
        assert!(!more.is_empty(), "read, but not committed");
    }
    let mut again = log
        .reader("group", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    assert_eq!(
        texts(&take(&mut *again, 6).await),
        [b"4", b"5", b"6", b"7", b"8", b"9"]
    );
    again.commit().await.expect("commits");
    again.commit().await.expect("committing twice is nothing");
    drop(again);
    append(log, Topic::Usage, 0, "10").await;
    let mut third = log
        .reader("group", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    assert_eq!(texts(&take(&mut *third, 1).await), [b"10"]);
}

async fn groups_do_not_know_each_other(log: &impl EventLog) {
    append(log, Topic::Usage, 0, "a").await;
    let mut left = log
        .reader("left", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    take(&mut *left, 1).await;
    left.commit().await.expect("commits");
    let mut right = log
        .reader("right", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    assert_eq!(texts(&take(&mut *right, 1).await), [b"a"]);
}

async fn a_reader_goes_where_it_is_told(log: &impl EventLog) {
    let mut marks = Vec::new();
    for n in 0..6u16 {
        let identity = append(log, Topic::Usage, n % 2, format!("{n}")).await;
        if n == 2 || n == 1 {
            marks.push(Mark {
                topic: Topic::Usage,
                identity,
            });
        }
    }
    let topics = [Topic::Usage];
    let mut reader = log
        .reader("seek", &topics, Start::After(marks.clone().into()))
        .await
        .expect("a reader");
    let mut rest: Vec<_> = take(&mut *reader, 3)
        .await
        .into_iter()
        .map(|r| r.body.slice(8..))
        .collect();
    rest.sort();
    assert_eq!(rest, ["3", "4", "5"]);
    reader.seek(&Start::Beginning).await.expect("seeks");
    assert_eq!(take(&mut *reader, 6).await.len(), 6);
    // A partition without a mark starts at its first record.
    marks.truncate(1);
    reader
        .seek(&Start::After(marks.into()))
        .await
        .expect("seeks");
    assert_eq!(take(&mut *reader, 5).await.len(), 5);
    reader.commit().await.expect("commits");
    append(log, Topic::Usage, 0, "6").await;
    reader.seek(&Start::Beginning).await.expect("seeks");
    reader.seek(&Start::Committed).await.expect("seeks");
    assert_eq!(texts(&take(&mut *reader, 1).await), [b"6"]);
}

async fn a_waiting_reader_is_woken(log: &impl EventLog) {
    let mut reader = log
        .reader("tail", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    for n in 0..5 {
        let text = format!("{n}");
        let (came, _) = tokio::join!(
            take(&mut *reader, 1),
            append(log, Topic::Usage, 0, text.clone())
        );
        assert_eq!(came[0].body, with_schema(text));
    }
}

async fn who_looks_at_the_end_knows_of_all_before(log: &impl EventLog) {
    let mut reader = log
        .reader("end", &[Topic::Usage], Start::Beginning)
        .await
        .expect("a reader");
    for _ in 0..3 {
        append(log, Topic::Usage, 1, "one").await;
        reader.look_at_end().await.expect("the log tells its end");
        assert!(!matches!(reader.lag(), Lag::Bytes(0) | Lag::Records(0)));
        take(&mut *reader, 1).await;
        assert!(matches!(reader.lag(), Lag::Bytes(0) | Lag::Records(0)));
    }
}

async fn an_empty_log_answers_in_time(log: &impl EventLog) {
    let mut reader = log
        .reader("empty", &[Topic::Usage], Start::Committed)
        .await
        .expect("a reader");
    assert!(
        reader
            .next(10, Duration::ZERO)
            .await
            .expect("readable")
            .is_empty()
    );
    assert!(reader.next(10, BRIEF).await.expect("readable").is_empty());
    reader.commit().await.expect("commits nothing");
}

async fn large_batches_and_bodies_arrive(log: &impl EventLog) {
    let body = |n: usize| vec![n.to_le_bytes()[0]; n * 97];
    for n in 0..300 {
        append(log, Topic::Usage, 0, body(n)).await;
    }
    let mut reader = log
        .reader("large", &[Topic::Usage], Start::Beginning)
        .await
        .expect("a reader");
    for (n, record) in take(&mut *reader, 300).await.into_iter().enumerate() {
        assert_eq!(record.body, with_schema(body(n)));
    }
}
