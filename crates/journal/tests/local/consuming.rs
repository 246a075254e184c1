//! Readers: what they may see and when.

use std::sync::{Arc, Mutex, mpsc};
use std::task::Wake;
use std::time::Duration;

use journal::{Error, Journal, Lag, LocalReader, Options, Reader, Start, Sync};
use schemas::{Partition, Topic};

use crate::support::{EVERY_TOPIC, append, bodies, body, open, seen_from_outside, small};

const PATIENCE: Duration = Duration::from_secs(60);

/// A number that a power cut takes back is given to another event: nobody may have used it.
#[test]
fn readers_see_only_what_is_durable_unless_they_ask() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(root.path(), Sync::Group);
    let mut durable = journal
        .local_reader("durable", &EVERY_TOPIC, &Start::Committed)
        .expect("a reader");
    let mut early = journal
        .local_reader("early", &EVERY_TOPIC, &Start::Committed)
        .expect("a reader")
        .early();
    append(&journal, b"one");
    assert_eq!(bodies(&early.read(10).expect("readable")), [b"one"]);
    assert!(durable.read(10).expect("readable").is_empty());
    assert!(seen_from_outside(root.path()).expect("readable").is_empty());
    assert_eq!(durable.lag(), Lag::Bytes(24));
    journal.sync().expect("syncs");
    assert_eq!(bodies(&durable.read(10).expect("readable")), [b"one"]);
    assert_eq!(
        bodies(&seen_from_outside(root.path()).expect("readable")),
        [b"one"]
    );
    assert_eq!(durable.lag(), Lag::Bytes(0));
    let outside =
        LocalReader::open(root.path(), "", &EVERY_TOPIC, &Start::Beginning).expect("a reader");
    assert_eq!(outside.lag(), Lag::Bytes(24));
}

#[tokio::test]
async fn a_hint_makes_it_durable_without_a_waiter() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(root.path(), Sync::Group);
    let mut reader = journal
        .local_reader("group", &EVERY_TOPIC, &Start::Committed)
        .expect("a reader");
    journal.sync_soon(append(&journal, b"admitted"));
    assert_eq!(
        bodies(&reader.next(10, PATIENCE).await.expect("readable")),
        [b"admitted"]
    );
}

#[tokio::test]
async fn a_wait_that_is_dropped_hurts_nobody() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(root.path(), Sync::Group);
    for n in 0..50 {
        let position = append(&journal, &body(n, 100));
        let mut dropped = Box::pin(journal.durable(position));
        std::future::poll_fn(|cx| {
            let _ = dropped.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
        let kept = journal.durable(position);
        drop(dropped);
        kept.await.expect("durable");
    }
    // Waits from several threads at once.
    let waits: Vec<_> = (0..4)
        .map(|_| {
            let journal = journal.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .expect("builds");
                for n in 0..100 {
                    let position = append(&journal, &body(n, 100));
                    runtime
                        .block_on(journal.durable(position))
                        .expect("durable");
                }
            })
        })
        .collect();
    for wait in waits {
        wait.join().expect("ends well");
    }
    assert_eq!(journal.last_of(Topic::Usage, Partition(0)).0, 450);
}

/// What a server's task does when it is dropped by whoever woke it last.
struct Holder(Mutex<Option<Journal>>, mpsc::Sender<()>);

impl Wake for Holder {
    fn wake(self: Arc<Self>) {
        self.0.lock().expect("sound").take();
        self.1.send(()).expect("waited for");
    }
}

#[test]
fn the_sync_thread_may_be_the_last_to_let_go() {
    let root = tempfile::tempdir().expect("a directory");
    for n in 0..20 {
        let (journal, _) = open(root.path(), Sync::Group);
        let position = append(&journal, &body(n, 100));
        let mut wait = Box::pin(journal.durable(position));
        let (told, woken) = mpsc::channel();
        let waker = Arc::new(Holder(Mutex::new(Some(journal)), told)).into();
        let pending = wait
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
            .is_pending();
        if pending {
            woken.recv_timeout(PATIENCE).expect("woken");
        }
    }
    let (journal, _) = open(root.path(), Sync::Group);
    assert_eq!(journal.last_of(Topic::Usage, Partition(0)).0, 20);
}

#[tokio::test]
async fn a_reader_in_another_process_follows_over_segments_and_restarts() {
    let root = tempfile::tempdir().expect("a directory");
    let mut outside = {
        drop(open(root.path(), Sync::Group));
        LocalReader::open(root.path(), "outside", &[Topic::Usage], &Start::Committed)
            .expect("a reader")
            .linger(Duration::ZERO)
    };
    let mut next = 0;
    for life in 0..4 {
        let (journal, _) = open(root.path(), Sync::Group);
        for n in 0..100 {
            append(&journal, &body(life * 100 + n, 900));
        }
        journal.sync().expect("syncs");
        while next < (life + 1) * 100 {
            for record in outside.next(30, PATIENCE).await.expect("readable") {
                assert_eq!(record.body, body(next, 900));
                next += 1;
            }
        }
        outside.commit().await.expect("commits");
        drop(journal);
    }
}

#[test]
fn group_names_are_file_names() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(root.path(), Sync::Group);
    for bad in ["../x", "A", "a b", ".", "x.new", &"a".repeat(101)] {
        let refused = journal.local_reader(bad, &EVERY_TOPIC, &Start::Committed);
        assert!(matches!(refused, Err(Error::Group { .. })), "{bad}");
    }
}

/// Only with `Sync::Os`, or an old copy: events that were consumed are gone, and their numbers would
/// be given out again.
#[test]
fn a_log_that_ends_before_its_consumers_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(root.path(), Sync::Os);
    append(&journal, b"one");
    let old = crate::support::Image::of(root.path());
    append(&journal, b"two");
    let mut reader = journal
        .local_reader("ahead", &EVERY_TOPIC, &Start::Committed)
        .expect("a reader");
    assert_eq!(reader.read(10).expect("readable").len(), 2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("builds");
    runtime.block_on(reader.commit()).expect("commits");
    let position = std::fs::read(root.path().join("positions/ahead")).expect("reads");
    drop((reader, journal));
    let dir = root.path().join("restored");
    old.write(&dir);
    std::fs::write(dir.join("positions/ahead"), position).expect("writes");
    let refused = Journal::open(&dir, small(Sync::Os)).err().expect("refuses");
    assert!(
        matches!(&refused, Error::Lost { group, .. } if group == "ahead"),
        "{refused}"
    );
}

#[test]
fn readers_of_a_damaged_record_stop_before_it() {
    let root = tempfile::tempdir().expect("a directory");
    {
        let (journal, _) = open(root.path(), Sync::Group);
        for n in 0..200 {
            append(&journal, &body(n, 900));
        }
    }
    let path = root.path().join("0000000001.seg");
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[20_000] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    // The damage lies in a full segment: opening does not read it, consumers do.
    let (journal, _) = Journal::open(
        root.path(),
        Options {
            ..small(Sync::Group)
        },
    )
    .expect("opens");
    let mut reader = journal
        .local_reader("group", &EVERY_TOPIC, &Start::Committed)
        .expect("a reader");
    assert_eq!(reader.read(1000).expect("the good ones").len(), 21);
    for _ in 0..2 {
        let error = reader.read(1000).expect_err("stops");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}
