//! Topics of one's own on the shared broker, records, and a sink that applies each once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use journal::{EventLog as _, HighWater, Reader, Record, Resume, Verdict};
use kafka::{Log, Settings, topics};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use schemas::{Event as _, Identity, Offset, Partition, Pseq, SourceId, Standing, Topic, Usage};
use test_servers::Kafka;

/// Longest wait for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Settings with a prefix that nobody else has.
pub fn settings(kafka: &Kafka, partitions: u16) -> Settings {
    static WORLDS: AtomicU32 = AtomicU32::new(0);
    let mut settings = Settings::new(kafka.bootstrap());
    settings.topic_prefix = format!("world{}", WORLDS.fetch_add(1, Ordering::Relaxed));
    settings.partitions = partitions;
    settings.timeout = Duration::from_secs(20);
    settings
}

/// Topics and a log on the shared broker.
pub async fn log(partitions: u16) -> Log {
    let settings = settings(Kafka::shared().await, partitions);
    topics::create(&settings).await.expect("topics");
    Log::new(settings).expect("a log")
}

pub fn body(text: impl AsRef<[u8]>) -> Bytes {
    let fingerprint = Usage::FINGERPRINT.to_le_bytes();
    [&fingerprint, text.as_ref()].concat().into()
}

pub fn identity(source: u64, partition: u16, pseq: u64) -> Identity {
    Identity {
        source_id: SourceId(source),
        partition: Partition(partition),
        pseq: Pseq(pseq),
    }
}

pub async fn append(log: &Log, partition: u16, text: &str) -> journal::Appended {
    let appended = log.append(Topic::Usage, Partition(partition), body(text));
    appended.await.expect("the broker takes it")
}

/// A message as somebody else might write it.
pub fn produce(settings: &Settings, partition: u16, bytes: &[u8], header: Option<&[u8]>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .create()
        .expect("a producer");
    let name = settings.name(Topic::Usage);
    let mut record = BaseRecord::<(), [u8]>::to(&name)
        .partition(i32::from(partition))
        .payload(bytes);
    if let Some(value) = header {
        record = record.headers(OwnedHeaders::new().insert(Header {
            key: kafka::framing::HEADER,
            value: Some(value),
        }));
    }
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("queued");
    producer.flush(PATIENCE).expect("delivered");
}

/// The message of a record of ours.
pub fn framed(identity: &Identity, text: &str, id: u32) -> Vec<u8> {
    let mut message = Vec::new();
    kafka::framing::encode(identity, &body(text), id, &mut message);
    message
}

/// The fixed id of the usage event's schema.
pub fn usage_id() -> u32 {
    kafka::framing::fixed_ids()
        .find(|(fingerprint, _)| *fingerprint == Usage::FINGERPRINT)
        .expect("released")
        .1
}

/// Reads until so many records have come, whatever they are.
pub async fn take(reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while records.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} came",
            records.len()
        );
        let came = reader.next(1_000, Duration::from_secs(1)).await;
        records.extend(came.expect("readable"));
    }
    records
}

/// What a consumer has done, as its sink would keep it.
#[derive(Default)]
pub struct Sink {
    pub marks: HighWater,
    next: BTreeMap<Partition, Offset>,
    pub applied: usize,
    pub repeated: usize,
    pub gaps: usize,
}

impl Sink {
    pub fn take(&mut self, records: &[Record]) {
        for record in records {
            match self.marks.advance(record.topic, &record.identity) {
                Verdict::Apply => self.applied += 1,
                Verdict::Duplicate => self.repeated += 1,
                Verdict::Gap { .. } => self.gaps += 1,
            }
            let next = self
                .next
                .entry(record.identity.partition)
                .or_insert(Offset(0));
            *next = (*next).max(Offset(record.version));
        }
    }

    pub fn resume(&self) -> Resume {
        let standing = Standing {
            marks: self.marks.marks().map(|mark| mark.identity).collect(),
            next: self
                .next
                .iter()
                .map(|(&partition, &next)| (partition, next))
                .collect(),
        };
        Resume::of(Topic::Usage, &standing)
    }
}
