//! A hand on the topics: reading what is there, and writing what no ingress would.

use crate::{PATIENCE, World};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

/// Carries source, partition and sequence number, big-endian.
pub const IDENTITY: &str = "tollgate-identity";

/// A record as it lies there.
#[derive(Debug, Clone)]
pub struct Raw {
    pub partition: i32,
    pub payload: Vec<u8>,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Raw {
    /// Source, partition and sequence number, as bytes.
    pub fn identity(&self) -> Vec<u8> {
        let header = self.headers.iter().find(|(name, _)| name == IDENTITY);
        header.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// The source alone.
    pub fn source(&self) -> Vec<u8> {
        self.identity()[..8].to_vec()
    }

    /// The sequence number.
    pub fn pseq(&self) -> u64 {
        let identity = self.identity();
        u64::from_be_bytes(identity[10..18].try_into().expect("eight bytes"))
    }
}

pub fn name(world: &World, topic: &str) -> String {
    format!("{}.{topic}", world.prefix)
}

fn config(world: &World) -> ClientConfig {
    let parts = world.parts.as_ref().expect("a world of many processes");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", parts.kafka.bootstrap());
    config
}

fn consumer(world: &World) -> BaseConsumer {
    config(world)
        .set("group.id", "a-look-from-outside")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .create()
        .expect("a consumer")
}

/// First and next offset of each partition.
fn marks(world: &World, consumer: &BaseConsumer, topic: &str) -> Vec<(i32, i64, i64)> {
    let topic = name(world, topic);
    let metadata = consumer
        .fetch_metadata(Some(&topic), PATIENCE)
        .expect("metadata");
    let partitions = metadata.topics()[0].partitions();
    let mark = |partition: i32| {
        let (first, next) = consumer
            .fetch_watermarks(&topic, partition, PATIENCE)
            .expect("watermarks");
        (partition, first, next)
    };
    partitions
        .iter()
        .map(|partition| mark(partition.id()))
        .collect()
}

/// How many records lie there.
pub fn count(world: &World, topic: &str) -> u64 {
    let marks = marks(world, &consumer(world), topic);
    let count: i64 = marks.iter().map(|(_, first, next)| next - first).sum();
    u64::try_from(count).expect("not negative")
}

/// Partitions in which a consumer group has not committed everything: partition, position, end.
pub fn uncommitted(world: &World, topic: &str, group: &str) -> Vec<(i32, i64, i64)> {
    let consumer: BaseConsumer = config(world)
        .set("group.id", name(world, group))
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let marks = marks(world, &consumer, topic);
    let mut list = TopicPartitionList::new();
    for (partition, _, _) in &marks {
        list.add_partition(&name(world, topic), *partition);
    }
    let committed = consumer
        .committed_offsets(list, PATIENCE)
        .expect("the positions");
    let position = |partition: i32| {
        let found = committed.find_partition(&name(world, topic), partition);
        match found.map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => 0,
        }
    };
    marks
        .into_iter()
        .map(|(partition, _, next)| (partition, position(partition), next))
        .filter(|(_, position, next)| position < next)
        .collect()
}

/// Everything that lies there, each partition in its order.
pub fn read(world: &World, topic: &str) -> Vec<Raw> {
    let consumer = consumer(world);
    let marks = marks(world, &consumer, topic);
    let mut list = TopicPartitionList::new();
    for (partition, first, _) in &marks {
        list.add_partition_offset(&name(world, topic), *partition, Offset::Offset(*first))
            .expect("an offset");
    }
    consumer.assign(&list).expect("an assignment");
    let mut left: i64 = marks.iter().map(|(_, first, next)| next - first).sum();
    let mut records = Vec::new();
    while left > 0 {
        let message = consumer
            .poll(PATIENCE)
            .expect("a record in time")
            .expect("a record");
        left -= 1;
        let headers = message.headers().map(|headers| {
            let owned = |header: Header<'_, &[u8]>| {
                (
                    header.key.to_owned(),
                    header.value.unwrap_or_default().to_vec(),
                )
            };
            headers.iter().map(owned).collect()
        });
        records.push(Raw {
            partition: message.partition(),
            payload: message.payload().unwrap_or_default().to_vec(),
            key: message.key().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        });
    }
    records
}

/// Appends records, in this order, and waits until the broker has them.
pub fn write(world: &World, topic: &str, records: &[Raw]) {
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> = config(world)
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    let topic = name(world, topic);
    for raw in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &raw.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic)
            .partition(raw.partition)
            .payload(&raw.payload)
            .headers(headers);
        if let Some(key) = &raw.key {
            record = record.key(key);
        }
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("room in the queue");
    }
    producer.flush(PATIENCE).expect("the broker to take them");
}

/// Deletes everything that lies there.
pub async fn clear(world: &World, topic: &str) {
    let marks = marks(world, &consumer(world), topic);
    let mut list = TopicPartitionList::new();
    for (partition, _, next) in marks {
        list.add_partition_offset(&name(world, topic), partition, Offset::Offset(next))
            .expect("an offset");
    }
    let admin: AdminClient<_> = config(world).create().expect("an admin client");
    admin
        .delete_records(&list, &AdminOptions::new())
        .await
        .expect("records to be deleted");
}
