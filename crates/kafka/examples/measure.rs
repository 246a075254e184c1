//! How many records a second the relay brings to a broker and a reader takes from it, and what each
//! costs: `TOLLGATE_KAFKA_FAST=1 cargo run --release -p kafka --example measure`, with the variables of
//! `./tollgate env`.

use std::time::{Duration, Instant};

use journal::{EventLog as _, Journal, Options, Start};
use kafka::{Log, Relay, Settings, topics};
use schemas::{Event as _, Partition, Topic, Usage};
use test_servers::Kafka;

const RECORDS: usize = 1_000_000;
/// About what a usage event has.
const BYTES: usize = 300;
const PARTITIONS: u16 = 64;

/// CPU seconds of this process so far: the broker is another one.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    (ticks(12).unwrap_or(0.0) + ticks(13).unwrap_or(0.0)) / 100.0
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn told(what: &str, since: Instant, cpu_before: f64) {
    let (wall, used) = (since.elapsed().as_secs_f64(), cpu() - cpu_before);
    let count = RECORDS as f64;
    println!(
        "{what}: {:.0} records/s wall, {:.0} records per CPU second ({wall:.2} s, {used:.2} CPU s)",
        count / wall,
        count / used
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let kafka = Kafka::start().await;
    let mut settings = Settings::new(kafka.bootstrap());
    settings.partitions = PARTITIONS;
    topics::create(&settings).await.expect("topics");
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(dir.path(), Options::default()).expect("a journal");
    let body = [&Usage::FINGERPRINT.to_le_bytes()[..], &[7; BYTES]].concat();
    for n in 0..RECORDS {
        let partition = Partition((n % usize::from(PARTITIONS)) as u16);
        journal
            .append(Topic::Usage, partition, &body)
            .expect("takes it");
    }
    journal.sync().expect("synced");

    let (since, before) = (Instant::now(), cpu());
    let relay = Relay::start(settings.clone(), &journal).expect("a relay");
    assert!(relay.drain(Duration::from_secs(300)).await.complete);
    told("relay", since, before);

    let log = Log::new(settings).expect("a log");
    let topics = [Topic::Usage];
    let mut reader = log
        .reader("", &topics, Start::Beginning)
        .await
        .expect("a reader");
    let (since, before) = (Instant::now(), cpu());
    let mut count = 0;
    while count < RECORDS {
        count += reader
            .next(10_000, Duration::from_secs(10))
            .await
            .expect("readable")
            .len();
    }
    told("reader", since, before);
}
