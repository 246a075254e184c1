//! From the journal to the broker, whatever dies on the way.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use journal::{EventLog as _, Journal, Options, Start};
use kafka::{Drained, Log, Relay, Settings, topics};
use schemas::{Partition, Topic};
use test_servers::Kafka;

use crate::world::{PATIENCE, Sink, body, log, settings};

const PARTITIONS: u16 = 4;
const COUNT: usize = 2_000;

fn open(dir: &Path) -> Journal {
    let options = Options {
        partitions: PARTITIONS,
        ..Options::default()
    };
    Journal::open(dir, options).expect("opens").0
}

fn fill(journal: &Journal, count: usize) {
    for n in 0..count {
        let partition = Partition((n % usize::from(PARTITIONS)) as u16);
        for topic in [Topic::Usage, Topic::Progress, Topic::Requests] {
            let text = format!("{topic:?} {n}");
            journal
                .append(topic, partition, &body(text))
                .expect("takes it");
        }
    }
    journal.sync().expect("synced");
}

/// Everything on the topics, applied once.
async fn applied(log: &Log, count: usize) -> Sink {
    let topics = [Topic::Usage, Topic::Requests];
    let mut reader = log
        .reader("", &topics, Start::Beginning)
        .await
        .expect("a reader");
    let mut sink = Sink::default();
    while sink.applied < count || reader.lag() != journal::Lag::Records(0) {
        let records = reader
            .next(1_000, Duration::from_secs(1))
            .await
            .expect("readable");
        sink.take(&records);
        assert_eq!(sink.gaps, 0);
    }
    sink
}

#[tokio::test]
async fn the_journal_is_on_the_broker_in_order_and_may_be_trimmed() {
    let log = log(PARTITIONS).await;
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    fill(&journal, COUNT);
    let relay = Relay::start(log.settings().clone(), &journal).expect("starts");
    fill(&journal, COUNT);
    let drained = relay.drain(PATIENCE).await;
    assert_eq!(drained, Drained { complete: true });
    assert_eq!(
        journal.pressure().used_bytes,
        0,
        "nothing waits for the relay"
    );
    let sink = applied(&log, 4 * COUNT).await;
    assert_eq!((sink.applied, sink.repeated), (4 * COUNT, 0));
    // A second relay has nothing to do.
    let relay = Relay::start(log.settings().clone(), &journal).expect("starts");
    assert!(relay.drain(PATIENCE).await.complete);
    assert_eq!(applied(&log, 4 * COUNT).await.repeated, 0);
}

#[tokio::test]
async fn a_broker_that_stops_and_starts_costs_nothing() {
    let kafka = Kafka::start().await;
    let settings = settings(&kafka, PARTITIONS);
    topics::create(&settings).await.expect("topics");
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    let relay = Relay::start(settings.clone(), &journal).expect("starts");
    fill(&journal, COUNT);
    while relay.status().acknowledged == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kafka.kill();
    fill(&journal, COUNT);
    while relay.status().in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(relay.status().oldest_unacked.is_some());
    kafka.restart().await;
    kafka.freeze();
    fill(&journal, COUNT);
    kafka.thaw();
    assert!(relay.drain(PATIENCE).await.complete);
    let log = Log::new(settings).expect("a log");
    let sink = applied(&log, 6 * COUNT).await;
    assert_eq!(sink.applied, 6 * COUNT);
}

/// A relay whose broker never answers is ended all the same, and the journal has everything.
#[tokio::test]
async fn draining_gives_up_at_its_deadline() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = open(dir.path());
    fill(&journal, 10);
    let nobody = format!("127.0.0.1:{}", test_servers::free_port());
    let relay = Relay::start(Settings::new(nobody), &journal).expect("starts");
    let drained = relay.drain(Duration::from_millis(500)).await;
    assert_eq!(drained, Drained { complete: false });
    assert!(journal.pressure().used_bytes > 0);
}

const CHILD: &str = "TOLLGATE_TEST_RELAY";

/// Not a story: the process that dies in the next one.
#[tokio::test]
async fn a_process_that_relays() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let [dir, bootstrap, prefix] = told.split('|').collect::<Vec<_>>()[..] else {
        panic!("{told}");
    };
    let mut settings = Settings::new(bootstrap);
    settings.topic_prefix = prefix.to_owned();
    settings.partitions = PARTITIONS;
    let journal = open(Path::new(dir));
    let relay = Relay::start(settings, &journal).expect("starts");
    assert!(relay.drain(PATIENCE).await.complete);
}

fn run_relay(log: &Log, dir: &Path, fail: Option<&str>) -> bool {
    let settings = log.settings();
    let told = [
        &dir.display().to_string(),
        &settings.bootstrap_servers,
        &settings.topic_prefix,
    ];
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args(["--exact", "relays::a_process_that_relays"])
        .env(CHILD, told.map(String::as_str).join("|"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(fail) = fail {
        command.env("TOLLGATE_FAIL", fail);
    }
    command.status().expect("runs").success()
}

/// Killed between sending and acknowledgement, again and again: on the topic some come twice, for a
/// reader each comes once.
#[tokio::test]
async fn a_relay_that_dies_anywhere_loses_nothing() {
    let log = log(PARTITIONS).await;
    let dir = tempfile::tempdir().expect("a directory");
    {
        let journal = open(dir.path());
        fill(&journal, COUNT);
    }
    let deaths = [
        "relay_before_send:100",
        "relay_after_send_before_ack:1",
        "relay_after_send_before_ack:700",
        "relay_after_ack_before_commit:1",
        "relay_before_send:1500",
        "relay_after_send_before_ack:3000",
    ];
    for death in deaths {
        assert!(
            !run_relay(&log, dir.path(), Some(death)),
            "it lived through {death}"
        );
    }
    assert!(run_relay(&log, dir.path(), None));
    let sink = applied(&log, 2 * COUNT).await;
    assert_eq!(sink.applied, 2 * COUNT);
    assert!(
        sink.repeated > 0,
        "the broker had some that the relay did not know of"
    );
}
